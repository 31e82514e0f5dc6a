//! Server CPU per request over long-lived connections.

use std::time::{Duration, Instant};

use clap::Args;
use handfast_bench::exchange::{Deflate, Exchange, Protocol, Request, client, text};
use handfast_bench::servers::{Server, pin_to};

use super::Error;
use super::peers::{CLIENT_CORE, Peers};
use super::report::{Bar, Report, Row, progress};
use super::serve::{Settings, Stack};

/// Bytes of a WebSocket message.
const MESSAGE_BYTES: usize = 128;
const WARM_UP: Duration = Duration::from_millis(300);
/// The bar for h2 and WebSocket.
const BAR: f64 = 1.0;

#[derive(Debug, Args)]
pub(crate) struct CpuArgs {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Milliseconds of each measurement
    #[arg(long, default_value_t = 2000)]
    milliseconds: u64,
    /// Connections, all of them busy
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests under way on each connection
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// Connections to one server.
struct Load {
    server: Server,
    exchanges: Vec<Exchange>,
}

pub(crate) fn run(args: &CpuArgs) -> Result<bool, Error> {
    pin_to(CLIENT_CORE)?;
    let peers = Peers::new()?;
    let message = text(MESSAGE_BYTES);
    let works = [
        ("h2 GET, 13 bytes", Protocol::H2, Request::Get("/")),
        ("WebSocket echo, 128 bytes", Protocol::WebSocket(Deflate::Off), Request::Echo(&message)),
        ("http/1.1 GET, 13 bytes", Protocol::Http1, Request::Get("/")),
    ];
    let mut rows = Vec::new();
    for (name, protocol, request) in works {
        progress(&format!("{name}: {} rounds", args.rounds));
        let mut loads = [Stack::Handfast, Stack::Tokio].map(|stack| Load::open(&peers, stack, protocol, args));
        let [Ok(ours), Ok(theirs)] = &mut loads else {
            return Err(loads.into_iter().find_map(Result::err).unwrap_or_else(|| "no server".into()));
        };
        let mut values = Vec::new();
        for round in 0..args.rounds {
            let (a, b);
            if round % 2 == 0 {
                a = ours.measure(request, args)?;
                b = theirs.measure(request, args)?;
            } else {
                b = theirs.measure(request, args)?;
                a = ours.measure(request, args)?;
            }
            progress(&format!("  round {round}: {a:.2} us, {b:.2} us"));
            values.push((a, b));
        }
        // The reference for http/1.1 is not asked for; it is shown because it is the third built-in worker.
        let bar = (protocol != Protocol::Http1).then_some(Bar::RatioAtMost(BAR));
        rows.extend(Row::of(name, &values, bar));
    }
    let report = Report {
        bench: "cpu",
        unit: "server CPU per request in us",
        columns: ["handfast", "tokio-rustls"],
        rounds: args.rounds,
        rows,
    };
    report.print(args.json)
}

impl Load {
    fn open(peers: &Peers, stack: Stack, protocol: Protocol, args: &CpuArgs) -> Result<Self, Error> {
        let server = peers.start(stack, Settings::Plain, 0)?;
        let client = client(protocol)?;
        let exchanges = (0..args.connections).map(|_| Exchange::open(&client, server.addr, protocol));
        Ok(Self { exchanges: exchanges.collect::<Result<_, _>>()?, server })
    }

    /// Server CPU per request, in microseconds.
    fn measure(&mut self, request: Request<'_>, args: &CpuArgs) -> Result<f64, Error> {
        self.keep_busy(request, args.in_flight, WARM_UP)?;
        let before = self.server.cpu()?;
        let requests = self.keep_busy(request, args.in_flight, Duration::from_millis(args.milliseconds))?;
        let used = self.server.cpu()?.saturating_sub(before);
        Ok(used.as_secs_f64() * 1e6 / f64::from(requests))
    }

    /// Requests that were answered in this time, which is all that were asked.
    fn keep_busy(&mut self, request: Request<'_>, in_flight: usize, time: Duration) -> Result<u32, Error> {
        let until = Instant::now() + time;
        let mut asked = 0;
        for exchange in &mut self.exchanges {
            for _ in 0..in_flight {
                exchange.ask(request)?;
                asked += 1;
            }
        }
        while Instant::now() < until {
            for exchange in &mut self.exchanges {
                exchange.answer()?;
                exchange.ask(request)?;
                asked += 1;
            }
        }
        for exchange in &mut self.exchanges {
            for _ in 0..in_flight {
                exchange.answer()?;
            }
        }
        Ok(asked)
    }
}
