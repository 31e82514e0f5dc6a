//! Resident memory of a server per idle connection that has served one request: an echo, so as much came in as went
//! out.
//!
//! Where the bytes of Handfast's connections go, on the heap, in bytes:
//!
//! | | http/1.1 | h2 | WebSocket, small buffers |
//! |---|---|---|---|
//! | the library's read buffer | 8192 | 8192 | 512 |
//! | its write buffer | 8192 | 16384 | 512 |
//! | HPACK decoder (RFC 7541) | | 4096 | |
//! | streams, their frames and events | | 4100 | |
//! | parser, queue, tables | 1400 | 700 | 100 |
//! | the connection's task | 744 | 1520 | 1048 |
//! | rustls: connection, two AEAD contexts, joiner | 3400 | 3400 | 3400 |
//! | stream, facts, slot, socket | 700 | 700 | 700 |
//!
//! No option shrinks the libraries' buffers: hyper takes 8 KiB each way at least, h2 has constants. They are made when
//! the connection starts, and without huge pages only what is written to becomes resident: that is why h2 needs less
//! than its sum. What an idle connection gives back: the bytes on their way in and out (`shard/stream.rs`), unsent
//! records (`shard/slots.rs`), unfinished records (`handshake/session.rs`); hyper's read buffer does not double,
//! because `worker/hyper_io.rs` never fills it; the future is held once. With yawc's `DeflatePool`, state of compression
//! that no later message needs is borrowed for each message.

use clap::Args;
use handfast_bench::exchange::{Deflate, Exchange, Protocol, Request, client, text};

use super::Error;
use super::peers::Peers;
use super::report::{Bar, Report, Row, progress};
use super::serve::{Settings, Stack};

/// Connections that are open before the first measurement: what they set up is not a connection's.
const WARM: usize = 64;
/// With a context of its own for each direction, a connection is a few hundred KiB.
const COMPRESSED_SHARE: usize = 4;
/// The bar.
const BAR: f64 = 0.85;

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Rounds, each with servers of its own
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Idle connections; a quarter of them where both sides keep a context of compression
    #[arg(long, default_value_t = 4000)]
    connections: usize,
    /// Bytes of the request's content, which comes back
    #[arg(long, default_value_t = 8 * 1024, value_parser = clap::value_parser!(u16).range(1..=16384))]
    content: u16,
    /// Only the comparisons whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// Let servers have transparent huge pages; then what lies beside touched memory counts as well
    #[arg(long)]
    huge_pages: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// What is compared: a protocol, and what the WebSocket library is told on either side.
struct Case {
    name: &'static str,
    protocol: Protocol,
    settings: [Settings; 2],
    bar: Option<Bar>,
}

impl Case {
    const fn new(name: &'static str, protocol: Protocol, settings: [Settings; 2]) -> Self {
        Self { name, protocol, settings, bar: Some(Bar::RatioAtMost(BAR)) }
    }

    /// One that is shown for what it says about the others.
    const fn aside(name: &'static str, protocol: Protocol, settings: [Settings; 2]) -> Self {
        Self { name, protocol, settings, bar: None }
    }
}

const CASES: [Case; 8] = {
    use Settings::{Deflate as Compressing, DeflateLean, DeflateNoContext, DeflateNoContextLean, Plain, PlainLean};
    const PLAIN: Protocol = Protocol::WebSocket(Deflate::Off);
    const CONTEXT: Protocol = Protocol::WebSocket(Deflate::Context);
    const NO_CONTEXT: Protocol = Protocol::WebSocket(Deflate::NoContext);
    [
        Case::new("http/1.1", Protocol::Http1, [Plain, Plain]),
        Case::new("h2", Protocol::H2, [Plain, Plain]),
        Case::new("WebSocket", PLAIN, [PlainLean, Plain]),
        Case::aside("WebSocket, small buffers on both", PLAIN, [PlainLean, PlainLean]),
        Case::new("WebSocket, deflate", CONTEXT, [DeflateLean, Compressing]),
        Case::aside("WebSocket, deflate, same options", CONTEXT, [DeflateLean, DeflateLean]),
        Case::new("WebSocket, no_context_takeover", NO_CONTEXT, [DeflateNoContextLean, DeflateNoContext]),
        Case::aside("WebSocket, no_context_takeover, same", NO_CONTEXT, [DeflateNoContextLean, DeflateNoContextLean]),
    ]
};

pub(crate) fn run(args: &MemoryArgs) -> Result<bool, Error> {
    let peers = Peers::with_huge_pages(args.huge_pages)?;
    let content = text(usize::from(args.content));
    let cases: Vec<_> = CASES.iter().filter(|case| case.name.contains(&args.only)).collect();
    let mut values = vec![Vec::new(); cases.len()];
    for round in 0..args.rounds {
        for (case, values) in cases.iter().zip(&mut values) {
            let kept = case.protocol == Protocol::WebSocket(Deflate::Context);
            let connections = if kept { args.connections / COMPRESSED_SHARE } else { args.connections };
            let measure = |stack, settings| measure(&peers, stack, settings, case.protocol, connections, &content);
            let ours = measure(Stack::Handfast, case.settings[0])?;
            let theirs = measure(Stack::Tokio, case.settings[1])?;
            progress(&format!("round {round}, {}: {ours:.2} KiB, {theirs:.2} KiB", case.name));
            values.push((ours, theirs));
        }
    }
    let rows = cases.iter().zip(&values).filter_map(|(case, values)| Row::of(case.name, values, case.bar)).collect();
    let report = Report {
        bench: "memory",
        unit: "resident KiB per idle connection that has echoed its content",
        columns: ["handfast", "tokio-rustls"],
        rounds: args.rounds,
        rows,
    };
    report.print(args.json)
}

fn measure(
    peers: &Peers,
    stack: Stack,
    settings: Settings,
    protocol: Protocol,
    connections: usize,
    content: &[u8],
) -> Result<f64, Error> {
    let server = peers.start(stack, settings, 0)?;
    let client = client(protocol)?;
    let served = || {
        let mut exchange = Exchange::open(&client, server.addr, protocol)?;
        exchange.ask(Request::Echo(content))?;
        exchange.answer()?;
        Ok::<_, Error>(exchange)
    };
    let warm = (0..WARM).map(|_| served()).collect::<Result<Vec<_>, _>>()?;
    let before = server.resident_kib()?;
    let held = (0..connections).map(|_| served()).collect::<Result<Vec<_>, _>>()?;
    let after = server.resident_kib()?;
    drop((held, warm));
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    Ok((after - before) / connections as f64)
}
