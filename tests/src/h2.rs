//! HTTP/2 frame by frame (RFC 9113), right and wrong, over the blocking client.

use std::io::{ErrorKind, Read, Write};

use handfast::client::Connection;
use loona_hpack::Decoder;

use crate::process::BOUND;

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 section 6).
#[expect(missing_docs, reason = "they are named as in the RFC")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags (RFC 9113 section 6).
#[expect(missing_docs, reason = "they are named as in the RFC")]
pub mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// Settings (RFC 9113 section 6.5.2).
#[expect(missing_docs, reason = "they are named as in the RFC")]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes (RFC 9113 section 7).
#[expect(missing_docs, reason = "they are named as in the RFC")]
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What a stream's window is before SETTINGS say otherwise (RFC 9113 section 6.9.2).
pub const WINDOW: usize = 65_535;

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether a flag is set.
    #[must_use]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number at `offset` of its payload.
    #[must_use]
    pub fn u32_at(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.payload[offset..offset + 4].try_into().expect("four bytes"))
    }

    /// The settings that it carries.
    #[must_use]
    pub fn settings(&self) -> Vec<(u16, u32)> {
        let setting = |s: &[u8]| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]]));
        self.payload.chunks_exact(6).map(setting).collect()
    }
}

/// A response, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Its `:status`.
    pub status: u16,
    /// Its other fields.
    pub headers: Vec<(String, String)>,
    /// Its content.
    pub content: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// The first field of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With GOAWAY and this error code.
    Goaway(u32),
    /// Without a word.
    Closed,
}

/// A client that sends what it is told to, however wrong.
pub struct H2 {
    connection: Connection,
    decoder: Decoder<'static>,
}

impl H2 {
    /// One that has said nothing yet.
    ///
    /// # Panics
    /// When the socket is broken.
    #[must_use]
    pub fn silent(connection: Connection) -> Self {
        connection.socket().set_read_timeout(Some(BOUND)).expect("a time limit");
        connection.socket().set_write_timeout(Some(BOUND)).expect("a time limit");
        Self { connection, decoder: Decoder::new() }
    }

    /// One that has said hello with these settings, and has acknowledged the server's.
    #[must_use]
    pub fn open_with(connection: Connection, settings: &[(u16, u32)]) -> Self {
        let mut h2 = Self::silent(connection);
        h2.bytes(PREFACE);
        h2.settings(settings);
        let first = h2.frame();
        assert_eq!((first.kind, first.flags, first.stream), (kind::SETTINGS, 0, 0), "RFC 9113 section 3.4");
        h2.send(kind::SETTINGS, flag::ACK, 0, &[]);
        h2
    }

    /// One that has said hello, and has no header table, so that it may skip the header blocks of some responses.
    #[must_use]
    pub fn open(connection: Connection) -> Self {
        Self::open_with(connection, &[(setting::HEADER_TABLE_SIZE, 0)])
    }

    /// What is underneath.
    pub const fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Writes bytes as they are; `false` when the connection takes no more.
    pub fn try_bytes(&mut self, bytes: &[u8]) -> bool {
        self.connection.write_all(bytes).and_then(|()| self.connection.flush()).is_ok()
    }

