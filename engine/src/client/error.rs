//! Why a client has no connection: who, what, and how to mend it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage};

use crate::crypto::batch::Unavailable;
use crate::error::Culprit;

/// How far a connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The TCP connection.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// The opening of a WebSocket.
    Opening,
}

/// What is wrong with the roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootsProblem {
    /// The file cannot be read.
    Unreadable(io::ErrorKind),
    /// The file is too large to be a list of certificates.
    TooLarge,
    /// There is no certificate.
    Empty,
    /// What is there is no certificate.
    Malformed,
}

/// Why a client has no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The target is not written as `host:port`.
    Target {
        /// What was given.
        text: String,
    },
    /// The server name is neither a host name nor an IP address.
    ServerName {
        /// What was given.
        name: String,
    },
    /// An ALPN protocol ID is empty or longer than 255 bytes (RFC 7301 section 3.1).
    AlpnId {
        /// Its length in bytes.
        len: usize,
    },
    /// The roots cannot be used.
    Roots {
        /// The file, if they came from one.
        path: Option<PathBuf>,
        /// What is wrong.
        problem: RootsProblem,
    },
    /// The file for the key log cannot be written.
    KeyLog {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The cryptography that was asked for is not to be had on this machine.
    Crypto(Unavailable),
    /// rustls refuses the configuration.
    Config(Error),
    /// The host has no address.
    UnknownHost {
        /// The host.
        host: String,
        /// What the resolver said.
        reason: Option<io::Error>,
    },
    /// Nothing listens there.
    Refused {
        /// Where.
        addr: SocketAddr,
    },
    /// It took too long.
    TimedOut {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
        /// What took too long.
        phase: Phase,
        /// How long it was allowed to take.
        after: Duration,
    },
    /// The server reset the connection.
    Reset {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
        /// When.
        phase: Phase,
    },
    /// The server closed the connection before the handshake was over, and sent no alert.
    Closed {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
    },
    /// The server's certificate does not hold.
    NotTrusted {
        /// Whose certificate was asked for.
        server_name: String,
        /// What is wrong with it.
        reason: CertificateError,
    },
    /// The server speaks none of the ALPN protocols that were offered (alert 120, RFC 7301 section 3.2).
    NoApplicationProtocol {
        /// What was offered.
        offered: Vec<String>,
    },
    /// The server chose an ALPN protocol that was offered and is not HTTP: offer `h2` and `http/1.1` alone.
    #[cfg(feature = "client-http")]
    NotHttp {
        /// What it chose.
        protocol: String,
    },
    /// The connection broke before HTTP could begin.
    #[cfg(feature = "client-http")]
    Http(hyper::Error),
    /// The URL of a WebSocket is not written as `wss://host/path`.
    #[cfg(all(feature = "client-http", feature = "websocket"))]
    Url {
        /// What was given.
        text: String,
    },
    /// The server is there, and the WebSocket did not open.
    #[cfg(all(feature = "client-http", feature = "websocket"))]
    WebSocket(crate::websocket::client::OpenError),
    /// The server and we have no TLS version, suite or group in common.
    Incompatible {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
        /// What rustls says.
        reason: Error,
    },
    /// The server does not speak TLS.
    NotTls {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
    },
    /// The server refused with this alert.
    Alert {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
        /// Which.
        alert: AlertDescription,
    },
    /// The server broke TLS's rules.
    Tls {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
        /// What rustls says.
        reason: Error,
    },
    /// The network or this machine failed otherwise.
    Io {
        /// Where, if the client connected itself.
        addr: Option<SocketAddr>,
        /// When.
        phase: Phase,
        /// How.
        reason: io::Error,
    },
}

/// How a handshake ended early.
#[derive(Debug)]
pub(super) enum Failure {
    Config(Error),
    Tls(Error),
    Io(io::Error),
    Closed,
}

impl ClientError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        match self {
            Self::Target { .. }
            | Self::ServerName { .. }
            | Self::AlpnId { .. }
            | Self::Roots { .. }
            | Self::KeyLog { .. }
            | Self::Crypto(_)
            | Self::Config(_)
            | Self::UnknownHost { .. } => Culprit::Config,
            Self::Io { .. } => Culprit::Local,
            #[cfg(all(feature = "client-http", feature = "websocket"))]
            Self::Url { .. } => Culprit::Config,
            #[cfg(all(feature = "client-http", feature = "websocket"))]
            Self::WebSocket(e) => e.culprit(),
            _ => Culprit::Peer,
        }
    }

    /// A handshake over `config` that failed, with `addr` if that is known.
    pub(super) fn of_handshake(
        failure: Failure,
        addr: Option<SocketAddr>,
        name: &ServerName<'_>,
        tls: &ClientConfig,
        timeout: Duration,
    ) -> Self {
        match failure {
            Failure::Config(error) => Self::Config(error),
            Failure::Tls(error) => Self::of_tls(error, addr, name, &tls.alpn_protocols),
            Failure::Closed => Self::Closed { addr },
            Failure::Io(error) => Self::of_io(error, addr, Phase::Handshake, timeout),
        }
    }

    pub(super) fn of_connect(error: io::Error, addr: SocketAddr, after: Duration) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { addr },
            _ => Self::of_io(error, Some(addr), Phase::Connect, after),
        }
    }

    fn of_io(error: io::Error, addr: Option<SocketAddr>, phase: Phase, after: Duration) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            // A socket's timeout shows as one or the other.
            Kind::TimedOut | Kind::WouldBlock => Self::TimedOut { addr, phase, after },
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::Reset { addr, phase },
            _ => Self::Io { addr, phase, reason: error },
        }
    }

    fn of_tls(error: Error, addr: Option<SocketAddr>, name: &ServerName<'_>, offered: &[Vec<u8>]) -> Self {
        match error {
            Error::InvalidCertificate(reason) => Self::NotTrusted { server_name: name.to_str().into_owned(), reason },
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NoApplicationProtocol {
                offered: offered.iter().map(|id| id.escape_ascii().to_string()).collect(),
            },
            Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)
            | Error::PeerIncompatible(_) => Self::Incompatible { addr, reason: error },
            Error::AlertReceived(alert) => Self::Alert { addr, alert },
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => Self::NotTls { addr },
            reason => Self::Tls { addr, reason },
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Handshake => "TLS handshake",
            Self::Opening => "opening of the WebSocket",
        })
    }
}

