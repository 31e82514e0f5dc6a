//! What Handfast's tests share: certificates, a rustls client to drive by hand, and the worlds a shard runs in.

pub mod certificates;
pub mod client;
pub mod world;
