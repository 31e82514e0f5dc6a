//! `max`: the highest open-loop rate that keeps to an objective.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use crate::arrivals::parse_rate_nonzero;
use crate::duration::Human;
use crate::error::{RunError, UsageError};
use crate::output::emit;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::{self, RunResult, SCHEMA, grouped_rate};
use crate::run::LATENESS_SHARE_MAX;
use crate::search::{self, Bounds, Found, Observation, Probe, Step};
use crate::slo::{Miss, Readings, Slo};
use crate::{Args, Outcome};

pub(super) const EXAMPLES: &str = "\
Examples:
  handfast-load max localhost:8443 --slo 'p99<20ms,errors<0.1%'
      Searches with probes of ten seconds.
  handfast-load max localhost:8443 --slo 'p99.9<50ms' --duration 30s --precision 0.5%
      Longer probes and a finer search, for a steadier answer.
  handfast-load max --duration 3s --json
      The built-in engine, and every probe as JSON.";

pub(super) const AFTER: &str = "\
Exit status: 0 a rate was found; 1 no rate keeps to the objective, the generator was the limit, or the search was \
ended; 2 wrong usage.
Each miss is seen twice before it counts, and the result has held in its confirmations. Where probes of one rate \
disagree no search gets closer, and the answer has the rates around that.";

/// The options of `max`.
#[derive(Clone, Debug, ClapArgs)]
#[command(mut_args(|arg| if OWN.contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg }))]
#[non_exhaustive]
pub struct MaxArgs {
    /// What to load, and how.
    #[command(flatten)]
    pub load: Args,

    /// What the server has to keep to: percentiles of the latency and the share of errors
    #[arg(long, value_name = "OBJECTIVE", default_value = "p99<20ms,errors<0.1%")]
    pub slo: Slo,

    /// The first rate to try [default: half of what a closed loop of two seconds reaches]
    #[arg(long, value_name = "R", value_parser = parse_rate_nonzero)]
    pub start: Option<f64>,

    /// The highest rate to try
    #[arg(long, value_name = "R", default_value = "1000000", value_parser = parse_rate_nonzero)]
    pub max_rate: f64,

    /// How close the rate that held and the one that did not have to be. The search ends earlier when probes of the
    /// rates between them disagree, which is noise
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = precision)]
    pub precision: f64,

    /// How often the result must hold once more; a miss in between is made up for by one more
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub confirmations: u32,
}

/// Options that the search itself decides about.
const OWN: [&str; 4] = ["rate", "stages", "count", "burst"];
/// The closed loop that finds where to begin.
const LOOK: Duration = Duration::from_secs(2);

fn precision(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
    let share = percent.filter(|p| (0.1..=50.0).contains(p)).map(|p| p / 100.0);
    share.ok_or_else(|| "it must be from 0.1% to 50%; write for example 1%".to_owned())
}

/// What one probe saw, as JSON.
#[derive(Clone, Debug, Serialize)]
struct Probed {
    step: String,
    rate: f64,
    met: bool,
    miss: Option<String>,
    valid: bool,
    run: RunResult,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    kind: &'static str,
    slo: String,
    found: &'static str,
    rate: Option<f64>,
    rate_met: Option<u32>,
    rate_probes: Option<u32>,
    missed: Option<f64>,
    noise_low: Option<f64>,
    noise_high: Option<f64>,
    probes: Vec<Probed>,
}

struct Server<'a> {
    load: &'a Args,
    slo: &'a Slo,
    interrupted: &'a Arc<AtomicBool>,
    probes: Vec<Probed>,
}

/// What an open loop reads: a handshake that was due and never ended is none that succeeded.
struct Seen<'a>(&'a Outcome);

impl Readings for Seen<'_> {
    fn latency(&self, percentile: f64) -> Option<Duration> {
        self.0.record.total.quantile(percentile / 100.0)
    }

    fn error_share(&self) -> f64 {
        let record = &self.0.record;
        let failed = record.failures() + record.unstarted + self.0.unfinished;
        let all = failed + record.handshakes();
        if all == 0 { 0.0 } else { failed as f64 / all as f64 }
    }
}

impl Server<'_> {
    /// Whether a miss may be the generator's own: by what was asked for, or else when its lateness is more than a tenth
    /// of the objective's latency and of the one that was measured. Lateness is a part of the latency, so an objective
    /// that is met was met in spite of it, and an answer that is far too late is not late because of it.
    fn spoilt(&self, outcome: &Outcome, met: bool) -> bool {
        if outcome.record.failures_of_ours() > 0 {
            return true;
        }
        let Some(lateness) = outcome.lateness.filter(|_| !met) else { return false };
        let objective = self.slo.latency().map_or(Duration::ZERO, |(_, below)| below.mul_f64(LATENESS_SHARE_MAX));
        lateness.p99 > if self.load.max_lateness.is_some() { lateness.bound } else { lateness.bound.max(objective) }
    }
}

