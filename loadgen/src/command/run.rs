//! `run`: one measurement, or several rounds of it.

use std::io::{IsTerminal, stderr, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use clap::Args as ClapArgs;

use super::files::{Files, Measured};
use crate::error::RunError;
use crate::live::Live;
use crate::output::emit;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::{self, Rounds, RunResult};
use crate::run::run_with;
use crate::{Args, Outcome};

pub(super) const EXAMPLES: &str = "\
Examples:
  handfast-load run localhost:8443 --duration 30s
      Measures for half a minute.
  handfast-load run [::1]:8443 --alpn h2 --resume --server-pid 1
      Resumed sessions, and the server's CPU per handshake.
  handfast-load run localhost:8443 --rounds 5 --json > a.json
      Five rounds, for `handfast-load compare a.json b.json`.
  handfast-load run localhost:8443 --rate 2000 --html report.html --csv seconds.csv --hdr run.hdr
      2,000 a second whatever the server does; a page with charts, each second, and a log to merge.";

/// The options of `run`.
#[derive(Clone, Debug, ClapArgs)]
#[non_exhaustive]
pub struct RunArgs {
    /// What to load, and how.
    #[command(flatten)]
    pub load: Args,

    /// Measure so many times, and show each round and how far they spread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Files to write besides the result.
    #[command(flatten)]
    pub files: Files,
}

pub(super) fn execute(args: RunArgs, interrupted: &Arc<AtomicBool>) -> Result<u8, RunError> {
    let mut plan = Plan::new(args.load)?;
    args.files.claim()?;
    let seed = plan.seed;
    let mut rounds: Vec<Measured> = Vec::new();
    for round in 1..=args.rounds {
        announce(&plan, round, args.rounds, "");
        plan.seed = seed.wrapping_add(u64::from(round) - 1);
        let started = SystemTime::now() + plan.warm_up;
        let outcome = measure(&plan, interrupted)?;
        rounds.push(Measured { result: RunResult::of(&plan, &outcome), outcome, started });
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    let Some(last) = rounds.last() else { return Ok(0) };
    let results = || rounds.iter().map(|r| r.result.clone()).collect::<Vec<_>>();
    let text = match (plan.json, args.rounds) {
        (true, 1) => report::line(&last.result),
        (true, _) => report::line(&Rounds::of(results())),
        (false, 1) => report::table(&plan, &last.outcome),
        (false, _) => {
            let opening = report::opening(&plan, &last.outcome);
            format!("{opening}\n{}\n{}", report::configuration(&plan), Rounds::of(results()).table())
        }
    };
    // Files come first: what reads stdout may look for them.
    args.files.write(&plan, &rounds)?;
    emit(&text)?;
    for complaint in rounds.iter().filter_map(|r| report::complaint(&r.outcome)) {
        say(&format!("handfast-load: {complaint}"));
    }
    if let Some(advice) = rounds.iter().find_map(|r| report::crowding(&plan, &r.outcome)) {
        say(&format!("handfast-load: {advice}"));
    }
    Ok(rounds.iter().map(|r| r.outcome.exit_status()).max().unwrap_or(0))
}

/// One run, shown as it goes on: live where a person looks at stdout and stderr, else line by line.
pub(super) fn measure(plan: &Plan, interrupted: &Arc<AtomicBool>) -> Result<Outcome, RunError> {
    let seen = !plan.quiet && !plan.json && stdout().is_terminal() && stderr().is_terminal();
    // A terminal that cannot be drawn on can still show lines.
    match seen.then(|| Live::new(interrupted)) {
        Some(Ok(mut live)) => run_with(plan, interrupted, &mut live),
        Some(Err(_)) | None => crate::run(plan, interrupted),
    }
}

/// Says which of several rounds begins.
pub(super) fn announce(plan: &Plan, round: u32, rounds: u32, what: &str) {
    if !plan.quiet && rounds > 1 {
        say(&format!("round {round} of {rounds}{what}"));
    }
}
