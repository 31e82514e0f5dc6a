//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use handfast::crypto::Crypto;
use rustls::{CipherSuite, SignatureScheme};

use crate::arrivals::{self, Law, Profile};
use crate::source::Sources;
use crate::tricks::Trick;
use crate::weighted::{self, Weighted};
use crate::{client, duration};

/// What to load, and how: the options that every measuring subcommand has.
#[derive(Clone, Debug, Parser)]
#[command(name = "handfast-load")]
#[non_exhaustive]
pub struct Args {
    /// The server to measure, as HOST:PORT (IPv6: `[::1]:443`); the built-in engine when there is none
    #[arg(value_name = "HOST:PORT")]
    pub target: Option<String>,

    /// Handshakes under way at a time; each starts again as soon as it has ended. With --rate or --stages the most that
    /// may be under way: what is due beyond that waits, and its latency counts that wait [default: 64; 1024 with --rate
    /// or --stages]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: Option<u32>,

    /// Start this many handshakes per second, whatever the server does (an open loop). The latency of each counts from
    /// when it was due, so that a server that stalls cannot hide it
    #[arg(short, long, value_name = "R", value_parser = arrivals::parse_rate_nonzero, conflicts_with_all = ["stages", "burst"])]
    pub rate: Option<f64>,

    /// Rates one after another, each TIME@RATE (a step) or TIME@FROM..TO (a ramp, a straight line): 30s@100,1m@100..500.
    /// They are the duration of the run; with --count the last rate stays
    #[arg(long, value_name = "LIST", conflicts_with_all = ["duration", "burst"])]
    pub stages: Option<Profile>,

    /// How handshakes follow one another with --rate or --stages [default: poisson]
    #[arg(long, value_enum, value_name = "LAW")]
    pub arrivals: Option<Law>,

    /// What the random choices follow from: the same seed gives the same arrivals and mixes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// How late this generator may start what is due, at its 99th percentile, before the run counts as invalid
    /// [default: 1ms, or a tenth of the latency's 99th percentile if that is more]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub max_lateness: Option<Duration>,

    /// Client threads, each pinned to a core of its own [default: 1 with the built-in engine, else one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub shards: Option<u32>,

    /// How long to measure
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_nonzero)]
    pub duration: Duration,

    /// Time before it that is not counted [default: 1s; none with --count, --stages or --then hold]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub warm_up: Option<Duration>,

    /// Make this many handshakes instead of measuring for a time; with --rate or --stages at their pace
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["duration", "warm_up"], value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Time allowed for one handshake, with its request, from its TCP connect on [default: 10s, or --duration if that is shorter]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_nonzero)]
    pub timeout: Option<Duration>,

    /// End when no handshake has succeeded for this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_nonzero)]
    pub give_up: Duration,

    /// TLS versions to offer
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = TlsVersions::Any)]
    pub tls: TlsVersions,

    /// Cipher suites to offer, the preferred one first, by their IANA names [default: all, AES-128-GCM first]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = suite)]
    pub suites: Vec<CipherSuite>,

    /// Signature schemes to offer, the preferred one first, by their IANA names [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = scheme)]
    pub signatures: Vec<SignatureScheme>,

    /// ALPN protocol IDs to offer, the preferred one first; `none` for no ALPN. Several lists may be mixed by weight:
    /// 'h2,http/1.1=70;http/1.1=30' [default: h2,http/1.1; http/1.1 with --then websocket
    /// or --early-data]
    #[arg(long, value_name = "LIST", value_parser = alpn_mix)]
    pub alpn: Option<Weighted<AlpnList>>,

    /// Name to ask for; several may be mixed by weight: 'a.example=70;b.example=30', or be read with @FILE, one a line
    /// with its weight behind it [default: the target's host; localhost for an address and for the built-in engine]
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,

    /// Key exchange groups to offer, the preferred one first; only this one gets a key share
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "x25519,p256")]
    pub groups: Vec<Group>,

    /// Make key shares ahead and compute key exchanges of several connections together, which costs less CPU: `batch`
    /// where the CPU has AVX-512 IFMA, else nothing starts; `auto` if the CPU has it; `aws-lc` never. It is for X25519 and
    /// the half of X25519MLKEM768 that is X25519, where one of them is the first of --groups
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto")]
    pub crypto: CryptoChoice,

    /// Resume sessions with the tickets of earlier connections: all that can be, or this share of all (0.8)
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "1", value_parser = share)]
    pub resume: Option<f64>,

    /// Send the request of --then http as early data (0-RTT), all that can be or this share: in sessions that are resumed
    /// (--resume) and whose ticket allows it. HTTP/1.1 only, and against servers that may see a request twice
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "1", value_parser = share)]
    pub early_data: Option<f64>,

    /// What follows the handshake
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Then::Close)]
    pub then: Then,

    /// Path of the request, or of the WebSocket [default: /]
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub path: Option<String>,

    /// Messages that each WebSocket echoes [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub messages: Option<u32>,

    /// Work in rounds: all connect, then all ClientHellos go out in one sweep, then all finish. The server always
    /// finds many ClientHellos at once, so that one client core keeps it full; the rate between rounds is lower
    #[arg(long)]
    pub burst: bool,

    /// Packets and system calls that this client spares itself, and with them the server; `none` for the packets of a
    /// plain client [default: all of them]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub tricks: Option<Vec<Trick>>,

    /// Verify certificates against the public roots
    #[arg(long)]
    pub verify: bool,

    /// Verify certificates against the CAs in this PEM file
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Certificate (chain) to show to a server that asks for one, as a PEM file
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,

    /// Its private key, as a PEM file
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,

    /// Addresses of this machine to connect from, in turn, so that local ports do not run out: 127.0.0.0/24, or a list of
    /// addresses and networks [default: 127.0.0.0/28 with the built-in engine, else what the system chooses]
    #[arg(long, value_name = "LIST")]
    pub source: Option<Sources>,

    /// Process ID of the server on this machine (its child processes count too): gives its CPU per handshake
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// Control group (v2) of the server on this machine, as /sys/fs/cgroup/system.slice/nginx.service: the same as
    /// --server-pid for a whole unit
    #[arg(long, value_name = "DIR", conflicts_with = "server_pid")]
    pub server_cgroup: Option<PathBuf>,

    /// Shards of the built-in engine [default: one per core that the client leaves]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub server_shards: Option<u32>,

    /// Pin the first client thread to this CPU, the next ones to those after it
    #[arg(long, value_name = "CPU")]
    pub pin_client: Option<usize>,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,

    /// No progress, only the result
    #[arg(short, long)]
    pub quiet: bool,
}

