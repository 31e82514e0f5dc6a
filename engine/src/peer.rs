//! Where a peer is.

use std::fmt;
use std::net::SocketAddr;

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddr {
    /// An internet address with its port.
    Ip(SocketAddr),
    /// A Unix-domain socket; its client has no name.
    Unix,
}

impl PeerAddr {
    /// The internet address; `None` for a Unix-domain socket.
    #[must_use]
    pub const fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
