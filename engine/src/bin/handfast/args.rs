//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use handfast::config::parse_duration;
use handfast::crypto::Crypto;
use handfast::transport::tcp::Endpoint;

const EXAMPLES: &str = "\
Examples:
  handfast serve
      Serve h2 and http/1.1 on 127.0.0.1:8443 with a certificate made at start-up
  handfast serve --listen 0.0.0.0:443 --cert chain.pem --key key.pem
      Serve on all IPv4 addresses with a certificate of yours
  handfast serve --protocol h2=h2.pem:h2.key --protocol http/1.1=h1.pem:h1.key
      Give each ALPN protocol its own certificate
  handfast serve --listen '[::1]:8443' --listen unix:/run/handfast.sock --shards 4
      Listen on several endpoints with four shards
  handfast serve --config handfast.toml
      Serve what a file says; what is on the command line beats it
  handfast ticket-secret /etc/handfast/tickets && handfast serve --ticket-secret /etc/handfast/tickets
      Make a secret for session tickets, and resume the sessions of every host that has the same file
  handfast serve --close --tickets 2
      Only finish handshakes, for measuring them";

const CHECK_EXAMPLES: &str = "\
Examples:
  handfast check --config handfast.toml
      Say all that is wrong with a configuration and the files that it names, without listening
  handfast check --print-defaults > handfast.toml
      Begin a configuration with every key at its default";

