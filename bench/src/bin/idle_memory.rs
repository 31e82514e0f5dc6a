//! Resident memory of a server per idle negotiated connection: Handfast against a plain tokio-rustls acceptor.
//!
//! `cargo run --release -p handfast-bench --bin idle_memory`

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use handfast::client::{Client, Roots};
use handfast::handshake::TlsVersions;
use handfast_bench::figures::Spread;
use handfast_bench::servers::{Certificate, RunError, Server, build};

/// Resident memory of a server per idle negotiated TLS 1.3 connection
///
/// Each round starts both servers anew, opens connections one after the other, and compares their resident memory
/// before and with all of them open. Handfast's connections are with a worker of a raw protocol.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Idle connections
    #[arg(long, default_value_t = 5000)]
    connections: usize,
}

fn main() -> ExitCode {
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), RunError> {
    if let Err(e) = handfast::transport::tcp::raise_descriptor_limit() {
        eprintln!("idle_memory: the limit on open files stays: {e}");
    }
    let bin = build()?;
    let certificate = Certificate::make()?;
    let (cert, key) = (certificate.cert(), certificate.key());
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let ours =
        ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--protocol", "echo", "--cert", &cert, "--key", &key];
    let theirs = ["--cert", &*cert, "--key", &*key, "--alpn", "echo"];
    let mut kib = [Vec::new(), Vec::new()];
    for _ in 0..args.rounds {
        kib[0].push(measure(&bin.join("handfast"), &ours, args.connections)?);
        kib[1].push(measure(&bin.join("peer_tokio_rustls"), &theirs, args.connections)?);
    }
    println!(
        "resident KiB per idle TLS 1.3 connection, {} of them, min / median / max of {} rounds",
        args.connections, args.rounds
    );
    for (name, values) in ["handfast", "tokio-rustls"].iter().zip(&kib) {
        if let Some(spread) = Spread::of(values) {
            println!("{name:<16} {:>24}", format!("{spread:.2}"));
        }
    }
    let ratios: Vec<f64> = kib[0].iter().zip(&kib[1]).map(|(a, b)| a / b).collect();
    if let Some(spread) = Spread::of(&ratios) {
        println!("{:<16} {:>24}", "ratio", format!("{spread:.3}"));
    }
    Ok(())
}

fn measure(program: &Path, args: &[&str], connections: usize) -> Result<f64, RunError> {
    let failed = |what: String| RunError::Failed(program.to_owned(), what);
    let server = Server::start(program, args)?;
    let client = Client::builder()
        .alpn(["echo"])
        .roots(Roots::insecure_none())
        .versions(TlsVersions::Tls13)
        .resumption(false)
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let connect = || client.connect_to(server.addr, "localhost").map_err(|e| failed(e.to_string()));
    // What the first handshakes set up is not a connection's.
    let warm = (0..100).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let before = server.resident_kib()?;
    let held = (0..connections).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let after = server.resident_kib()?;
    drop((held, warm));
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    Ok((after - before) / connections as f64)
}
