//! Several client threads against one: what it costs that there are several.

use std::path::Path;

use handfast_bench::figures::Spread;
use handfast_bench::servers::{RunError, Server, load};

use super::Args;

/// Measures both in turn and prints what came of it.
pub(crate) fn compare(args: &Args, shards: u32, bin: &Path, server: &Server) -> Result<(), RunError> {
    let mut each: [Vec<f64>; 2] = Default::default();
    for round in 0..args.rounds {
        for i in [round % 2, (round + 1) % 2] {
            let threads = if i == 0 { 1 } else { shards };
            each[i].push(time(args, threads, bin, server)?);
        }
    }
    let [one, many] = &each;
    let ratios: Vec<f64> = many.iter().zip(one).map(|(many, one)| many / one).collect();
    println!(
        "Client CPU in us per full TLS 1.3 handshake, {} a second, min / median / max of {} rounds of {} s",
        args.rate, args.rounds, args.seconds
    );
    println!("X25519, ECDSA P-256, 2 tickets, unverified, all client threads on core 1\n");
    let names = ["1 client thread".to_owned(), format!("{shards} client threads"), "ratio".to_owned()];
    for (name, digits, values) in [(&names[0], 1, one), (&names[1], 1, many), (&names[2], 3, &ratios)] {
        if let Some(spread) = Spread::of(values) {
            println!("{name:<32} {:>24}", format!("{spread:.digits$}"));
        }
    }
    Ok(())
}

/// The process may run on one core alone, so all threads are pinned there.
const BASE: [&str; 6] = ["--tls", "1.3", "--groups", "x25519", "--pin-client", "1"];

/// Microseconds of CPU time for a handshake.
fn time(args: &Args, threads: u32, bin: &Path, server: &Server) -> Result<f64, RunError> {
    let (threads, rate, duration) = (threads.to_string(), args.rate.to_string(), format!("{}s", args.seconds));
    // A late start costs no CPU, and it is CPU that is measured.
    let open = ["--shards", &threads, "--rate", &rate, "--duration", &duration, "--warm-up", "500ms"];
    let options: Vec<&str> = args.options.iter().map(String::as_str).collect();
    let report = load(bin, server, &[&BASE[..], &open, &["--max-lateness", "10s"], &options].concat())?;
    let used = report["client_cpu_us_per_handshake"].as_f64();
    used.ok_or_else(|| RunError::Failed("handfast-load".into(), format!("no CPU time in {report}")))
}
