//! One blocking connection: a socket and rustls.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConnection, NamedGroup, ProtocolVersion};

use super::config::Config;
use super::error::{ClientError, Failure};
use super::keys;
use crate::handshake::facts;

/// A TLS connection that reads and writes plaintext, and blocks.
///
/// Reading ends with `Ok(0)` after the server's close_notify, and with
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when its stream ended without one (RFC 8446 section 6.1).
/// Dropping it closes the socket without a close_notify; [`close`](Self::close) sends one.
pub struct Connection {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Connection {
    /// Connects to the first of `addresses` that accepts, and shakes hands there.
    pub(super) fn open(
        config: &Config,
        addresses: &[SocketAddr],
        server_name: ServerName<'static>,
    ) -> Result<Self, ClientError> {
        let (socket, addr) = connect(addresses, config.connect_timeout)?;
        // It is alone with its server: nobody agrees together with it.
        let make = || ClientConnection::new(Arc::clone(&config.tls), server_name.clone());
        let (tls, _) = keys::with_pool(config.batch, make);
        let mut connection = Self { tls: tls.map_err(ClientError::Config)?, socket };
        let (tls, timeout) = (&config.tls, config.handshake_timeout);
        let shaken = connection.handshake(timeout);
        shaken.map_err(|failure| ClientError::of_handshake(failure, Some(addr), &server_name, tls, timeout))?;
        Ok(connection)
    }

    fn handshake(&mut self, timeout: Duration) -> Result<(), Failure> {
        let mut timed = Timed { socket: &self.socket, deadline: deadline(timeout) };
        while self.tls.is_handshaking() || self.tls.wants_write() {
            if self.tls.wants_write() {
                self.tls.write_tls(&mut timed).map_err(Failure::Io)?;
                continue;
            }
            if self.tls.read_tls(&mut timed).map_err(Failure::Io)? == 0 {
                return Err(Failure::Closed);
            }
            if let Err(error) = self.tls.process_new_packets() {
                // The alert tells the server why; it may be gone already.
                let _ = self.tls.write_tls(&mut timed);
                return Err(Failure::Tls(error));
            }
        }
        self.socket.set_read_timeout(None).map_err(Failure::Io)?;
        self.socket.set_write_timeout(None).map_err(Failure::Io)
    }

    /// The ALPN protocol ID that the server chose (RFC 7301); `None` when it chose none.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// The TLS version.
    #[must_use]
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.tls.protocol_version()
    }

    /// The cipher suite.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        facts::cipher_suite(&self.tls)
    }

    /// The key exchange group; `None` for a resumed TLS 1.2 session, which has no key exchange.
    #[must_use]
    pub fn group(&self) -> Option<NamedGroup> {
        facts::group(&self.tls)
    }

    /// Whether an earlier session was resumed.
    #[must_use]
    pub fn resumed(&self) -> bool {
        facts::resumed(&self.tls)
    }

    /// The server's certificates, its own first; for a resumed session, those of the first one.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.tls.peer_certificates().unwrap_or_default()
    }

    /// The socket: for its addresses and timeouts. Bytes written to it would break the connection.
    #[must_use]
    pub const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends close_notify and FIN: we write no more. Reading goes on until the server has closed, too.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn close(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush()?;
        self.socket.shutdown(Shutdown::Write)
    }

    fn stream(&mut self) -> rustls::Stream<'_, ClientConnection, TcpStream> {
        rustls::Stream::new(&mut self.tls, &mut self.socket)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("socket", &self.socket)
            .field("alpn_protocol", &self.alpn_protocol().map(|id| id.escape_ascii().to_string()))
            .field("protocol_version", &self.protocol_version())
            .finish_non_exhaustive()
    }
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream().read(buf)
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

fn connect(addresses: &[SocketAddr], timeout: Duration) -> Result<(TcpStream, SocketAddr), ClientError> {
    let mut last = None;
    for addr in addresses {
        match TcpStream::connect_timeout(addr, timeout) {
            Ok(socket) => {
                // Handshake flights are small and must not wait for each other's acknowledgement.
                let _ = socket.set_nodelay(true);
                return Ok((socket, *addr));
            }
            Err(e) => last = Some(ClientError::of_connect(e, *addr, timeout)),
        }
    }
    Err(last.unwrap_or(ClientError::UnknownHost { host: String::new(), reason: None }))
}

fn deadline(timeout: Duration) -> Option<Instant> {
    // One too far away to be written down is none.
    Instant::now().checked_add(timeout)
}

/// A socket whose reads and writes together end at a deadline, however slowly bytes trickle in.
struct Timed<'a> {
    socket: &'a TcpStream,
    deadline: Option<Instant>,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(buf)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
