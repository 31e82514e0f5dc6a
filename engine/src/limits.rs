//! Every limit of the engine, in one struct.

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;

/// What the engine allows; each field says what happens when it is met.
///
/// They hold for each shard and each worker thread. The kernel spreads connections over the shards by both addresses and
/// both ports, so those of one source reach all of them: a host with `n` shards allows a source up to `n` times what
/// [`source`](Self::source) says. What counts how often a limit is met is in [`Metrics`](crate::metrics::Metrics).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections one shard holds at a time, in all states. Met: the shard stops accepting until one closes; the
    /// kernel's backlog holds what comes meanwhile.
    pub connections_per_shard: usize,
    /// Connections accepted in one turn. Met: the rest wait for the next turn, which follows at once.
    pub accepts_per_turn: usize,
    /// Handshakes under way at a time on one shard. Met: new connections are reset before anything is read from them;
    /// those under way go on. The last quarter is kept for [sources](SourceLimits) that have no handshake under way.
    pub handshakes_per_shard: usize,
    /// What one source address may have. Met: its new connections are reset before anything is read from them, or once
    /// a proxy has named it.
    pub source: SourceLimits,
    /// Bytes of a PROXY protocol header. Met: reset.
    pub proxy_header_bytes: usize,
    /// From accept to the end of the PROXY protocol header, for connections from trusted proxies. Met: reset.
    pub proxy_header_deadline: Duration,
    /// Bytes read from one connection in one turn. Met: the connection goes on in the next turn, after the others.
    pub read_bytes_per_turn: usize,
    /// Bytes of the records that carry a ClientHello. Met: alert `decode_error`, close.
    pub client_hello_bytes: usize,
    /// Bytes kept of a handshake after the ClientHello that are not yet a whole message. Met: close.
    pub handshake_bytes: usize,
    /// From accept to the end of the handshake. Met: close.
    pub handshake_deadline: Duration,
    /// Sessions kept for early data, by all shards together, rounded up to a multiple of 16. Met: the oldest are
    /// forgotten, and handshake in full. Zero keeps none.
    pub early_sessions: usize,
    /// Bytes of memory that they take, about. Met: as for `early_sessions`.
    pub early_session_bytes: usize,
    /// How long a refused or finished connection may go without taking any of what we still have to send. Met: reset.
    pub unsent_wait: Duration,
    /// How long a refused or finished connection may stay open after our FIN. What it still sends is read and thrown
    /// away, so that it can read our last bytes. Met: close.
    pub linger: Duration,
    /// How long a connection of the [`close`](crate::Protocol::close) protocol waits for the peer's close_notify. Met:
    /// close.
    pub close_wait: Duration,
    /// Received plaintext that a worker has not yet taken. Met: the socket is not read until it has.
    pub stream_read_bytes: usize,
    /// Plaintext that a worker has written and the socket has not taken. Met: the worker's write waits.
    pub stream_write_bytes: usize,
    /// How long a connection with a worker may go without a byte in either direction. Met: close_notify and FIN, and the
    /// worker's stream is broken; reset, if the peer did not take what was sent before.
    pub idle_deadline: Duration,
    /// Records without application data (KeyUpdate, empty records, warning alerts) that a connection with a worker may
    /// send in ten seconds. Met: reset. rustls by itself allows 32 in a row.
    pub control_records: u32,
    /// Negotiated connections that wait for one worker thread. Met: the other workers' mailboxes are tried, then the
    /// shard stops accepting.
    pub mailbox_depth: usize,
    /// How long a negotiated connection waits for room in a mailbox. Met: reset, and the shard accepts again.
    pub hand_off_wait: Duration,
    /// How long a drain waits for connections to end by themselves. Met: they are reset.
    pub drain_deadline: Duration,
}