/// TLS versions to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum TlsVersions {
    /// TLS 1.2 alone.
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3 alone.
    #[value(name = "1.3")]
    Tls13,
    /// Both.
    #[value(name = "any")]
    Any,
}

/// Whether key exchanges are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum CryptoChoice {
    /// Never.
    AwsLc,
    /// Always.
    Batch,
    /// Where the CPU can.
    Auto,
}

impl From<CryptoChoice> for Crypto {
    fn from(choice: CryptoChoice) -> Self {
        match choice {
            CryptoChoice::AwsLc => Self::AwsLc,
            CryptoChoice::Batch => Self::Batch,
            CryptoChoice::Auto => Self::Auto,
        }
    }
}

/// Key exchange groups that can be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Group {
    /// X25519.
    #[value(name = "x25519")]
    X25519,
    /// NIST P-256, also called secp256r1.
    #[value(name = "p256", alias = "secp256r1")]
    P256,
    /// NIST P-384, also called secp384r1.
    #[value(name = "p384", alias = "secp384r1")]
    P384,
    /// ML-KEM-768 with X25519.
    #[value(name = "x25519mlkem768")]
    X25519Mlkem768,
}

/// What follows a complete handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Then {
    /// close_notify and FIN, and the server's FIN is waited for.
    #[default]
    Close,
    /// RST, once the server has said something (a ticket) and so has our Finished, or after 50 ms.
    Reset,
    /// Nothing: each connection stays open to the end, and its slot makes no other.
    Hold,
    /// One request in the negotiated protocol, h2 or else HTTP/1.1, to the first byte of the response.
    Http,
    /// A WebSocket over HTTP/1.1, and messages that the server echoes.
    Websocket,
}

/// ALPN protocol IDs in the order of preference; empty for no ALPN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlpnList(pub Vec<Vec<u8>>);

impl FromStr for AlpnList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write for example h2,http/1.1 or none";
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        let mut ids: Vec<Vec<u8>> = Vec::new();
        for id in text.split(',').map(str::trim) {
            // RFC 7301 section 3.1: an identifier has 1 to 255 bytes.
            if id.is_empty() || id.len() > 255 {
                return Err(format!("a protocol ID has 1 to 255 bytes; {EXAMPLE}"));
            }
            if id == "none" {
                return Err(format!("`none` stands alone; {EXAMPLE}"));
            }
            if ids.iter().any(|i| i == id.as_bytes()) {
                return Err(format!("`{id}` is there twice; {EXAMPLE}"));
            }
            ids.push(id.as_bytes().to_vec());
        }
        if ids.iter().map(|i| i.len() + 1).sum::<usize>() > 16_000 {
            return Err(format!("the list is too long for a ClientHello; {EXAMPLE}"));
        }
        Ok(Self(ids))
    }
}

