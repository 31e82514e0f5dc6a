//! The handshake as a state machine over bytes: no socket, no clock, no randomness.
//!
//! [`hello`] reads the ClientHello, [`Live`] finds protocol and configuration for it, [`Handshake`] goes from the
//! first byte to [`Finished`], and [`Session`] is the TLS connection from there on.

mod batched;
pub(crate) mod facts;
mod foreseen;
pub mod hello;
mod live;
mod machine;
mod prepare;
pub mod proxy;
mod session;

pub use batched::Batched;
pub use facts::{EarlyData, HandshakeFacts};
pub use foreseen::Foreseen;
pub use live::{Blueprint, Live, ProtocolTls, Sources, TlsVersions};
pub use machine::{Context, Finished, Handshake, Input, Offered, Step, refuse};
pub use prepare::{Prepare, Unprepared};
pub use session::{Received, Session, Unbuffered};
