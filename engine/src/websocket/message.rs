//! What travels on a WebSocket: messages, and the words of goodbye.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

use super::error::WebSocketError;

/// Bytes of a Close frame's reason (RFC 6455 section 5.5: 125, less the code).
const REASON_BYTES_MAX: usize = 123;

/// Text, known to be UTF-8; a clone shares the bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(ByteString);

impl Text {
    /// Text without a copy, and without a look when it was a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// The text of these bytes; `None` when they are not UTF-8.
    #[must_use]
    pub fn from_utf8(bytes: Bytes) -> Option<Self> {
        ByteString::try_from(bytes).ok().map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes of the text.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// A whole message (RFC 6455 section 5.6). A clone shares the bytes, so one message can go to many sockets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// UTF-8.
    Text(Text),
    /// Any bytes.
    Binary(Bytes),
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Its payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it has no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload of either kind.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

/// Why a WebSocket ends (RFC 6455 section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server goes down, or a browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke a rule of the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that is not taken here.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: data that is not what it says, as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: against the rules of the one who closes.
    pub const POLICY: Self = Self(1008);
    /// 1009: too big a message.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the one who closes has failed.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: a server restarts.
    pub const RESTART: Self = Self(1012);
    /// 1013: a server has too much to do; try again later.
    pub const TRY_AGAIN: Self = Self(1013);

    /// A code of this number; `None` for one that no Close frame may carry (RFC 6455 section 7.4.2).
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match *self {
            Self::NORMAL => " (normal)",
            Self::GOING_AWAY => " (going away)",
            Self::PROTOCOL_ERROR => " (protocol error)",
            Self::UNSUPPORTED => " (unsupported data)",
            Self::INVALID_PAYLOAD => " (invalid payload)",
            Self::POLICY => " (policy)",
            Self::TOO_BIG => " (too big)",
            Self::INTERNAL_ERROR => " (internal error)",
            Self::RESTART => " (restart)",
            Self::TRY_AGAIN => " (try again later)",
            _ => "",
        };
        write!(f, "{}{meaning}", self.0)
    }
}

/// What a Close frame says (RFC 6455 section 5.5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Close {
    /// Why; `None` when the frame was empty (1005 in other APIs).
    pub code: Option<CloseCode>,
    /// For people who read logs, not for users.
    pub reason: Text,
}

impl Close {
    pub(super) fn new(code: CloseCode, reason: impl Into<Text>) -> Result<Self, WebSocketError> {
        let reason = reason.into();
        if reason.len() > REASON_BYTES_MAX {
            return Err(WebSocketError::ReasonTooLong { len: reason.len() });
        }
        Ok(Self { code: Some(code), reason })
    }

    /// Of a frame's payload, which the library has found in order.
    pub(super) fn from_payload(payload: &Bytes) -> Self {
        let Some((code, _)) = payload.split_first_chunk::<2>() else { return Self::default() };
        let reason = Text::from_utf8(payload.slice(2..)).unwrap_or_default();
        Self { code: CloseCode::new(u16::from_be_bytes(*code)), reason }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code}")?,
            None => f.write_str("no code")?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason.escape_debug()) }
    }
}
