//! The registry before it is compiled, and what can be wrong with it.

use core::fmt;

use super::lookup::Lookup;
use super::{PROTOCOLS_MAX, Policy, Table, WithoutAlpn};
use crate::error::Culprit;

/// Protocols and rules that become a [`Table`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TableBuilder {
    ids: Vec<Vec<u8>>,
    policy: Policy,
    fallback: Option<usize>,
    without_alpn: WithoutAlpn,
}

impl TableBuilder {
    /// Registers an ALPN protocol ID after, and so below in preference, those that are there. The first has index 0.
    pub fn protocol(mut self, id: impl Into<Vec<u8>>) -> Self {
        self.ids.push(id.into());
        self
    }

    /// Who chooses; server preference unless said otherwise.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The protocol, by index, for a client whose ALPN offers hold none of ours. Without a fallback it is refused
    /// with the alert `no_application_protocol`, as RFC 7301 section 3.2 has it.
    pub const fn fallback(mut self, protocol: usize) -> Self {
        self.fallback = Some(protocol);
        self
    }

    /// What a client without ALPN gets; refusal unless said otherwise.
    pub const fn without_alpn(mut self, without_alpn: WithoutAlpn) -> Self {
        self.without_alpn = without_alpn;
        self
    }

    /// Checks the registry and compiles it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn build(self) -> Result<Table, SelectionError> {
        let count = self.ids.len();
        if count == 0 {
            return Err(SelectionError::NoProtocol);
        }
        if count > PROTOCOLS_MAX {
            return Err(SelectionError::TooManyProtocols { count });
        }
        for (index, id) in self.ids.iter().enumerate() {
            if id.is_empty() {
                return Err(SelectionError::EmptyId { index });
            }
            if id.len() > usize::from(u8::MAX) {
                return Err(SelectionError::LongId { index, len: id.len() });
            }
            if let Some(first) = self.ids[..index].iter().position(|other| other == id) {
                return Err(SelectionError::DuplicateId { id: id.as_slice().into(), first, second: index });
            }
        }
        let known = |index: usize| match u8::try_from(index) {
            Ok(known) if index < count => Ok(known),
            _ => Err(index),
        };
        let fallback = self.fallback.map(known).transpose();
        let without_alpn = match self.without_alpn {
            WithoutAlpn::Protocol(index) => known(index).map(Some),
            WithoutAlpn::Refuse => Ok(None),
        };
        let ids = self.ids.into_iter().map(Vec::into_boxed_slice).collect();
        Ok(Table {
            lookup: Lookup::new(ids).ok_or(SelectionError::InseparableIds)?,
            policy: self.policy,
            fallback: fallback.map_err(|index| SelectionError::UnknownFallback { index, count })?,
            without_alpn: without_alpn.map_err(|index| SelectionError::UnknownWithoutAlpn { index, count })?,
        })
    }
}

/// Why protocols cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectionError {
    /// There is none.
    NoProtocol,
    /// There are more than [`PROTOCOLS_MAX`].
    TooManyProtocols {
        /// How many.
        count: usize,
    },
    /// An ALPN protocol ID is empty (RFC 7301 section 3.1).
    EmptyId {
        /// Which one.
        index: usize,
    },
    /// An ALPN protocol ID is longer than 255 bytes (RFC 7301 section 3.1).
    LongId {
        /// Which one.
        index: usize,
        /// How long.
        len: usize,
    },
    /// An ALPN protocol ID is registered twice.
    DuplicateId {
        /// The ID.
        id: Box<[u8]>,
        /// Where it is first.
        first: usize,
        /// Where it is again.
        second: usize,
    },
    /// No hash was found that tells the ALPN protocol IDs apart. Not known to happen.
    InseparableIds,
    /// The fallback is no registered protocol.
    UnknownFallback {
        /// What was configured.
        index: usize,
        /// How many are registered.
        count: usize,
    },
    /// The protocol for clients without ALPN is no registered one.
    UnknownWithoutAlpn {
        /// What was configured.
        index: usize,
        /// How many are registered.
        count: usize,
    },
}

impl SelectionError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        Culprit::Config
    }
}

impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProtocol => f.write_str("no protocol is registered; register at least one, such as http/1.1"),
            Self::TooManyProtocols { count } => {
                write!(f, "{count} protocols are registered; at most {PROTOCOLS_MAX} can be")
            }
            Self::EmptyId { index } => write!(f, "the ALPN ID of protocol {} is empty", index + 1),
            Self::LongId { index, len } => {
                write!(f, "the ALPN ID of protocol {} is {len} bytes long; at most 255 fit", index + 1)
            }
            Self::DuplicateId { id, first, second } => write!(
                f,
                "protocols {} and {} have the same ALPN ID \"{}\"; remove one",
                first + 1,
                second + 1,
                id.escape_ascii()
            ),
            Self::InseparableIds => {
                f.write_str("no hash tells these ALPN IDs apart; report it, and change one of them")
            }
            Self::UnknownFallback { index, count } => {
                write!(f, "the fallback is protocol {}, but only {count} are registered", index.saturating_add(1))
            }
            Self::UnknownWithoutAlpn { index, count } => write!(
                f,
                "the protocol without ALPN is protocol {}, but only {count} are registered",
                index.saturating_add(1)
            ),
        }
    }
}

impl std::error::Error for SelectionError {}
