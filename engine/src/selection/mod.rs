//! Which protocol a ClientHello gets.
//!
//! The registered ALPN protocol IDs are compiled into a [`Table`] at start-up. An offered ID is found with one hash
//! and one comparison and becomes a bit, bit `i` being the `i`-th registered protocol, so that the most preferred one
//! is the lowest bit. A [`Policy`] reads that mask, or is a callback of the program. [`Table::select`] follows RFC
//! 7301 section 3.2 and knows neither configurations nor certificates: it answers with an index.
//!
//! ```
//! use handfast::selection::{Table, WithoutAlpn};
//!
//! let table = Table::builder()
//!     .protocol("h2")
//!     .protocol("http/1.1")
//!     .without_alpn(WithoutAlpn::Protocol(1))
//!     .build()?;
//! assert_eq!(table.index_of(b"h2"), Some(0));
//! # Ok::<(), handfast::selection::SelectionError>(())
//! ```

mod builder;
mod lookup;
#[cfg(test)]
mod tests;

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;

use rustls::AlertDescription;

use crate::error::Refusal;
use crate::handshake::hello::ClientHelloView;
pub use builder::{SelectionError, TableBuilder};
use lookup::Lookup;

/// How many protocols can be registered.
pub const PROTOCOLS_MAX: usize = 16;

/// A program's own choice of protocol; see [`Policy::Callback`].
pub type SelectionFn = dyn Fn(&ClientHelloView<'_>) -> Selection + Send + Sync;

/// Who chooses among the protocols that both sides have.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Policy {
    /// The first registered one that the client offers.
    #[default]
    ServerPreference,
    /// The first one offered that is registered.
    ClientPreference,
    /// The program. The callback runs on the shard, between the handshakes of others: it must not block.
    Callback(Arc<SelectionFn>),
}

impl Policy {
    /// The program's choice: `choose` sees the whole ClientHello.
    ///
    /// It runs on the shard, between the handshakes of others: it must not block.
    pub fn callback(choose: impl Fn(&ClientHelloView<'_>) -> Selection + Send + Sync + 'static) -> Self {
        Self::Callback(Arc::new(choose))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerPreference => "ServerPreference",
            Self::ClientPreference => "ClientPreference",
            Self::Callback(_) => "Callback",
        })
    }
}

/// What a callback answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// This registered protocol. If the client does not offer it, the connection gets it without ALPN, as a fallback
    /// would. An ID that is not registered is refused with `internal_error`.
    Protocol(Cow<'static, [u8]>),
    /// No protocol: refuse with this alert.
    Refuse(AlertDescription),
    /// What the table would choose by server preference.
    Table,
}

impl Selection {
    /// A protocol by its ALPN ID, as in `Selection::protocol("h2")`.
    #[must_use]
    pub const fn protocol(id: &'static str) -> Self {
        Self::Protocol(Cow::Borrowed(id.as_bytes()))
    }
}

/// What a client without the ALPN extension gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WithoutAlpn {
    /// The protocol of this index.
    Protocol(usize),
    /// The alert `no_application_protocol`.
    #[default]
    Refuse,
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Its index among the registered ones.
    pub protocol: u8,
    /// Whether ALPN is answered with it. If not, the client did not offer it: the ServerHello carries no ALPN.
    pub alpn: bool,
}

/// The registered protocols, in order of preference, and the rules for choosing one.
#[derive(Debug)]
pub struct Table {
    lookup: Lookup,
    policy: Policy,
    fallback: Option<u8>,
    without_alpn: Option<u8>,
}

impl Table {
    /// An empty registry to add protocols to.
    pub fn builder() -> TableBuilder {
        TableBuilder::default()
    }

    /// The registered ALPN protocol IDs; their positions are the indexes in decisions.
    #[must_use]
    pub fn protocols(&self) -> &[Box<[u8]>] {
        self.lookup.ids()
    }

    /// The index of a registered ALPN protocol ID.
    #[must_use]
    pub fn index_of(&self, id: &[u8]) -> Option<u8> {
        self.lookup.find(id)
    }

    /// The registered protocols among those offered: bit `i` is the protocol of index `i`.
    #[must_use]
    pub fn offered(&self, hello: &ClientHelloView<'_>) -> u16 {
        hello.alpn_protocols().filter_map(|id| self.lookup.find(id)).fold(0, |mask, index| mask | 1 << index)
    }

    /// Chooses the protocol for a ClientHello (RFC 7301 section 3.2).
    ///
    /// # Errors
    /// [`Refusal::NoApplicationProtocol`] when nothing is in common and there is no fallback, or ALPN is missing and
    /// has to be there; [`Refusal::ByCallback`] and [`Refusal::UnregisteredProtocol`] by the callback's answer.
    pub fn select(&self, hello: &ClientHelloView<'_>) -> Result<Decision, Refusal> {
        let chosen = match &self.policy {
            Policy::ServerPreference => self.by_server(hello),
            Policy::ClientPreference => hello.alpn_protocols().find_map(|id| self.lookup.find(id)),
            Policy::Callback(callback) => match callback(hello) {
                Selection::Protocol(id) => return self.by_callback(hello, &id),
                Selection::Refuse(alert) => return Err(Refusal::ByCallback(alert)),
                Selection::Table => self.by_server(hello),
            },
        };
        if let Some(protocol) = chosen {
            return Ok(Decision { protocol, alpn: true });
        }
        let instead = if hello.offers_alpn() { self.fallback } else { self.without_alpn };
        instead.map(|protocol| Decision { protocol, alpn: false }).ok_or(Refusal::NoApplicationProtocol)
    }

    fn by_server(&self, hello: &ClientHelloView<'_>) -> Option<u8> {
        let mut best = None;
        for index in hello.alpn_protocols().filter_map(|id| self.lookup.find(id)) {
            if index == 0 {
                // Nothing is preferred to the first.
                return Some(0);
            }
            best = Some(best.map_or(index, |b: u8| b.min(index)));
        }
        best
    }

    fn by_callback(&self, hello: &ClientHelloView<'_>, id: &[u8]) -> Result<Decision, Refusal> {
        let protocol = self.lookup.find(id).ok_or(Refusal::UnregisteredProtocol)?;
        Ok(Decision { protocol, alpn: hello.alpn_protocols().any(|offered| offered == id) })
    }
}
