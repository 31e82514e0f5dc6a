//! Listening sockets: one per shard and endpoint.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::proxy::ProxyProtocol;

/// Where to listen.
///
/// As text: `127.0.0.1:443`, `[::1]:443`, `[::]:443,v6only=off` (IPv4 as well) or `unix:/run/handfast.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A TCP address. Port 0 takes a free one.
    Tcp {
        /// The address.
        addr: SocketAddr,
        /// For an IPv6 address: refuse IPv4 (`IPV6_V6ONLY`). Set explicitly either way, whatever the system's default.
        v6only: bool,
    },
    /// A Unix-domain socket at this path.
    Unix(PathBuf),
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp { addr, v6only: true }
    }
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointParseError {
    text: String,
}

impl fmt::Display for EndpointParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no address to listen on; write `127.0.0.1:8443`, `[::1]:8443`, `[::]:8443,v6only=off`, `:8443` \
             or `unix:/path/to.sock`",
            self.text
        )
    }
}

impl std::error::Error for EndpointParseError {}

impl FromStr for Endpoint {
    type Err = EndpointParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || EndpointParseError { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Unix(path.into())) };
        }
        let (addr, v6only) = match text.split_once(",v6only=") {
            None => (text, true),
            Some((addr, "on")) => (addr, true),
            Some((addr, "off")) => (addr, false),
            Some(_) => return Err(bad()),
        };
        let addr = match addr.strip_prefix(':') {
            Some(port) => {
                // All addresses, both families.
                let port = port.parse().map_err(|_| bad())?;
                return Ok(Self::Tcp { addr: (Ipv6Addr::UNSPECIFIED, port).into(), v6only: false });
            }
            None => match addr.strip_prefix("localhost:") {
                Some(port) => (IpAddr::from([127, 0, 0, 1]), port.parse().map_err(|_| bad())?).into(),
                None => addr.parse().map_err(|_| bad())?,
            },
        };
        Ok(Self::Tcp { addr, v6only })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { addr, v6only: false } if addr.is_ipv6() => write!(f, "{addr},v6only=off"),
            Self::Tcp { addr, .. } => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Connections that the kernel holds for us before they are accepted; it may cap the number (`somaxconn`).
    pub backlog: u32,
    /// Linux: a connection is not reported before its first byte or this time (rounded up to seconds). Good against
    /// floods, wrong for health checks that only connect. `None` turns it off.
    pub defer_accept: Option<Duration>,
    /// Connections come through proxies, which say in a PROXY protocol header who the client is. `None`: directly.
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, defer_accept: Some(Duration::from_secs(5)), proxy_protocol: None }
    }
}

/// An endpoint that cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    endpoint: Endpoint,
    error: io::Error,
}

impl ListenError {
    /// The endpoint.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What the system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.endpoint)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => match &self.endpoint {
                Endpoint::Tcp { addr, .. } => write!(
                    f,
                    "the port is in use; stop what listens there (`ss -ltnp 'sport = :{}'` shows it) or choose another",
                    addr.port()
                ),
                Endpoint::Unix(_) => f.write_str("another process listens there"),
            },
            io::ErrorKind::PermissionDenied => f.write_str(
                "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, a socket path a writable directory",
            ),
            io::ErrorKind::AddrNotAvailable => f.write_str("this machine does not have that address"),
            _ => self.error.fmt(f),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The socket file of a Unix-domain listener; removed with the last of its copies.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good as removed.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One listening socket, for one shard.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    endpoint: Endpoint,
    proxy_protocol: Option<ProxyProtocol>,
    _file: Option<Arc<SocketFile>>,
}

impl Listener {
    /// Listens on `endpoint` with `copies` sockets, one for each shard.
    ///
    /// On Linux each TCP copy is a socket of its own with `SO_REUSEPORT`, so that the kernel spreads connections
    /// over them; elsewhere, and for Unix-domain sockets, the copies share one socket.
    ///
    /// # Errors
    /// The endpoint is taken, not ours, or forbidden. An endpoint that another process already listens on is
    /// refused even when that one shares its port.
    pub fn bind(endpoint: &Endpoint, options: &ListenOptions, copies: usize) -> Result<Vec<Self>, ListenError> {
        let result = match endpoint {
            Endpoint::Tcp { addr, v6only } => bind_tcp(*addr, *v6only, options, copies),
            Endpoint::Unix(path) => bind_unix(path, options, copies),
        };
        result.map_err(|error| ListenError { endpoint: endpoint.clone(), error })
    }

