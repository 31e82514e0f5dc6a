//! What is said after the handshake: one request, or messages that come back. Plaintext in, plaintext out.

mod http1;
mod http2;
mod websocket;

use crate::failure::ErrorClass;
use crate::plan::Then;
use http1::Http1;
use http2::Http2;
use websocket::WebSocket;

/// What a shard does with a complete handshake.
#[derive(Clone, Debug)]
pub(super) struct After {
    pub(super) then: Then,
    /// The path of the request, or of the WebSocket.
    pub(super) path: Box<str>,
    /// Messages to be echoed.
    pub(super) messages: u32,
    /// `Host` or `:authority` for each of the names.
    pub(super) authorities: Vec<Box<str>>,
}

impl After {
    /// `Host` or `:authority` for the name with this index.
    fn authority(&self, name: usize) -> &str {
        self.authorities.get(name).map_or("localhost", |a| a)
    }

    /// The request over HTTP/1.1, for a ClientHello to take along.
    pub(super) fn request(&self, name: usize, out: &mut Vec<u8>) {
        Http1::begin(&self.path, self.authority(name), out);
    }
}

/// What [`Talk::hear`] has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The first byte of the response has come.
    pub(super) first_byte: bool,
    /// Its status has; 0 for one that could not be read.
    pub(super) status: Option<u16>,
    /// A message came back whole.
    pub(super) echoed: bool,
    /// That was all.
    pub(super) over: bool,
}

/// A conversation.
#[derive(Debug)]
pub(super) enum Talk {
    Http1(Http1),
    Http2(Http2),
    WebSocket(WebSocket),
}

impl Talk {
    /// Begins the one that `after` asks for in the negotiated protocol; what is to be said goes to `out`.
    pub(super) fn begin(
        after: &After,
        alpn: Option<&[u8]>,
        name: usize,
        out: &mut Vec<u8>,
    ) -> Result<Self, ErrorClass> {
        let authority = after.authority(name);
        match (after.then, alpn) {
            (Then::Websocket, Some(b"h2")) => Err(ErrorClass::WrongProtocol),
            (Then::Websocket, _) => Ok(Self::WebSocket(WebSocket::begin(&after.path, authority, after.messages, out))),
            (_, Some(b"h2")) => Ok(Self::Http2(Http2::begin(&after.path, authority, out))),
            _ => Ok(Self::Http1(Http1::begin(&after.path, authority, out))),
        }
    }

    /// Takes what the peer said; what is to be said to that goes to `reply`.
    pub(super) fn hear(&mut self, plain: &[u8], reply: &mut Vec<u8>) -> Result<Heard, ErrorClass> {
        if plain.is_empty() {
            return Ok(Heard::default());
        }
        match self {
            Self::Http1(http) => http.hear(plain),
            Self::Http2(http) => http.hear(plain),
            Self::WebSocket(socket) => socket.hear(plain, reply),
        }
    }
}
