//! Whether idle WebSockets cost the handshakes of their shard anything.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use handfast_bench::exchange::{Deflate, Exchange, Protocol, Request, client, text};
use handfast_bench::figures::Spread;
use handfast_bench::servers::Server;

use super::peers::Peers;
use super::report::{Bar, Report, Row, progress};
use super::serve::{Settings, Stack};
use super::{Error, handshakes};

/// The bar.
const BAR: f64 = 0.95;

#[derive(Debug, Args)]
pub(crate) struct CrowdArgs {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Idle WebSockets, each of which has echoed a message
    #[arg(long, default_value_t = 10_000)]
    websockets: usize,
    /// Milliseconds of each measurement; a round takes the middle one of several, with and without in turn
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
    /// Measurements in each round, of either
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    slices: u8,
    /// Handshakes at a time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &CrowdArgs) -> Result<bool, Error> {
    let peers = Peers::new()?;
    let crowded = peers.start(Stack::Handfast, Settings::PlainLean, 0)?;
    let empty = peers.start(Stack::Handfast, Settings::PlainLean, 0)?;
    progress(&format!("opening {} WebSockets", args.websockets));
    let idle = crowd(&crowded, args.websockets)?;
    let measure = |server: &Server| {
        let outcome = handshakes::make(server.addr, args.connections, Duration::from_millis(args.milliseconds))?;
        Ok::<_, Error>(handshakes::rate(&outcome))
    };
    let mut values = Vec::new();
    for round in 0..args.rounds {
        let mut rates = [Vec::new(), Vec::new()];
        for slice in 0..usize::from(args.slices) {
            for which in [(round + slice) % 2, (round + slice + 1) % 2] {
                rates[which].push(measure([&crowded, &empty][which])?);
            }
        }
        let [Some(with), Some(without)] = rates.map(|r| Spread::of(&r).map(|s| s.median)) else { continue };
        progress(&format!("  round {round}: {with:.0}/s with, {without:.0}/s without"));
        values.push((with, without));
    }
    still_there(idle)?;
    let report = Report {
        bench: "idle-websockets",
        unit: "handshakes per second",
        columns: ["with idle WebSockets", "without"],
        rounds: args.rounds,
        rows: Row::of(format!("{} WebSockets", args.websockets), &values, Some(Bar::LowerBoundAtLeast(BAR)))
            .into_iter()
            .collect(),
    };
    report.print(args.json)
}

fn crowd(server: &Server, websockets: usize) -> Result<Vec<Exchange>, Error> {
    let protocol = Protocol::WebSocket(Deflate::Off);
    let (client, message) = (client(protocol)?, text(128));
    // With another address of the server the crowd takes no ports from the handshakes, whose connects would search
    // longer and longer for a free one.
    let addr = SocketAddr::from(([127, 0, 0, 2], server.addr.port()));
    let open = |_| {
        let mut exchange = Exchange::open(&client, addr, protocol)?;
        exchange.ask(Request::Echo(&message))?;
        exchange.answer()?;
        Ok(exchange)
    };
    (0..websockets).map(open).collect()
}

/// Idle is not gone: each echoes once more.
fn still_there(idle: Vec<Exchange>) -> Result<(), Error> {
    let message = text(128);
    for mut exchange in idle {
        exchange.ask(Request::Echo(&message))?;
        exchange.answer()?;
    }
    Ok(())
}
