//! Server CPU per handshake: Handfast against a plain tokio-rustls acceptor, in interleaved rounds.
//!
//! `cargo run --release -p handfast-bench --bin versus_tokio_rustls`

use std::process::ExitCode;

use clap::Parser;
use handfast_bench::figures::Spread;
use handfast_bench::servers::{Certificate, RunError, Server, build, load};

/// Server CPU per handshake: Handfast against a plain tokio-rustls acceptor
///
/// Servers on core 0, the client on core 1; each round measures both, the first of them changing from round to round.
/// In a closed loop a resumed handshake costs the client more than the server, which then idles between its events;
/// `burst` starts all connections of a round together, and so keeps the server's turns full whatever the client costs.
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
    /// Print each measurement
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("versus_tokio_rustls: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), RunError> {
    let bin = build()?;
    let certificate = Certificate::make()?;
    let (cert, key) = (certificate.cert(), certificate.key());
    let files = ["--cert", &cert.to_string_lossy(), "--key", &key.to_string_lossy()].map(str::to_owned);
    let files = files.each_ref().map(String::as_str);
    // As in a fleet, whose tickets are those that must not cost more.
    let secret = certificate.ticket_secret(&bin)?;
    let ours = [
        &["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--cores", "0"][..],
        &["--close", "--tickets", "2", "--ticket-secret", &secret.to_string_lossy()],
        &files,
    ];
    let ours = Server::start(&bin.join("handfast"), &ours.concat())?;
    let theirs = [&["--core", "0", "--tickets", "2"][..], &files].concat();
    let theirs = Server::start(&bin.join("peer_tokio_rustls"), &theirs)?;

    println!("server CPU per handshake in us, min / median / max of {} rounds of {} s each", args.rounds, args.seconds);
    println!("TLS 1.3, X25519, ECDSA P-256, 2 tickets, {} connections\n", args.connections);
    println!("{:<16} {:>24} {:>24} {:>24}", "", "handfast", "tokio-rustls", "ratio");
    compare(args, &bin, [&ours, &theirs], "full", &[])?;
    compare(args, &bin, [&ours, &theirs], "resumed", &["--resume"])?;
    compare(args, &bin, [&ours, &theirs], "full, burst", &["--burst"])?;
    compare(args, &bin, [&ours, &theirs], "resumed, burst", &["--burst", "--resume"])?;
    Ok(())
}

fn compare(
    args: &Args,
    bin: &std::path::Path,
    servers: [&Server; 2],
    what: &str,
    extra: &[&str],
) -> Result<(), RunError> {
    let (duration, connections) = (format!("{}s", args.seconds), args.connections.to_string());
    let base = ["--tls", "1.3", "--groups", "x25519", "--shards", "1", "--pin-client", "1"];
    let times = ["--duration", &duration, "--warm-up", "500ms", "--connections", &connections];
    let load_args = [&base[..], &times[..], extra].concat();
    let mut cpu = [Vec::new(), Vec::new()];
    for round in 0..args.rounds {
        for i in [round % 2, (round + 1) % 2] {
            let report = load(bin, servers[i], &load_args)?;
            let us = report["server_cpu_us_per_handshake"].as_f64();
            let us =
                us.ok_or_else(|| RunError::Failed("handfast-load".into(), format!("no server CPU in {report}")))?;
            if args.verbose {
                eprintln!(
                    "{what} round {round} server {i}: {us:.1} us, {} handshakes/s",
                    report["handshakes_per_second"]
                );
            }
            cpu[i].push(us);
        }
    }
    let ratios: Vec<f64> = cpu[0].iter().zip(&cpu[1]).map(|(a, b)| a / b).collect();
    if let (Some(a), Some(b), Some(ratio)) = (Spread::of(&cpu[0]), Spread::of(&cpu[1]), Spread::of(&ratios)) {
        println!("{what:<16} {:>24} {:>24} {:>24}", format!("{a:.1}"), format!("{b:.1}"), format!("{ratio:.3}"));
    }
    Ok(())
}
