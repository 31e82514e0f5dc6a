//! Server CPU per handshake: Handfast against a plain tokio-rustls acceptor, and nginx, in interleaved rounds.
//!
//! `cargo run --release -p handfast-bench --bin versus_tokio_rustls -- --crypto batch --nginx`

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use handfast_bench::figures::Spread;
use handfast_bench::servers::{Certificate, RunError, Server, build, load};

/// Server CPU per handshake: Handfast against a plain tokio-rustls acceptor
///
/// Servers on core 0, the client on core 1; each round measures all, the first of them changing from round to round.
/// In a closed loop a server that is quicker than the client idles between its events, and turns are less full; `burst`
/// starts all connections of a round together, and so keeps the server's turns full whatever the client costs.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections at a time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// What our server computes with: `aws-lc` or `batch`
    #[arg(long, default_value = "aws-lc")]
    crypto: String,
    /// Whether it presigns: `on` or `off` [default: on with `--crypto batch`]
    #[arg(long, value_name = "SWITCH")]
    presign: Option<String>,
    /// What the client computes with, for all servers: with `batch`, which is `auto` where the CPU can, it keeps them
    /// fuller
    #[arg(long, default_value = "auto")]
    client_crypto: String,
    /// Measure nginx as well, which has to be installed
    #[arg(long)]
    nginx: bool,
    /// Only this: `full`, `resumed`, `full, burst` or `resumed, burst`; may be repeated
    #[arg(long, value_name = "WHAT")]
    only: Vec<String>,
    /// Print each measurement
    #[arg(long)]
    verbose: bool,
}

const WHAT: [(&str, &[&str]); 4] = [
    ("full", &[]),
    ("resumed", &["--resume"]),
    ("full, burst", &["--burst"]),
    ("resumed, burst", &["--burst", "--resume"]),
];

fn main() -> ExitCode {
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), RunError> {
    let bin = build()?;
    let certificate = Certificate::make()?;
    let files = certificate.options();
    let files = files.each_ref().map(String::as_str);
    // As in a fleet, whose tickets are those that must not cost more.
    let secret = certificate.ticket_secret(&bin)?;
    let presign = args.presign.iter().flat_map(|switch| ["--presign", switch]);
    let cryptography: Vec<&str> = ["--crypto", &args.crypto].into_iter().chain(presign).collect();
    let ours = [
        &["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--cores", "0"][..],
        &["--close", "--tickets", "2", "--ticket-secret", &secret.to_string_lossy()],
        &cryptography,
        &files,
    ];
    let theirs = [&["--core", "0", "--tickets", "2"][..], &files].concat();
    let mut servers = vec![
        ("handfast", Server::start(&bin.join("handfast"), &ours.concat())?),
        ("tokio-rustls", Server::start(&bin.join("peer_tokio_rustls"), &theirs)?),
    ];
    if args.nginx {
        servers.push(("nginx", Server::nginx(&certificate)?));
    }

    println!("server CPU per handshake in us, min / median / max of {} rounds of {} s each", args.rounds, args.seconds);
    println!("TLS 1.3, X25519, ECDSA P-256, 2 tickets, {} connections", args.connections);
    println!("handfast with {}, the client with --crypto {}\n", cryptography.join(" "), args.client_crypto);
    println!("{:<16} {:<14} {:>24} {:>24} {:>24}", "", "", "us", "handfast / it", "it / handfast");
    for (what, extra) in WHAT {
        if args.only.is_empty() || args.only.iter().any(|only| only == what) {
            compare(args, &bin, &servers, what, extra)?;
        }
    }
    Ok(())
}

fn compare(args: &Args, bin: &Path, servers: &[(&str, Server)], what: &str, extra: &[&str]) -> Result<(), RunError> {
    let (duration, connections) = (format!("{}s", args.seconds), args.connections.to_string());
    let base = ["--tls", "1.3", "--groups", "x25519", "--shards", "1", "--pin-client", "1"];
    let times = ["--duration", &duration, "--warm-up", "500ms", "--connections", &connections];
    let load_args = [&base[..], &times[..], &["--crypto", &args.client_crypto], extra].concat();
    let mut cpu = vec![Vec::new(); servers.len()];
    for round in 0..args.rounds {
        for i in (0..servers.len()).map(|i| (i + round) % servers.len()) {
            let report = load(bin, &servers[i].1, &load_args)?;
            let us = report["server_cpu_us_per_handshake"].as_f64();
            let us =
                us.ok_or_else(|| RunError::Failed("handfast-load".into(), format!("no server CPU in {report}")))?;
            if args.verbose {
                let (name, rate) = (servers[i].0, &report["handshakes_per_second"]);
                eprintln!("{what} round {round} {name}: {us:.1} us, {rate} handshakes/s");
            }
            cpu[i].push(us);
        }
    }
    for ((name, _), theirs) in servers.iter().zip(&cpu) {
        let ratios = |a: &[f64], b: &[f64]| Spread::of(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>());
        let all = (Spread::of(theirs), ratios(&cpu[0], theirs), ratios(theirs, &cpu[0]));
        if let (Some(us), Some(ratio), Some(times)) = all {
            let (us, ratio, times) = (format!("{us:.1}"), format!("{ratio:.3}"), format!("{times:.2}"));
            println!("{what:<16} {name:<14} {us:>24} {ratio:>24} {times:>24}");
        }
    }
    Ok(())
}
