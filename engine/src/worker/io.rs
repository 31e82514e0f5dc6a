//! The bytes of a connection under a library that speaks HTTP.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::shard::{Sleep, Stream};

/// A [`Stream`] whose peer has to read.
pub(super) struct Io {
    stream: Stream,
    write_wait: Duration,
    /// Runs while a write waits.
    stalled: Option<Box<Sleep>>,
}

impl Io {
    /// A write that waits longer than `write_wait` for the peer fails.
    pub(super) const fn new(stream: Stream, write_wait: Duration) -> Self {
        Self { stream, write_wait, stalled: None }
    }

    /// Lets `f` take of what has come, and say how much it took.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>, f: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<()>> {
        self.stream.poll_take(cx, f)
    }

    /// Gives the peer as much of `bufs` as there is room for.
    pub(super) fn poll_put(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let put = self.stream.poll_put(cx, bufs);
        if put.is_ready() {
            self.stalled = None;
            return put;
        }
        let services = self.stream.services();
        let until = || Box::new(services.sleep_until(services.now() + self.write_wait));
        let stalled = self.stalled.get_or_insert_with(until);
        Pin::new(&mut **stalled).poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ends our direction.
    pub(super) fn shut(&self) {
        self.stream.shut();
    }
}
