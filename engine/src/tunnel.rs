//! Bytes over one stream of an `h2` connection: content that goes out, and tunnels (RFC 9113 section 8.5).

use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shard::{Services, Sleep};

/// What one stream claims of the connection's window at a time; others wait for no more than this.
const CLAIM_BYTES_MAX: usize = 16 * 1024;

/// A stream's way out, as wide as the client's windows.
pub(crate) struct Outbound {
    pub(crate) stream: SendStream<Bytes>,
    services: Arc<Services>,
    window_wait: Duration,
    /// Runs while the client's windows are closed.
    stalled: Option<Box<Sleep>>,
}

/// Why nothing more can be sent on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// It is over, or its connection is.
    Gone,
    /// The client has opened no window for too long.
    Stalled,
}

impl Outbound {
    pub(crate) const fn new(stream: SendStream<Bytes>, services: Arc<Services>, window_wait: Duration) -> Self {
        Self { stream, services, window_wait, stalled: None }
    }

    /// How many of `wanted` bytes, which are more than none, may be sent now. Nobody claims room without having the
    /// bytes for it: other streams would miss it.
    pub(crate) fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, NotSent>> {
        let wanted = wanted.min(CLAIM_BYTES_MAX);
        self.stream.reserve_capacity(wanted);
        loop {
            let room = self.stream.capacity().min(wanted);
            if room > 0 {
                self.stalled = None;
                return Poll::Ready(Ok(room));
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(NotSent::Gone)),
                Poll::Pending => break,
            }
        }
        let services = &self.services;
        let until = || Box::new(services.sleep_until(services.now() + self.window_wait));
        ready!(Pin::new(&mut **self.stalled.get_or_insert_with(until)).poll(cx));
        Poll::Ready(Err(NotSent::Stalled))
    }
}

/// What a stream becomes when CONNECT is answered with success (RFC 9113 section 8.5, RFC 8441): bytes both ways.
///
/// Shutting down ends this direction with END_STREAM. Writing fails, and the stream is reset, when the client opens
/// its windows for nothing within [`Options::window_wait`](crate::worker::http2::Options::window_wait). Dropped before
/// both directions have ended, it resets the stream with `CANCEL`.
pub struct Tunnel {
    outbound: Outbound,
    inbound: RecvStream,
    /// What has come and was not read.
    unread: Bytes,
    shut: bool,
}

impl Tunnel {
    pub(crate) const fn new(outbound: Outbound, inbound: RecvStream) -> Self {
        Self { outbound, inbound, unread: Bytes::new(), shut: false }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("stream", &self.inbound.stream_id()).finish_non_exhaustive()
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() {
            match ready!(this.inbound.poll_data(cx)) {
                Some(Ok(bytes)) => this.unread = bytes,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..n]);
        this.unread.advance(n);
        // It fails on a stream that is over, which has no window.
        let _ = this.inbound.flow_control().release_capacity(n);
        Poll::Ready(Ok(()))
    }
}

/// What a reader is told when the stream did not end with END_STREAM.
fn broken(error: h2::Error) -> io::Error {
    match error.reason() {
        // RFC 8441 section 5: it stands for TCP's reset.
        Some(Reason::CANCEL) => io::Error::new(io::ErrorKind::ConnectionReset, error),
        _ => error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()),
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let outbound = &mut self.outbound;
        let room = match ready!(outbound.poll_room(buf.len(), cx)) {
            Ok(room) => room,
            Err(NotSent::Gone) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Err(NotSent::Stalled) => {
                outbound.stream.send_reset(Reason::CANCEL);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        };
        let sent = outbound.stream.send_data(Bytes::copy_from_slice(&buf[..room]), false);
        Poll::Ready(sent.map(|()| room).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    /// Ready at once: what was written was within the client's windows, and leaves at the end of the shard's turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if mem::replace(&mut self.shut, true) {
            return Poll::Ready(Ok(()));
        }
        let ended = self.outbound.stream.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }
}

/// The tunnel that an answered CONNECT will be; see [`worker::http2::tunnel`](crate::worker::http2::tunnel).
///
/// It ends with `None` when the request is answered with anything but success, or the stream ends before.
#[derive(Clone)]
#[must_use = "a tunnel that nobody awaits is reset"]
pub struct OnTunnel(Arc<Mutex<Promised>>);

#[derive(Default)]
struct Promised {
    tunnel: Option<Tunnel>,
    settled: bool,
    waiting: Option<Waker>,
}

impl OnTunnel {
    fn lock(&self) -> MutexGuard<'_, Promised> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that came with a request.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Option<Self> {
        request.extensions_mut().remove()
    }
}

impl Future for OnTunnel {
    type Output = Option<Tunnel>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tunnel>> {
        let mut promised = self.lock();
        if promised.settled {
            return Poll::Ready(promised.tunnel.take());
        }
        promised.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl fmt::Debug for OnTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnTunnel").finish_non_exhaustive()
    }
}

/// Whoever answers a CONNECT.
pub(crate) struct Promise(OnTunnel);

impl Promise {
    pub(crate) fn new() -> (Self, OnTunnel) {
        let promised = OnTunnel(Arc::default());
        (Self(promised.clone()), promised)
    }

    pub(crate) fn keep(self, tunnel: Tunnel) {
        self.0.lock().tunnel = Some(tunnel);
    }
}

/// Kept or not, it is settled.
impl Drop for Promise {
    fn drop(&mut self) {
        let waiting = {
            let mut promised = self.0.lock();
            promised.settled = true;
            promised.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
