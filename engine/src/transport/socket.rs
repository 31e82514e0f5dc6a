//! A connected stream socket on its way from one owner to another.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use crate::peer::PeerAddr;

/// A connected, non-blocking stream socket.
///
/// One of the [simulator](super::sim) stands for a connection of its network: it becomes no stream, and its descriptor
/// is of `/dev/null`.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    peer: PeerAddr,
    /// What the simulator knows its own by.
    simulated: Option<Arc<()>>,
}

impl Socket {
    pub(crate) const fn new(fd: OwnedFd, peer: PeerAddr) -> Self {
        Self { fd, peer, simulated: None }
    }

    /// One of the simulator's, and what tells it from others and whether it is still there.
    pub(super) fn simulated(peer: PeerAddr) -> io::Result<(Self, Weak<()>)> {
        let mark = Arc::new(());
        let weak = Arc::downgrade(&mark);
        Ok((Self { fd: File::open("/dev/null")?.into(), peer, simulated: Some(mark) }, weak))
    }

    /// Whether it was made with this mark.
    pub(super) fn is(&self, mark: &Weak<()>) -> bool {
        self.simulated.as_ref().is_some_and(|own| Arc::as_ptr(own) == mark.as_ptr())
    }

    /// Where the peer is.
    #[must_use]
    pub const fn peer(&self) -> PeerAddr {
        self.peer
    }

    /// The TCP stream, still non-blocking.
    ///
    /// # Errors
    /// The socket itself comes back when it is a Unix-domain or a simulated one.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self.peer {
            PeerAddr::Ip(_) if self.simulated.is_none() => Ok(self.fd.into()),
            PeerAddr::Ip(_) | PeerAddr::Unix => Err(self),
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

    /// Nothing of a simulated one.
    pub(crate) fn into_fd(self) -> Option<(OwnedFd, PeerAddr)> {
        self.simulated.is_none().then_some((self.fd, self.peer))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
