//! Our own bounded reader of a ClientHello, over the bytes that rustls has not seen yet.
//!
//! [`HelloReader`] is fed everything that has arrived so far and answers once the ClientHello is whole, with a
//! [`Hello`]: a small index of where its parts are. [`Hello::view`] joins that index with the bytes again. Nothing
//! is allocated for a ClientHello in one record, which is every ordinary one.
//!
//! The reader checks the records, the outline of the message and the extensions that [`ClientHelloView`] shows.
//! Everything else is left to rustls, which reads the same bytes afterwards and has the last word.

mod cursor;
mod index;
mod server_share;
mod view;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::error::Refusal;
use cursor::Cursor;
use index::{Index, KEY_SHARE};
pub use server_share::server_key_share;
pub use view::ClientHelloView;

/// Content type, version and length (RFC 8446 section 5.1).
const RECORD_HEADER_LEN: usize = 5;
/// Type and length (RFC 8446 section 4).
const MESSAGE_HEADER_LEN: usize = 4;
/// "The length MUST NOT exceed 2^14 bytes" (RFC 8446 section 5.1).
const FRAGMENT_LEN_MAX: usize = 1 << 14;
/// What rustls takes at most; it also lets every offset into a message fit in 16 bits.
const BODY_LEN_MAX: usize = 0xffff;
/// Version, random, and the shortest session ID, cipher suites and compression methods.
const BODY_LEN_MIN: usize = 2 + 32 + 1 + 4 + 2;

const CONTENT_HANDSHAKE: u8 = 22;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const VERSION_MAJOR: u8 = 3;

/// How the request line of each HTTP method begins, and HTTP/2's preface (RFC 9113 section 3.4).
const HTTP_STARTS: [[u8; 4]; 10] =
    [*b"GET ", *b"POST", *b"HEAD", *b"PUT ", *b"OPTI", *b"DELE", *b"CONN", *b"PRI ", *b"TRAC", *b"PATC"];

/// Reads one ClientHello from bytes that arrive in pieces of any size.
///
/// It keeps its place between calls, so that a ClientHello costs time in proportion to its length however finely it
/// is cut.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Where the first record that is not yet taken begins.
    record_at: usize,
    /// The message so far, once it is known to span several records.
    joined: Vec<u8>,
}

impl HelloReader {
    /// A reader at the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { record_at: 0, joined: Vec::new() }
    }

    /// Reads on. `input` is all that has arrived since the stream began; what an earlier call saw is still there,
    /// unchanged. `Ok(None)`: more bytes are needed. `limit` bounds the bytes of the records that carry the message.
    ///
    /// Records and message headers are judged as soon as their bytes are there, the message when it is whole.
    ///
    /// # Errors
    /// [`Refusal::PlainHttp`], [`Refusal::Sslv2`] and [`Refusal::NotTls`] by the first bytes,
    /// [`Refusal::HelloTooLarge`] once more is announced than `limit` allows, otherwise [`Refusal::HelloMalformed`].
    /// The reader is of no further use then.
    pub fn read(&mut self, input: &[u8], limit: usize) -> Result<Option<Hello>, Refusal> {
        if self.record_at == 0 && !is_tls(input)? {
            return Ok(None);
        }
        loop {
            let record = input.get(self.record_at..).unwrap_or_default();
            let Some(fragment_len) = fragment_len(record)? else {
                return Ok(None);
            };
            let fragment_at = self.record_at + RECORD_HEADER_LEN;
            let end = fragment_at + fragment_len;
            if end > limit {
                return Err(Refusal::HelloTooLarge);
            }
            let arrived = &record[RECORD_HEADER_LEN..record.len().min(RECORD_HEADER_LEN + fragment_len)];
            let message_len = message_len(&self.joined, arrived)?;
            if let Some(message_len) = message_len {
                let missing = message_len - self.joined.len();
                // A ClientHello ends its record: no message follows it in the same flight (RFC 8446 section 5.1).
                if fragment_len > missing {
                    return Err(Refusal::HelloMalformed);
                }
                if fragment_at + missing > limit {
                    return Err(Refusal::HelloTooLarge);
                }
            }
            if arrived.len() < fragment_len {
                return Ok(None);
            }
            if message_len == Some(fragment_len) && self.joined.is_empty() {
                return Hello::in_place(arrived, fragment_at, end).map(Some);
            }
            self.joined.extend_from_slice(arrived);
            self.record_at = end;
            if message_len == Some(self.joined.len()) {
                return Hello::joined(core::mem::take(&mut self.joined), end).map(Some);
            }
        }
    }
}