    /// The endpoint, with the port that was taken where 0 was asked for.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) const fn proxy_protocol(&self) -> Option<&ProxyProtocol> {
        self.proxy_protocol.as_ref()
    }

    pub(super) const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) const fn is_unix(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }
}

fn bind_tcp(addr: SocketAddr, v6only: bool, options: &ListenOptions, copies: usize) -> io::Result<Vec<Listener>> {
    let first = tcp_socket(addr, v6only)?;
    // Bound without SO_REUSEPORT, so that a port which another process shares is still found to be taken.
    first.bind(&addr.into())?;
    let addr = first.local_addr()?.as_socket().unwrap_or(addr);
    let mut sockets = vec![first];
    if cfg!(target_os = "linux") {
        sockets[0].set_reuse_port(true)?;
        for _ in 1..copies {
            let socket = tcp_socket(addr, v6only)?;
            socket.set_reuse_port(true)?;
            socket.bind(&addr.into())?;
            sockets.push(socket);
        }
    }
    for socket in &sockets {
        listen(socket, options)?;
    }
    while sockets.len() < copies {
        sockets.push(sockets[0].try_clone()?);
    }
    let endpoint = Endpoint::Tcp { addr, v6only };
    let listener = |s: Socket| Listener {
        fd: s.into(),
        endpoint: endpoint.clone(),
        proxy_protocol: options.proxy_protocol.clone(),
        _file: None,
    };
    Ok(sockets.into_iter().map(listener).collect())
}

fn tcp_socket(addr: SocketAddr, v6only: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(v6only)?;
    }
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn listen(socket: &Socket, options: &ListenOptions) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(wait) = options.defer_accept {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
        super::sockopt::set_defer_accept(socket, seconds)?;
    }
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))
}

fn bind_unix(path: &Path, options: &ListenOptions, copies: usize) -> io::Result<Vec<Listener>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let addr = SockAddr::unix(path)?;
    if let Err(error) = socket.bind(&addr) {
        // A file that nobody listens behind is what a killed process left.
        let stale = error.kind() == io::ErrorKind::AddrInUse
            && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        socket.bind(&addr)?;
    }
    let file = Arc::new(SocketFile(path.to_owned()));
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    let fd = OwnedFd::from(socket);
    (0..copies)
        .map(|_| {
            Ok(Listener {
                fd: fd.as_fd().try_clone_to_owned()?,
                endpoint: Endpoint::Unix(path.to_owned()),
                proxy_protocol: options.proxy_protocol.clone(),
                _file: Some(Arc::clone(&file)),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_and_print() {
        for text in ["127.0.0.1:443", "[::1]:8443", "[::]:443,v6only=off", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:1".parse::<Endpoint>().unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(":443".parse::<Endpoint>().unwrap().to_string(), "[::]:443,v6only=off");
        for text in ["", "unix:", "127.0.0.1", "[::]:1,v6only=maybe", "example.com:1", "127.0.0.1:70000"] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:8443"), "{error}");
        }
    }

    #[test]
    fn a_port_that_another_engine_shares_is_still_in_use() {
        let any = "127.0.0.1:0".parse().unwrap();
        let held = Listener::bind(&any, &ListenOptions::default(), 3).unwrap();
        assert_eq!(held.len(), 3);
        let error = Listener::bind(held[0].endpoint(), &ListenOptions::default(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("in use"), "{error}");
    }

    #[test]
    fn the_file_of_a_killed_listener_is_replaced_and_removed_at_the_end() {
        let dir = std::env::temp_dir().join(format!("handfast-listen-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let endpoint = Endpoint::Unix(path.clone());
        let held = Listener::bind(&endpoint, &ListenOptions::default(), 2).unwrap();
        let error = Listener::bind(&endpoint, &ListenOptions::default(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(held);
        assert!(!path.exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
