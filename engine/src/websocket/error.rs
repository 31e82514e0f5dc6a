//! Why a WebSocket ended otherwise than by the close handshake.

use std::fmt;
use std::io;
use std::time::Duration;

use super::message::CloseCode;
use crate::error::Culprit;

/// A rule of the protocol, or a limit, that the peer broke; it was told so with a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A frame or a message beyond the limits, as sent or as decompressed: 1009.
    TooBig,
    /// A text message that is not UTF-8 (RFC 6455 section 8.1): 1007.
    NotUtf8,
    /// A compressed message that cannot be decompressed (RFC 7692 section 7.2.2).
    Deflate,
    /// An opcode that nobody has defined (RFC 6455 section 5.2).
    Opcode,
    /// Anything else in a frame's head, in the order of frames, or in a Close frame (RFC 6455 section 5): 1002.
    Frame,
}

impl Violation {
    /// The code that tells the peer.
    pub(super) const fn code(self) -> CloseCode {
        match self {
            Self::TooBig => CloseCode::TOO_BIG,
            Self::NotUtf8 | Self::Deflate => CloseCode::INVALID_PAYLOAD,
            Self::Opcode | Self::Frame => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Why a WebSocket ended otherwise than by the close handshake, or why it did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The peer broke a rule or met a limit.
    Peer(Violation),
    /// The connection ended without a Close frame (1006 in other APIs).
    Vanished,
    /// The connection broke.
    Broken(io::ErrorKind),
    /// The peer answered no Ping in time; see [`KeepAlive`](super::KeepAlive).
    Silent {
        /// How long the Ping waited.
        after: Duration,
    },
    /// The peer took too little of what was sent; see [`Options::send_timeout`](super::Options::send_timeout).
    Stalled {
        /// How long it was allowed to take.
        after: Duration,
    },
    /// The peer did not answer our Close frame in time; see [`Options::close_wait`](super::Options::close_wait).
    NotClosed {
        /// How long it was allowed to take.
        after: Duration,
    },
    /// There is no sending on a WebSocket that is closing or closed.
    Closed,
    /// The reason of a Close frame has more than 123 bytes (RFC 6455 section 5.5); nothing was sent.
    ReasonTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The payload of a Ping has more than 125 bytes (RFC 6455 section 5.5); nothing was sent.
    PingTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl WebSocketError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        match self {
            Self::Closed | Self::ReasonTooLong { .. } | Self::PingTooLong { .. } => Culprit::Local,
            _ => Culprit::Peer,
        }
    }

    /// What the library found.
    pub(super) fn of(error: &yawc::WebSocketError) -> Self {
        use yawc::WebSocketError as Found;
        match error {
            Found::ConnectionClosed => Self::Vanished,
            // The library says so of its decompressor, and no socket does.
            Found::IoError(e) if e.kind() == io::ErrorKind::InvalidInput => Self::Peer(Violation::Deflate),
            Found::IoError(e) => Self::Broken(e.kind()),
            Found::FrameTooLarge => Self::Peer(Violation::TooBig),
            Found::InvalidUTF8 => Self::Peer(Violation::NotUtf8),
            Found::InvalidOpCode(_) => Self::Peer(Violation::Opcode),
            _ => Self::Peer(Violation::Frame),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "sent a frame or a message beyond the limits",
            Self::NotUtf8 => "sent text that is not UTF-8",
            Self::Deflate => "sent a compressed message that cannot be decompressed",
            Self::Opcode => "sent a frame with an opcode that is not defined",
            Self::Frame => "broke the rules of framing",
        })
    }
}

impl fmt::Display for WebSocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(violation) => write!(f, "the peer {violation}"),
            Self::Vanished => f.write_str("the peer ended the connection without closing the WebSocket"),
            Self::Broken(kind) => write!(f, "the connection broke: {kind}"),
            Self::Silent { after } => write!(f, "the peer answered no ping within {after:?}"),
            Self::Stalled { after } => write!(f, "the peer did not take what was sent within {after:?}"),
            Self::NotClosed { after } => write!(f, "the peer did not answer the close within {after:?}"),
            Self::Closed => f.write_str("the WebSocket is closed"),
            Self::ReasonTooLong { len } => {
                write!(f, "a reason of {len} bytes for closing a WebSocket: it may have 123")
            }
            Self::PingTooLong { len } => write!(f, "a ping of {len} bytes: it may have 125"),
        }
    }
}

impl std::error::Error for WebSocketError {}
