//! A connected stream socket on its way from one owner to another.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::peer::PeerAddr;

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    peer: PeerAddr,
}

impl Socket {
    pub(crate) const fn new(fd: OwnedFd, peer: PeerAddr) -> Self {
        Self { fd, peer }
    }

    /// Where the peer is.
    #[must_use]
    pub const fn peer(&self) -> PeerAddr {
        self.peer
    }

    /// The TCP stream, still non-blocking.
    ///
    /// # Errors
    /// The socket itself comes back when it is a Unix-domain one.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self.peer {
            PeerAddr::Ip(_) => Ok(self.fd.into()),
            PeerAddr::Unix => Err(self),
        }
    }

    /// The Unix-domain stream, still non-blocking.
    ///
    /// # Errors
    /// The socket itself comes back when it is a TCP one.
    pub fn into_unix(self) -> Result<UnixStream, Self> {
        match self.peer {
            PeerAddr::Unix => Ok(self.fd.into()),
            PeerAddr::Ip(_) => Err(self),
        }
    }

    pub(crate) fn into_fd(self) -> (OwnedFd, PeerAddr) {
        (self.fd, self.peer)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
