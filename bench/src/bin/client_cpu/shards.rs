//! Several client threads of one process against as many processes of one: what it costs that they share one.

use std::path::Path;
use std::thread;

use handfast_bench::figures::Spread;
use handfast_bench::servers::{RunError, Server, load};

use super::Args;

/// Where the threads run.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// Each in a process of its own.
    Apart,
    /// All in one process.
    Together,
    /// Only the first of them, with its share of the rate.
    Alone,
}

/// CPU time, and handshakes for which it was used.
#[derive(Clone, Copy, Debug)]
struct Used {
    us_per_handshake: f64,
    handshakes: f64,
}

/// Measures all in turn and prints what came of it.
pub(crate) fn compare(args: &Args, shards: u32, bin: &Path, server: &Server) -> Result<(), RunError> {
    let layouts = [Layout::Apart, Layout::Together, Layout::Alone];
    let mut each: [Vec<f64>; 3] = Default::default();
    for round in 0..args.rounds {
        for i in (0..layouts.len()).map(|i| (i + round) % layouts.len()) {
            each[i].push(measure(args, layouts[i], shards, bin, server)?);
        }
    }
    let [apart, together, alone] = &each;
    let ratios = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a / b).collect() };
    println!(
        "Client CPU in us per full TLS 1.3 handshake, {} a second for each client thread, min / median / max of {} rounds \
         of {} s",
        args.rate / shards,
        args.rounds,
        args.seconds
    );
    println!("X25519, ECDSA P-256, 2 tickets, unverified; the server on core 0, the clients from core 1 on\n");
    for (name, digits, values) in [
        (format!("{shards} processes of 1 client thread"), 1, apart),
        (format!("1 process of {shards} client threads"), 1, together),
        ("1 process of 1 client thread".to_owned(), 1, alone),
        ("threads / processes".to_owned(), 3, &ratios(together, apart)),
        (format!("{shards} threads / 1 thread"), 3, &ratios(together, alone)),
    ] {
        if let Some(spread) = Spread::of(values) {
            println!("{name:<32} {:>24}", format!("{spread:.digits$}"));
        }
    }
    Ok(())
}

/// Microseconds of CPU time for a handshake, over all threads.
fn measure(args: &Args, layout: Layout, shards: u32, bin: &Path, server: &Server) -> Result<f64, RunError> {
    let used = match layout {
        Layout::Together => vec![one(args, shards, args.rate, 0, bin, server)?],
        Layout::Alone => vec![one(args, 1, args.rate / shards, 0, bin, server)?],
        Layout::Apart => thread::scope(|scope| {
            let start = |index| scope.spawn(move || one(args, 1, args.rate / shards, index, bin, server));
            let processes: Vec<_> = (0..shards).map(start).collect();
            let panicked = || RunError::Failed("handfast-load".into(), "its thread panicked".into());
            processes.into_iter().map(|p| p.join().unwrap_or_else(|_| Err(panicked()))).collect::<Result<_, _>>()
        })?,
    };
    let handshakes: f64 = used.iter().map(|u| u.handshakes).sum();
    Ok(used.iter().map(|u| u.us_per_handshake * u.handshakes).sum::<f64>() / handshakes)
}

/// A process with `threads` of them, from the core of thread `index` on.
fn one(args: &Args, threads: u32, rate: u32, index: u32, bin: &Path, server: &Server) -> Result<Used, RunError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let core = ((1 + index as usize) % cores).to_string();
    let (threads, rate, duration) = (threads.to_string(), rate.to_string(), format!("{}s", args.seconds));
    let seed = (1 + index).to_string();
    let base = ["--tls", "1.3", "--groups", "x25519", "--pin-client", &core, "--shards", &threads, "--seed", &seed];
    // A late start costs no CPU, and it is CPU that is measured.
    let open = ["--rate", &rate, "--duration", &duration, "--warm-up", "500ms", "--max-lateness", "10s"];
    let options: Vec<&str> = args.options.iter().map(String::as_str).collect();
    let report = load(bin, server, &[&base[..], &open, &options].concat())?;
    let field = |name: &str| {
        let none = || RunError::Failed("handfast-load".into(), format!("no {name} in {report}"));
        report[name].as_f64().ok_or_else(none)
    };
    Ok(Used { us_per_handshake: field("client_cpu_us_per_handshake")?, handshakes: field("handshakes")? })
}
