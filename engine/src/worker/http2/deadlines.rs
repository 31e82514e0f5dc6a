//! How long an `h2` connection may take to begin, may stay without streams, and may take to leave.
//!
//! hyper knows none of these, so they are kept around its connection: what it reads tells of the preface, what it
//! spawns tells of streams.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use pin_project_lite::pin_project;

use super::Options;
use crate::shard::{Services, Sleep};
use crate::time::Instant64;
use crate::worker::hyper_io::HyperIo;

/// Where the client's first frame begins (RFC 9113 section 3.4).
const FIRST_FRAME: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// The client's connection preface as far as the header of its SETTINGS frame.
const PREFACE_BYTES: usize = FIRST_FRAME + 9;
/// The type and the flag ACK of SETTINGS (RFC 9113 section 6.5).
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// What the deadlines of one connection go by.
pub(super) struct Activity {
    services: Arc<Services>,
    /// Bytes of the preface that have not come yet.
    preface_left: Cell<usize>,
    /// Streams that hyper is answering, and tunnels (RFC 9113 section 8.5).
    open: Cell<usize>,
    /// When the last of them ended, or the preface was whole.
    quiet_since: Cell<Instant64>,
}

impl Activity {
    pub(super) fn new(services: &Arc<Services>) -> Rc<Self> {
        Rc::new(Self {
            services: Arc::clone(services),
            preface_left: Cell::new(PREFACE_BYTES),
            open: Cell::new(0),
            quiet_since: Cell::new(services.now()),
        })
    }

    /// Sees bytes go by; `false` when the first frame is not the SETTINGS that it must be, which the library does not
    /// mind.
    fn read(&self, bytes: &[u8]) -> bool {
        let left = self.preface_left.get();
        if left == 0 {
            return true;
        }
        self.preface_left.set(left.saturating_sub(bytes.len()));
        self.quiet_since.set(self.services.now());
        let at = |offset: usize| bytes.get(offset.checked_sub(PREFACE_BYTES - left)?);
        let (kind, flags) = (at(FIRST_FRAME + 3), at(FIRST_FRAME + 4));
        kind.is_none_or(|&kind| kind == SETTINGS) && flags.is_none_or(|&flags| flags & ACK == 0)
    }

    fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }
}

/// A stream that is open until this is dropped.
struct Open(Rc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        let open = self.0.open.get() - 1;
        self.0.open.set(open);
        if open == 0 {
            self.0.quiet_since.set(self.0.services.now());
        }
    }
}

pin_project! {
    struct Counted<F> {
        #[pin]
        future: F,
        open: Open,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

/// Runs hyper's futures, one for each stream, on the shard.
#[derive(Clone)]
pub(super) struct ShardExecutor(pub(super) Rc<Activity>);

impl<F: Future<Output = ()> + 'static> Executor<F> for ShardExecutor {
    fn execute(&self, future: F) {
        let open = self.0.open();
        self.0.services.spawn(Counted { future, open });
    }
}

/// A connection's bytes; sees the preface go by.
pub(super) struct Watched {
    pub(super) io: HyperIo,
    pub(super) activity: Rc<Activity>,
}

impl Read for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<Result<(), io::Error>> {
        let mut right = true;
        let polled = self.io.poll_take(cx, |bytes| {
            let n = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..n]);
            right = self.activity.read(&bytes[..n]);
            n
        });
        if right { polled } else { Poll::Ready(Err(io::ErrorKind::InvalidData.into())) }
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Which deadline runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preface,
    Serving,
    /// GOAWAY has been said because nothing was asked for.
    Leaving,
}

/// What follows from a deadline that is met.
enum Met {
    Goaway,
    Close,
}

/// hyper's connection with its deadlines.
pub(super) struct Timed<C> {
    connection: Pin<Box<C>>,
    goaway: fn(Pin<&mut C>),
    activity: Rc<Activity>,
    phase: Phase,
    sleep: Sleep,
    idle_deadline: Duration,
    goaway_wait: Duration,
}

impl<C: Future> Timed<C> {
    /// `goaway` begins a graceful end of `connection`; it may come more than once.
    pub(super) fn new(connection: C, activity: Rc<Activity>, options: &Options, goaway: fn(Pin<&mut C>)) -> Self {
        let begun_by = activity.services.now() + options.preface_deadline;
        Self {
            connection: Box::pin(connection),
            goaway,
            phase: Phase::Preface,
            sleep: activity.services.sleep_until(begun_by),
            activity,
            idle_deadline: options.idle_deadline,
            goaway_wait: options.goaway_wait,
        }
    }

    /// Lets the open streams end and takes no others (RFC 9113 section 6.8).
    pub(super) fn leave(&mut self) {
        (self.goaway)(self.connection.as_mut());
    }

    fn wait_until(&mut self, phase: Phase, deadline: Instant64) {
        self.phase = phase;
        self.sleep.reset(deadline);
    }

    fn poll_met(&mut self, cx: &mut Context<'_>) -> Poll<Met> {
        loop {
            let quiet_since = self.activity.quiet_since.get();
            if self.phase == Phase::Preface && self.activity.preface_left.get() == 0 {
                self.wait_until(Phase::Serving, quiet_since + self.idle_deadline);
            }
            ready!(Pin::new(&mut self.sleep).poll(cx));
            let now = self.activity.services.now();
            let quiet = self.activity.open.get() == 0;
            // The timer is not moved with each stream: when it fires, it is set to what is left.
            match self.phase {
                Phase::Preface => return Poll::Ready(Met::Close),
                Phase::Serving if quiet && quiet_since + self.idle_deadline <= now => {
                    self.wait_until(Phase::Leaving, now + self.goaway_wait);
                    return Poll::Ready(Met::Goaway);
                }
                Phase::Serving if quiet => self.wait_until(Phase::Serving, quiet_since + self.idle_deadline),
                Phase::Serving => self.wait_until(Phase::Serving, now + self.idle_deadline),
                Phase::Leaving if quiet && quiet_since + self.goaway_wait <= now => return Poll::Ready(Met::Close),
                Phase::Leaving => self.wait_until(Phase::Leaving, now + self.goaway_wait),
            }
        }
    }
}

impl<C: Future> Future for Timed<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            // How it ended is between hyper and the peer; the shard counts what concerns it.
            if this.connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match ready!(this.poll_met(cx)) {
                Met::Goaway => this.leave(),
                Met::Close => return Poll::Ready(()),
            }
        }
    }
}