/// Whether the stream begins as TLS does; `Ok(false)` when its first byte has not arrived or says too little.
fn is_tls(input: &[u8]) -> Result<bool, Refusal> {
    let Some(&first) = input.first() else {
        return Ok(false);
    };
    if first == CONTENT_HANDSHAKE {
        return if input.get(1).is_none_or(|&major| major == VERSION_MAJOR) { Ok(true) } else { Err(Refusal::NotTls) };
    }
    // An SSLv2 ClientHello: a length with its top bit set, then message type 1 (RFC 5246 appendix E.2).
    if first & 0x80 != 0 {
        return match input.get(2) {
            None => Ok(false),
            Some(&MESSAGE_CLIENT_HELLO) => Err(Refusal::Sslv2),
            Some(_) => Err(Refusal::NotTls),
        };
    }
    let start = &input[..input.len().min(4)];
    if !HTTP_STARTS.iter().any(|method| method.starts_with(start)) {
        return Err(Refusal::NotTls);
    }
    if start.len() < 4 { Ok(false) } else { Err(Refusal::PlainHttp) }
}

/// How long the record's fragment is, once its header is there (RFC 8446 section 5.1).
fn fragment_len(record: &[u8]) -> Result<Option<usize>, Refusal> {
    // `is_tls` has judged the first record; no other content may come between (RFC 8446 section 5.1).
    if record.first().is_some_and(|&kind| kind != CONTENT_HANDSHAKE) {
        return Err(Refusal::HelloMalformed);
    }
    // The minor version is to be ignored: clients send 1 and 3 (RFC 8446 section 5.1).
    if record.get(1).is_some_and(|&major| major != VERSION_MAJOR) {
        return Err(Refusal::HelloMalformed);
    }
    let Some(&[high, low]) = record.get(3..RECORD_HEADER_LEN) else {
        return Ok(None);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        // "Implementations MUST NOT send zero-length fragments of Handshake types."
        0 => Err(Refusal::HelloMalformed),
        len if len > FRAGMENT_LEN_MAX => Err(Refusal::HelloMalformed),
        len => Ok(Some(len)),
    }
}

/// How long the message is with its header, once that is there; its first bytes are in `joined`, then in `arrived`.
fn message_len(joined: &[u8], arrived: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut header = joined.iter().chain(arrived).copied();
    match header.next() {
        None => return Ok(None),
        Some(MESSAGE_CLIENT_HELLO) => {}
        Some(_) => return Err(Refusal::HelloMalformed),
    }
    let (Some(high), Some(middle), Some(low)) = (header.next(), header.next(), header.next()) else {
        return Ok(None);
    };
    let body_len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if body_len < BODY_LEN_MIN {
        return Err(Refusal::HelloMalformed);
    }
    if body_len > BODY_LEN_MAX {
        return Err(Refusal::HelloTooLarge);
    }
    Ok(Some(MESSAGE_HEADER_LEN + body_len))
}

/// A whole ClientHello: where its parts are, and its bytes only if they had to be joined from several records.
#[derive(Debug)]
pub struct Hello {
    bytes: Bytes,
    record_bytes: usize,
    index: Index,
}

/// Where the message is.
#[derive(Debug)]
enum Bytes {
    /// In the input, at this offset and of this length.
    InPlace { at: usize, len: usize },
    /// Joined from several records.
    Joined(Box<[u8]>),
}

impl Hello {
    fn in_place(message: &[u8], at: usize, record_bytes: usize) -> Result<Self, Refusal> {
        let index = Self::index(message)?;
        Ok(Self { bytes: Bytes::InPlace { at, len: message.len() }, record_bytes, index })
    }

    fn joined(message: Vec<u8>, record_bytes: usize) -> Result<Self, Refusal> {
        let index = Self::index(&message)?;
        Ok(Self { bytes: Bytes::Joined(message.into_boxed_slice()), record_bytes, index })
    }

    fn index(message: &[u8]) -> Result<Index, Refusal> {
        let body = message.get(MESSAGE_HEADER_LEN..).unwrap_or_default();
        Index::read(Cursor::new(body)).ok_or(Refusal::HelloMalformed)
    }

    /// How many bytes of the input the records of this ClientHello take; what follows them is not part of it.
    #[must_use]
    pub const fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// The ClientHello to look at. `input` is what [`HelloReader::read`] was given when it returned this; with
    /// anything else the view shows nonsense, but never panics.
    #[must_use]
    pub fn view<'a>(&'a self, input: &'a [u8], peer: Option<SocketAddr>) -> ClientHelloView<'a> {
        let message = match &self.bytes {
            Bytes::InPlace { at, len } => input.get(*at..at + len).unwrap_or_default(),
            Bytes::Joined(message) => message,
        };
        ClientHelloView::new(message, &self.index, peer)
    }
}
