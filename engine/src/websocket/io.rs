//! The bytes below a WebSocket's frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(feature = "h2")]
use crate::tunnel::Tunnel;

/// Bytes given to the connection at a time: hyper takes what one write of an h2 stream has whole, whatever the peer's
/// window is, so that only short ones let the sender feel it.
const WRITE_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a client discards while it waits for the server to end the connection. Met: the client ends it.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;

/// What an HTTP connection or stream has become.
pub(super) struct Io {
    below: Below,
    /// RFC 6455 section 7.1.1: the server ends the connection first; what a client still reads until then.
    end_awaited: Option<usize>,
    /// Set whenever bytes have come, for who asks.
    heard: Option<Arc<AtomicBool>>,
}

/// What carries the bytes.
pub(super) enum Below {
    /// A connection of hyper's, or a stream of one.
    Upgraded(TokioIo<Upgraded>),
    /// A stream of our server's.
    #[cfg(feature = "h2")]
    Tunnel(Tunnel),
}

impl Io {
    pub(super) const fn of_server(below: Below) -> Self {
        Self { below, end_awaited: None, heard: None }
    }

    pub(super) fn of_client(upgraded: Upgraded) -> Self {
        let below = Below::Upgraded(TokioIo::new(upgraded));
        Self { below, end_awaited: Some(DISCARDED_BYTES_MAX), heard: None }
    }

    /// What is set from now on whenever bytes have come, be they a whole frame or not.
    pub(super) fn heard(&mut self) -> Arc<AtomicBool> {
        Arc::clone(self.heard.get_or_insert_default())
    }
}

impl AsyncRead for Below {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Upgraded(upgraded) => Pin::new(upgraded).poll_read(cx, buf),
            #[cfg(feature = "h2")]
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Below {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Upgraded(upgraded) => Pin::new(upgraded).poll_write(cx, buf),
            #[cfg(feature = "h2")]
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Upgraded(upgraded) => Pin::new(upgraded).poll_flush(cx),
            #[cfg(feature = "h2")]
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Upgraded(upgraded) => Pin::new(upgraded).poll_shutdown(cx),
            #[cfg(feature = "h2")]
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.below).poll_read(cx, buf))?;
        if let Some(heard) = &self.heard
            && buf.filled().len() > before
        {
            heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let some = &buf[..buf.len().min(WRITE_BYTES_MAX)];
        Pin::new(&mut self.below).poll_write(cx, some)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.below).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.end_awaited {
            let mut bytes = [0; 1024];
            let mut buf = ReadBuf::new(&mut bytes);
            let ended = ready!(Pin::new(&mut self.below).poll_read(cx, &mut buf)).is_err();
            let n = buf.filled().len();
            self.end_awaited = left.checked_sub(n).filter(|_| n > 0 && !ended);
        }
        Pin::new(&mut self.below).poll_shutdown(cx)
    }
}
