//! An asynchronous stream over any I/O and a [`Session`]: tokio's I/O traits, without its runtime.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;
use crate::handshake::{Session, Unbuffered, facts};

/// Bytes asked of the I/O at a time: one record, as long as one may be (RFC 8446 section 5.2).
const READ_BYTES: usize = 5 + (1 << 14) + 256;

/// Plaintext taken at a time: four full records.
const WRITE_BYTES_MAX: usize = 4 << 14;

/// What a connection has on its way when it changes hands.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Plaintext that came in and was not read.
    pub received: Vec<u8>,
    /// The peer has sent close_notify: `received` is all there will be.
    pub peer_closed: bool,
    /// TLS records that the I/O has not taken yet.
    pub unsent: Vec<u8>,
}

/// How the received direction ended.
#[derive(Debug)]
enum Ended {
    /// With close_notify: nothing is missing.
    Clean,
    /// Without: what came may have been cut off (RFC 8446 section 6.1).
    Truncated,
    /// The peer broke TLS's rules.
    Faulty(rustls::Error),
}

/// A TLS connection after its handshake, of a server or of a client: plaintext in, plaintext out, over any `IO`.
///
/// It implements tokio's I/O traits, and needs a tokio runtime only when `IO` does.
///
/// - Reading ends with `Ok(0)` after the peer's close_notify, with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof)
///   when its stream ended without one (RFC 8446 section 6.1), and with [`InvalidData`](io::ErrorKind::InvalidData)
///   around a [`rustls::Error`] when it broke TLS's rules; then the alert is on its way, and
///   [shutting down](tokio::io::AsyncWriteExt::shutdown) sees it out.
/// - A write is taken, up to 64 KiB of it, once everything before it has left; so no more than that is ever held. What
///   `IO` does not take at once leaves with the next read, write, flush or shutdown: flush before you wait for an
///   answer to something else than a read of this stream.
/// - Shutting down sends close_notify and ends `IO`'s direction; reading goes on. Dropping the stream sends nothing,
///   and the peer takes that for a truncation.
/// - Buffers are given back when they are drained: an idle stream holds rustls' state and little else.
///
/// All that was negotiated can be asked for; a server's [`HandshakeFacts`](crate::HandshakeFacts) come beside it.
pub struct TlsStream<IO, C = UnbufferedServerConnection> {
    io: IO,
    session: Session<C>,
    received: Buffer,
    unsent: Buffer,
    ended: Option<Ended>,
    /// Our direction is closed: close_notify is sent, or waits in `unsent`.
    closed: bool,
    /// Who waits until `unsent` has left.
    writer: Option<Waker>,
}

impl<IO, C: Unbuffered> TlsStream<IO, C> {
    /// Goes on with a session whose handshake is over, and with what it has on its way.
    #[must_use]
    pub fn new(io: IO, session: Session<C>, backlog: Backlog) -> Self {
        let Backlog { received, peer_closed, unsent } = backlog;
        Self {
            io,
            session,
            received: Buffer::new(received),
            unsent: Buffer::new(unsent),
            ended: peer_closed.then_some(Ended::Clean),
            closed: false,
            writer: None,
        }
    }

    /// The pieces, for whoever goes on by other means; whatever was written and has not left is in the backlog.
    #[must_use]
    pub fn into_parts(mut self) -> (IO, Session<C>, Backlog) {
        let backlog = Backlog {
            received: self.received.take(),
            peer_closed: matches!(self.ended, Some(Ended::Clean)),
            unsent: self.unsent.take(),
        };
        (self.io, self.session, backlog)
    }

    /// What is below: for its addresses and options. Bytes read from or written to it would break the connection.
    #[must_use]
    pub const fn io(&self) -> &IO {
        &self.io
    }

    /// The TLS connection.
    #[must_use]
    pub const fn session(&self) -> &Session<C> {
        &self.session
    }

