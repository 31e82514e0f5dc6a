//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::duration;

const EXAMPLES: &str = "\
Examples:
  handfast-load
      Measures the built-in engine for about ten seconds.
  handfast-load localhost:8443 --connections 256
      Keeps 256 handshakes under way against any TLS server.
  handfast-load example.com:443 --verify --tls 1.3 --count 100
      100 handshakes with certificates verified.
  handfast-load [::1]:8443 --alpn h2 --resume --server-pid 4711
      Resumed sessions, and the server's CPU per handshake.
  handfast-load localhost:8443 --duration 500ms --json | jq .handshakes_per_second
      For scripts: one JSON object on stdout.";

const AFTER: &str = "\
Exit status: 0 done; 1 the measured thing failed (no handshake succeeded, or the target was lost); 2 wrong usage.
Without --verify or --ca no certificate and no server signature is checked: this tool measures, and its output \
says so.";

/// Measures how many TLS handshakes a server can take.
#[derive(Clone, Debug, Parser)]
#[command(name = "handfast-load", version, before_help = EXAMPLES, after_help = AFTER, max_term_width = 110)]
#[non_exhaustive]
pub struct Args {
    /// The server to measure, as HOST:PORT (IPv6: `[::1]:443`); the built-in engine when there is none
    #[arg(value_name = "HOST:PORT")]
    pub target: Option<String>,

    /// Handshakes under way at a time; each starts again as soon as it has ended
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Client threads, each pinned to a core of its own [default: 1 with the built-in engine, else one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub shards: Option<u32>,

    /// How long to measure
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_nonzero)]
    pub duration: Duration,

    /// Time before it that is not counted [default: 1s; none with --count]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub warm_up: Option<Duration>,

    /// Make this many handshakes instead of measuring for a time
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["duration", "warm_up"], value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Time allowed for one handshake, from its TCP connect on [default: 10s, or --duration if that is shorter]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_nonzero)]
    pub timeout: Option<Duration>,

    /// End when no handshake has succeeded for this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_nonzero)]
    pub give_up: Duration,

    /// TLS versions to offer
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = TlsVersions::Any)]
    pub tls: TlsVersions,

    /// ALPN protocol IDs to offer, the preferred one first; `none` for no ALPN
    #[arg(long, value_name = "LIST", default_value = "h2,http/1.1")]
    pub alpn: AlpnList,

    /// Name to ask for [default: the target's host; localhost for an address and for the built-in engine]
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,

    /// Key exchange groups to offer, the preferred one first; only this one gets a key share
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "x25519,p256")]
    pub groups: Vec<Group>,

    /// Resume sessions: each of the connections goes on with the tickets of its predecessor
    #[arg(long)]
    pub resume: bool,

    /// Work in rounds: all connect, then all ClientHellos go out in one sweep, then all finish. The server always
    /// finds many ClientHellos at once, so that one client core keeps it full; the rate between rounds is lower
    #[arg(long)]
    pub burst: bool,

    /// Verify certificates against the public roots
    #[arg(long)]
    pub verify: bool,

    /// Verify certificates against the CAs in this PEM file
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Process ID of the server on this machine (its child processes count too): gives its CPU per handshake
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

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
    /// ML-KEM-768 with X25519.
    #[value(name = "x25519mlkem768")]
    X25519Mlkem768,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_opens_with_five_examples() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        let head = help.split("Usage:").next().unwrap();
        assert!(help.starts_with("Examples:"));
        assert_eq!(head.matches("  handfast-load").count(), 5);
    }

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
        assert_eq!(parse(&["--groups", "x25519mlkem768,p256"]).unwrap().groups, [Group::X25519Mlkem768, Group::P256]);
    }
}
