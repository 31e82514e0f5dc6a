//! The plaintext stream that a worker reads and writes; the shard does the TLS and the sending.

use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::services::{Services, lock};
use crate::buffer::Buffer;
use crate::handshake::HandshakeFacts;
use crate::limits::Limits;
use crate::transport::ConnId;

/// How the received direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With close_notify: nothing is missing.
    Clean,
    /// Without: what came may have been cut off (RFC 8446 section 6.1).
    Truncated,
    /// The connection broke, or the engine gave it up.
    Broken,
}

/// How the worker left its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It wrote all that it had to.
    Done,
    /// It panicked: the peer must not take what it has for the whole.
    Panicked,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) inbound: Buffer,
    pub(super) outbound: Buffer,
    pub(super) ended: Option<Ended>,
    /// The worker ended its direction; it may still read.
    pub(super) shut: bool,
    pub(super) left: Option<Left>,
    /// The shard stopped reading because `inbound` is full.
    pub(super) paused: bool,
    /// The shard knows that there is something to do.
    pub(super) posted: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    read_max: usize,
    write_max: usize,
}

impl State {
    pub(super) fn is_full(&self) -> bool {
        self.inbound.len() >= self.read_max
    }

    fn has_room_again(&self) -> bool {
        self.inbound.len() <= self.read_max / 2
    }

    pub(super) fn room_to_write(&self) -> usize {
        self.write_max.saturating_sub(self.outbound.len())
    }
}

/// What a stream and its shard share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    services: Arc<Services>,
    conn: ConnId,
}

impl Shared {
    pub(super) fn new(services: &Arc<Services>, conn: ConnId, received: Vec<u8>, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                inbound: Buffer::new(received),
                outbound: Buffer::default(),
                ended: None,
                shut: false,
                left: None,
                paused: false,
                posted: false,
                reader: None,
                writer: None,
                read_max: limits.stream_read_bytes,
                write_max: limits.stream_write_bytes,
            }),
            services: Arc::clone(services),
            conn,
        })
    }

    fn post(&self, state: &mut State) {
        if !mem::replace(&mut state.posted, true) {
            self.services.post(self.conn);
        }
    }

    /// Tells the worker that nothing more will come, and, when broken, that nothing more can be sent.
    pub(super) fn end(&self, how: Ended) {
        let (reader, writer) = {
            let mut state = lock(&self.state);
            if state.ended != Some(Ended::Broken) && (state.ended.is_none() || how == Ended::Broken) {
                state.ended = Some(how);
            }
            (state.reader.take(), if how == Ended::Broken { state.writer.take() } else { None })
        };
        [reader, writer].into_iter().flatten().for_each(Waker::wake);
    }
}

/// A negotiated connection as its worker sees it: plaintext in, plaintext out.
///
/// It implements tokio's I/O traits without tokio's runtime. It may be sent to another thread; the TLS and the
/// socket stay with its shard.
///
/// Reading ends with `Ok(0)` after the peer's close_notify, and with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when the peer's stream ended without one. Writing is limited by
/// [`Limits::stream_write_bytes`]. Shutting down, or dropping the stream, sends what was written, then close_notify
/// and FIN; a drop while unwinding from a panic resets the connection.
pub struct Stream {
    shared: Arc<Shared>,
    facts: Arc<HandshakeFacts>,
}

impl Stream {
    pub(super) const fn new(shared: Arc<Shared>, facts: Arc<HandshakeFacts>) -> Self {
        Self { shared, facts }
    }

    /// What the handshake has settled.
    #[must_use]
    pub const fn facts(&self) -> &Arc<HandshakeFacts> {
        &self.facts
    }

    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.shared.services
    }

    /// Waits for bytes and takes all that have arrived; none at the peer's end.
    ///
    /// Unlike a read it needs no buffer while it waits, so idle connections stay small.
    ///
    /// # Errors
    /// As for reading: [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) without a close_notify,
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset) when the connection broke.
    pub async fn received(&mut self) -> io::Result<Vec<u8>> {
        std::future::poll_fn(|cx| self.poll_inbound(cx, Buffer::take).map_ok(Option::unwrap_or_default)).await
    }

    /// Takes received bytes out with `f`, which says how many it took.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, f: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<()>> {
        let take = |inbound: &mut Buffer| {
            let taken = f(inbound.front());
            inbound.consume(taken);
        };
        self.poll_inbound(cx, take).map_ok(|_| ())
    }

    /// Waits for bytes and lets `f` take of them; `None` at the peer's end.
    fn poll_inbound<R>(&self, cx: &mut Context<'_>, f: impl FnOnce(&mut Buffer) -> R) -> Poll<io::Result<Option<R>>> {
        let mut state = lock(&self.shared.state);
        if state.inbound.len() > 0 {
            let result = f(&mut state.inbound);
            if state.paused && state.has_room_again() {
                self.shared.post(&mut state);
            }
            return Poll::Ready(Ok(Some(result)));
        }
        match state.ended {
            Some(Ended::Clean) => Poll::Ready(Ok(None)),
            Some(Ended::Truncated) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Some(Ended::Broken) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Gives bytes of `bufs` to the shard, as many as there is room for.
    pub(crate) fn poll_put(&self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.shared.state);
        if state.shut || state.ended == Some(Ended::Broken) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = state.room_to_write();
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut taken = 0;
        for buf in bufs {
            let n = buf.len().min(room);
            state.outbound.back().extend_from_slice(&buf[..n]);
            taken += n;
            room -= n;
        }
        if taken > 0 {
            self.shared.post(&mut state);
        }
        Poll::Ready(Ok(taken))
    }

    /// Ends the worker's direction.
    pub(crate) fn shut(&self) {
        let mut state = lock(&self.shared.state);
        state.shut = true;
        self.shared.post(&mut state);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = if std::thread::panicking() { Left::Panicked } else { Left::Done };
        let mut state = lock(&self.shared.state);
        state.left = Some(left);
        self.shared.post(&mut state);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_take(cx, |bytes| {
            let n = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..n]);
            n
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: whatever was written leaves at the end of the shard's turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn is_send<T: Send>() {}
    const _: () = is_send::<Stream>();
}
