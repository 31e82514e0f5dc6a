//! What a run will do: the command line, checked.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use handfast::crypto::Crypto;
use handfast::crypto::batch::Batch;
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, SignatureScheme};

pub use crate::args::Then;
use crate::args::{AlpnList, Args, CryptoChoice, Group, TlsVersions};
use crate::arrivals::{Law, Profile};
use crate::cpu::{self, ServerCpu};
use crate::duration::Plain;
use crate::error::UsageError;
use crate::names;
use crate::source;
use crate::target::HostPort;
use crate::tricks::Tricks;
use crate::weighted::Weighted;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const WARM_UP_DEFAULT: Duration = Duration::from_secs(1);
/// Descriptors that the process needs besides its connections.
const DESCRIPTORS_SPARE: u64 = 64;
const CONNECTIONS_DEFAULT: u32 = 64;
/// In an open loop connections only bound what may pile up.
const CONNECTIONS_DEFAULT_OPEN: u32 = 1024;

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

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(server) => server.fmt(f),
            Self::Embedded { .. } => f.write_str("embedded"),
        }
    }
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

/// An open loop.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Open {
    /// Handshakes per second over time.
    pub profile: Profile,
    /// How they follow one another.
    pub law: Law,
    /// How late this generator may be; `None` for what [`run`](crate::run()) finds tolerable.
    pub max_lateness: Option<Duration>,
}

/// What is shown to a server that asks who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientAuth {
    /// A PEM file with the chain.
    pub certificates: PathBuf,
    /// A PEM file with the key.
    pub key: PathBuf,
}

