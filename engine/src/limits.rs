//! Every limit of the engine, in one struct.

use core::time::Duration;

/// What the engine allows; each field says what happens when it is met.
///
/// What counts how often one is met is in [`Metrics`](crate::metrics::Metrics); not every limit has a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections one shard holds at a time, in all states. Met: the shard stops accepting until one closes; the
    /// kernel's backlog holds what comes meanwhile.
    pub connections_per_shard: usize,
    /// Connections accepted in one turn. Met: the rest wait for the next turn, which follows at once.
    pub accepts_per_turn: usize,
    /// Bytes read from one connection in one turn. Met: the connection goes on in the next turn, after the others.
    pub read_bytes_per_turn: usize,
    /// Bytes of the records that carry a ClientHello. Met: alert `decode_error`, close.
    pub client_hello_bytes: usize,
    /// Bytes kept of a handshake after the ClientHello that are not yet a whole message. Met: close.
    pub handshake_bytes: usize,
    /// From accept to the end of the handshake. Met: close.
    pub handshake_deadline: Duration,
    /// Sessions kept for early data, by all shards together. Met: the oldest are forgotten, and handshake in full.
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
    /// Negotiated connections that wait for one worker thread. Met: the other workers' mailboxes are tried, then the
    /// shard stops accepting.
    pub mailbox_depth: usize,
    /// How long a negotiated connection waits for room in a mailbox. Met: reset, and the shard accepts again.
    pub hand_off_wait: Duration,
    /// How long a drain waits for connections to end by themselves. Met: they are reset.
    pub drain_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_shard: 100_000,
            accepts_per_turn: 256,
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
            mailbox_depth: 1024,
            hand_off_wait: Duration::from_secs(1),
            drain_deadline: Duration::from_secs(10),
        }
    }
}
