//! The bytes below a WebSocket's frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes given to the connection at a time: hyper takes what one write of an h2 stream has whole, whatever the peer's
/// window is, so that only short ones let the sender feel it.
const WRITE_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a client discards while it waits for the server to end the connection. Met: the client ends it.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;

/// What an HTTP connection or stream has become.
pub(super) struct Io {
    upgraded: TokioIo<Upgraded>,
    /// RFC 6455 section 7.1.1: the server ends the connection first; what a client still reads until then.
    end_awaited: Option<usize>,
}

impl Io {
    pub(super) fn of_server(upgraded: Upgraded) -> Self {
        Self { upgraded: TokioIo::new(upgraded), end_awaited: None }
    }

    pub(super) fn of_client(upgraded: Upgraded) -> Self {
        Self { upgraded: TokioIo::new(upgraded), end_awaited: Some(DISCARDED_BYTES_MAX) }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.upgraded).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let some = &buf[..buf.len().min(WRITE_BYTES_MAX)];
        Pin::new(&mut self.upgraded).poll_write(cx, some)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.upgraded).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.end_awaited {
            let mut bytes = [0; 1024];
            let mut buf = ReadBuf::new(&mut bytes);
            let ended = ready!(Pin::new(&mut self.upgraded).poll_read(cx, &mut buf)).is_err();
            let n = buf.filled().len();
            self.end_awaited = left.checked_sub(n).filter(|_| n > 0 && !ended);
        }
        Pin::new(&mut self.upgraded).poll_shutdown(cx)
    }
}
