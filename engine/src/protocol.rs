//! Registering a protocol: its ALPN ID, its certificates, and where its connections go.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::handshake::TlsVersions;
use crate::identity::{CertificateSet, ClientAuth};
use crate::shard::{Destination, Mailbox, Stream, Worker};

/// A registered protocol.
///
/// ```
/// use handfast::Protocol;
/// use tokio::io::AsyncWriteExt;
///
/// let hello = Protocol::alpn("hello/1").serve(|mut stream| async move {
///     let _ = stream.write_all(b"hello").await;
/// });
/// ```
#[derive(Clone)]
#[must_use]
pub struct Protocol {
    pub(crate) id: Vec<u8>,
    pub(crate) certificates: Option<Arc<CertificateSet>>,
    pub(crate) versions: Option<TlsVersions>,
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) tickets: Option<usize>,
    pub(crate) destination: Destination,
}

impl Protocol {
    /// A protocol with this ALPN protocol ID, 1 to 255 bytes (RFC 7301 section 3.1). Until it is told where to go,
    /// its connections are closed after the handshake, as by [`close`](Self::close).
    pub fn alpn(id: impl Into<Vec<u8>>) -> Self {
        Self {
            id: id.into(),
            certificates: None,
            versions: None,
            client_auth: None,
            tickets: None,
            destination: Destination::Close,
        }
    }

    /// `http/1.1` that answers `GET /` with what the handshake has settled, as JSON or as a page, and with the feature
    /// `websocket` echoes to WebSockets on any path. For a service of your own see
    /// [`worker::http1::serve`](crate::worker::http1::serve).
    #[cfg(feature = "h1")]
    pub fn http1() -> Self {
        Self::alpn("http/1.1").worker(crate::worker::http1::with_facts())
    }

    /// `h2` that answers `GET /` with what the handshake has settled, as JSON or as a page. For a service of your own
    /// see [`worker::http2::serve`](crate::worker::http2::serve).
    #[cfg(feature = "h2")]
    pub fn h2() -> Self {
        Self::alpn("h2").worker(crate::worker::http2::with_facts())
    }

    /// The protocol's own certificates instead of the engine's (RFC 7301 section 1). Its sessions resume only
    /// among protocols with the same set.
    pub fn certificates(self, set: impl Into<Arc<CertificateSet>>) -> Self {
        Self { certificates: Some(set.into()), ..self }
    }

    /// The TLS versions it allows, instead of the engine's.
    pub fn versions(self, versions: TlsVersions) -> Self {
        Self { versions: Some(versions), ..self }
    }

    /// Whether its clients show certificates, instead of what the engine says. A session resumes only where mode, roots
    /// and revocation lists are the same; [`HandshakeFacts::client`](crate::HandshakeFacts::client) says who it is.
    ///
    /// The client chooses the protocol: what must not be reached without a certificate must not be served by another
    /// protocol of the same engine either.
    pub fn client_auth(self, client_auth: ClientAuth) -> Self {
        Self { client_auth: Some(client_auth), ..self }
    }

    /// Session tickets sent after each TLS 1.3 handshake, instead of the engine's number; 0 turns resumption off.
    pub fn tickets(self, tickets: usize) -> Self {
        Self { tickets: Some(tickets), ..self }
    }

    /// Calls `handler` for each connection, on its own shard or worker thread.
    ///
    /// The future need not be [`Send`] and must not block its thread. When it panics its own connection is reset
    /// and nothing else.
    pub fn serve<F, R>(self, handler: F) -> Self
    where
        F: Fn(Stream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.worker(Handler(handler))
    }

    /// Gives each connection to `worker`.
    pub fn worker(self, worker: impl Worker) -> Self {
        Self { destination: Destination::Worker(Arc::new(worker)), ..self }
    }

    /// Puts each connection into `mailbox`, for a program with its own threads or loop.
    pub fn hand_off(self, mailbox: Mailbox) -> Self {
        Self { destination: Destination::HandOff(mailbox), ..self }
    }

    /// Where its connections go; for those who drive a [`Shard`](crate::shard::Shard) themselves.
    #[must_use]
    pub const fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Finishes the handshake, answers the peer's close_notify and closes: for measuring handshakes.
    pub fn close(self) -> Self {
        Self { destination: Destination::Close, ..self }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocol")
            .field("id", &self.id.escape_ascii().to_string())
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

struct Handler<F>(F);

impl<F, R> Worker for Handler<F>
where
    F: Fn(Stream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    fn start(&self, stream: Stream) {
        let services = Arc::clone(stream.services());
        services.spawn((self.0)(stream));
    }
}