/// A TLS handshake engine: ALPN picks the protocol, and with it the certificates, in the handshake's one round trip.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true, before_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Accept connections until SIGTERM or SIGINT, which drain and exit 0; a second one exits at once
    Serve(Box<ServeArgs>),
    /// Check a configuration and all files that it names, without listening. Exit status 1: something is wrong
    Check(CheckArgs),
    /// Make a secret for the session tickets of a fleet: into a new file that only its owner can read, or, without
    /// FILE, as a line on standard output
    TicketSecret(TicketSecretArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TicketSecretArgs {
    /// The file to make; one that exists is left alone
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(before_help = CHECK_EXAMPLES, group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct CheckArgs {
    /// The file to check
    #[arg(long, value_name = "FILE", group = "what")]
    pub(crate) config: Option<PathBuf>,

    /// Say it in JSON
    #[arg(long, requires = "config")]
    pub(crate) json: bool,

    /// Print a configuration with every key at its default
    #[arg(long, group = "what")]
    pub(crate) print_defaults: bool,

    /// Print the reference of all keys, as Markdown
    #[arg(long, group = "what")]
    pub(crate) print_reference: bool,
}

#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Serve what this file says (docs/CONFIGURATION.md). Each option here beats its key there
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Listen there; may be repeated. ADDR:PORT, [V6]:PORT (IPv6 only unless `,v6only=off` follows), :PORT (all
    /// addresses of both families) or unix:PATH [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<Endpoint>,

    /// Shards: threads with a listener each [default: one per core]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<usize>,

    /// Where workers run: `shared-core`, or a number of threads of their own [default: shared-core]
    #[arg(long, value_name = "PLACE")]
    pub(crate) workers: Option<Workers>,

    /// A certificate chain (PEM), with a --key for each; may be repeated for other names and algorithms. Without any,
    /// a self-signed one is made at start-up
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Vec<PathBuf>,

    /// The private key (PEM, not encrypted) of the --cert with the same place
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,

    /// A directory of certificates with their keys: NAME.pem or NAME.crt with NAME.key, or directories with fullchain.pem
    /// and privkey.pem. They come after each --cert
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,

    /// Compress certificates with brotli for clients that can decompress them [default: off]
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub(crate) compress_certs: Option<Switch>,

    /// Serve this protocol: `h2`, `http/1.1` (which echoes to WebSockets), `echo`, or `close`; with `=CERT:KEY` it
    /// has a certificate of its own. Repeat for more, the most preferred first [default: h2 and http/1.1]
    #[arg(long, value_name = "ID[=CERT:KEY]")]
    pub(crate) protocol: Vec<ProtocolArg>,

    /// The protocol for clients without ALPN, or `refuse` [default: http/1.1 if served, else refuse]
    #[arg(long, value_name = "ID")]
    pub(crate) without_alpn: Option<String>,

    /// The protocol for clients whose ALPN offer holds none of ours [default: they are refused]
    #[arg(long, value_name = "ID")]
    pub(crate) fallback: Option<String>,

    /// Whose order of preference decides among the protocols that both have [default: server]
    #[arg(long, value_enum)]
    pub(crate) prefer: Option<Prefer>,

    /// The TLS versions to speak [default: any]
    #[arg(long, value_enum)]
    pub(crate) tls: Option<Tls>,

    /// Compute the key exchanges of a turn together, eight for the price of two: `batch` where the CPU has AVX-512 IFMA,
    /// else it does not start; `auto` if the CPU has it; `aws-lc` never [default: aws-lc]
    #[arg(long, value_enum)]
    pub(crate) crypto: Option<CryptoArg>,

    /// Draw the nonces of ECDSA signatures ahead in each turn: faster, but a copy of a running machine's memory
    /// (snapshot, rollback, clone) that is taken at the wrong moment and run can give the key away [default: on with
    /// `--crypto batch`, else off]
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub(crate) presign: Option<Switch>,

    /// Hold a ClientHello back for others for so long, such as 200us, while fewer than eight are there to be computed
    /// together: less CPU on a server that is not full, and longer handshakes there [default: 0s, not at all]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) batch_wait: Option<Duration>,

    /// Session tickets after each TLS 1.3 handshake; 0 turns resumption off [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) tickets: Option<usize>,

    /// Seal session tickets with the secrets in this file, one per line, the first for new tickets and all for those
    /// that come: hosts with the same file resume each other's sessions. `handfast ticket-secret FILE` makes one
    #[arg(long, value_name = "FILE")]
    pub(crate) ticket_secret: Option<PathBuf>,

    /// How long clients may keep a session ticket, such as 6h or 30m; hosts with the same secrets must agree on it
    /// [default: 6h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) ticket_lifetime: Option<Duration>,

    /// Give sessions of TLS 1.2 tickets in spite of --ticket-secret: who gets hold of the secret can then decrypt
    /// recorded ones
    #[arg(long, requires = "ticket_secret")]
    pub(crate) tls12_tickets: bool,

    /// Accept so many bytes of early data (0-RTT) of resumed sessions, which then resume in this process only. A request
    /// in it may be a replay [default: none]
    #[arg(long, value_name = "BYTES")]
    pub(crate) early_data: Option<u32>,

    /// Close each connection after its handshake, whatever its protocol: for measuring handshakes
    #[arg(long)]
    pub(crate) close: bool,

    /// Connections that the kernel holds before they are accepted [default: 4096]
    #[arg(long, value_name = "N")]
    pub(crate) backlog: Option<u32>,

    /// Accept at once: without this Linux reports a connection only with its first byte (`TCP_DEFER_ACCEPT`), which
    /// hides those that send nothing and fails health checks that only connect
    #[arg(long)]
    pub(crate) no_defer_accept: bool,

    /// From accept to the end of the handshake, such as 10s or 500ms [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) handshake_timeout: Option<Duration>,

    /// How long connections may take to end after SIGTERM [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) drain_timeout: Option<Duration>,

    /// Let the scheduler move shards between cores
    #[arg(long, conflicts_with = "cores")]
    pub(crate) no_pin: bool,

    /// Pin shards to these cores, in order
    #[arg(long, value_name = "CORE,..", value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,

    /// Print the counters when the server ends
    #[arg(long)]
    pub(crate) stats: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    SharedCore,
    Threads(usize),
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) | Err(_) if text != "shared-core" => {
                Err("write `shared-core`, or how many worker threads, such as 2".to_owned())
            }
            Ok(n) => Ok(Self::Threads(n)),
            Err(_) => Ok(Self::SharedCore),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prefer {
    Server,
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CryptoArg {
    AwsLc,
    Batch,
    Auto,
}

impl From<CryptoArg> for Crypto {
    fn from(arg: CryptoArg) -> Self {
        match arg {
            CryptoArg::AwsLc => Self::AwsLc,
            CryptoArg::Batch => Self::Batch,
            CryptoArg::Auto => Self::Auto,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
    Any,
}

/// A protocol's ID, and where its own certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolArg {
    pub(crate) id: String,
    pub(crate) files: Option<(PathBuf, PathBuf)>,
}

impl FromStr for ProtocolArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((id, files)) = text.split_once('=') else {
            return Ok(Self { id: text.to_owned(), files: None });
        };
        match files.split_once(':') {
            Some((cert, key)) if !cert.is_empty() && !key.is_empty() => {
                Ok(Self { id: id.to_owned(), files: Some((cert.into(), key.into())) })
            }
            _ => Err("after `=` name the certificate and the key, as in h2=chain.pem:key.pem".to_owned()),
        }
    }
}

/// Reads `10s`, `500ms`, `2m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number and a unit, such as 10s, 500ms or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_with_their_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for bad in ["", "10", "s", "-1s", "10 parsecs", "1e400s"] {
            assert!(duration(bad).unwrap_err().contains("10s"), "{bad}");
        }
    }

    #[test]
    fn a_protocol_may_bring_its_certificate() {
        assert_eq!("h2".parse(), Ok(ProtocolArg { id: "h2".into(), files: None }));
        let files = Some(("c.pem".into(), "k.pem".into()));
        assert_eq!("http/1.1=c.pem:k.pem".parse(), Ok(ProtocolArg { id: "http/1.1".into(), files }));
        assert!("h2=c.pem".parse::<ProtocolArg>().unwrap_err().contains("chain.pem:key.pem"));
    }

    #[test]
    fn workers_are_a_place_or_a_number() {
        assert_eq!("shared-core".parse(), Ok(Workers::SharedCore));
        assert_eq!("3".parse(), Ok(Workers::Threads(3)));
        assert!("0".parse::<Workers>().is_err());
        assert!("many".parse::<Workers>().is_err());
    }

    #[test]
    fn the_docs_say_which_key_each_option_beats() {
        use clap::CommandFactory;
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        let table = docs.split("## The command line").nth(1).and_then(|rest| rest.split("## ").next()).unwrap();
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let options = serve.get_arguments().filter_map(clap::Arg::get_long);
        // What is no part of a configuration.
        for option in options.filter(|option| !["config", "stats", "help"].contains(option)) {
            assert!(
                table.contains(&format!("`--{option}`")),
                "docs/CONFIGURATION.md does not say what --{option} beats"
            );
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
