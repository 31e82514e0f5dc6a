//! The threads of an engine.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::Receiver;

use super::Handle;
use crate::crypto::batch::Turn;
use crate::metrics::Counters;
use crate::shard::{Control, Mailbox, Negotiated};
use crate::transport::Transport;
use crate::transport::tcp::{Tcp, TcpWaker};

/// A thread before it starts.
pub(super) struct ThreadPlan {
    pub(super) name: String,
    pub(super) core: Option<usize>,
    pub(super) transport: Tcp,
    pub(super) mail: Option<Receiver<Negotiated>>,
    pub(super) workers: Vec<Mailbox>,
    /// What it computes in batches with.
    pub(super) turn: Option<Turn>,
}

#[derive(Debug)]
pub(super) struct ThreadHandle {
    pub(super) control: Arc<Control>,
    pub(super) counters: Arc<Counters>,
    pub(super) waker: TcpWaker,
}

impl ThreadHandle {
    pub(super) fn of(plan: &ThreadPlan) -> Self {
        Self { control: Arc::default(), counters: Arc::default(), waker: Transport::waker(&plan.transport) }
    }
}

/// Runs a thread of an engine. If it fails the others drain: an engine must not go on unseen with fewer.
pub(super) fn guarded(handle: Handle, body: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    struct Guard {
        handle: Handle,
        failed: bool,
    }
    impl Drop for Guard {
        fn drop(&mut self) {
            if self.failed {
                self.handle.drain();
            }
        }
    }
    // A panic leaves it so.
    let mut guard = Guard { handle, failed: true };
    let ended = body();
    guard.failed = ended.is_err();
    ended
}

pub(super) fn joined(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the engine panicked")))
}
