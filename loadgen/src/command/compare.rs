//! `compare`: two files of rounds, or two servers in turn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args as ClapArgs;

use super::run::{announce, measure};
use crate::Args;
use crate::comparison::{Comparison, Side};
use crate::error::{RunError, UsageError};
use crate::metric::Metric;
use crate::output::emit;
use crate::plan::Plan;
use crate::report::{self, RunResult, stored};
use crate::run::Ending;
use crate::stats::{Confidence, Verdict};

pub(super) const EXAMPLES: &str = "\
Examples:
  handfast-load compare --interleave localhost:8443 localhost:9443 --rounds 5 --duration 5s
      Measures both in turn, so that what drifts on the machine hits both.
  handfast-load compare before.json after.json
      Files of `run --rounds 5 --json`, or of several `run --json` one after the other.
  handfast-load compare before.json after.json --metric p99
      The verdict goes by the 99th percentile of the latency.";

pub(super) const AFTER: &str = "\
Exit status: 0 B is better or no different; 1 B is worse, or the rounds cannot tell; 2 wrong usage.
Rounds are the sample, not handshakes: noise between runs is not inside a run, so two single runs cannot tell.";

/// The options of `compare`.
#[derive(Clone, Debug, ClapArgs)]
#[command(
    mut_args(only_when_measuring),
    mut_arg("target", |a| a.index(1).value_name("A").required(true).help("A file of rounds; with --interleave a HOST:PORT"))
)]
#[non_exhaustive]
pub struct CompareArgs {
    /// The first side, and with `--interleave` how to load both.
    #[command(flatten)]
    pub load: Args,

    /// What is compared with A
    #[arg(index = 2, value_name = "B")]
    pub b: String,

    /// Measure A and B (each a HOST:PORT) now, in turn: A B B A A B ..
    #[arg(long)]
    pub interleave: bool,

    /// Rounds of each side
    #[arg(long, value_name = "N", default_value_t = 5, requires = "interleave", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// The figure that decides
    #[arg(long, value_enum, default_value = "rate")]
    pub metric: Metric,

    /// How often an interval has to hold the truth
    #[arg(long, value_name = "PERCENT", default_value = "99%", value_parser = confidence)]
    pub confidence: Confidence,
}

/// Options that say how to load mean nothing for files.
fn only_when_measuring(arg: clap::Arg) -> clap::Arg {
    match arg.get_id().as_str() {
        "target" | "b" | "interleave" | "metric" | "confidence" | "json" | "quiet" | "help" | "version" => arg,
        _ => arg.requires("interleave"),
    }
}

fn confidence(text: &str) -> Result<Confidence, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
    percent
        .and_then(|p| Confidence::new(p / 100.0))
        .ok_or_else(|| "it must be at least 50% and less than 100%; write for example 95%".to_owned())
}

pub(super) fn execute(args: CompareArgs, interrupted: &Arc<AtomicBool>) -> Result<u8, RunError> {
    let (json, metric, confidence) = (args.load.json, args.metric, args.confidence);
    let comparison = if args.interleave {
        let (a, b) = interleaved(args, interrupted)?;
        Comparison::of(a, b, metric, confidence, true)
    } else {
        let a = args.load.target.unwrap_or_default();
        let (a, b) = (file(&a)?, file(&args.b)?);
        Comparison::of(a, b, metric, confidence, false)
    };
    emit(&if json { report::line(&comparison.report()) } else { comparison.table() })?;
    Ok(match comparison.verdict() {
        Verdict::Better | Verdict::NoDifference => 0,
        Verdict::Worse | Verdict::CannotTell(_) => 1,
    })
}

fn file(path: &str) -> Result<Side, UsageError> {
    Ok(Side { name: path.to_owned(), rounds: stored::rounds(Path::new(path))? })
}

/// Both sides, the same number of rounds of each.
fn interleaved(args: CompareArgs, interrupted: &Arc<AtomicBool>) -> Result<(Side, Side), RunError> {
    let (seed, mut second) = (args.load.seed, args.load.clone());
    second.target = Some(args.b);
    let mut sides: [(Plan, Vec<RunResult>); 2] =
        [(Plan::new(args.load)?, Vec::new()), (Plan::new(second)?, Vec::new())];
    for round in 0..args.rounds {
        // The sides take turns in going first, so that a steady drift favours neither.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let (plan, rounds) = &mut sides[side];
            // Neighbours have the same schedule, and each pair another one.
            plan.seed = seed.wrapping_add(u64::from(round));
            announce(plan, round + 1, args.rounds, if side == 0 { ", A" } else { ", B" });
            let outcome = measure(plan, interrupted)?;
            if outcome.ending == Ending::Interrupted {
                // Half a round is none, and takes the other of its pair with it.
                break;
            }
            rounds.push(RunResult::of(plan, &outcome));
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    let whole = sides.iter().map(|(_, rounds)| rounds.len()).min().unwrap_or(0);
    let [a, b] = sides.map(|(plan, mut rounds)| {
        rounds.truncate(whole);
        Side { name: plan.target.to_string(), rounds }
    });
    Ok((a, b))
}
