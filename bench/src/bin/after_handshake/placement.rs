//! Handshakes beside handlers that block their thread: none, on worker threads, and on the shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use handfast_bench::exchange::{Exchange, Protocol, Request, client};
use handfast_bench::servers::{Server, pin_to};

use super::peers::{CLIENT_CORE, Peers};
use super::report::{Report, Row, progress};
use super::serve::{Settings, Stack};
use super::{Error, handshakes};

#[derive(Debug, Args)]
pub(crate) struct PlacementArgs {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Milliseconds of each measurement
    #[arg(long, default_value_t = 3000)]
    milliseconds: u64,
    /// Handshakes at a time
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Connections that ask for a handler that sleeps 50 ms, again and again
    #[arg(long, default_value_t = 4)]
    sleepers: usize,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &PlacementArgs) -> Result<bool, Error> {
    pin_to(CLIENT_CORE)?;
    let peers = Peers::new()?;
    let threads = peers.start(Stack::Handfast, Settings::Plain, args.workers)?;
    let shared = peers.start(Stack::Handfast, Settings::Plain, 0)?;
    let (mut p50s, mut p99s, mut shared_p99s) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        // Quiet, beside worker threads, beside handlers on the shard: from a different one on in each round.
        let mut figures = [(0.0, 0.0); 3];
        for i in 0..3 {
            let which = (round + i) % 3;
            figures[which] = match which {
                0 => measure(args, &threads, 0)?,
                1 => measure(args, &threads, args.sleepers)?,
                _ => measure(args, &shared, args.sleepers)?,
            };
        }
        let [quiet, beside, on_shard] = figures;
        progress(&format!(
            "  round {round}, p99: {:.2} ms quiet, {:.2} ms with worker threads, {:.2} ms on the shard",
            quiet.1, beside.1, on_shard.1
        ));
        p50s.push((beside.0, quiet.0));
        p99s.push((beside.1, quiet.1));
        shared_p99s.push((on_shard.1, quiet.1));
    }
    let rows = [
        Row::of("p50, handlers on worker threads", &p50s, None),
        Row::of("p99, handlers on worker threads", &p99s, None),
        Row::of("p99, handlers on the shard", &shared_p99s, None),
    ];
    let report = Report {
        bench: "placement",
        unit: "time from connect to the end of a handshake in ms",
        columns: ["sleeping handlers", "no handlers"],
        rounds: args.rounds,
        rows: rows.into_iter().flatten().collect(),
    };
    report.print(args.json)
}

/// The median and the 99th percentile of handshakes beside `sleepers`.
fn measure(args: &PlacementArgs, server: &Server, sleepers: usize) -> Result<(f64, f64), Error> {
    let done = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..sleepers)
        .map(|_| {
            let (done, addr) = (Arc::clone(&done), server.addr);
            thread::spawn(move || ask_until(&done, addr).map_err(|e| e.to_string()))
        })
        .collect();
    let outcome = handshakes::make(server.addr, args.connections, Duration::from_millis(args.milliseconds));
    done.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for asked in asking {
        answered += asked.join().map_err(|_| "a client panicked")??;
    }
    if sleepers > 0 && answered == 0 {
        return Err("no handler slept".into());
    }
    let outcome = outcome?;
    Ok((handshakes::millis(&outcome, 0.5)?, handshakes::millis(&outcome, 0.99)?))
}

/// Asks for the handler that sleeps until told to end; how often it was answered.
fn ask_until(done: &AtomicBool, addr: std::net::SocketAddr) -> Result<usize, Error> {
    let mut exchange = Exchange::open(&client(Protocol::Http1)?, addr, Protocol::Http1)?;
    let mut answered = 0;
    while !done.load(Ordering::Relaxed) {
        exchange.ask(Request::Get("/sleep"))?;
        exchange.answer()?;
        answered += 1;
    }
    Ok(answered)
}
