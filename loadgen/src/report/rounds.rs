//! The result of several rounds: each of them, and how far they spread.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{RunResult, SCHEMA, grouped};
use crate::metric::Metric;
use crate::output::written;
use crate::stats::Spread;

/// Several rounds of one measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Rounds {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// `rounds`.
    pub kind: String,
    /// Each round.
    pub rounds: Vec<RunResult>,
    /// What each metric did over the rounds, by its name; those that were not measured are left out.
    pub spread: std::collections::BTreeMap<String, Spread>,
}

impl Rounds {
    /// Of measured rounds.
    #[must_use]
    pub fn of(rounds: Vec<RunResult>) -> Self {
        let spread = Metric::ALL.iter().filter_map(|metric| {
            let values: Vec<f64> = rounds.iter().filter_map(|r| metric.of(r)).collect();
            Some((metric.name().to_owned(), Spread::of(&values)?))
        });
        Self { schema: SCHEMA, kind: "rounds".to_owned(), spread: spread.collect(), rounds }
    }

    /// The result for a person: a line for each round, and the spread.
    #[must_use]
    pub fn table(&self) -> String {
        written(|out| self.write(out))
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let shown: Vec<Metric> = Metric::ALL.into_iter().filter(|m| self.spread.contains_key(m.name())).collect();
        write!(out, "\n  {:<10}{:>12}", "round", "errors")?;
        for metric in &shown {
            write!(out, "{:>15}", metric.heading())?;
        }
        writeln!(out)?;
        for (i, round) in self.rounds.iter().enumerate() {
            write!(out, "  {:<10}{:>12}", i + 1, grouped(round.failures()))?;
            for metric in &shown {
                let value = metric.of(round).map_or_else(|| "-".to_owned(), |v| metric.text(v));
                write!(out, "{value:>15}")?;
            }
            writeln!(out)?;
        }
        writeln!(out)?;
        for name in ["min", "median", "max"] {
            write!(out, "  {name:<10}{:>12}", "")?;
            for metric in &shown {
                let spread = self.spread.get(metric.name()).copied().unwrap_or_default();
                let value = match name {
                    "min" => spread.min,
                    "max" => spread.max,
                    _ => spread.median,
                };
                write!(out, "{:>15}", metric.text(value))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rate: f64) -> RunResult {
        RunResult { handshakes_per_second: rate, ..RunResult::default() }
    }

    #[test]
    fn rounds_show_each_and_their_spread() {
        let rounds = Rounds::of(vec![round(9000.0), round(8000.0), round(8500.0)]);
        let spread = rounds.spread["handshakes_per_second"];
        assert_eq!((spread.min, spread.median, spread.max), (8000.0, 8500.0, 9000.0));
        assert!(!rounds.spread.contains_key("server_cpu_us"));
        let table = rounds.table();
        for part in ["handshakes/s", "9,000", "8,500/s", "median"] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }
}
