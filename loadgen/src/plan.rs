//! What a run will do: the command line, checked.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::{DnsName, ServerName};

use crate::args::{Args, Group, TlsVersions};
use crate::cpu::{self, ServerCpu};
use crate::duration::Plain;
use crate::error::UsageError;
use crate::target::HostPort;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const WARM_UP_DEFAULT: Duration = Duration::from_secs(1);
/// Descriptors that the process needs besides its connections.
const DESCRIPTORS_SPARE: u64 = 64;

/// When a run has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent {
    /// After this long.
    Time(Duration),
    /// After so many handshakes, failed ones included.
    Handshakes(u64),
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A server.
    Server(HostPort),
    /// The engine in this process, with so many shards.
    Embedded {
        /// Its shards.
        shards: u32,
    },
}

/// Whether certificates are verified, and against what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// Not at all; signatures are not checked either.
    No,
    /// Against the public roots.
    PublicRoots,
    /// Against the CAs in a file.
    File(PathBuf),
    /// Against the certificate that the built-in engine made for itself.
    Embedded,
}

impl Verify {
    /// For the person who reads the figures.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::No => "certificates: not verified".to_owned(),
            Self::PublicRoots => "certificates: verified against the public roots".to_owned(),
            Self::Embedded => "certificates: verified against the engine's own".to_owned(),
            Self::File(path) => format!("certificates: verified against {}", path.display()),
        }
    }
}

/// What the ClientHellos are made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsShape {
    /// The versions to offer.
    pub versions: TlsVersions,
    /// The ALPN protocol IDs to offer.
    pub alpn: Vec<Vec<u8>>,
    /// The groups to offer.
    pub groups: Vec<Group>,
    /// The name to ask for, and to verify.
    pub server_name: ServerName<'static>,
    /// Whether to resume sessions.
    pub resume: bool,
    /// Whether to verify certificates.
    pub verify: Verify,
}

impl TlsShape {
    /// The versions for a person.
    #[must_use]
    pub const fn versions_text(&self) -> &'static str {
        match self.versions {
            TlsVersions::Tls12 => "TLS 1.2",
            TlsVersions::Tls13 => "TLS 1.3",
            TlsVersions::Any => "TLS 1.3 or 1.2",
        }
    }

    /// The ALPN list for a person.
    #[must_use]
    pub fn alpn_text(&self) -> String {
        if self.alpn.is_empty() {
            return "no ALPN".to_owned();
        }
        let ids: Vec<_> = self.alpn.iter().map(|id| String::from_utf8_lossy(id)).collect();
        format!("ALPN {}", ids.join(","))
    }
}

/// A checked plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// What is measured.
    pub target: Target,
    /// Handshakes under way at a time, over all shards.
    pub connections: u32,
    /// Client threads.
    pub shards: u32,
    /// When it is over.
    pub extent: Extent,
    /// What is not counted before.
    pub warm_up: Duration,
    /// Time for one handshake.
    pub timeout: Duration,
    /// Time without a success after which the target counts as lost.
    pub give_up: Duration,
    /// What the ClientHellos are made of.
    pub tls: TlsShape,
    /// All connections in rounds.
    pub burst: bool,
    /// The CPUs of the client's shards, by shard; empty: not pinned.
    pub cpus: Vec<usize>,
    /// Where to read the server's CPU time; the embedded engine brings its own.
    pub server_cpu: ServerCpu,
    /// No progress.
    pub quiet: bool,
    /// JSON instead of the table.
    pub json: bool,
}

