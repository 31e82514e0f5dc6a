//! A client that asks one request after another over a long-lived TLS connection, as cheaply as it can be done:
//! frames are put together by hand, and of an answer no more is read than where it ends.
//!
//! It blocks. Whoever keeps many connections busy asks on all of them, then goes round: reads one answer, asks the
//! next. A server then always finds requests waiting, and the client spends one send and one receive on each.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use handfast::client::{Client, Connection, Roots};
use handfast::handshake::TlsVersions;

/// What is spoken after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    H2,
    /// A WebSocket over the upgrade of `http/1.1`, with permessage-deflate (RFC 7692) as offered.
    WebSocket(Deflate),
}

/// What a WebSocket client offers of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deflate {
    /// Nothing.
    Off,
    /// Both sides may refer to earlier messages.
    Context,
    /// Neither side does.
    NoContext,
}

impl Protocol {
    const fn alpn(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Http1 | Self::WebSocket(_) => "http/1.1",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "http/1.1",
            Self::H2 => "h2",
            Self::WebSocket(Deflate::Off) => "websocket",
            Self::WebSocket(Deflate::Context) => "websocket, deflate",
            Self::WebSocket(Deflate::NoContext) => "websocket, deflate, no context takeover",
        })
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// GET of a path; nothing that a WebSocket has.
    Get(&'a str),
    /// Content that comes back: of a POST, or a binary message.
    Echo(&'a [u8]),
}

/// Text that compresses as text does.
#[must_use]
pub fn text(bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "shard ", "turn ", "hello ", "share ", "ticket ", "alert ", "record ", "worker ", "stream ", "window ",
        "frame ", "header ", "length ", "close ", "drain ", "limit ",
    ];
    let mut out = Vec::with_capacity(bytes + 8);
    let mut state: u32 = 1;
    while out.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(WORDS[state as usize >> 28].as_bytes());
    }
    out.truncate(bytes);
    out
}

/// A client for `protocol` that trusts any server and resumes nothing.
///
/// # Errors
/// The TLS configuration is refused.
pub fn client(protocol: Protocol) -> io::Result<Client> {
    Client::builder()
        .alpn([protocol.alpn()])
        .roots(Roots::insecure_none())
        .versions(TlsVersions::Tls13)
        .resumption(false)
        .build()
        .map_err(io::Error::other)
}

/// A connection with a server that answers requests.
#[derive(Debug)]
pub struct Exchange {
    tls: Connection,
    protocol: Protocol,
    /// The next stream of h2.
    stream: u32,
    out: Vec<u8>,
    unread: Vec<u8>,
}

/// Client preface, SETTINGS without an entry, and a connection window that a bench does not use up (RFC 9113
/// sections 3.4, 6.5 and 6.9).
const H2_OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Buffers beyond this are given back: thousands of connections idle.
const KEEP_BYTES: usize = 1024;

impl Exchange {
    /// Connects, shakes hands and opens the protocol.
    ///
    /// # Errors
    /// The connection failed, or the server speaks something else.
    pub fn open(client: &Client, addr: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let tls = client.connect_to(addr, "localhost").map_err(io::Error::other)?;
        let mut exchange = Self { tls, protocol, stream: 1, out: Vec::new(), unread: Vec::new() };
        match protocol {
            Protocol::Http1 => {}
            Protocol::H2 => exchange.tls.write_all(H2_OPENING)?,
            Protocol::WebSocket(deflate) => exchange.upgrade(deflate)?,
        }
        Ok(exchange)
    }

    fn upgrade(&mut self, deflate: Deflate) -> io::Result<()> {
        let offer = match deflate {
            Deflate::Off => "",
            Deflate::Context => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            Deflate::NoContext => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                 client_no_context_takeover\r\n"
            }
        };
        // The key of RFC 6455 section 1.3: nobody needs a fresh one here.
        write!(
            self.tls,
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        )?;
        let head = self.head()?;
        let agreed = head.to_ascii_lowercase().contains("permessage-deflate");
        if !head.starts_with("HTTP/1.1 101") || agreed == (deflate == Deflate::Off) {
            return Err(io::Error::other(format!("no such WebSocket: {head}")));
        }
        Ok(())
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection broke.
    pub fn ask(&mut self, request: Request<'_>) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        match self.protocol {
            Protocol::Http1 => http1_request(&mut out, request)?,
            Protocol::H2 => {
                h2_request(&mut out, self.stream, request);
                self.stream += 2;
            }
            Protocol::WebSocket(deflate) => message(&mut out, request, deflate != Deflate::Off),
        }
        let result = self.tls.write_all(&out);
        if out.capacity() <= KEEP_BYTES {
            self.out = out;
        }
        result
    }

    /// Waits for the answer to the earliest request that has none yet.
    ///
    /// # Errors
    /// The connection broke, or this is no answer.
    pub fn answer(&mut self) -> io::Result<()> {
        match self.protocol {
            Protocol::Http1 => self.http1_answer(),
            Protocol::H2 => self.h2_answer(),
            Protocol::WebSocket(_) => self.message(),
        }
    }

    fn http1_answer(&mut self) -> io::Result<()> {
        let head = self.head()?;
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
        match length {
            Some(length) if head.starts_with("HTTP/1.1 200") => self.skip(length),
            _ => Err(io::Error::other(format!("not the answer that was asked for: {head}"))),
        }
    }

    /// Status line and fields.
    fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
                self.unread.drain(..end + 4);
                return Ok(head);
            }
            self.read()?;
        }
    }

    fn h2_answer(&mut self) -> io::Result<()> {
        loop {
            self.fill(9)?;
            let length =
                usize::from(self.unread[0]) << 16 | usize::from(self.unread[1]) << 8 | usize::from(self.unread[2]);
            let (kind, flags) = (self.unread[3], self.unread[4]);
            self.skip(9 + length)?;
            match kind {
                DATA | HEADERS if flags & END_STREAM != 0 => return Ok(()),
                SETTINGS if flags & ACK == 0 => {
                    let mut ack = Vec::new();
                    frame(&mut ack, SETTINGS, ACK, 0, &[]);
                    self.tls.write_all(&ack)?;
                }
                DATA | HEADERS | SETTINGS | WINDOW_UPDATE => {}
                _ => return Err(io::Error::other(format!("a frame of type {kind} instead of an answer"))),
            }
        }
    }

    /// RFC 6455 section 5.2, from a server: no mask.
    fn message(&mut self) -> io::Result<()> {
        self.fill(2)?;
        let (opcode, short) = (self.unread[0] & 0xf, self.unread[1]);
        if !matches!(opcode, 1 | 2) {
            return Err(io::Error::other(format!("a frame of opcode {opcode} instead of a message")));
        }
        let (head, length) = match short {
            126 => {
                self.fill(4)?;
                (4, usize::from(u16::from_be_bytes([self.unread[2], self.unread[3]])))
            }
            127 => return Err(io::Error::other("a longer message than was sent")),
            n => (2, usize::from(n)),
        };
        self.skip(head + length)
    }

    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        while self.unread.len() < bytes {
            self.read()?;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        self.fill(bytes)?;
        self.unread.drain(..bytes);
        if self.unread.is_empty() && self.unread.capacity() > KEEP_BYTES {
            self.unread = Vec::new();
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match self.tls.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.unread.extend_from_slice(&bytes[..n]);
                Ok(())
            }
        }
    }
}

