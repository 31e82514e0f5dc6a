//! The result of a sweep.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{RunResult, SCHEMA, grouped};
use crate::metric::{Metric, micros};
use crate::output::written;
use crate::usl::Point;

/// The same measurement at several values of one option.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Sweep {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// `sweep`.
    pub kind: String,
    /// The option: `connections` or `server-shards`.
    pub over: String,
    /// Each measurement.
    pub points: Vec<SweepPoint>,
}

/// One measurement of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SweepPoint {
    /// The option's value.
    pub n: f64,
    /// What was measured.
    pub run: RunResult,
}

impl SweepPoint {
    /// A measurement at `n`.
    #[must_use]
    pub const fn new(n: f64, run: RunResult) -> Self {
        Self { n, run }
    }

    /// How busy the client's threads were: the share of their time that they used the CPU, 1 at most.
    #[must_use]
    pub fn client_busy(&self) -> Option<f64> {
        let per_second = self.run.client_cpu_us_per_handshake? * self.run.handshakes_per_second / 1e6;
        Some(per_second / f64::from(self.run.shards.max(1)))
    }
}

impl Sweep {
    /// Of measured points.
    #[must_use]
    pub fn of(over: &str, points: Vec<SweepPoint>) -> Self {
        Self { schema: SCHEMA, kind: "sweep".to_owned(), over: over.to_owned(), points }
    }

    /// For a fit.
    #[must_use]
    pub fn rates(&self) -> Vec<Point> {
        self.points.iter().map(|p| Point { n: p.n, rate: p.run.handshakes_per_second }).collect()
    }

    /// For a person.
    #[must_use]
    pub fn table(&self) -> String {
        written(|out| self.write(out))
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "\n  {:>13}{:>15}{:>12}{:>12}", self.over, "handshakes/s", "p50", "p99")?;
        writeln!(out, "{:>12}{:>13}{:>15}{:>15}", "errors", "client busy", "client CPU", "server CPU")?;
        for point in &self.points {
            let latency = &point.run.latency_us.total;
            let text = |value: Option<f64>, with: fn(f64) -> String| value.map_or_else(|| "-".to_owned(), with);
            write!(out, "  {:>13}", point.n)?;
            write!(out, "{:>15}", Metric::Rate.text(point.run.handshakes_per_second))?;
            write!(out, "{:>12}{:>12}", text(latency.p50, micros), text(latency.p99, micros))?;
            write!(out, "{:>12}", grouped(point.run.failures()))?;
            write!(out, "{:>13}", text(point.client_busy(), |share| format!("{:.0} %", share * 100.0)))?;
            write!(out, "{:>15}", text(point.run.client_cpu_us_per_handshake, micros))?;
            writeln!(out, "{:>15}", text(point.run.server_cpu_us_per_handshake, micros))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_point_with_units() {
        let run = RunResult {
            handshakes_per_second: 8000.0,
            shards: 2,
            client_cpu_us_per_handshake: Some(100.0),
            ..RunResult::default()
        };
        let sweep = Sweep::of("connections", vec![SweepPoint::new(16.0, run)]);
        let table = sweep.table();
        for part in ["connections", "8,000/s", "40 %", "100 µs", " -"] {
            assert!(table.contains(part), "{part}: {table}");
        }
        assert_eq!(sweep.rates(), [Point { n: 16.0, rate: 8000.0 }]);
    }
}