/// What the ClientHellos are made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsShape {
    /// The versions to offer.
    pub versions: TlsVersions,
    /// The lists of ALPN protocol IDs to offer.
    pub alpn: Weighted<AlpnList>,
    /// The groups to offer.
    pub groups: Vec<Group>,
    /// The cipher suites to offer; empty for all.
    pub suites: Vec<CipherSuite>,
    /// The signature schemes to offer; empty for all.
    pub signatures: Vec<SignatureScheme>,
    /// The names to ask for, and to verify.
    pub names: Weighted<ServerName<'static>>,
    /// The share of handshakes that resume a session, from 0 to 1.
    pub resume: f64,
    /// The share of those that can whose request is early data, from 0 to 1.
    pub early_data: f64,
    /// Whether to verify certificates.
    pub verify: Verify,
    /// The client's own certificate.
    pub client_auth: Option<ClientAuth>,
    /// What computes key exchanges together, if anything does.
    pub batch: Option<Batch>,
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

    /// What computes key exchanges, as on the command line.
    #[must_use]
    pub const fn crypto_text(&self) -> &'static str {
        if self.batch.is_some() { "batch" } else { "aws-lc" }
    }

    /// The ALPN lists for a person.
    #[must_use]
    pub fn alpn_text(&self) -> String {
        let list = |list: &AlpnList| {
            let ids: Vec<_> = list.0.iter().map(|id| String::from_utf8_lossy(id)).collect();
            if ids.is_empty() { "none".to_owned() } else { ids.join(",") }
        };
        match self.alpn.items() {
            [one] if one.0.is_empty() => "no ALPN".to_owned(),
            [one] => format!("ALPN {}", list(one)),
            _ => {
                let shares = self.alpn.shares().map(|(one, share)| format!("{} {:.0}%", list(one), share * 100.0));
                format!("ALPN {}", shares.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// A checked plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// What is measured.
    pub target: Target,
    /// Handshakes under way at a time, over all shards; in an open loop, at most.
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
    /// Packets and system calls that are spared.
    pub tricks: Tricks,
    /// When handshakes are due; `None` in a closed loop.
    pub open: Option<Open>,
    /// What random choices follow from.
    pub seed: u64,
    /// What follows a complete handshake.
    pub then: Then,
    /// The path of the request, or of the WebSocket.
    pub path: Box<str>,
    /// Messages that each WebSocket echoes.
    pub messages: u32,
    /// Addresses to connect from; empty: the system chooses.
    pub sources: Vec<IpAddr>,
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
    /// Checks a command line. Looks at this machine (CPUs, descriptors, addresses, a file of names), but not at the
    /// network.
    ///
    /// # Errors
    /// What was asked for cannot be done.
    pub fn new(args: Args) -> Result<Self, UsageError> {
        let allowed = cpu::allowed();
        let cores = cores(&allowed);
        let target = target_of(&args, cores)?;
        let embedded = matches!(target, Target::Embedded { .. });
        talk_options(&args)?;
        early_data_options(&args)?;
        let open = open_loop(&args)?;
        let connections = connections(&args, open.is_some(), embedded)?;
        let shards = args.shards.unwrap_or(if embedded { 1 } else { cores }).min(connections);
        let stages = args.stages.as_ref().map(Profile::length);
        let time = Extent::Time(stages.unwrap_or(args.duration));
        let extent = args.count.map_or(time, Extent::Handshakes);
        let (warm_up, timeout) = match extent {
            Extent::Time(duration) if stages.is_some() || args.then == Then::Hold => {
                (Duration::ZERO, TIMEOUT_DEFAULT.min(duration))
            }
            Extent::Time(duration) => (WARM_UP_DEFAULT, TIMEOUT_DEFAULT.min(duration)),
            Extent::Handshakes(_) => (Duration::ZERO, TIMEOUT_DEFAULT),
        };
        let server_cpu = match args.server_pid {
            Some(pid) if !cpu::process_exists(pid) => return Err(UsageError::NoSuchProcess(pid)),
            Some(pid) => ServerCpu::Process(pid),
            None => match args.server_cgroup.clone() {
                Some(path) if cpu::cgroup_exists(&path) => ServerCpu::Cgroup(path),
                Some(path) => return Err(UsageError::NoSuchCgroup(path)),
                None => ServerCpu::Unknown,
            },
        };
        let sources = sources(&args, &target)?;
        let batch = batch(&args)?;
        let verify = match args.ca {
            Some(path) => Verify::File(path),
            None if args.verify && embedded => Verify::Embedded,
            None if args.verify => Verify::PublicRoots,
            None => Verify::No,
        };
        let names = names::of(args.sni.as_deref(), &target, &verify)?;
        let early_data = args.early_data.unwrap_or(0.0);
        let alpn = args.alpn.unwrap_or_else(|| Weighted::one(default_alpn(args.then, early_data > 0.0)));
        let client_auth =
            args.client_cert.zip(args.client_key).map(|(certificates, key)| ClientAuth { certificates, key });
        Ok(Self {
            connections,
            shards,
            extent,
            warm_up: args.warm_up.unwrap_or(warm_up),
            timeout: args.timeout.unwrap_or(timeout),
            give_up: args.give_up,
            tls: TlsShape {
                versions: args.tls,
                alpn,
                groups: args.groups,
                suites: args.suites,
                signatures: args.signatures,
                names,
                resume: args.resume.unwrap_or(0.0),
                early_data,
                verify,
                client_auth,
                batch,
            },
            burst: args.burst,
            tricks: Tricks::new(args.tricks.as_deref(), args.burst)?,
            open,
            seed: args.seed,
            then: args.then,
            path: args.path.unwrap_or_else(|| "/".to_owned()).into(),
            messages: args.messages.unwrap_or(1),
            sources,
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
        let percent = |share: f64| (share * 1e5).round() / 1e3;
        let early_data = match self.tls.early_data {
            0.0 => String::new(),
            share => format!(", {}% of that with early data", percent(share)),
        };
        format!(
            "measuring {target} {extent}{warm_up}: {}, {}{}, {}, {}{}{early_data}, {}{}",
            self.load_text(),
            count(self.shards, "client thread"),
            if self.burst { ", in rounds" } else { "" },
            self.tls.versions_text(),
            self.tls.alpn_text(),
            match self.tls.resume {
                0.0 => String::new(),
                1.0 => ", resuming".to_owned(),
                share => format!(", resuming {}%", percent(share)),
            },
            self.tls.verify.describe(),
            match self.then {
                Then::Close => String::new(),
                Then::Reset => ", then reset".to_owned(),
                Then::Hold => ", then held open".to_owned(),
                Then::Http => format!(", then GET {}", self.path),
                Then::Websocket =>
                    format!(", then a WebSocket at {} with {}", self.path, count(self.messages, "message")),
            },
        )
    }

    fn load_text(&self) -> String {
        let connections = count(self.connections, "connection");
        let Some(open) = &self.open else { return connections };
        let law = match open.law {
            Law::Poisson => "Poisson",
            Law::Constant => "constant",
        };
        let rate = match open.profile.length() {
            Duration::ZERO => format!("{} handshakes due per second", open.profile.last_rate()),
            _ => format!("{:.0} handshakes due in stages", open.profile.expected()),
        };
        format!("{rate} ({law} arrivals), at most {connections}")
    }
}

/// Whether the key share is one that can be computed together with others.
pub(crate) fn shares_x25519(args: &Args) -> bool {
    matches!(args.groups.first(), Some(Group::X25519 | Group::X25519Mlkem768))
}

/// What computes key exchanges together: nothing when the key share is neither X25519's nor X25519MLKEM768's.
fn batch(args: &Args) -> Result<Option<Batch>, UsageError> {
    match args.crypto {
        choice if shares_x25519(args) => Crypto::from(choice).resolve().map_err(UsageError::Crypto),
        CryptoChoice::Batch => Err(UsageError::OptionMismatch(
            "--crypto batch is for key shares of X25519: write x25519 or x25519mlkem768 first in --groups, or leave \
             --crypto out",
        )),
        _ => Ok(None),
    }
}

/// Options of a request mean nothing without one.
fn talk_options(args: &Args) -> Result<(), UsageError> {
    if args.path.is_some() && !matches!(args.then, Then::Http | Then::Websocket) {
        return Err(UsageError::OptionMismatch(
            "--path is for a request: write --then http or --then websocket with it",
        ));
    }
    if args.messages.is_some() && args.then != Then::Websocket {
        return Err(UsageError::OptionMismatch("--messages are for a WebSocket: write --then websocket with it"));
    }
    if args.target.is_none() && matches!(args.then, Then::Hold | Then::Http | Then::Websocket) {
        return Err(UsageError::OptionMismatch(
            "the built-in engine only finishes handshakes: start a server (handfast serve) and write its HOST:PORT for \
             --then hold, http or websocket",
        ));
    }
    if args.then == Then::Hold && args.burst {
        return Err(UsageError::OptionMismatch("--burst and --then hold exclude each other: there is one round only"));
    }
    Ok(())
}

/// Early data needs a session, and a request to put into it.
fn early_data_options(args: &Args) -> Result<(), UsageError> {
    if args.early_data.is_none() {
        return Ok(());
    }
    if args.then != Then::Http || args.resume.is_none_or(|share| share == 0.0) || args.tls == TlsVersions::Tls12 {
        return Err(UsageError::OptionMismatch(
            "--early-data is for a request in a resumed session of TLS 1.3: write --resume and --then http with it",
        ));
    }
    let h2 = |list: &AlpnList| list.0.iter().any(|id| id == b"h2");
    if args.alpn.as_ref().is_some_and(|alpn| alpn.items().iter().any(h2)) {
        return Err(UsageError::OptionMismatch(
            "--early-data is for HTTP/1.1, as the request is written before the protocol is known: leave --alpn out, or \
             h2 out of it",
        ));
    }
    Ok(())
}

fn open_loop(args: &Args) -> Result<Option<Open>, UsageError> {
    let profile = match (args.rate, &args.stages) {
        (Some(rate), _) => Profile::steady(rate),
        (None, Some(stages)) => stages.clone(),
        (None, None) if args.arrivals.is_some() || args.max_lateness.is_some() => {
            return Err(UsageError::OptionMismatch(
                "--arrivals and --max-lateness are for an open loop: write --rate R or --stages LIST with them",
            ));
        }
        (None, None) => return Ok(None),
    };
    if args.count.is_some() && profile.last_rate() == 0.0 {
        return Err(UsageError::OptionMismatch(
            "--stages ends with a rate of 0, so --count might never be reached: end with another rate, or leave --count out",
        ));
    }
    let law = args.arrivals.unwrap_or_default();
    Ok(Some(Open { profile, law, max_lateness: args.max_lateness }))
}

/// How many connections there may be, and whether there is room for them.
fn connections(args: &Args, open: bool, embedded: bool) -> Result<u32, UsageError> {
    let Some(connections) = args.connections else {
        let default = if open { CONNECTIONS_DEFAULT_OPEN } else { CONNECTIONS_DEFAULT };
        return Ok(u32::try_from(room(embedded)).map_or(default, |room| default.min(room.max(1))));
    };
    let room = room(embedded);
    if u64::from(connections) > room {
        return Err(UsageError::TooManyConnections { connections, room });
    }
    Ok(connections)
}

fn sources(args: &Args, target: &Target) -> Result<Vec<IpAddr>, UsageError> {
    let Some(sources) = &args.source else {
        return Ok(if matches!(target, Target::Embedded { .. }) { source::own() } else { Vec::new() });
    };
    if let Some((address, source)) = sources.foreign() {
        return Err(UsageError::ForeignSource { address, source });
    }
    let to = match target {
        Target::Server(server) => server.ip(),
        Target::Embedded { .. } => Some(std::net::Ipv4Addr::LOCALHOST.into()),
    };
    if to.is_some_and(|to| sources.0.iter().any(|from| from.is_ipv4() != to.is_ipv4())) {
        return Err(UsageError::OptionMismatch(
            "--source and the target are not of the same kind: give IPv4 addresses for an IPv4 target, IPv6 ones for IPv6",
        ));
    }
    Ok(sources.0.clone())
}

fn default_alpn(then: Then, early_data: bool) -> AlpnList {
    let http1 = b"http/1.1".to_vec();
    AlpnList(if then == Then::Websocket || early_data { vec![http1] } else { vec![b"h2".to_vec(), http1] })
}

fn cores(allowed: &[usize]) -> u32 {
    let cores = match allowed.len() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        allowed => allowed,
    };
    u32::try_from(cores).unwrap_or(u32::MAX)
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
        None if args.server_pid.is_some() || args.server_cgroup.is_some() => Err(UsageError::OptionMismatch(
            "--server-pid and --server-cgroup are for a target of your own: the built-in engine's CPU is known anyway",
        )),
        None => {
            let client = args.shards.unwrap_or(1);
            let shards = args.server_shards.unwrap_or_else(|| cores.saturating_sub(client).max(1));
            Ok(Target::Embedded { shards })
        }
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

/// How many connections the limit of open files leaves room for, once it is raised to what the process may have.
fn room(embedded: bool) -> u64 {
    // Where the system does not tell the limit, the connections themselves will.
    let Ok(limit) = handfast::transport::tcp::raise_descriptor_limit() else { return u64::MAX };
    limit.saturating_sub(DESCRIPTORS_SPARE) / if embedded { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, UsageError> {
        Plan::new(Args::try_parse_from([&["handfast-load"], args].concat()).unwrap())
    }

    #[test]
    fn a_count_has_no_warm_up_and_a_short_run_a_short_timeout() {
        let counted = plan(&["a:1", "--count", "5"]).unwrap();
        assert_eq!((counted.warm_up, counted.timeout), (Duration::ZERO, TIMEOUT_DEFAULT));
        let timed = plan(&["a:1", "--duration", "2s"]).unwrap();
        assert_eq!((timed.warm_up, timed.timeout), (WARM_UP_DEFAULT, Duration::from_secs(2)));
        assert_eq!(plan(&["a:1", "--then", "hold"]).unwrap().warm_up, Duration::ZERO);
    }

    #[test]
    fn stages_are_the_length_of_the_run_and_a_rate_allows_more_connections() {
        let staged = plan(&["a:1", "--stages", "2s@100,3s@100..500"]).unwrap();
        assert_eq!((staged.extent, staged.warm_up), (Extent::Time(Duration::from_secs(5)), Duration::ZERO));
        let open = staged.open.unwrap();
        assert_eq!((open.profile.expected(), open.law), (1100.0, Law::Poisson));
        let rated = plan(&["a:1", "--rate", "500", "--arrivals", "constant", "--count", "5"]).unwrap();
        assert_eq!((rated.extent, rated.connections), (Extent::Handshakes(5), CONNECTIONS_DEFAULT_OPEN));
        assert_eq!(plan(&["a:1"]).unwrap().connections, CONNECTIONS_DEFAULT);
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        assert!(matches!(plan(&["a:1", "--server-shards", "2"]), Err(UsageError::OptionMismatch(_))));
        for lonely in [
            &["--server-pid", "1"][..],
            &["a:1", "--arrivals", "constant"],
            &["a:1", "--max-lateness", "5ms"],
            &["a:1", "--stages", "1s@5,1s@0", "--count", "9"],
            &["a:1", "--path", "/x"],
            &["a:1", "--then", "http", "--messages", "5"],
            &["[::1]:1", "--source", "127.0.0.1"],
            &["--source", "::1"],
            &["--then", "hold"],
            &["a:1", "--early-data", "--then", "http"],
            &["a:1", "--crypto", "batch", "--groups", "p256,x25519"],
            &["a:1", "--tricks", "none,fin-with-last"],
            &["a:1", "--tricks", "hello-at-once", "--burst"],
            &["a:1", "--early-data", "--resume"],
            &["a:1", "--early-data", "--resume", "--then", "http", "--alpn", "h2,http/1.1"],
            &["a:1", "--early-data", "--resume", "--then", "http", "--tls", "1.2"],
        ] {
            assert!(matches!(plan(lonely), Err(UsageError::OptionMismatch(_))), "{lonely:?}");
        }
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
    fn key_exchanges_are_computed_together_where_that_can_be() {
        let crypto = |args: &[&str]| plan(&[&["a:1"], args].concat()).unwrap().tls.crypto_text();
        assert_eq!(crypto(&["--crypto", "aws-lc"]), "aws-lc");
        assert_eq!(crypto(&["--groups", "p256,x25519"]), "aws-lc");
        let able = Crypto::Auto.resolve().unwrap().is_some();
        let together = if able { "batch" } else { "aws-lc" };
        assert_eq!([crypto(&[]), crypto(&["--groups", "x25519mlkem768,p256"])], [together; 2]);
    }

    #[test]
    fn only_the_built_in_engine_is_connected_to_from_addresses_that_nobody_gave() {
        let sources = |args: &[&str]| plan(args).unwrap().sources;
        assert_eq!(sources(&[]), source::own());
        assert_eq!(sources(&["--source", "127.0.0.1"]).len(), 1);
        assert!(sources(&["127.0.0.1:1"]).is_empty());
    }

    #[test]
    fn the_opening_line_says_what_is_measured() {
        let line = plan(&["example.com:443", "--resume"]).unwrap().describe("192.0.2.1:443".parse().unwrap());
        for part in ["example.com:443 (192.0.2.1)", "64 connections", "ALPN h2,http/1.1", "not verified", "resuming"] {
            assert!(line.contains(part), "{line}");
        }
        let args =
            ["a:1", "--rate", "250", "--alpn", "h2=3;none=1", "--then", "http", "--path", "/x", "--resume", "0.5"];
        let line = plan(&args).unwrap().describe("192.0.2.1:1".parse().unwrap());
        for part in ["250 handshakes due per second (Poisson", "h2 75%; none 25%", "then GET /x", "resuming 50%"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
