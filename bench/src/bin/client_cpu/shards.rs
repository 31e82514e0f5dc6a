//! Several client threads against one: what it costs that there are several.

use std::path::Path;
use std::process::{Command, Stdio};

use handfast_bench::figures::Spread;
use handfast_bench::servers::{RunError, Server, load};

use super::Args;

/// Handshakes of the two runs whose instructions are subtracted, so that starting and ending cancel out.
const MANY: u32 = 2000;
const FEW: u32 = 500;

/// Measures both in turn and prints what came of it.
pub(crate) fn compare(args: &Args, shards: u32, bin: &Path, server: &Server) -> Result<(), RunError> {
    let mut each: [Vec<f64>; 2] = Default::default();
    for round in 0..args.rounds {
        for i in [round % 2, (round + 1) % 2] {
            let threads = if i == 0 { 1 } else { shards };
            let cost = if args.instructions {
                let count = |handshakes| instructions(args, threads, bin, server, handshakes);
                (count(MANY)? - count(FEW)?) / f64::from(MANY - FEW)
            } else {
                time(args, threads, bin, server)?
            };
            each[i].push(cost);
        }
    }
    let [one, many] = &each;
    let ratios: Vec<f64> = many.iter().zip(one).map(|(many, one)| many / one).collect();
    let what = if args.instructions {
        format!("Instructions in user mode, by valgrind, {} connections", args.connections)
    } else {
        format!("Client CPU in us, {} handshakes/s, {} s each", args.rate, args.seconds)
    };
    println!("{what}; per full TLS 1.3 handshake, min / median / max of {} rounds", args.rounds);
    println!("X25519, ECDSA P-256, 2 tickets, unverified, all client threads on core 1\n");
    let names = ["1 client thread".to_owned(), format!("{shards} client threads"), "ratio".to_owned()];
    let digits = if args.instructions { 0 } else { 1 };
    for (name, digits, values) in [(&names[0], digits, one), (&names[1], digits, many), (&names[2], 3, &ratios)] {
        if let Some(spread) = Spread::of(values) {
            println!("{name:<32} {:>24}", format!("{spread:.digits$}"));
        }
    }
    Ok(())
}

/// What both ways of counting have in common. The process may run on one core alone, so all threads are pinned there.
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

/// Instructions of a whole run, in user mode.
fn instructions(args: &Args, threads: u32, bin: &Path, server: &Server, handshakes: u32) -> Result<f64, RunError> {
    let failed = |what: String| RunError::Failed("valgrind".into(), what);
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(bin.join("handfast-load"))
        .args([&server.addr.to_string(), "--quiet", "--json", "--count", &handshakes.to_string()])
        .args(["--connections", &args.connections.to_string(), "--shards", &threads.to_string()])
        .args(BASE)
        .args(&args.options)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| RunError::Io("valgrind".into(), e))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(failed(said.into_owned()));
    }
    // "==123== I refs:        1,234,567"
    let counted = said.lines().find_map(|line| line.split_once("I refs:")?.1.trim().replace(',', "").parse().ok());
    counted.ok_or_else(|| failed(format!("no count in {said}")))
}
