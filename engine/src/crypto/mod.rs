//! Where the engine's cryptography comes from.
//!
//! One seam: the [`CryptoProvider`] made here is what every TLS configuration of the engine uses. One that computes
//! in batches ([`batch`]) can take its place without the handshake code knowing; it is fed by the turn's
//! [prepare phase](crate::handshake::Prepare).

pub mod batch;
mod choice;
mod key_schedule;
mod sessions;
mod ticket_ratchet;
mod ticket_secrets;
mod tickets;

pub use choice::{Crypto, Shortfall};
pub(crate) use sessions::SessionsOf;
pub use sessions::{SessionCounts, SessionStore};
pub use ticket_secrets::{TicketSecretError, TicketSecretExposed, TicketSecretFault, TicketSecrets, new_ticket_secret};
pub use tickets::{TicketOptions, Ticketer};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{NamedGroup, SupportedCipherSuite};

/// The engine's provider: aws-lc-rs with X25519MLKEM768, X25519, P-256 and P-384.
///
/// The order is that of our preference as a client, which sends a share of the first. As a server rustls takes the
/// client's first group that is here, and asks again (HelloRetryRequest) if the client has sent no share of it.
#[must_use]
pub fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider { kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1], ..aws_lc_rs::default_provider() }
}

/// The provider without what `keep` turns down; for tests and for those who must restrict it.
#[must_use]
pub fn provider_with(
    keep: impl Fn(NamedGroup) -> bool,
    suites: impl Fn(&SupportedCipherSuite) -> bool,
) -> CryptoProvider {
    let mut provider = provider();
    provider.kx_groups.retain(|g| keep(g.name()));
    provider.cipher_suites.retain(|s| suites(s));
    provider
}
