//! What is measured: a server somewhere, or the engine in this process.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use handfast::crypto::provider;
use handfast::identity::{CertificateSet, Identity};
use handfast::selection::PROTOCOLS_MAX;
use handfast::{Engine, Pin, Protocol};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::cpu::{self, ServerCpu};
use crate::error::{RunError, UsageError};
use crate::plan::Plan;

/// How long each address of a name with several is tried.
const PROBE: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const PROBES_MAX: usize = 3;
/// After this long without an answer from the resolver, the person is told what we wait for.
const RESOLVE_SILENCE: Duration = Duration::from_millis(500);

/// Names in the embedded engine's certificate; a larger one would fill many packets.
const NAMES_MAX: usize = 100;

/// A server's address as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// The address, when the host is one and no name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HostPort {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let whole = || text.to_owned();
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(|| UsageError::BareIpv6(whole()))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(UsageError::BareIpv6(whole()));
            }
            (host, after.strip_prefix(':').ok_or_else(|| UsageError::NoPort(whole()))?)
        } else {
            let (host, port) = text.rsplit_once(':').ok_or_else(|| UsageError::NoPort(whole()))?;
            if host.contains(':') {
                return Err(UsageError::BareIpv6(whole()));
            }
            (host, port)
        };
        if host.is_empty() {
            return Err(UsageError::NoHost(whole()));
        }
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(|| UsageError::BadPort(whole()))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Finds the address to connect to. Of several that a name has, the first one that accepts a connection.
///
/// # Errors
/// The name does not resolve.
pub fn resolve(target: &HostPort, quiet: bool) -> Result<SocketAddr, UsageError> {
    if let Some(ip) = target.ip() {
        return Ok(SocketAddr::new(ip, target.port));
    }
    let unknown = |source| UsageError::UnknownHost { host: target.host.clone(), source };
    let addrs = look_up(target, quiet).map_err(unknown)?;
    let first = *addrs.first().ok_or_else(|| unknown(io::Error::other("the name has no address")))?;
    if addrs.len() == 1 {
        return Ok(first);
    }
    let accepts = |addr: &&SocketAddr| TcpStream::connect_timeout(addr, PROBE).is_ok();
    Ok(addrs.iter().take(PROBES_MAX).find(accepts).copied().unwrap_or(first))
}

/// Asks the resolver on a thread of its own, because it may take many seconds and cannot be told a deadline.
fn look_up(target: &HostPort, quiet: bool) -> io::Result<Vec<SocketAddr>> {
    let (answer, answers) = mpsc::channel();
    let query = (target.host.clone(), target.port);
    std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        // Nobody listens when the person has lost patience, and then the answer does not matter.
        let _ = answer.send(query.to_socket_addrs().map(Vec::from_iter));
    })?;
    let gone = |_| Err(io::Error::other("the resolver failed"));
    answers
        .recv_timeout(RESOLVE_SILENCE)
        .or_else(|_| {
            if !quiet {
                crate::progress::say(&format!("looking up {} ...", target.host));
            }
            answers.recv()
        })
        .unwrap_or_else(gone)
}

/// The engine, started in this process to be measured; it runs until it is dropped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Embedded {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What `--verify` has to trust.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Its threads' CPU time.
    pub cpu: ServerCpu,
    _engine: Engine,
}

impl Embedded {
    /// Starts it with `shards` threads, for what `plan` is going to offer.
    ///
    /// # Errors
    /// The engine does not start.
    pub fn start(plan: &Plan, shards: u32) -> Result<Self, RunError> {
        let others = cpu::own_threads();
        let (engine, certificate) = start_engine(plan, shards)?;
        let local = "listen on the loopback interface";
        let addr = engine.handle().local_addr().ok_or_else(|| failed(local)(io::ErrorKind::AddrNotAvailable.into()))?;
        Ok(Self { addr, certificates: vec![certificate], cpu: ServerCpu::threads_beside(&others), _engine: engine })
    }
}

/// The one place that knows the engine's embedding interface: an engine on a free port of the loopback interface, with
/// a certificate of its own, that finishes handshakes, answers close_notify and closes.
fn start_engine(plan: &Plan, shards: u32) -> Result<(Engine, CertificateDer<'static>), RunError> {
    let doing = "make a certificate for the engine";
    let mut names = vec!["localhost".to_owned()];
    let asked = plan.tls.names.items().iter().map(|name| name.to_str().into_owned());
    names.extend(asked.filter(|name| name != "localhost").take(NAMES_MAX));
    let own = rcgen::generate_simple_self_signed(names).map_err(other(doing))?;
    let certificate = own.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into();
    let identity = Identity::from_der(vec![certificate.clone()], key, &provider()).map_err(other(doing))?;
    let set = CertificateSet::new("embedded", vec![identity]).map_err(other(doing))?;

    let mut ids: Vec<Vec<u8>> = Vec::new();
    for id in plan.tls.alpn.items().iter().flat_map(|list| &list.0) {
        if ids.len() < PROTOCOLS_MAX && !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    if ids.is_empty() {
        ids.push(b"h2".to_vec());
    }
    let mut builder = Engine::builder()
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .shards(shards as usize)
        .pin(server_pin(&plan.cpus, shards as usize))
        .certificates(set)
        .without_alpn(ids[0].clone());
    for id in ids {
        builder = builder.protocol(Protocol::alpn(id).close());
    }
    let engine = builder.start().map_err(other("start the engine"))?;
    Ok((engine, certificate))
}

/// The CPUs that the client leaves, when they are enough.
fn server_pin(client: &[usize], shards: usize) -> Pin {
    let left: Vec<_> = cpu::allowed().into_iter().filter(|c| !client.contains(c)).collect();
    if left.len() < shards { Pin::Off } else { Pin::Cores(left) }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Local { doing, source }
}

fn other<E: std::error::Error + Send + Sync + 'static>(doing: &'static str) -> impl Fn(E) -> RunError {
    move |error| failed(doing)(io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (text, host, port) in
            [("localhost:443", "localhost", 443), ("10.0.0.1:8443", "10.0.0.1", 8443), ("[::1]:443", "::1", 443)]
        {
            let target: HostPort = text.parse().unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port));
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn a_bad_target_is_told_what_is_missing() {
        let say = |text: &str| text.parse::<HostPort>().unwrap_err().to_string();
        assert!(say("example.com").contains("example.com:443"));
        assert!(say("[::1]").contains("[::1]:443"));
        assert!(say("::1:443").contains("brackets"));
        assert!(say("[nonsense]:443").contains("brackets"));
        assert!(say(":443").contains("no host"));
        for bad in ["a:0", "a:65536", "a:https", "a:"] {
            assert!(say(bad).contains("port"), "{bad}");
        }
    }

    #[test]
    fn an_address_needs_no_resolver() {
        let target: HostPort = "[::1]:9".parse().unwrap();
        assert_eq!(resolve(&target, true).unwrap(), "[::1]:9".parse().unwrap());
    }
}