fn http1_request(out: &mut Vec<u8>, request: Request<'_>) -> io::Result<()> {
    match request {
        Request::Get(path) => write!(out, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        Request::Echo(content) => {
            write!(out, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", content.len())?;
            out.write_all(content)
        }
    }
}

/// The largest frame that a peer takes without having said so (RFC 9113 section 4.2).
const H2_FRAME_BYTES_MAX: usize = 16 * 1024;

/// A request whose fields are all in the static table or literal (RFC 7541 section 6).
fn h2_request(out: &mut Vec<u8>, stream: u32, request: Request<'_>) {
    const GET: u8 = 0x82;
    const POST: u8 = 0x83;
    const HTTPS: u8 = 0x87;
    let (method, path) = match request {
        Request::Get(path) => (GET, path),
        Request::Echo(_) => (POST, "/"),
    };
    let mut fields = vec![method, HTTPS];
    // Literals without indexing, by the static table's names 4 (:path) and 1 (:authority).
    for (name, value) in [(4, path), (1, "localhost")] {
        fields.extend_from_slice(&[name, u8::try_from(value.len()).unwrap_or(0)]);
        fields.extend_from_slice(value.as_bytes());
    }
    match request {
        Request::Get(_) => frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &fields),
        Request::Echo(content) => {
            frame(out, HEADERS, END_HEADERS, stream, &fields);
            let mut chunks = content.chunks(H2_FRAME_BYTES_MAX).peekable();
            while let Some(chunk) = chunks.next() {
                frame(out, DATA, if chunks.peek().is_none() { END_STREAM } else { 0 }, stream, chunk);
            }
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A binary message of one masked frame. Compressed, it is a stored block (RFC 1951 section 3.2.4): the server has to
/// take it through its inflate state, and the client spends nothing on it.
fn message(out: &mut Vec<u8>, request: Request<'_>, compressed: bool) {
    const FIN_BINARY: u8 = 0x82;
    const RSV1: u8 = 0x40;
    const MASKED: u8 = 0x80;
    let content = match request {
        Request::Get(path) => path.as_bytes(),
        Request::Echo(content) => content,
    };
    let stored = u16::try_from(content.len()).unwrap_or(0);
    let length = if compressed { content.len() + 6 } else { content.len() };
    out.push(FIN_BINARY | if compressed { RSV1 } else { 0 });
    match u8::try_from(length) {
        Ok(short @ 0..126) => out.push(MASKED | short),
        _ => {
            out.push(MASKED | 126);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
        }
    }
    // A mask of zeros is one.
    out.extend_from_slice(&[0; 4]);
    if compressed {
        out.push(0);
        out.extend_from_slice(&stored.to_le_bytes());
        out.extend_from_slice(&(!stored).to_le_bytes());
    }
    out.extend_from_slice(content);
    if compressed {
        // The empty block whose last four bytes RFC 7692 section 7.2.1 takes away.
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_over_h2_is_one_frame_of_headers_or_ends_with_its_content() {
        let mut get = Vec::new();
        h2_request(&mut get, 3, Request::Get("/a"));
        assert_eq!(get[..9], [0, 0, 17, HEADERS, END_HEADERS | END_STREAM, 0, 0, 0, 3]);
        assert_eq!(get[9..], *b"\x82\x87\x04\x02/a\x01\x09localhost");
        let mut post = Vec::new();
        h2_request(&mut post, 5, Request::Echo(&[7; 16 * 1024 + 1]));
        assert_eq!(post[post.len() - 10..], [0, 0, 1, DATA, END_STREAM, 0, 0, 0, 5, 7]);
    }

    #[test]
    fn a_compressed_message_is_a_stored_block() {
        let mut out = Vec::new();
        message(&mut out, Request::Echo(b"abc"), true);
        assert_eq!(out, *b"\xc2\x89\0\0\0\0\0\x03\0\xfc\xffabc\0");
        out.clear();
        message(&mut out, Request::Echo(&[1; 126]), false);
        assert_eq!(out[..8], [0x82, 0xfe, 0, 126, 0, 0, 0, 0]);
    }
}
