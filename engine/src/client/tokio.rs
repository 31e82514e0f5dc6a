//! Connections made in a tokio runtime.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::Config;
use super::error::{ClientError, Failure};
use super::target::{Target, server_name};
use super::{Client, ClientStream, handshake};

/// In a tokio runtime with I/O and time enabled; outside of one they panic. The futures may be dropped at any time,
/// which closes the socket.
impl Client {
    /// As [`connect`](Self::connect), asynchronously: the first of the host's addresses that accepts, within the same
    /// time limits.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn connect_async(&self, target: &str) -> Result<ClientStream<TcpStream>, ClientError> {
        let target = Target::parse(target)?;
        open(&self.config, &self.config.tls, &resolve(&target).await?, server_name(target.host)?).await
    }

    /// As [`connect_with_name`](Self::connect_with_name), asynchronously.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn connect_with_name_async(
        &self,
        target: &str,
        name: &str,
    ) -> Result<ClientStream<TcpStream>, ClientError> {
        let (target, name) = (Target::parse(target)?, server_name(name)?);
        open(&self.config, &self.config.tls, &resolve(&target).await?, name).await
    }

    /// As [`connect_to`](Self::connect_to), asynchronously.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn connect_to_async(&self, addr: SocketAddr, name: &str) -> Result<ClientStream<TcpStream>, ClientError> {
        open(&self.config, &self.config.tls, &[addr], server_name(name)?).await
    }
}

/// Connects to the first of `addresses` that accepts, and shakes hands there.
pub(super) async fn open(
    config: &Config,
    tls: &Arc<ClientConfig>,
    addresses: &[SocketAddr],
    name: ServerName<'static>,
) -> Result<ClientStream<TcpStream>, ClientError> {
    let (socket, addr) = connect(config, addresses).await?;
    let limit = config.handshake_timeout;
    let shaken = timeout(limit, handshake::handshake(tls, config.batch, socket, &name)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(Failure::Io(io::ErrorKind::TimedOut.into())));
    shaken.map_err(|failure| ClientError::of_handshake(failure, Some(addr), &name, tls, limit))
}

pub(super) async fn resolve(target: &Target<'_>) -> Result<Vec<SocketAddr>, ClientError> {
    let found = tokio::net::lookup_host((target.host, target.port)).await;
    target.found(found)
}

async fn connect(config: &Config, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), ClientError> {
    let limit = config.connect_timeout;
    let mut last = None;
    for addr in addresses {
        let connected = timeout(limit, TcpStream::connect(addr)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(socket) => {
                // Handshake flights are small and must not wait for each other's acknowledgement.
                let _ = socket.set_nodelay(true);
                return Ok((socket, *addr));
            }
            Err(e) => last = Some(ClientError::of_connect(e, *addr, limit)),
        }
    }
    Err(last.unwrap_or(ClientError::UnknownHost { host: String::new(), reason: None }))
}