    /// Writes bytes as they are. What the server has closed takes them in vain.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.try_bytes(bytes);
    }

    /// Writes a frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes(&frame(kind, flags, stream, payload));
    }

    /// Writes SETTINGS.
    pub fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings.iter().flat_map(|(id, value)| setting_bytes(*id, *value)).collect();
        self.send(kind::SETTINGS, 0, 0, &payload);
    }

    /// Asks for `path` with GET.
    pub fn get(&mut self, stream: u32, path: &str) {
        self.request(stream, "GET", path, &[], true);
    }

    /// Begins a request.
    pub fn request(&mut self, stream: u32, method: &str, path: &str, fields: &[(&str, &str)], end: bool) {
        let pseudo = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        self.headers(stream, &[&pseudo, fields].concat(), end);
    }

    /// Writes HEADERS with these fields, pseudo or not.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        self.send(kind::HEADERS, flags, stream, &block(fields));
    }

    /// Writes DATA.
    pub fn data(&mut self, stream: u32, content: &[u8], end: bool) {
        self.send(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, content);
    }

    /// Writes WINDOW_UPDATE.
    pub fn window_update(&mut self, stream: u32, increment: usize) {
        let increment = u32::try_from(increment).expect("an increment");
        self.send(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    }

    /// The next frame; `None` when the connection has ended.
    ///
    /// # Panics
    /// When none comes for long.
    pub fn try_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        self.fill(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.connection.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("no frame: {e}"),
            Err(_) => None,
        }
    }

    /// The next frame.
    ///
    /// # Panics
    /// When the connection ends instead.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.try_frame().expect("a frame, not the end")
    }

    /// The next frame but for SETTINGS, PING and WINDOW_UPDATE, which it answers or ignores; `None` at the end.
    pub fn try_next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.try_frame()?;
            match (frame.kind, frame.has(flag::ACK)) {
                (kind::SETTINGS, false) => self.send(kind::SETTINGS, flag::ACK, 0, &[]),
                (kind::PING, false) => self.send(kind::PING, flag::ACK, 0, &frame.payload),
                (kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE, _) => {}
                _ => return Some(frame),
            }
        }
    }

    /// The next frame but for SETTINGS, PING and WINDOW_UPDATE.
    ///
    /// # Panics
    /// When the connection ends instead.
    #[track_caller]
    #[expect(clippy::should_implement_trait, reason = "a client is no iterator")]
    pub fn next(&mut self) -> Frame {
        self.try_next().expect("a frame, not the end")
    }

    /// Fields of a header block.
    ///
    /// # Panics
    /// When the server does not know HPACK.
    pub fn decode(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let fields = self.decoder.decode(block).expect("HPACK");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// Reads the response to the only open stream, and gives the server room for as much content again as it has sent.
    ///
    /// # Panics
    /// When something else comes.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let mut response = Response::default();
        loop {
            let frame = self.next();
            match frame.kind {
                kind::HEADERS if response.status == 0 => {
                    let mut fields = self.decode(&frame.payload);
                    let status = fields.iter().position(|(name, _)| name == ":status").expect("a status");
                    response.status = fields.remove(status).1.parse().expect("a number");
                    response.headers = fields;
                }
                kind::HEADERS => response.trailers = self.decode(&frame.payload),
                kind::DATA => {
                    if !frame.payload.is_empty() {
                        self.window_update(0, frame.payload.len());
                        if !frame.has(flag::END_STREAM) {
                            self.window_update(frame.stream, frame.payload.len());
                        }
                    }
                    response.content.extend(&frame.payload);
                }
                _ => panic!("no response but {frame:?}"),
            }
            if frame.has(flag::END_STREAM) {
                return response;
            }
        }
    }

    /// Reads until `stream` is reset, and says with which code.
    ///
    /// # Panics
    /// When the connection ends first.
    #[track_caller]
    pub fn reset_of(&mut self, stream: u32) -> u32 {
        loop {
            let frame = self.next();
            assert_ne!(frame.kind, kind::GOAWAY, "GOAWAY with code {}", frame.u32_at(4));
            if frame.kind == kind::RST_STREAM && frame.stream == stream {
                return frame.u32_at(0);
            }
        }
    }

    /// Reads until the connection ends, and says how.
    pub fn end(&mut self) -> End {
        let mut end = End::Closed;
        while let Some(frame) = self.try_next() {
            if frame.kind == kind::GOAWAY {
                end = End::Goaway(frame.u32_at(4));
            }
        }
        end
    }

    /// Waits for the answer to a PING: the server has dealt with all that was sent before.
    ///
    /// # Panics
    /// When it does not come, or something else than housekeeping does.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(kind::PING, 0, 0, b"all well");
        loop {
            let frame = self.frame();
            match (frame.kind, frame.has(flag::ACK)) {
                (kind::PING, true) if frame.payload == b"all well" => return,
                (kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE, _) => {}
                _ => panic!("no PING but {frame:?}"),
            }
        }
    }
}

/// A frame's bytes.
///
/// # Panics
/// With 4 GiB of payload or more.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// One setting's bytes.
#[must_use]
pub fn setting_bytes(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A header block of literal fields that are not indexed (RFC 7541 section 6.2.2).
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

/// A string without Huffman coding (RFC 7541 section 5.2).
fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        block.push(length.to_le_bytes()[0]);
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(length.to_le_bytes()[0] | 128);
            length >>= 7;
        }
        block.push(length.to_le_bytes()[0]);
    }
    block.extend(text);
}
