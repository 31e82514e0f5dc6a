//! The bytes of an `h2` connection, and what is to be learnt from those that come.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shard::Services;
use crate::time::Instant64;
use crate::worker::io::Io;

/// Where the client's first frame begins (RFC 9113 section 3.4).
const FIRST_FRAME: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// The client's connection preface as far as the header of its SETTINGS frame.
const PREFACE_BYTES: usize = FIRST_FRAME + 9;
/// The type and the flag ACK of SETTINGS (RFC 9113 section 6.5).
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// What has been heard from a client.
pub(super) struct Heard {
    pub(super) services: Arc<Services>,
    /// Bytes of the preface that have not come yet.
    preface_left: Cell<usize>,
    /// When bytes came last; at first, when the connection began.
    at: Cell<Instant64>,
}

impl Heard {
    pub(super) fn new(services: &Arc<Services>) -> Rc<Self> {
        Rc::new(Self {
            services: Arc::clone(services),
            preface_left: Cell::new(PREFACE_BYTES),
            at: Cell::new(services.now()),
        })
    }

    pub(super) const fn at(&self) -> Instant64 {
        self.at.get()
    }

    pub(super) const fn is_preface_whole(&self) -> bool {
        self.preface_left.get() == 0
    }

    /// Sees bytes go by; `false` when the first frame is not the SETTINGS that it must be, which the library does not
    /// mind.
    fn bytes(&self, bytes: &[u8]) -> bool {
        self.at.set(self.services.now());
        let left = self.preface_left.get();
        if left == 0 {
            return true;
        }
        self.preface_left.set(left.saturating_sub(bytes.len()));
        let at = |offset: usize| bytes.get(offset.checked_sub(PREFACE_BYTES - left)?);
        let (kind, flags) = (at(FIRST_FRAME + 3), at(FIRST_FRAME + 4));
        kind.is_none_or(|&kind| kind == SETTINGS) && flags.is_none_or(|&flags| flags & ACK == 0)
    }
}

/// A connection's stream under the library.
pub(super) struct Watched {
    pub(super) io: Io,
    pub(super) heard: Rc<Heard>,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut right = true;
        let polled = self.io.poll_take(cx, |bytes| {
            let n = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..n]);
            right = self.heard.bytes(&bytes[..n]);
            n
        });
        if right { polled } else { Poll::Ready(Err(io::ErrorKind::InvalidData.into())) }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_put(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_put(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: whatever was written leaves at the end of the shard's turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.shut();
        Poll::Ready(Ok(()))
    }
}
