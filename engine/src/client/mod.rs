//! A TLS client with ALPN: blocking, over any asynchronous I/O, and in a tokio runtime.
//!
//! | | needs | connection |
//! |---|---|---|
//! | [`Client::connect`] and its like | nothing | [`Connection`], blocking |
//! | [`Client::handshake`] | any I/O with tokio's traits; no runtime, no timer | [`ClientStream`] |
//! | `Client::connect_async` and its like | a tokio runtime; feature `tokio` | [`ClientStream`] |
//! | `Client::http` and its like | a tokio runtime; feature `client-http` | `http::HttpConnection`: requests over `h2` or `http/1.1` |
//!
//! All verify the server unless told not to by [`Roots::insecure_none`], share the sessions that can be resumed, show
//! [`ClientBuilder::identity`] to servers that ask, and fail with a [`ClientError`].
//!
//! ```no_run
//! use std::io::{Read, Write};
//!
//! use handfast::client::Client;
//!
//! let client = Client::builder().alpn(["http/1.1"]).build()?;
//! let mut connection = client.connect("example.org:443")?;
//! assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
//! connection.write_all(b"GET / HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n")?;
//! let mut answer = Vec::new();
//! connection.read_to_end(&mut answer)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod connection;
mod error;
mod handshake;
#[cfg(feature = "client-http")]
pub mod http;
mod insecure;
mod key_log;
mod keys;
mod target;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(all(feature = "client-http", feature = "websocket"))]
mod websocket;

use std::net::SocketAddr;

pub use config::{ClientBuilder, Roots};
pub use connection::Connection;
pub use error::{ClientError, Phase, RootsProblem};

use ::tokio::io::{AsyncRead, AsyncWrite};
use rustls::client::UnbufferedClientConnection;

use crate::tls_stream::TlsStream;
use config::Config;
use target::Target;

/// A client's asynchronous connection.
pub type ClientStream<IO> = TlsStream<IO, UnbufferedClientConnection>;

/// Makes TLS connections. It keeps the sessions that servers let it resume, so use one for many connections; clones
/// share them.
#[derive(Clone, Debug)]
pub struct Client {
    config: Config,
}

impl Client {
    /// A client that verifies servers against the public roots and offers no ALPN, until told otherwise.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Connects to `target`, which is `host:port` or `[v6]:port`, and asks for the certificate of that host.
    ///
    /// Each of the host's addresses is tried until one accepts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn connect(&self, target: &str) -> Result<Connection, ClientError> {
        let target = Target::parse(target)?;
        self.connect_target(&target, target.host)
    }

    /// As [`connect`](Self::connect), and asks for the certificate of `server_name` instead.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn connect_with_name(&self, target: &str, server_name: &str) -> Result<Connection, ClientError> {
        self.connect_target(&Target::parse(target)?, server_name)
    }

    /// Connects to `addr` and asks for the certificate of `server_name`, a host name or an IP address.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn connect_to(&self, addr: SocketAddr, server_name: &str) -> Result<Connection, ClientError> {
        let name = target::server_name(server_name)?;
        Connection::open(&self.config, &[addr], name)
    }

    /// Shakes hands with `server_name`, a host name or an IP address, over an I/O that is connected already: a proxy's
    /// tunnel, a pipe, a socket of another runtime.
    ///
    /// It knows no clock, so [`handshake_timeout`](ClientBuilder::handshake_timeout) is the caller's to keep: drop the
    /// future, and with it the I/O.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn handshake<IO>(&self, io: IO, server_name: &str) -> Result<ClientStream<IO>, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = target::server_name(server_name)?;
        let Config { tls, handshake_timeout, batch, .. } = &self.config;
        let shaken = handshake::handshake(tls, *batch, io, &name).await;
        shaken.map_err(|failure| ClientError::of_handshake(failure, None, &name, tls, *handshake_timeout))
    }

    fn connect_target(&self, target: &Target<'_>, server_name: &str) -> Result<Connection, ClientError> {
        let name = target::server_name(server_name)?;
        Connection::open(&self.config, &target.addresses()?, name)
    }
}
