//! What moves bytes for a shard.
//!
//! A transport belongs to one shard and one thread. It owns sockets (or what stands for them), a clock and a way
//! to wait; it knows nothing of TLS. [`tcp`] is the kernel's TCP through mio, [`sim`] an in-memory network with
//! faults and a virtual clock. A further one implements [`Transport`] and nothing else.
//!
//! # How a shard drives it
//!
//! 1. [`Transport::poll`] waits until something is ready and reports each connection at most once.
//! 2. Readiness is edge-triggered: after `readable`, [`Transport::recv`] until it says [`More::No`] or would
//!    block; after a short [`Transport::send`], wait for `writable`.
//! 3. A connection that is reported as `accepted` may already hold bytes: `recv` at once.
//! 4. [`Transport::flush`] ends the turn.

pub mod sim;
mod slab;
mod socket;
pub mod tcp;

use std::io::{self, IoSlice};
use std::net::SocketAddr;

pub use slab::{ConnId, Slab};
pub use socket::Socket;

pub use crate::peer::PeerAddr;

use crate::limits::Limits;
use crate::proxy::ProxyProtocol;
use crate::time::Instant64;

/// What became ready on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The connection is new: this is the first time it is named.
    pub accepted: bool,
    /// Bytes, the end of the stream or an error wait in [`Transport::recv`].
    pub readable: bool,
    /// A [`Transport::send`] that came back short may be tried again; or a connect has ended.
    pub writable: bool,
    /// The peer sent FIN or RST: read until [`Recv::Eof`], because no second edge will come.
    pub read_closed: bool,
}

/// One entry of [`Transport::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The connection it is about.
    pub conn: ConnId,
    /// What became ready.
    pub ready: Ready,
}

/// Whether another [`Transport::recv`] may find something without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// More may be there: call again before waiting.
    Maybe,
    /// Drained: the next bytes come with a new `readable`.
    No,
    /// Drained, and the stream ends here: the next call would say [`Recv::Eof`].
    End,
}

/// What [`Transport::recv`] found.
#[derive(Debug)]
pub enum Recv<R> {
    /// Bytes were there; the closure's answer, and whether there may be more.
    Data(R, More),
    /// The peer ended its direction of the stream.
    Eof,
    /// Nothing now; wait for `readable`.
    WouldBlock,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// What was sent is delivered, then FIN.
    Graceful,
    /// RST; what was not yet delivered is dropped.
    Abort,
}

/// Whether more output follows a [`Transport::send`] at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Put the bytes on the wire now.
    Now,
    /// A FIN follows in the same turn, so the last bytes may wait and share its segment.
    BeforeClose,
}

/// Numbers that a transport counts for its shard since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportCounters {
    /// Connections closed at once because no file descriptor was left for them.
    pub accepts_shed_no_descriptor: u64,
    /// Accepts that failed for another reason (the peer was gone, a limit of the kernel's).
    pub accepts_failed: u64,
    /// Polls that left connections waiting because they had accepted as many as a turn may.
    pub accept_budget_met: u64,
    /// Times that connections were found waiting when the transport held as many as it may.
    pub connections_full: u64,
}

/// Wakes a transport's [`poll`](Transport::poll) from another thread.
pub trait Wake: Send + Sync + 'static {
    /// Makes the running or the next `poll` return at once. Many calls may count as one.
    fn wake(&self);
}

/// What moves bytes for one shard; see the [module](self) for how it is driven.
///
/// Calls with a [`ConnId`] that is closed already find nothing: they report an error of kind
/// [`NotConnected`](io::ErrorKind::NotConnected), or do nothing where they return nothing.
pub trait Transport: Sized {
    /// What another thread keeps to wake this one.
    type Waker: Wake + Clone;

    /// The time now: the only clock of the engine.
    fn now(&self) -> Instant64;

    /// Waits until something is ready or `deadline` is reached (`None`: for ever), then appends one event for
    /// each connection concerned. Accepts new connections, as many as its limit for a turn allows. The caller may take
    /// several turns for the events, each of which ends with [`flush`](Self::flush), before it polls again.
    ///
    /// # Errors
    /// Only what makes the transport unusable as a whole.
    fn poll(&mut self, deadline: Option<Instant64>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Lends up to `max` received bytes to `f`, which must take all that it is shown.
    ///
    /// # Errors
    /// The connection is broken (reset, timed out); the caller closes it.
    fn recv<R>(&mut self, conn: ConnId, max: usize, f: impl FnOnce(&mut [u8]) -> R) -> io::Result<Recv<R>>;

    /// Takes bytes from the front of `bufs` and says how many; fewer than all means: wait for `writable`.
    ///
    /// # Errors
    /// The connection is broken; the caller closes it.
    fn send(&mut self, conn: ConnId, bufs: &[IoSlice<'_>], push: Push) -> io::Result<usize>;

    /// Ends our direction with FIN; reading goes on.
    fn shutdown(&mut self, conn: ConnId);

    /// Ends the connection and forgets it.
    fn close(&mut self, conn: ConnId, how: Close);

    /// Ends the turn: whatever the transport put off until now is done.
    ///
    /// # Errors
    /// As for [`poll`](Self::poll).
    fn flush(&mut self) -> io::Result<()>;

    /// Takes what concerns it of limits that have changed: [`accepts_per_turn`](Limits::accepts_per_turn) and
    /// [`connections_per_shard`](Limits::connections_per_shard).
    fn set_limits(&mut self, limits: &Limits);

    /// Turns accepting off and on (load shedding, drain). Turning it on takes what has waited meanwhile.
    fn accepting(&mut self, on: bool);

    /// Stops listening for good: the addresses are free for another process. What waits to be accepted is accepted first,
    /// as far as [`connections_per_shard`](Limits::connections_per_shard) allows, and the next poll reports it.
    fn stop_listening(&mut self);

    /// Starts a connection; `writable` reports its end, and an error, if any, comes out of `recv` or `send`.
    ///
    /// # Errors
    /// The connection could not even be started: no descriptor, no port, no route.
    fn connect(&mut self, to: SocketAddr, from: Option<SocketAddr>) -> io::Result<ConnId>;

    /// Takes over a connection that another transport gave away with [`release`](Self::release).
    ///
    /// # Errors
    /// The socket cannot be used here; it is closed.
    fn adopt(&mut self, socket: Socket) -> io::Result<ConnId>;

    /// Gives the connection's socket away and forgets it; `None` when it cannot leave this transport (it is
    /// still there then).
    fn release(&mut self, conn: ConnId) -> Option<Socket>;

    /// A handle that wakes this transport from another thread.
    fn waker(&self) -> Self::Waker;

    /// Where the peer is; `None` for a connection that is closed already.
    fn peer(&self, conn: ConnId) -> Option<PeerAddr>;

    /// Whose PROXY protocol header comes first on a connection that was accepted; `None` where none does.
    fn proxy_protocol(&self, conn: ConnId) -> Option<&ProxyProtocol> {
        let _ = conn;
        None
    }

    /// What it has counted.
    fn counters(&self) -> TransportCounters;
}