impl Probe for Server<'_> {
    type Error = RunError;

    fn probe(&mut self, rate: f64, step: Step) -> Result<Observation, RunError> {
        let mut args = self.load.clone();
        (args.rate, args.quiet) = (Some(rate), true);
        // Another schedule each time: the result must not hang on one.
        args.seed = args.seed.wrapping_add(self.probes.len() as u64);
        let plan = Plan::new(args)?;
        let outcome = crate::run(&plan, self.interrupted)?;
        let checked = self.slo.check(&Seen(&outcome));
        let spoilt = self.spoilt(&outcome, checked.is_ok());
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        if !self.load.quiet {
            say(&line(rate, step, &outcome, &checked, spoilt));
        }
        self.probes.push(Probed {
            step: step.to_string(),
            rate,
            met: checked.is_ok() && !spoilt,
            miss: checked.err().map(|m| m.to_string()),
            valid: !spoilt,
            run: RunResult::of(&plan, &outcome),
        });
        Ok(match checked {
            _ if interrupted => Observation::Interrupted,
            _ if spoilt => Observation::GeneratorLate,
            Ok(()) => Observation::Met,
            Err(_) => Observation::Missed,
        })
    }
}

fn line(rate: f64, step: Step, outcome: &Outcome, checked: &Result<(), Miss>, spoilt: bool) -> String {
    let p99 = outcome.record.total.quantile(0.99).map_or_else(|| "-".to_owned(), |d| Human(d).to_string());
    let seconds = outcome.record.wall.as_secs_f64();
    let done = if seconds > 0.0 { outcome.record.handshakes() as f64 / seconds } else { 0.0 };
    let late = || outcome.lateness.map_or_else(|| "-".to_owned(), |l| Human(l.p99).to_string());
    let verdict = match checked {
        _ if outcome.record.failures_of_ours() > 0 => "invalid: this machine was the limit".to_owned(),
        Err(_) if spoilt => format!("invalid: the generator was late, p99 {}", late()),
        Ok(()) => "met".to_owned(),
        Err(miss) => format!("missed: {miss}"),
    };
    format!(
        "{step:<8} {:>10}/s offered  {:>10}/s complete  p99 {p99:>9}  errors {:.3} %  {verdict}",
        grouped_rate(rate),
        grouped_rate(done),
        Seen(outcome).error_share() * 100.0
    )
}

pub(super) fn execute(args: MaxArgs, interrupted: &Arc<AtomicBool>) -> Result<u8, RunError> {
    let load = &args.load;
    if load.rate.is_some() || load.stages.is_some() || load.count.is_some() || load.burst {
        let why = "max chooses the rates itself: leave --rate, --stages, --count and --burst out (--start is where it begins)";
        return Err(UsageError::OptionMismatch(why).into());
    }
    let start = match args.start {
        Some(start) => start,
        None => match look(load, interrupted)? {
            Some(start) => start,
            None => return Ok(1),
        },
    };
    let mut bounds = Bounds::default();
    (bounds.start, bounds.rate_max) = (start, args.max_rate);
    (bounds.precision, bounds.confirmations) = (args.precision, args.confirmations);
    let mut server = Server { load, slo: &args.slo, interrupted, probes: Vec::new() };
    let found = search::knee(&mut server, &bounds)?;
    let probes = server.probes;
    emit(&if load.json { report::line(&report(&args.slo, found, probes)) } else { sentence(&args.slo, found) })?;
    Ok(u8::from(!matches!(found, Found::Knee { .. } | Found::AboveMax { .. })))
}

/// Half of what the server does when it is kept busy; `None`, and said why, when it does nothing.
fn look(load: &Args, interrupted: &Arc<AtomicBool>) -> Result<Option<f64>, RunError> {
    let mut args = load.clone();
    (args.duration, args.quiet, args.warm_up) = (LOOK.min(args.duration), true, Some(LOOK / 4));
    // These are for the open loops to come.
    (args.arrivals, args.max_lateness) = (None, None);
    let plan = Plan::new(args)?;
    let outcome = crate::run(&plan, interrupted)?;
    let rate = RunResult::of(&plan, &outcome).handshakes_per_second;
    if outcome.record.handshakes() == 0 || outcome.exit_status() != 0 {
        let why = report::complaint(&outcome).unwrap_or_else(|| "no handshake succeeded".to_owned());
        say(&format!("handfast-load: {why}"));
        return Ok(None);
    }
    if !load.quiet {
        say(&format!(
            "look     {:>10}/s complete in a closed loop of {}",
            grouped_rate(rate),
            Human(LOOK.min(load.duration))
        ));
    }
    Ok(Some((rate / 2.0).round().max(1.0)))
}

