//! `sweep`: one measurement at several values of an option.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args as ClapArgs;

use super::run::measure;
use crate::error::{RunError, UsageError};
use crate::output::emit;
use crate::plan::Plan;
use crate::progress::say;
use crate::report::sweep::{Sweep, SweepPoint};
use crate::report::{self, RunResult};
use crate::{Args, Outcome};

pub(super) const EXAMPLES: &str = "\
Examples:
  handfast-load sweep localhost:8443 --duration 5s
      With 1, 2, 4 .. 128 connections.
  handfast-load sweep localhost:8443 --over connections=1,8,64,256 --json > sweep.json
      For `handfast-load plan sweep.json`.
  handfast-load sweep localhost:8443 --over rate=1000,2000,3000,4000
      How latency follows the rate of an open loop.
  handfast-load sweep --over server-shards=1..4
      The built-in engine with 1, 2 and 4 shards.";

/// The options of `sweep`.
#[derive(Clone, Debug, ClapArgs)]
#[non_exhaustive]
pub struct SweepArgs {
    /// What to load, and how.
    #[command(flatten)]
    pub load: Args,

    /// The option to change, and its values: a list, or the first and the last one of a doubling
    #[arg(long, value_name = "OPTION=VALUES", default_value = "connections=1..128")]
    pub over: Over,
}

/// An option with the values to measure at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Over {
    option: SweptOption,
    values: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SweptOption {
    Connections,
    Rate,
    ServerShards,
}

impl SweptOption {
    const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Rate => "rate",
            Self::ServerShards => "server-shards",
        }
    }
}

/// Points of one sweep. Met: the command line is refused.
const POINTS_MAX: usize = 200;

impl FromStr for Over {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write for example connections=1..128 or connections=1,8,64";
        let (name, values) = text.split_once('=').ok_or_else(|| format!("it has no `=`; {EXAMPLE}"))?;
        let option = match name.trim() {
            "connections" => SweptOption::Connections,
            "rate" => SweptOption::Rate,
            "server-shards" => SweptOption::ServerShards,
            other => {
                return Err(format!("`{other}` is none of connections, rate, server-shards; {EXAMPLE}"));
            }
        };
        let number = |text: &str| {
            let number = text.trim().parse::<u32>().ok().filter(|n| *n > 0);
            number.ok_or_else(|| format!("`{text}` is no number above 0; {EXAMPLE}"))
        };
        let values = match values.split_once("..") {
            Some((first, last)) => doubling(number(first)?, number(last)?),
            None => values.split(',').map(number).collect::<Result<Vec<_>, _>>()?,
        };
        if values.is_empty() || values.len() > POINTS_MAX {
            return Err(format!("there must be 1 to {POINTS_MAX} values; {EXAMPLE}"));
        }
        Ok(Self { option, values })
    }
}

/// `first`, twice that, and so on; `last` is the last one in any case.
fn doubling(first: u32, last: u32) -> Vec<u32> {
    let mut values: Vec<u32> =
        std::iter::successors(Some(first), |n| n.checked_mul(2)).take_while(|n| *n < last).collect();
    if first <= last {
        values.push(last);
    }
    values
}

pub(super) fn execute(args: SweepArgs, interrupted: &Arc<AtomicBool>) -> Result<u8, RunError> {
    let SweepArgs { load, over } = args;
    let given = match over.option {
        SweptOption::Connections => load.connections.is_some(),
        SweptOption::Rate => load.rate.is_some() || load.stages.is_some(),
        SweptOption::ServerShards => load.server_shards.is_some(),
    };
    if given {
        return Err(UsageError::OptionMismatch("--over gives the values of this option: leave the option out").into());
    }
    // All are checked before the first one is measured.
    let plans = over.values.iter().map(|value| Ok((*value, Plan::new(with(&load, over.option, *value))?)));
    let plans = plans.collect::<Result<Vec<_>, UsageError>>()?;
    let (mut points, mut status) = (Vec::new(), 0);
    for (i, (value, plan)) in plans.iter().enumerate() {
        if !plan.quiet {
            say(&format!("point {} of {}: {} {value}", i + 1, plans.len(), over.option.name()));
        }
        let outcome = measure(plan, interrupted)?;
        status = status.max(Outcome::exit_status(&outcome));
        points.push(SweepPoint::new(f64::from(*value), RunResult::of(plan, &outcome)));
        if let Some(complaint) = report::complaint(&outcome) {
            say(&format!("handfast-load: {complaint}"));
        }
        if let Some(advice) = report::crowding(plan, &outcome) {
            say(&format!("handfast-load: {advice}"));
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    let sweep = Sweep::of(over.option.name(), points);
    emit(&if load.json { report::line(&sweep) } else { sweep.table() })?;
    Ok(status)
}

fn with(load: &Args, option: SweptOption, value: u32) -> Args {
    let mut args = load.clone();
    match option {
        SweptOption::Connections => args.connections = Some(value),
        SweptOption::Rate => args.rate = Some(f64::from(value)),
        SweptOption::ServerShards => args.server_shards = Some(value),
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_lists_or_doublings() {
        let values = |text: &str| text.parse::<Over>().unwrap().values;
        assert_eq!(values("connections=1..128"), [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(values("connections=3..20"), [3, 6, 12, 20]);
        assert_eq!(values("server-shards=1,2,4"), [1, 2, 4]);
        assert_eq!(values("connections=5..5"), [5]);
        for bad in ["", "connections", "connections=", "connections=0", "connections=9..2", "cores=1", "connections=x"]
        {
            let why = bad.parse::<Over>().unwrap_err();
            assert!(why.contains("for example"), "{bad}: {why}");
        }
    }
}
