//! The hand-off: a negotiated connection leaves its shard for a worker thread or the embedding program.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::Worker;
use crate::handshake::{Finished, HandshakeFacts, Session};
use crate::transport::{Socket, Wake};

/// A connection whose handshake is over, on its way to whoever speaks its protocol.
pub struct Negotiated {
    pub(super) socket: Socket,
    pub(super) finished: Finished,
    pub(super) unsent: Vec<u8>,
    /// Who speaks its protocol, if it is on its way to a worker thread. It comes along, because whatever that thread
    /// knows may be newer than the table that the handshake began with.
    pub(super) worker: Option<Arc<dyn Worker>>,
}

impl fmt::Debug for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiated").field("facts", self.facts()).finish_non_exhaustive()
    }
}

/// What a [`Negotiated`] consists of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The socket, non-blocking.
    pub socket: Socket,
    /// The TLS connection: records in, records out.
    pub session: Session,
    /// What the handshake has settled.
    pub facts: HandshakeFacts,
    /// Plaintext that came in already.
    pub received: Vec<u8>,
    /// The peer has sent close_notify already: `received` is all there will be.
    pub peer_closed: bool,
    /// TLS records (session tickets) that the socket has not taken yet: send them before anything else.
    pub unsent: Vec<u8>,
}

impl Negotiated {
    /// What the handshake has settled.
    #[must_use]
    pub const fn facts(&self) -> &HandshakeFacts {
        &self.finished.facts
    }

    /// The pieces, for a program with its own loop.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        let Self { socket, finished, unsent, worker: _ } = self;
        let Finished { session, facts, received, peer_closed, end: _ } = finished;
        Parts { socket, session, facts, received, peer_closed, unsent }
    }
}

/// Why a mailbox did not take a connection.
#[derive(Debug)]
pub(super) enum Undelivered {
    Full(Box<Negotiated>),
    Gone,
}

/// The sending end of a bounded queue of negotiated connections.
///
/// When it is full the shard stops accepting until there is room, for at most
/// [`Limits::hand_off_wait`](crate::Limits::hand_off_wait).
#[derive(Clone)]
pub struct Mailbox {
    // Before `wake`, as fields are dropped in this order: when the last `wake` goes there is no sender any more.
    sender: Sender<Negotiated>,
    wake: Option<Arc<dyn Wake>>,
    /// A connection waited for room in vain: until something is put in again, none waits.
    overflowing: Arc<AtomicBool>,
}

impl Mailbox {
    /// A mailbox for `depth` connections, and the end from which they are taken: a blocking or polling receiver
    /// that any number of threads may share.
    #[must_use]
    pub fn bounded(depth: usize) -> (Self, Receiver<Negotiated>) {
        let (sender, receiver) = bounded(depth.max(1));
        (Self { sender, wake: None, overflowing: Arc::default() }, receiver)
    }

    /// Calls `wake` once per turn of a shard that has put something in: for a receiver that waits in a poller.
    #[must_use]
    pub fn with_wake(self, wake: impl Wake) -> Self {
        Self { wake: Some(Arc::new(wake)), ..self }
    }

    pub(super) fn is_full(&self) -> bool {
        self.sender.is_full()
    }

    pub(super) fn put(&self, negotiated: Negotiated) -> Result<(), Undelivered> {
        self.sender.try_send(negotiated).map_err(|e| match e {
            TrySendError::Full(n) => Undelivered::Full(Box::new(n)),
            TrySendError::Disconnected(_) => Undelivered::Gone,
        })?;
        if self.is_overflowing() {
            self.overflowing.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn is_overflowing(&self) -> bool {
        self.overflowing.load(Ordering::Relaxed)
    }

    pub(super) fn overflow(&self) {
        self.overflowing.store(true, Ordering::Relaxed);
    }

    /// Both lead to one receiver.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("len", &self.sender.len()).finish_non_exhaustive()
    }
}

/// How often a shard looks again whether a full mailbox has room.
pub(super) const RETRY: Duration = Duration::from_millis(1);
