//! What a handshake costs the load generator, beside what it costs the server and another client.
//!
//! `cargo run --release -p handfast-bench --bin client_cpu`, and with `-- --shards 2` what client threads of one process
//! cost one another.

mod shards;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use handfast_bench::figures::Spread;
use handfast_bench::servers::{Certificate, RunError, Server, build, load, pin_to};
use handfast_load::cpu::ServerCpu;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Client CPU per full TLS 1.3 handshake: `handfast-load` against `openssl s_time -new`, and against the server
///
/// The server is a plain tokio-rustls acceptor on core 0, which answers one client after the other. The clients run on
/// core 1, one after the other in each round, and take turns in going first. X25519, ECDSA P-256, 2 tickets; nobody
/// verifies the certificate.
///
/// With --shards N instead: `handfast-load` with N client threads, each on a core of its own, against N processes of it
/// with one thread each on the same cores, in open loops of the same rate for each thread. What differs is what threads
/// of one process share. And against one thread alone, with the same rate for it.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections of `handfast-load` at a time; s_time has one
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Compare so many client threads with as many processes of one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=64))]
    shards: Option<u32>,
    /// Handshakes per second of that comparison, over all client threads; well below what one of them can make
    #[arg(long, value_name = "R", default_value_t = 3000, requires = "shards")]
    rate: u32,
    /// Measure `handfast-load --crypto aws-lc` as well: key exchanges one by one
    #[arg(long)]
    one_by_one: bool,
    /// The server is `handfast serve --crypto batch`: quicker than the client, and it answers several at a time
    #[arg(long)]
    handfast: bool,
    /// Further options of `handfast-load`, such as --burst
    #[arg(last = true)]
    options: Vec<String>,
}

/// One shard on core 0.
const HANDFAST: &str = "serve --listen 127.0.0.1:0 --shards 1 --cores 0 --close --tickets 2 --crypto batch";

fn main() -> ExitCode {
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), run(&Args::parse()))
}

/// Microseconds per handshake.
#[derive(Debug)]
struct Measured {
    client: Vec<f64>,
    server: Vec<f64>,
}

fn run(args: &Args) -> Result<(), RunError> {
    let bin = build()?;
    let certificate = Certificate::make()?;
    let files = certificate.options();
    let files = files.each_ref().map(String::as_str);
    let (program, options) =
        if args.handfast { ("handfast", HANDFAST) } else { ("peer_tokio_rustls", "--core 0 --tickets 2") };
    let options: Vec<_> = options.split(' ').chain(files).collect();
    let server = Server::start(&bin.join(program), &options)?;
    if let Some(shards) = args.shards {
        return shards::compare(args, shards, &bin, &server);
    }
    // What is started from here on runs there, too.
    pin_to(1).map_err(|e| RunError::Io("core 1".into(), e))?;
    let [mut ours, mut theirs, mut one_by_one] = [const { Measured::new() }; 3];
    let clients = if args.one_by_one { 3 } else { 2 };
    for round in 0..args.rounds {
        for i in (0..clients).map(|i| (i + round) % clients) {
            match i {
                0 => handfast_load(args, &bin, &server, &[], &mut ours)?,
                1 => s_time(args.seconds, &server, &mut theirs)?,
                _ => handfast_load(args, &bin, &server, &["--crypto", "aws-lc"], &mut one_by_one)?,
            }
        }
    }
    report(args, &ours, &theirs, &one_by_one);
    Ok(())
}

impl Measured {
    const fn new() -> Self {
        Self { client: Vec::new(), server: Vec::new() }
    }
}

fn handfast_load(
    args: &Args,
    bin: &Path,
    server: &Server,
    crypto: &[&str],
    measured: &mut Measured,
) -> Result<(), RunError> {
    let (duration, connections) = (format!("{}s", args.seconds), args.connections.to_string());
    let base = ["--tls", "1.3", "--groups", "x25519", "--shards", "1", "--pin-client", "1", "--warm-up", "500ms"];
    let times = ["--duration", &duration, "--connections", &connections];
    let options: Vec<&str> = args.options.iter().map(String::as_str).collect();
    let report = load(bin, server, &[&base[..], &times, crypto, &options].concat())?;
    let us = |field: &str| {
        let none = || RunError::Failed("handfast-load".into(), format!("no {field} in {report}"));
        report[field].as_f64().ok_or_else(none)
    };
    measured.client.push(us("client_cpu_us_per_handshake")?);
    measured.server.push(us("server_cpu_us_per_handshake")?);
    Ok(())
}

fn s_time(seconds: u64, server: &Server, measured: &mut Measured) -> Result<(), RunError> {
    let failed = |what: String| RunError::Failed("openssl".into(), what);
    let io = |e| RunError::Io("openssl".into(), e);
    let before = server.cpu()?;
    let child = Command::new("openssl")
        .args(["s_time", "-new", "-tls1_3", "-connect", &server.addr.to_string(), "-time", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io)?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| failed("no process id".into()))?;
    let cpu = ServerCpu::Process(child.id());
    // Its CPU time is there until somebody takes its exit status.
    waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).map_err(|e| io(e.into()))?;
    let used = cpu.sample().ok_or_else(|| failed("nobody knows its CPU time".into()))?;
    let after = server.cpu()?;
    let said = child.wait_with_output().map_err(io)?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    // "9001 connections in 1.93s; 4663.73 connections/user sec, bytes read 0"
    let made = said.lines().find_map(|l| l.split_once(" connections in ")?.0.trim().parse::<f64>().ok());
    let made = made.filter(|n| *n > 0.0).ok_or_else(|| failed(format!("made no connection: {said}")))?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / made;
    measured.client.push(each(used));
    measured.server.push(each(after.saturating_sub(before)));
    Ok(())
}

fn report(args: &Args, ours: &Measured, theirs: &Measured, one_by_one: &Measured) {
    println!(
        "CPU per full TLS 1.3 handshake in us, min / median / max of {} rounds of {} s",
        args.rounds, args.seconds
    );
    println!("X25519, ECDSA P-256, 2 tickets, unverified, {} connections\n", args.connections);
    let server = if args.handfast { "handfast server under it" } else { "tokio-rustls server under it" };
    let ratios = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a / b).collect() };
    for (what, digits, values) in [
        ("handfast-load", 1, ours.client.clone()),
        (server, 1, ours.server.clone()),
        ("openssl s_time", 1, theirs.client.clone()),
        (server, 1, theirs.server.clone()),
        ("handfast-load / openssl s_time", 3, ratios(&ours.client, &theirs.client)),
        ("handfast-load / its server", 3, ratios(&ours.client, &ours.server)),
        ("handfast-load --crypto aws-lc", 1, one_by_one.client.clone()),
        ("handfast-load / the same", 3, ratios(&ours.client, &one_by_one.client)),
    ] {
        if let Some(spread) = Spread::of(&values) {
            println!("{what:<32} {:>24}", format!("{spread:.digits$}"));
        }
    }
}
