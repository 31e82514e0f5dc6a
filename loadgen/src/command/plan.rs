//! `plan`: a sweep, fitted, and what follows for a stated load.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::capacity::{NoAnswer, Question, answer};
use crate::duration;
use crate::error::{RunError, UsageError};
use crate::output::emit;
use crate::progress::say;
use crate::report::sweep::Sweep;
use crate::report::{self, stored};

pub(super) const EXAMPLES: &str = "\
Examples:
  handfast-load plan sweep.json --rate 50000 --latency 20ms --server-cores 8
      Hosts and cores for 50,000 handshakes a second with a p99 of at most 20 ms.
  handfast-load plan sweep.json --rate 2000 --open-for 60s --memory-per-connection 8KiB
      The memory of connections that stay open for a minute.";

/// The options of `plan`.
#[derive(Clone, Debug, ClapArgs)]
#[non_exhaustive]
pub struct PlanArgs {
    /// The result of `sweep --json`
    #[arg(value_name = "FILE")]
    pub sweep: PathBuf,

    /// Handshakes per second that are wanted, over all hosts
    #[arg(long, value_name = "N", value_parser = positive)]
    pub rate: f64,

    /// The highest 99th percentile of the latency that will do, for a sweep over connections; without it each host runs at
    /// its peak
    #[arg(long, value_name = "TIME", value_parser = duration::parse_nonzero)]
    pub latency: Option<Duration>,

    /// The share of each host's capacity that is to stay free
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = share)]
    pub headroom: f64,

    /// Cores of the server that was swept over connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub server_cores: Option<u32>,

    /// Cores of a host to come, for a sweep over server-shards [default: the most that were swept]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub host_cores: Option<u32>,

    /// How long a connection stays open after its handshake
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration::parse)]
    pub open_for: Duration,

    /// What an open connection takes on the server, as measured with `hold`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_per_connection: Option<f64>,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "it must be a number above 0; write for example 50000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
    let share = percent.filter(|p| (0.0..=90.0).contains(p)).map(|p| p / 100.0);
    share.ok_or_else(|| "it must be from 0% to 90%; write for example 30%".to_owned())
}

fn size(text: &str) -> Result<f64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "B" => Some(1.0),
        "KiB" => Some(1024.0),
        "MiB" => Some(1024.0 * 1024.0),
        _ => None,
    };
    let bytes = number.parse::<f64>().ok().zip(factor).map(|(n, f)| n * f);
    bytes.ok_or_else(|| "it must be a number with B, KiB or MiB; write for example 8KiB".to_owned())
}

pub(super) fn execute(args: &PlanArgs) -> Result<u8, RunError> {
    let sweep: Sweep = stored::one(&args.sweep, "sweep")?;
    let mut question = Question::rate(args.rate);
    question.latency = args.latency;
    question.headroom = args.headroom;
    question.server_cores = args.server_cores;
    question.host_cores = args.host_cores;
    question.open_for = args.open_for;
    question.memory_per_connection = args.memory_per_connection;
    match answer(&sweep, &question) {
        Ok(answer) => {
            emit(&if args.json { report::line(&answer.report()) } else { answer.table() })?;
            Ok(0)
        }
        Err(NoAnswer::Mismatch(what)) => Err(UsageError::OptionMismatch(what).into()),
        Err(why) => {
            say(&format!("handfast-load: {} gives no answer: {why}", args.sweep.display()));
            Ok(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_read() {
        assert_eq!(size("8KiB"), Ok(8192.0));
        assert_eq!(size("1.5 MiB"), Ok(1_572_864.0));
        assert_eq!(share("30%"), Ok(0.3));
        for bad in ["8", "KiB", "8 KB", ""] {
            assert!(size(bad).unwrap_err().contains("8KiB"), "{bad}");
        }
        assert!(share("95%").is_err() && share("30").is_err() && positive("0").is_err() && positive("inf").is_err());
    }
}