impl fmt::Display for RootsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(kind) => write!(f, "cannot be read: {kind}"),
            Self::TooLarge => f.write_str("is too large to be a list of certificates"),
            Self::Empty => f.write_str("holds no certificate: give PEM certificates, or choose other roots"),
            Self::Malformed => f.write_str("holds something that is no certificate: give PEM certificates"),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target { text } => write!(f, "`{text}` is no target: write `host:port` or `[::1]:port`"),
            Self::ServerName { name } => write!(f, "`{name}` is no server name: give a host name or an IP address"),
            Self::AlpnId { len } => write!(f, "an ALPN protocol ID of {len} bytes: it must have 1 to 255"),
            Self::Roots { path: Some(path), problem } => write!(f, "roots file {}: {problem}", path.display()),
            Self::Roots { path: None, problem } => write!(f, "the list of roots {problem}"),
            Self::KeyLog { path, kind } => {
                write!(f, "key log {} cannot be written: {kind}; name a file that may be", path.display())
            }
            Self::Crypto(e) => write!(f, "{e}; `auto` or `aws-lc` do without"),
            Self::Config(e) => write!(f, "TLS configuration: {e}"),
            Self::UnknownHost { host, reason: Some(e) } => write!(f, "host `{host}` is not known: {e}"),
            Self::UnknownHost { host, reason: None } => write!(f, "host `{host}` has no address"),
            Self::Refused { addr } => write!(f, "{addr} refused: nothing listens there; is the server running?"),
            Self::TimedOut { addr, phase, after } => {
                let at = At(*addr);
                write!(f, "{at} did not finish the {phase} within {after:?}; is it reachable and not overloaded?")
            }
            Self::Reset { addr, phase } => write!(f, "{} reset the connection during the {phase}", At(*addr)),
            Self::Closed { addr } => {
                write!(f, "{} closed the connection during the TLS handshake; does it speak TLS there?", At(*addr))
            }
            Self::NotTrusted { server_name, reason } => write!(
                f,
                "the certificate for `{server_name}` is not trusted: {reason}; give the right roots or server name"
            ),
            Self::NoApplicationProtocol { offered } => write!(
                f,
                "the server speaks none of the ALPN protocols offered ({}): offer another",
                if offered.is_empty() { "none".to_owned() } else { offered.join(", ") }
            ),
            #[cfg(feature = "client-http")]
            Self::NotHttp { protocol } => {
                write!(f, "the server chose `{protocol}`, which is not HTTP: offer h2 and http/1.1 alone")
            }
            #[cfg(feature = "client-http")]
            Self::Http(e) => write!(f, "the connection broke before HTTP could begin: {e}"),
            #[cfg(all(feature = "client-http", feature = "websocket"))]
            Self::Url { text } => write!(f, "`{text}` is no URL of a WebSocket: write `wss://host/path`"),
            #[cfg(all(feature = "client-http", feature = "websocket"))]
            Self::WebSocket(e) => e.fmt(f),
            Self::Incompatible { addr, reason } => {
                let at = At(*addr);
                write!(f, "{at} and we have no TLS parameters in common: {reason}; allow other versions")
            }
            Self::NotTls { addr } => {
                write!(f, "{} answered with something that is not TLS; is it the right port?", At(*addr))
            }
            Self::Alert { addr, alert } => write!(f, "{} refused with the alert {alert:?}", At(*addr)),
            Self::Tls { addr, reason } => write!(f, "{} broke TLS's rules: {reason}", At(*addr)),
            Self::Io { addr, phase, reason } => write!(f, "{phase} with {} failed: {reason}", At(*addr)),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(e) | Self::Incompatible { reason: e, .. } | Self::Tls { reason: e, .. } => Some(e),
            #[cfg(feature = "client-http")]
            Self::Http(e) => Some(e),
            #[cfg(all(feature = "client-http", feature = "websocket"))]
            Self::WebSocket(e) => e.source(),
            Self::UnknownHost { reason: Some(e), .. } | Self::Io { reason: e, .. } => Some(e),
            _ => None,
        }
    }
}

/// The server, by its address if that is known.
struct At(Option<SocketAddr>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("the server"),
        }
    }
}
