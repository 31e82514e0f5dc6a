//! What Handfast's tests share: certificates, a rustls client to drive by hand, HTTP/2 frames, the worlds a shard runs in, the
//! programs under test and the real peers they meet.

pub mod batch;
pub mod binaries;
pub mod certificates;
pub mod client;
pub mod compression;
pub mod front;
pub mod h2;
pub mod peers;
pub mod process;
pub mod records;
pub mod world;
