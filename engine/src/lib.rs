//! A TLS handshake engine.
pub mod error;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod selection;
pub mod time;
pub mod transport;

pub use limits::Limits;