impl Plan {
    /// Checks a command line. Looks at this machine (CPUs, descriptors), but neither at the network nor at files.
    ///
    /// # Errors
    /// What was asked for cannot be done.
    pub fn new(args: Args) -> Result<Self, UsageError> {
        let allowed = cpu::allowed();
        let cores = if allowed.is_empty() {
            std::thread::available_parallelism().map_or(1, usize::from)
        } else {
            allowed.len()
        };
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let target = target_of(&args, cores)?;
        let embedded = matches!(target, Target::Embedded { .. });
        let shards = args.shards.unwrap_or(if embedded { 1 } else { cores }).min(args.connections);
        let extent = args.count.map_or(Extent::Time(args.duration), Extent::Handshakes);
        let (warm_up, timeout) = match extent {
            Extent::Time(duration) => (WARM_UP_DEFAULT, TIMEOUT_DEFAULT.min(duration)),
            Extent::Handshakes(_) => (Duration::ZERO, TIMEOUT_DEFAULT),
        };
        let server_cpu = match args.server_pid {
            Some(pid) if !cpu::process_exists(pid) => return Err(UsageError::NoSuchProcess(pid)),
            Some(pid) => ServerCpu::Process(pid),
            None => ServerCpu::Unknown,
        };
        make_room(args.connections, embedded)?;
        let verify = match args.ca {
            Some(path) => Verify::File(path),
            None if args.verify && embedded => Verify::Embedded,
            None if args.verify => Verify::PublicRoots,
            None => Verify::No,
        };
        let server_name = server_name(args.sni, &target, &verify)?;
        Ok(Self {
            connections: args.connections,
            shards,
            extent,
            warm_up: args.warm_up.unwrap_or(warm_up),
            timeout: args.timeout.unwrap_or(timeout),
            give_up: args.give_up,
            tls: TlsShape {
                versions: args.tls,
                alpn: args.alpn.0,
                groups: args.groups,
                server_name,
                resume: args.resume,
                verify,
            },
            burst: args.burst,
            cpus: client_cpus(&allowed, args.pin_client, shards)?,
            server_cpu,
            quiet: args.quiet,
            json: args.json,
            target,
        })
    }

    /// What is measured, in one line; `at` is the address that is connected to.
    #[must_use]
    pub fn describe(&self, at: std::net::SocketAddr) -> String {
        let target = match &self.target {
            Target::Embedded { shards } => format!("the built-in engine ({})", count(*shards, "shard")),
            Target::Server(server) if server.ip().is_some() => server.to_string(),
            Target::Server(server) => format!("{server} ({})", at.ip()),
        };
        let extent = match self.extent {
            Extent::Time(d) => format!("for {}", Plain(d)),
            Extent::Handshakes(n) => format!("{n} handshakes"),
        };
        let warm_up =
            if self.warm_up.is_zero() { String::new() } else { format!(" after {} of warm-up", Plain(self.warm_up)) };
        format!(
            "measuring {target} {extent}{warm_up}: {}, {}{}, {}, {}{}, {}",
            count(self.connections, "connection"),
            count(self.shards, "client thread"),
            if self.burst { ", in rounds" } else { "" },
            self.tls.versions_text(),
            self.tls.alpn_text(),
            if self.tls.resume { ", resuming" } else { "" },
            self.tls.verify.describe(),
        )
    }
}

fn count(n: u32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn target_of(args: &Args, cores: u32) -> Result<Target, UsageError> {
    match &args.target {
        Some(_) if args.server_shards.is_some() => {
            Err(UsageError::OptionMismatch("--server-shards is for the built-in engine: leave it or the target out"))
        }
        Some(target) => Ok(Target::Server(target.parse()?)),
        None if args.server_pid.is_some() => Err(UsageError::OptionMismatch(
            "--server-pid is for a target of your own: the built-in engine's CPU is known anyway",
        )),
        None => {
            let client = args.shards.unwrap_or(1);
            let shards = args.server_shards.unwrap_or_else(|| cores.saturating_sub(client).max(1));
            Ok(Target::Embedded { shards })
        }
    }
}

fn server_name(sni: Option<String>, target: &Target, verify: &Verify) -> Result<ServerName<'static>, UsageError> {
    let dns = |name: String| match DnsName::try_from(name.clone()) {
        Ok(dns) => Ok(ServerName::DnsName(dns)),
        Err(_) => Err(UsageError::BadName(name)),
    };
    match (sni, target) {
        (Some(name), _) => dns(name),
        (None, Target::Server(server)) => match server.ip() {
            // RFC 6066 section 3 allows no address in SNI; to verify, the address itself must be in the certificate.
            Some(ip) if *verify != Verify::No => Ok(ServerName::IpAddress(ip.into())),
            Some(_) => dns("localhost".to_owned()),
            None => match dns(server.host.clone()) {
                // A resolver may know names that no certificate can have.
                Err(_) if *verify == Verify::No => dns("localhost".to_owned()),
                name => name,
            },
        },
        (None, Target::Embedded { .. }) => dns("localhost".to_owned()),
    }
}

