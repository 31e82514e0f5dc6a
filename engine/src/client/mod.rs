//! A TLS client with ALPN, blocking: for tests, tools and programs that need no more.
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
mod insecure;
mod target;

use std::net::SocketAddr;

pub use config::{ClientBuilder, Roots};
pub use connection::Connection;
pub use error::{ClientError, Phase, RootsProblem};

use config::Config;
use target::Target;

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

    fn connect_target(&self, target: &Target<'_>, server_name: &str) -> Result<Connection, ClientError> {
        let name = target::server_name(server_name)?;
        Connection::open(&self.config, &target.addresses()?, name)
    }
}