fn alpn_mix(text: &str) -> Result<Weighted<AlpnList>, String> {
    weighted::parse(text, AlpnList::from_str)
        .map_err(|e| format!("{e}; several lists are mixed as in 'h2,http/1.1=70;http/1.1=30'"))
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it must be from 0 to 1; write for example --resume 0.8, and the target before --resume".to_owned()),
    }
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("it must begin with / and have no spaces; write for example --path /health".to_owned())
}

/// Finds `name` among what there is, by what `say` calls each.
fn one_of<T: Copy>(name: &str, all: &[T], say: impl Fn(T) -> String) -> Result<T, String> {
    let wanted = all.iter().copied().find(|one| say(*one).eq_ignore_ascii_case(name.trim()));
    wanted.ok_or_else(|| format!("there are {}", all.iter().map(|one| say(*one)).collect::<Vec<_>>().join(", ")))
}

fn suite(name: &str) -> Result<CipherSuite, String> {
    one_of(name, &client::suites(), crate::report::suite_name)
}

fn scheme(name: &str) -> Result<SignatureScheme, String> {
    one_of(name, &client::schemes(), crate::report::scheme_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpn_lists_are_read() {
        let list = |text: &str| text.parse::<AlpnList>();
        assert_eq!(list("h2,http/1.1").unwrap().0, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(list("h2").unwrap().0, [b"h2".to_vec()]);
        assert_eq!(list("none").unwrap().0, [] as [Vec<u8>; 0]);
        for bad in ["", "h2,", ",h2", "h2,h2", "h2,none", &"x".repeat(256)] {
            assert!(list(bad).unwrap_err().contains("h2,http/1.1 or none"), "{bad}");
        }
    }

    #[test]
    fn count_and_duration_exclude_each_other() {
        let parse = |args: &[&str]| Args::try_parse_from([&["handfast-load"], args].concat());
        assert!(parse(&["a:1", "--count", "5"]).is_ok());
        assert!(parse(&["a:1", "--count", "5", "--duration", "1s"]).is_err());
        assert!(parse(&["--duration", "ten"]).unwrap_err().to_string().contains("10s, 500ms or 2m"));
        assert!(parse(&["a:1", "--rate", "100", "--count", "5"]).is_ok());
        assert!(parse(&["a:1", "--stages", "1s@100", "--duration", "5s"]).is_err());
        assert!(parse(&["a:1", "--stages", "1s@100", "--rate", "5"]).is_err());
        assert_eq!(parse(&["--groups", "x25519mlkem768,p256"]).unwrap().groups, [Group::X25519Mlkem768, Group::P256]);
    }

    #[test]
    fn the_shape_of_tls_is_read() {
        let parse = |args: &[&str]| Args::try_parse_from([&["handfast-load", "a:1"], args].concat());
        let mix = parse(&["--alpn", "h2,http/1.1=70;none=30"]).unwrap().alpn.unwrap();
        assert_eq!(mix.items(), ["h2,http/1.1".parse().unwrap(), AlpnList::default()]);
        assert_eq!(parse(&["--resume"]).unwrap().resume, Some(1.0));
        assert_eq!(parse(&["--resume", "0.8"]).unwrap().resume, Some(0.8));
        let args = parse(&["--suites", "TLS_CHACHA20_POLY1305_SHA256,tls_aes_256_gcm_sha384"]).unwrap();
        assert_eq!(args.suites, [CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384]);
        let args = parse(&["--signatures", "ecdsa_secp256r1_sha256,rsa_pss_rsae_sha256"]).unwrap();
        assert_eq!(args.signatures, [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]);
        for (bad, says) in [
            (["--alpn", "h2;;"], "70;http/1.1=30"),
            (["--suites", "RC4"], "TLS_AES_128_GCM_SHA256"),
            (["--signatures", "md5"], "ecdsa_secp256r1_sha256"),
            (["--resume", "1.5"], "0.8"),
            (["--path", "x"], "/health"),
            (["--client-cert", "x.pem"], "--client-key"),
        ] {
            let error = parse(&bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }
}
