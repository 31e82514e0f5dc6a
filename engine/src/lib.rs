//! A TLS handshake engine.
pub mod error;
pub mod handshake;
pub mod limits;
pub mod shard;
pub mod time;
pub mod transport;

pub use limits::Limits;