/// The client takes cores from the last one down, because a server on the same machine begins with the first.
fn client_cpus(allowed: &[usize], first: Option<usize>, shards: u32) -> Result<Vec<usize>, UsageError> {
    if allowed.is_empty() {
        return Ok(Vec::new());
    }
    let shards = shards as usize;
    let Some(cpu) = first else {
        return Ok(allowed.iter().rev().copied().cycle().take(shards).collect());
    };
    let Some(at) = allowed.iter().position(|c| *c == cpu) else {
        return Err(UsageError::NoSuchCpu { cpu, allowed: allowed.to_vec() });
    };
    Ok(allowed.iter().copied().cycle().skip(at).take(shards).collect())
}

/// Raises the limit of open files to what the process may have, and sees whether that is enough.
fn make_room(connections: u32, embedded: bool) -> Result<(), UsageError> {
    // Where the system does not tell the limit, the connections themselves will.
    let Ok(limit) = handfast::transport::tcp::raise_descriptor_limit() else { return Ok(()) };
    let per_connection = if embedded { 2 } else { 1 };
    let room = limit.saturating_sub(DESCRIPTORS_SPARE) / per_connection;
    if u64::from(connections) > room {
        return Err(UsageError::TooManyConnections { connections, room });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, UsageError> {
        Plan::new(Args::try_parse_from([&["handfast-load"], args].concat()).unwrap())
    }

    #[test]
    fn the_name_to_ask_for_follows_the_target() {
        let name = |args: &[&str]| plan(args).unwrap().tls.server_name.to_str().into_owned();
        assert_eq!(name(&["example.com:443"]), "example.com");
        assert_eq!(name(&["127.0.0.1:443"]), "localhost");
        assert_eq!(name(&["127.0.0.1:443", "--ca", "x"]), "127.0.0.1");
        assert_eq!(name(&["127.0.0.1:443", "--sni", "a.example"]), "a.example");
        assert_eq!(name(&[]), "localhost");
        assert!(plan(&["a:1", "--sni", "not a name"]).is_err());
    }

    #[test]
    fn a_count_has_no_warm_up_and_a_short_run_a_short_timeout() {
        let counted = plan(&["a:1", "--count", "5"]).unwrap();
        assert_eq!((counted.warm_up, counted.timeout), (Duration::ZERO, TIMEOUT_DEFAULT));
        let timed = plan(&["a:1", "--duration", "2s"]).unwrap();
        assert_eq!((timed.warm_up, timed.timeout), (WARM_UP_DEFAULT, Duration::from_secs(2)));
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        assert!(matches!(plan(&["a:1", "--server-shards", "2"]), Err(UsageError::OptionMismatch(_))));
        assert!(matches!(plan(&["--server-pid", "1"]), Err(UsageError::OptionMismatch(_))));
        assert!(matches!(plan(&["a:1", "--server-pid", "4294967295"]), Err(UsageError::NoSuchProcess(_))));
        assert!(matches!(plan(&["a:1", "--connections", "999999"]), Err(UsageError::TooManyConnections { .. })));
    }

    #[test]
    fn client_threads_take_cores_from_the_last_one_down() {
        assert_eq!(client_cpus(&[0, 1, 2, 3], None, 2).unwrap(), [3, 2]);
        assert_eq!(client_cpus(&[0, 1], None, 3).unwrap(), [1, 0, 1]);
        assert_eq!(client_cpus(&[0, 2, 4], Some(2), 3).unwrap(), [2, 4, 0]);
        assert!(client_cpus(&[0, 1], Some(7), 1).is_err());
    }

    #[test]
    fn the_opening_line_says_what_is_measured() {
        let line = plan(&["example.com:443", "--resume"]).unwrap().describe("192.0.2.1:443".parse().unwrap());
        for part in ["example.com:443 (192.0.2.1)", "64 connections", "ALPN h2,http/1.1", "not verified", "resuming"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