fn report(slo: &Slo, found: Found, probes: Vec<Probed>) -> Report {
    let (name, rate, missed) = match found {
        Found::Knee { rate, missed, .. } => ("knee", Some(rate), Some(missed)),
        Found::AboveMax { rate } => ("above_max", Some(rate), None),
        Found::BelowMin { rate } => ("below_min", None, Some(rate)),
        Found::GeneratorLimit { held, rate } => ("generator_limit", held, Some(rate)),
        Found::Unfinished { held } => ("unfinished", held, None),
    };
    let (confirmed, noise) = match found {
        Found::Knee { met, probes, noise, .. } => (Some((met, probes)), noise),
        _ => (None, None),
    };
    Report {
        schema: SCHEMA,
        kind: "max",
        slo: slo.to_string(),
        found: name,
        rate,
        rate_met: confirmed.map(|(met, _)| met),
        rate_probes: confirmed.map(|(_, probes)| probes),
        missed,
        noise_low: noise.map(|(low, _)| low),
        noise_high: noise.map(|(_, high)| high),
        probes,
    }
}

const REMEDY: &str =
    "give it cores of its own (--shards, --pin-client), a quieter machine, or allow more with --max-lateness";

/// That the answer's rates are no closer, and what makes them so.
fn disagreement((low, high): (f64, f64)) -> String {
    let rates = if low < high {
        format!("from {}/s to {}/s", grouped_rate(low), grouped_rate(high))
    } else {
        format!("at {}/s", grouped_rate(low))
    };
    format!("  {rates} probes disagree: that is noise, which longer probes (--duration) have less of\n")
}

fn sentence(slo: &Slo, found: Found) -> String {
    let held =
        |held: Option<f64>| held.map_or_else(|| "none held".to_owned(), |r| format!("{}/s held", grouped_rate(r)));
    match found {
        Found::Knee { rate, met, probes, missed, noise } => format!(
            "\n  {} handshakes/s keep to {slo}, in {met} of {probes} probes; {}/s do not\n{}",
            grouped_rate(rate),
            grouped_rate(missed),
            noise.map_or_else(String::new, disagreement)
        ),
        Found::AboveMax { rate } => {
            format!(
                "\n  {} handshakes/s keep to {slo}, and no higher rate was to be tried (--max-rate)\n",
                grouped_rate(rate)
            )
        }
        Found::BelowMin { rate } => format!("\n  not even {rate} handshakes/s keep to {slo}\n"),
        Found::GeneratorLimit { held: Some(held), rate } => format!(
            "\n  {} handshakes/s keep to {slo}; whether more do is unknown, as at {}/s the generator, not the server, was \
             the limit, twice; {REMEDY}\n",
            grouped_rate(held),
            grouped_rate(rate)
        ),
        Found::GeneratorLimit { held: None, rate } => format!(
            "\n  no answer: the generator, not the server, was the limit down to {} handshakes/s; {REMEDY}\n",
            grouped_rate(rate)
        ),
        Found::Unfinished { held: h } => {
            format!("\n  the search was ended before its answer; {}, unconfirmed\n", held(h))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_states_its_interval_its_confirmation_and_the_noise_between() {
        let slo: Slo = "p99<20ms".parse().unwrap();
        let clear = Found::Knee { rate: 2950.0, met: 3, probes: 3, missed: 2970.0, noise: None };
        assert_eq!(
            sentence(&slo, clear),
            "\n  2,950 handshakes/s keep to p99<20ms, in 3 of 3 probes; 2,970/s do not\n"
        );
        let noise = Some((2970.0, 3010.0));
        let noisy = Found::Knee { rate: 2950.0, met: 4, probes: 5, missed: 3030.0, noise };
        let said = sentence(&slo, noisy);
        for part in ["2,950 handshakes/s", "4 of 5 probes", "3,030/s do not", "from 2,970/s to 3,010/s probes disagree"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(disagreement((2970.0, 2970.0)).contains("  at 2,970/s probes disagree"));
        let report = report(&slo, noisy, Vec::new());
        assert_eq!((report.rate_met, report.rate_probes, report.missed), (Some(4), Some(5), Some(3030.0)));
        assert_eq!((report.noise_low, report.noise_high), (Some(2970.0), Some(3010.0)));
    }
}