impl Limits {
    /// That something can be served within them; [`Builder::start`](crate::Builder::start) asks.
    ///
    /// # Errors
    /// The first one that does not allow it.
    pub fn check(&self) -> Result<(), LimitError> {
        // None is left out: whoever adds one decides what zero means for it.
        let Self {
            connections_per_shard,
            accepts_per_turn,
            handshakes_per_shard,
            source,
            proxy_header_bytes,
            proxy_header_deadline,
            read_bytes_per_turn,
            client_hello_bytes,
            handshake_bytes,
            handshake_deadline,
            // Zero keeps none.
            early_sessions: _,
            early_session_bytes: _,
            unsent_wait,
            linger,
            close_wait,
            stream_read_bytes,
            stream_write_bytes,
            idle_deadline,
            control_records,
            mailbox_depth,
            hand_off_wait,
            drain_deadline,
        } = self;
        // Zero remembers none, and without limits on sources the rest does not count.
        let SourceLimits { prefix_v4, prefix_v6, rate: _, handshakes: _, connections: _, remembered: _ } = source;
        let (number, time) = ("at least 1", "over zero");
        [
            ("connections_per_shard", *connections_per_shard > 0, number),
            ("accepts_per_turn", *accepts_per_turn > 0, number),
            ("handshakes_per_shard", *handshakes_per_shard > 0, number),
            ("source.prefix_v4", *prefix_v4 <= 32, "at most 32"),
            ("source.prefix_v6", *prefix_v6 <= 128, "at most 128"),
            ("proxy_header_bytes", *proxy_header_bytes > 0, number),
            ("proxy_header_deadline", !proxy_header_deadline.is_zero(), time),
            ("read_bytes_per_turn", *read_bytes_per_turn > 0, number),
            ("client_hello_bytes", *client_hello_bytes > 0, number),
            ("handshake_bytes", *handshake_bytes > 0, number),
            ("handshake_deadline", !handshake_deadline.is_zero(), time),
            ("unsent_wait", !unsent_wait.is_zero(), time),
            ("linger", !linger.is_zero(), time),
            ("close_wait", !close_wait.is_zero(), time),
            ("stream_read_bytes", *stream_read_bytes > 0, number),
            ("stream_write_bytes", *stream_write_bytes > 0, number),
            ("idle_deadline", !idle_deadline.is_zero(), time),
            ("control_records", *control_records > 0, number),
            ("mailbox_depth", *mailbox_depth > 0, number),
            ("hand_off_wait", !hand_off_wait.is_zero(), time),
            ("drain_deadline", !drain_deadline.is_zero(), time),
        ]
        .into_iter()
        .find_map(|(limit, good, wants)| (!good).then_some(LimitError { limit, wants }))
        .map_or(Ok(()), Err)
    }
}

/// A limit within which nothing could be served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitError {
    /// The field of [`Limits`].
    pub limit: &'static str,
    /// What it has to be.
    pub wants: &'static str,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit `{}` has to be {}", self.limit, self.wants)
    }
}

impl core::error::Error for LimitError {}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_shard: 100_000,
            accepts_per_turn: 256,
            handshakes_per_shard: 16_384,
            source: SourceLimits::default(),
            proxy_header_bytes: 4096,
            proxy_header_deadline: Duration::from_secs(5),
            read_bytes_per_turn: 64 * 1024,
            client_hello_bytes: 16 * 1024,
            handshake_bytes: 64 * 1024,
            handshake_deadline: Duration::from_secs(10),
            early_sessions: 64 * 1024,
            early_session_bytes: 32 * 1024 * 1024,
            unsent_wait: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            close_wait: Duration::from_secs(10),
            stream_read_bytes: 64 * 1024,
            stream_write_bytes: 64 * 1024,
            idle_deadline: Duration::from_secs(600),
            control_records: 128,
            mailbox_depth: 1024,
            hand_off_wait: Duration::from_secs(1),
            drain_deadline: Duration::from_secs(10),
        }
    }
}

/// What all addresses of one prefix may have together on one shard; nothing is limited unless it is set.
///
/// A source behind a trusted proxy is the address in the proxy's header, and the proxy itself is not limited.
/// Unix-domain sockets have no source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceLimits {
    /// Leading bits of an IPv4 address that make a source; 32, each address for itself, unless said otherwise.
    pub prefix_v4: u8,
    /// The same for IPv6; 64, what one customer commonly has, unless said otherwise.
    pub prefix_v6: u8,
    /// New connections a second. Met: reset.
    pub rate: Option<SourceRate>,
    /// Handshakes under way at a time. Met: reset.
    pub handshakes: Option<NonZeroU32>,
    /// Connections that the shard holds at a time, in all states; one that has left for a worker thread or the embedding
    /// program no longer counts. Met: reset.
    pub connections: Option<NonZeroU32>,
    /// Sources without a connection whose rate is remembered. Met: the one without for longest is forgotten, and may
    /// begin anew.
    pub remembered: usize,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self { prefix_v4: 32, prefix_v6: 64, rate: None, handshakes: None, connections: None, remembered: 65_536 }
    }
}

impl SourceLimits {
    /// Whether anything is limited, so that sources have to be told apart.
    pub(crate) const fn any(&self) -> bool {
        self.rate.is_some() || self.handshakes.is_some() || self.connections.is_some()
    }
}

/// How fast one source may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRate {
    /// Connections a second in the long run.
    pub per_second: NonZeroU32,
    /// Connections at once, after a pause.
    pub burst: NonZeroU32,
}
