//! One connection that has arrived in a tokio runtime.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::handshake::HandshakeFacts;
use crate::shard::{Negotiated, Parts};
use crate::tls_stream::{Backlog, TlsStream};

/// A negotiated connection: a [`TlsStream`] with the facts of its handshake.
#[derive(Debug)]
pub struct Accepted {
    stream: TlsStream<TokioSocket>,
    facts: Arc<HandshakeFacts>,
}

impl Accepted {
    /// Takes a connection into the current runtime.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn register(negotiated: Negotiated) -> io::Result<Self> {
        let Parts { socket, session, facts, received, peer_closed, unsent } = negotiated.into_parts();
        let socket = match socket.into_tcp() {
            Ok(tcp) => TokioSocket::Tcp(TcpStream::from_std(tcp)?),
            Err(socket) => match socket.into_unix() {
                Ok(unix) => TokioSocket::Unix(UnixStream::from_std(unix)?),
                Err(_) => return Err(io::ErrorKind::Unsupported.into()),
            },
        };
        let backlog = Backlog { received, peer_closed, unsent };
        Ok(Self { stream: TlsStream::new(socket, session, backlog), facts: Arc::new(facts) })
    }

    /// What the handshake has settled.
    #[must_use]
    pub const fn facts(&self) -> &Arc<HandshakeFacts> {
        &self.facts
    }

    /// The stream below, for its socket and session.
    #[must_use]
    pub const fn stream(&self) -> &TlsStream<TokioSocket> {
        &self.stream
    }

    /// The stream and the facts, each by itself.
    #[must_use]
    pub fn into_parts(self) -> (TlsStream<TokioSocket>, Arc<HandshakeFacts>) {
        (self.stream, self.facts)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A socket that a tokio runtime watches, of either kind that an engine listens on.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokioSocket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix-domain socket.
    Unix(UnixStream),
}

macro_rules! either {
    ($self:expr, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp(socket) => {
                let $socket = Pin::new(socket);
                $call
            }
            Self::Unix(socket) => {
                let $socket = Pin::new(socket);
                $call
            }
        }
    };
}

impl AsyncRead for TokioSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for TokioSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, socket => socket.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_shutdown(cx))
    }
}
