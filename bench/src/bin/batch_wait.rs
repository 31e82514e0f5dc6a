//! What `batch_wait` saves on a server that is not full, and what it costs.
//!
//! `cargo run --release -p handfast-bench --bin batch_wait`

use std::process::ExitCode;

use clap::Parser;
use handfast_bench::figures::Spread;
use handfast_bench::servers::{Certificate, RunError, Server, build, load};

/// Server CPU and latency of full handshakes at a share of a server's capacity, with ClientHellos held back and without
///
/// Servers with `--crypto batch` on core 0, the client with `--crypto batch` on core 1. Handshakes start at a rate, as
/// of many clients that know nothing of each other (a Poisson process), so a slow server is not waited for. Without
/// `--rate` it is a share of what the server without a wait does when it is asked for all that it can.
///
/// Of all rounds it says how many key exchanges were computed together when any were, and how many were alone.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Handshakes per second, as a share of the capacity
    #[arg(long, default_value_t = 0.5)]
    share: f64,
    /// Handshakes per second [default: that share]
    #[arg(long)]
    rate: Option<f64>,
    /// The waits, in microseconds; the first is what the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "0,100,200,500,1000")]
    waits: Vec<u64>,
    /// Further options of the server, such as `--presign off`
    #[arg(last = true)]
    options: Vec<String>,
}

/// What one wait came to, by round.
#[derive(Debug, Default)]
struct Measured {
    cpu: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// What its server counted.
    stats: String,
}

impl Measured {
    fn count(&self, name: &str) -> f64 {
        let value = self.stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }

    /// How many key exchanges were computed together, when any were.
    fn together(&self) -> f64 {
        self.count("batch_lanes") / self.count("batch_agreements")
    }

    /// The share of those that were alone.
    fn alone(&self) -> f64 {
        let alone = self.count("batch_scalar_fallbacks");
        alone / (alone + self.count("batch_lanes"))
    }
}

fn main() -> ExitCode {
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), RunError> {
    let bin = build()?;
    let certificate = Certificate::make()?;
    let files = certificate.options();
    let files = files.each_ref().map(String::as_str);
    let options: Vec<&str> = args.options.iter().map(String::as_str).collect();
    let start = |wait: &u64| {
        let wait = format!("{wait}us");
        let base = ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--cores", "0", "--close"];
        let more = ["--tickets", "2", "--stats"];
        let crypto = ["--crypto", "batch", "--batch-wait", &wait];
        Server::start(&bin.join("handfast"), &[&base[..], &more, &crypto, &options, &files].concat())
    };
    let base = ["--tls", "1.3", "--groups", "x25519", "--shards", "1", "--pin-client", "1", "--crypto", "batch"];
    let duration = format!("{}s", args.seconds);
    let times = ["--duration", &duration, "--warm-up", "500ms"];
    let us = |report: &serde_json::Value, path: &str| {
        let none = || RunError::Failed("handfast-load".into(), format!("no {path} in {report}"));
        report.pointer(path).and_then(serde_json::Value::as_f64).ok_or_else(none)
    };
    let rate = match args.rate {
        Some(rate) => rate,
        None => {
            // One of its own, whose counts are no part of what is reported.
            let full = start(&0)?;
            us(&load(&bin, &full, &[&base[..], &times].concat())?, "/handshakes_per_second")? * args.share
        }
    };
    let servers = args.waits.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let rate = format!("{rate:.0}");
    // The client is late now and then where cores are shared with others; latency counts from the due time all the same.
    let load_args = [&base[..], &times, &["--rate", &rate, "--max-lateness", "1s"]].concat();
    let mut measured: Vec<Measured> = servers.iter().map(|_| Measured::default()).collect();
    for round in 0..args.rounds {
        for i in (0..servers.len()).map(|i| (i + round) % servers.len()) {
            let report = load(&bin, &servers[i], &load_args)?;
            measured[i].cpu.push(us(&report, "/server_cpu_us_per_handshake")?);
            measured[i].p50.push(us(&report, "/latency_us/total/p50")?);
            measured[i].p99.push(us(&report, "/latency_us/total/p99")?);
        }
    }
    for (m, server) in measured.iter_mut().zip(servers) {
        m.stats = server.end()?;
    }
    report(args, &rate, &measured);
    Ok(())
}

fn report(args: &Args, rate: &str, measured: &[Measured]) {
    println!("full TLS 1.3 handshakes, X25519, ECDSA P-256, 2 tickets, {rate} a second by a Poisson process");
    println!("us, min / median / max of {} rounds of {} s each\n", args.rounds, args.seconds);
    let head = ("wait", "server CPU", "ratio", "p50", "p99", "together", "alone");
    println!("{:<8} {:>20} {:>21} {:>18} {:>18} {:>8} {:>6}", head.0, head.1, head.2, head.3, head.4, head.5, head.6);
    let Some(first) = measured.first() else { return };
    for (wait, m) in args.waits.iter().zip(measured) {
        let ratios: Vec<f64> = m.cpu.iter().zip(&first.cpu).map(|(a, b)| a / b).collect();
        let show = |values: &[f64], digits: usize| {
            Spread::of(values).map(|spread| format!("{spread:.digits$}")).unwrap_or_default()
        };
        let wait = format!("{wait} us");
        let (cpu, ratio) = (show(&m.cpu, 1), show(&ratios, 3));
        let (together, alone) = (m.together(), 100.0 * m.alone());
        let (p50, p99) = (show(&m.p50, 0), show(&m.p99, 0));
        println!("{wait:<8} {cpu:>20} {ratio:>21} {p50:>18} {p99:>18} {together:>8.1} {alone:>4.0} %");
    }
}
