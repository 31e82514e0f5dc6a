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

/// Runs a thread of an engine. If it fails the others drain: an engine must not go on unseen with fewer. Otherwise they are
/// woken when it has ended: workers that drain end with the last shard that could bring them connections.
pub(super) fn guarded(handle: Handle, body: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    struct Guard {
        handle: Handle,
        failed: bool,
    }
    impl Drop for Guard {
        fn drop(&mut self) {
            if self.failed {
                self.handle.drain();
            } else {
                self.handle.wake_all();
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

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::testing;
    use super::*;
    use crate::limits::Limits;
    use crate::{Placement, Protocol};

    #[test]
    fn workers_of_an_engine_that_is_dropped_end_with_its_shards() {
        let limits = Limits { drain_deadline: Duration::from_secs(3600), ..Limits::default() };
        let in_handler = Arc::new(());
        let in_threads = Arc::downgrade(&in_handler);
        let handler = move |_| {
            let _held = &in_handler;
            async {}
        };
        let engine = testing::builder()
            .workers(Placement::Threads(2))
            .limits(limits)
            .protocol(Protocol::alpn("chat/1").serve(handler));
        drop(engine.start().unwrap());
        let bound = Instant::now() + Duration::from_secs(60);
        while in_threads.upgrade().is_some() {
            assert!(Instant::now() < bound, "a thread is left");
            thread::yield_now();
        }
    }
}