    /// The ALPN protocol ID that was negotiated (RFC 7301); `None` when none was.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.session.common().alpn_protocol()
    }

    /// The TLS version.
    #[must_use]
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.session.common().protocol_version()
    }

    /// The cipher suite.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        facts::cipher_suite(self.session.common())
    }

    /// The key exchange group; `None` for a resumed TLS 1.2 session, which has no key exchange.
    #[must_use]
    pub fn group(&self) -> Option<NamedGroup> {
        facts::group(self.session.common())
    }

    /// Whether an earlier session was resumed.
    #[must_use]
    pub fn resumed(&self) -> bool {
        facts::resumed(self.session.common())
    }

    /// The peer's certificates, its own first; for a resumed session, those of the first one. Clients mostly have
    /// none.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.session.common().peer_certificates().unwrap_or_default()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, C: Unbuffered> TlsStream<IO, C> {
    /// Takes in what `IO` has: afterwards there is plaintext, or an end, or neither yet.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // On the stack, so that a stream that waits holds no buffer.
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            self.ended = Some(Ended::Truncated);
            return Poll::Ready(Ok(()));
        }
        match self.session.receive(read.filled_mut(), self.received.back(), self.unsent.back()) {
            Ok(received) if received.peer_closed => self.ended = Some(Ended::Clean),
            Ok(_) => {}
            Err(e) => self.ended = Some(Ended::Faulty(e)),
        }
        self.push_aside(cx);
        Poll::Ready(Ok(()))
    }

    /// Gives all records to `IO`.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.len() > 0 {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, self.unsent.front()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.consume(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// As [`poll_push`](Self::poll_push), for one who writes and waits.
    fn poll_push_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pushed = self.poll_push(cx);
        self.writer = pushed.is_pending().then(|| cx.waker().clone());
        pushed
    }

    /// As [`poll_push`](Self::poll_push), for one who reads: tickets and alerts must leave though nobody writes.
    ///
    /// `IO` knows one waker for its writing side. If somebody waits there already it stays theirs, and they hear of
    /// what is done here in their stead; else a reader in another task would take their wake-up away.
    fn push_aside(&mut self, cx: &mut Context<'_>) {
        if self.unsent.len() == 0 {
            return;
        }
        let writer = self.writer.take();
        let mut writing = Context::from_waker(writer.as_ref().unwrap_or_else(|| cx.waker()));
        match self.poll_push(&mut writing) {
            Poll::Pending => self.writer = writer,
            // A broken `IO` tells its reader so by itself, once what came before has been read.
            Poll::Ready(pushed) => {
                if pushed.is_ok() {
                    let _ = Pin::new(&mut self.io).poll_flush(&mut writing);
                }
                writer.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn poll_put(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(Ended::Faulty(e)) = &self.ended {
            return Poll::Ready(Err(faulty(e)));
        }
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_push_out(cx))?;
        let plain = gather(bufs);
        self.session.send(&plain, self.unsent.back()).map_err(io::Error::other)?;
        // They are taken now, whether or not they have left.
        match self.poll_push(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(plain.len())),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, C: Unbuffered> AsyncRead for TlsStream<IO, C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.push_aside(cx);
        loop {
            if this.received.len() > 0 {
                let n = this.received.len().min(buf.remaining());
                buf.put_slice(&this.received.front()[..n]);
                this.received.consume(n);
                return Poll::Ready(Ok(()));
            }
            match &this.ended {
                Some(Ended::Clean) => return Poll::Ready(Ok(())),
                Some(Ended::Truncated) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Some(Ended::Faulty(e)) => return Poll::Ready(Err(faulty(e))),
                None => ready!(this.poll_receive(cx))?,
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, C: Unbuffered> AsyncWrite for TlsStream<IO, C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_put(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_put(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_push_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            // After a fault the alert was our last word.
            if !matches!(this.ended, Some(Ended::Faulty(_))) {
                this.session.close(this.unsent.back()).map_err(io::Error::other)?;
            }
        }
        ready!(this.poll_push_out(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<IO: fmt::Debug, C: Unbuffered> fmt::Debug for TlsStream<IO, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("io", &self.io)
            .field("alpn_protocol", &self.alpn_protocol().map(|id| id.escape_ascii().to_string()))
            .field("protocol_version", &self.protocol_version())
            .finish_non_exhaustive()
    }
}

fn faulty(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

/// The front of `bufs`: what is small travels in one record instead of one each.
fn gather<'a>(bufs: &'a [IoSlice<'_>]) -> Cow<'a, [u8]> {
    let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
    let first: &[u8] = filled.next().map_or(&[], |buf| buf);
    let front = &first[..first.len().min(WRITE_BYTES_MAX)];
    let Some(second) = filled.next().filter(|_| front.len() < WRITE_BYTES_MAX / 4) else {
        return Cow::Borrowed(front);
    };
    let mut gathered = front.to_vec();
    for buf in std::iter::once(second).chain(filled) {
        let n = buf.len().min(WRITE_BYTES_MAX - gathered.len());
        gathered.extend_from_slice(&buf[..n]);
    }
    Cow::Owned(gathered)
}
