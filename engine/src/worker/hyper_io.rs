//! hyper's notions of I/O, time and tasks on a shard's.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Timer, Write};

use super::io::Io;
use crate::shard::{Services, Sleep};
use crate::time::Instant64;

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<Result<(), io::Error>> {
        // A read that fills the buffer makes hyper double it, and keep it as long as the connection; one that leaves a
        // byte does not. Nothing is lost by it: what is left costs no system call.
        let room = buf.remaining().saturating_sub(1).max(1);
        self.poll_take(cx, |bytes| {
            let n = bytes.len().min(room);
            buf.put_slice(&bytes[..n]);
            n
        })
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, io::Error>> {
        self.poll_put(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize, io::Error>> {
        self.poll_put(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: whatever was written leaves at the end of the shard's turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}

/// What a shard's clock calls zero, in hyper's terms. Any instant will do: hyper only adds and compares those that
/// [`ShardTimer`] gives it, and only a real clock can make the first.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Longer than any connection lives, and short enough that hyper can add it to a point in time without a panic.
const WAIT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// `wait` as hyper may have it.
pub(super) fn bounded(wait: Duration) -> Duration {
    wait.min(WAIT_MAX)
}

/// hyper's timer on a shard's clock.
#[derive(Clone)]
pub(super) struct ShardTimer(pub(super) Arc<Services>);

impl ShardTimer {
    fn sleep(&self, deadline: Instant64) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(ShardSleep(self.0.sleep_until(deadline)))
    }
}

impl Timer for ShardTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(self.0.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(shard_time(deadline))
    }

    fn now(&self) -> Instant {
        *ZERO + self.0.now().since(Instant64::ZERO)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, new_deadline: Instant) {
        if let Some(sleep) = sleep.as_mut().downcast_mut_pin::<ShardSleep>() {
            sleep.get_mut().0.reset(shard_time(new_deadline));
        } else {
            *sleep = self.sleep_until(new_deadline);
        }
    }
}

fn shard_time(instant: Instant) -> Instant64 {
    Instant64::ZERO + instant.saturating_duration_since(*ZERO)
}

/// hyper wants it `Send` and `Sync`; it is, because what it shares with the shard has locks.
struct ShardSleep(Sleep);

impl Future for ShardSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl hyper::rt::Sleep for ShardSleep {}
