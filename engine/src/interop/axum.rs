//! [`Incoming`] as what `axum::serve` listens on.

use std::future::pending;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};

use super::{Accepted, Incoming};
use crate::handshake::HandshakeFacts;
use crate::peer::PeerAddr;

/// `axum::serve(incoming, router)`: with `h2` and `http/1.1` handed off to the same mailbox it serves both.
///
/// Handlers find the client with `ConnectInfo<PeerAddr>`, and what was negotiated with `ConnectInfo<HandshakeFacts>`;
/// see `Router::into_make_service_with_connect_info`.
///
/// `axum::serve` ends only when it is told to. [`Incoming::ended`] tells it that the engine has.
impl Listener for Incoming {
    type Io = Accepted;
    type Addr = PeerAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match Self::accept(self).await {
                Some(Ok(accepted)) => {
                    let peer = accepted.facts().peer;
                    return (accepted, peer);
                }
                // That one is gone; the next may do.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }

    /// Always the same answer: an engine may listen at many places, and its
    /// [`Handle::endpoints`](crate::Handle::endpoints) knows them.
    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Incoming>> for PeerAddr {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        *stream.remote_addr()
    }
}

impl Connected<IncomingStream<'_, Incoming>> for HandshakeFacts {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        Self::clone(stream.io().facts())
    }
}
