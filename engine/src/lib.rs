//! A TLS handshake engine.
#[cfg(feature = "client")]
pub mod client;
pub mod crypto;
pub mod engine;
pub mod error;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod metrics;
pub mod peer;
mod protocol;
pub mod selection;
pub mod shard;
pub mod time;
pub mod transport;
#[cfg(any(feature = "h1", feature = "h2"))]
pub mod worker;

#[cfg(feature = "client")]
pub use client::Client;
pub use engine::{Builder, Engine, Handle, Pin, Placement, StartError};
pub use error::{Culprit, Refusal};
pub use handshake::HandshakeFacts;
pub use limits::Limits;
pub use protocol::Protocol;
pub use rustls;
pub use shard::{Mailbox, Negotiated, Parts, Stream, Worker};
