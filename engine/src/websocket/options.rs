//! What a WebSocket is allowed, and what it offers.

use std::time::Duration;

use yawc::{CompressionLevel, DeflateOptions, DeflatePool};

/// Compressors and decompressors that a pool keeps for the next message: about one per thread that uses them.
const POOLED: usize = 16;

/// What a WebSocket is allowed, and what it offers.
///
/// ```
/// use handfast::websocket::{Deflate, Options, Origins};
///
/// let mut options = Options::default();
/// options.subprotocols = vec!["chat.v2".into(), "chat.v1".into()];
/// options.origins = Origins::List(vec!["https://example.com".into()]);
/// options.deflate = Some(Deflate::default());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Payload of one frame in bytes, as sent and as decompressed. Met: close with 1009 (RFC 6455 section 7.4.1).
    pub frame_bytes_max: usize,
    /// Payload of one message in bytes, decompressed. Met: close with 1009.
    pub message_bytes_max: usize,
    /// permessage-deflate (RFC 7692), if the peer wants it too. Off by default: a connection that has used it keeps
    /// a few hundred KiB, but for [`Deflate::without_context_takeover`].
    pub deflate: Option<Deflate>,
    /// Subprotocols (RFC 6455 section 1.9). A server's in order of preference: the first one that the client offers as
    /// well is chosen, none when there is no such. A client's: what it offers.
    pub subprotocols: Vec<String>,
    /// Which pages a server takes WebSockets from. Met: status 403. Nothing to a client.
    pub origins: Origins,
    /// Pings to a peer that says nothing; `None` for none. Met: close with 1011, and the connection is given up.
    pub keep_alive: Option<KeepAlive>,
    /// From our Close frame to the peer's, and to the end of the connection. Met: the connection is closed without.
    pub close_wait: Duration,
    /// From the moment when sending has to wait for the peer until everything is taken. Met: the connection is given
    /// up, so that a peer that does not read holds nobody for longer.
    pub send_timeout: Duration,
    /// Bytes that an idle WebSocket keeps for reading, and as many for writing. More are taken for larger messages
    /// and given back after them. At 1 KiB small messages are read in one go, and ten thousand idle sockets keep
    /// 20 MB instead of the 160 MB of the library's default.
    pub buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            frame_bytes_max: 1 << 20,
            message_bytes_max: 16 << 20,
            deflate: None,
            subprotocols: Vec::new(),
            origins: Origins::SameHost,
            keep_alive: Some(KeepAlive::default()),
            close_wait: Duration::from_secs(5),
            send_timeout: Duration::from_secs(30),
            buffer_bytes: 1024,
        }
    }
}

/// Pings to a peer that says nothing (RFC 6455 section 5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepAlive {
    /// When nothing has come for as long, a Ping is sent; after at most twice as long.
    pub ping_interval: Duration,
    /// From the Ping to the next sign of life, which may be anything.
    pub pong_wait: Duration,
}

impl KeepAlive {
    /// Pings after `ping_interval` of silence, and gives up after `pong_wait` more.
    #[must_use]
    pub const fn new(ping_interval: Duration, pong_wait: Duration) -> Self {
        Self { ping_interval, pong_wait }
    }
}

impl Default for KeepAlive {
    /// 30 seconds, and 15 more: under the minute after which proxies commonly give up a silent connection.
    fn default() -> Self {
        Self::new(Duration::from_secs(30), Duration::from_secs(15))
    }
}

/// Which pages may open a WebSocket here, by their `Origin` (RFC 6455 section 10.2).
///
/// Browsers send cookies with a WebSocket's opening whatever page asks for it, and always say which page it was. What
/// is no browser sends no `Origin`, and is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// All.
    Any,
    /// Those of the very host and port that is asked, over TLS.
    SameHost,
    /// These, written as browsers do: `https://example.com`, with the port unless it is the scheme's own.
    List(Vec<String>),
}

/// permessage-deflate (RFC 7692).
///
/// Clones share a pool of compressors, so make one and clone it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Deflate {
    /// From 1, fast, to 9, small.
    pub level: u8,
    /// Shorter messages are sent as they are.
    pub message_bytes_min: usize,
    /// Base-2 logarithm of the window that the server compresses with, 9 to 15 (RFC 7692 section 7.1.2.1).
    pub server_window_bits: u8,
    /// The same of the client; a server can ask for less than 15 only of clients that offer it (section 7.1.2.2).
    pub client_window_bits: u8,
    /// The server starts each message with an empty window (section 7.1.1.1): larger messages, but an idle connection
    /// keeps no compressor.
    pub server_no_context_takeover: bool,
    /// The client does (section 7.1.1.2), and an idle connection keeps no decompressor for it.
    pub client_no_context_takeover: bool,
    pub(crate) pool: DeflatePool,
}

impl Default for Deflate {
    fn default() -> Self {
        Self {
            level: 3,
            message_bytes_min: 64,
            server_window_bits: 15,
            client_window_bits: 15,
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            pool: DeflatePool::new(POOLED),
        }
    }
}

impl Deflate {
    /// No context takeover on either side: for many connections that say little.
    #[must_use]
    pub fn without_context_takeover() -> Self {
        Self { server_no_context_takeover: true, client_no_context_takeover: true, ..Self::default() }
    }
}

impl Options {
    /// In the library's terms, whose limits are exclusive. What was agreed on compression it is told apart.
    pub(super) fn for_library(&self) -> yawc::Options {
        // A message in one frame is a message too.
        let frame = self.frame_bytes_max.min(self.message_bytes_max);
        let mut options = yawc::Options::default()
            .with_limits(frame.saturating_add(1), self.message_bytes_max.saturating_add(1))
            .with_read_buffer_capacity(self.buffer_bytes)
            .with_write_buffer_capacity(self.buffer_bytes)
            // The library gives back only what exceeds this as well.
            .with_backpressure_boundary(self.buffer_bytes);
        options.compression = self.deflate.as_ref().map(|deflate| DeflateOptions {
            level: CompressionLevel::new(deflate.level.clamp(1, 9).into()),
            compression_threshold: deflate.message_bytes_min,
            pool: Some(deflate.pool.clone()),
            ..DeflateOptions::default()
        });
        options
    }
}
