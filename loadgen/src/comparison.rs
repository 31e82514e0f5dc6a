//! Two sides, several rounds of each, and what they say about each figure. Pure.

use std::fmt::Write;

use serde::Serialize;

use crate::metric::Metric;
use crate::report::{RunResult, SCHEMA};
use crate::stats::{CannotTell, Confidence, RatioInterval, Verdict, median, paired, unpaired, verdict};

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// A file, or a target.
    pub name: String,
    /// What was measured.
    pub rounds: Vec<RunResult>,
}

impl Side {
    fn values(&self, metric: Metric) -> Vec<f64> {
        self.rounds.iter().filter_map(|r| metric.of(r)).collect()
    }

    fn error_share(&self) -> f64 {
        let failed: u64 = self.rounds.iter().map(RunResult::failures).sum();
        let all = failed + self.rounds.iter().map(|r| r.handshakes).sum::<u64>();
        if all == 0 { 0.0 } else { failed as f64 / all as f64 }
    }
}

/// A share of failures from which on figures of what succeeded mislead.
const ERRORS_MISLEAD: f64 = 0.01;

#[derive(Clone, Debug)]
struct Row {
    metric: Metric,
    medians: (f64, f64),
    interval: Result<RatioInterval, CannotTell>,
    verdict: Verdict,
}

/// What the rounds say.
#[derive(Clone, Debug)]
pub struct Comparison {
    a: Side,
    b: Side,
    decides: Metric,
    confidence: Confidence,
    pairs: bool,
    rows: Vec<Row>,
    verdict: Verdict,
}

/// As JSON.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    schema: u32,
    kind: &'static str,
    a: SideReport,
    b: SideReport,
    paired: bool,
    confidence: f64,
    metric: &'static str,
    verdict: &'static str,
    why: Option<String>,
    metrics: std::collections::BTreeMap<&'static str, MetricReport>,
}

#[derive(Clone, Debug, Serialize)]
struct SideReport {
    name: String,
    rounds: usize,
    error_share: f64,
}

#[derive(Clone, Debug, Serialize)]
struct MetricReport {
    a_median: f64,
    b_median: f64,
    ratio: Option<f64>,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
    verdict: &'static str,
}

impl Comparison {
    /// Compares `b` with `a`; `pairs` when round i of one was measured next to round i of the other.
    #[must_use]
    pub fn of(a: Side, b: Side, decides: Metric, confidence: Confidence, pairs: bool) -> Self {
        let judge = if pairs { paired } else { unpaired };
        let mut rows = Vec::new();
        for metric in Metric::ALL {
            let (va, vb) = (a.values(metric), b.values(metric));
            let (Some(ma), Some(mb)) = (median(&va), median(&vb)) else { continue };
            let interval = judge(&va, &vb, confidence);
            rows.push(Row { metric, medians: (ma, mb), verdict: verdict(&interval, metric.better()), interval });
        }
        let few = CannotTell::TooFewRounds { a: a.values(decides).len(), b: b.values(decides).len() };
        let verdict = rows.iter().find(|r| r.metric == decides).map_or(Verdict::CannotTell(few), |row| row.verdict);
        Self { a, b, decides, confidence, pairs, rows, verdict }
    }

    /// What the deciding figure says.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The comparison as JSON.
    #[must_use]
    pub fn report(&self) -> Report {
        let side = |s: &Side| SideReport { name: s.name.clone(), rounds: s.rounds.len(), error_share: s.error_share() };
        let metric = |row: &Row| {
            let part = |pick: fn(&RatioInterval) -> f64| row.interval.as_ref().ok().map(pick);
            let report = MetricReport {
                a_median: row.medians.0,
                b_median: row.medians.1,
                ratio: part(|i| i.ratio),
                ratio_low: part(|i| i.low),
                ratio_high: part(|i| i.high),
                verdict: row.verdict.name(),
            };
            (row.metric.name(), report)
        };
        Report {
            schema: SCHEMA,
            kind: "compare",
            a: side(&self.a),
            b: side(&self.b),
            paired: self.pairs,
            confidence: self.confidence.share(),
            metric: self.decides.name(),
            verdict: self.verdict.name(),
            why: match self.verdict {
                Verdict::CannotTell(why) => Some(why.to_string()),
                _ => None,
            },
            metrics: self.rows.iter().map(metric).collect(),
        }
    }

    /// The comparison for a person.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        for (letter, side) in [('A', &self.a), ('B', &self.b)] {
            let n = side.rounds.len();
            writeln!(out, "  {letter}  {}, {n} round{}", side.name, if n == 1 { "" } else { "s" })?;
        }
        let how = if self.pairs { "rounds in turn, compared in pairs" } else { "rounds apart" };
        writeln!(out, "     {how}; intervals hold the ratio in {} of cases\n", self.confidence)?;
        let ends = "B against A, from .. to";
        writeln!(out, "  {:<14}{:>12}{:>12}{:>12}{ends:>26}   verdict", "median", "A", "B", "B against A")?;
        for row in &self.rows {
            let (a, b) = (row.metric.text(row.medians.0), row.metric.text(row.medians.1));
            let (ratio, ends) = match &row.interval {
                Ok(i) => (change(i.ratio), format!("{} .. {}", change(i.low), change(i.high))),
                Err(_) => (change(row.medians.1 / row.medians.0), "-".to_owned()),
            };
            writeln!(out, "  {:<14}{a:>12}{b:>12}{ratio:>12}{ends:>26}   {}", row.metric.heading(), row.verdict)?;
        }
        writeln!(out)?;
        for (letter, side) in [('A', &self.a), ('B', &self.b)] {
            let share = side.error_share();
            if share > ERRORS_MISLEAD {
                writeln!(
                    out,
                    "  warning: {:.1} % of {letter}'s handshakes failed; these figures are of those that succeeded",
                    share * 100.0
                )?;
            }
        }
        writeln!(out, "  {}", self.sentence())
    }

    fn sentence(&self) -> String {
        let what = self.decides.heading();
        let interval = self.rows.iter().find(|r| r.metric == self.decides).map(|r| r.interval);
        match (self.verdict, interval) {
            (Verdict::CannotTell(why), _) => format!("{what}: cannot tell: {why}"),
            (Verdict::NoDifference, Some(Ok(i))) => {
                format!(
                    "{what}: no difference found; if there is one, it is between {} and {}",
                    change(i.low),
                    change(i.high)
                )
            }
            (verdict, Some(Ok(i))) => {
                format!("{what}: B is {verdict}: {}, between {} and {}", change(i.ratio), change(i.low), change(i.high))
            }
            (verdict, _) => format!("{what}: {verdict}"),
        }
    }
}

/// A ratio as a change in percent.
fn change(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::{Latencies, Quantiles};

    fn side(name: &str, rates: &[f64]) -> Side {
        let round = |rate: &f64| {
            let total = Quantiles { p50: Some(1e9 / rate), p99: Some(2e9 / rate), ..Quantiles::default() };
            let latency_us = Latencies { total, ..Latencies::default() };
            RunResult { handshakes: 1000, handshakes_per_second: *rate, latency_us, ..RunResult::default() }
        };
        Side { name: name.to_owned(), rounds: rates.iter().map(round).collect() }
    }

    const STEADY: [f64; 5] = [9000.0, 9050.0, 8990.0, 9020.0, 8980.0];

    fn compared(a: &[f64], b: &[f64], pairs: bool) -> Comparison {
        Comparison::of(side("a", a), side("b", b), Metric::Rate, Confidence::default(), pairs)
    }

    #[test]
    fn a_better_server_is_called_better_in_each_figure() {
        let comparison = compared(&STEADY, &STEADY.map(|r| r * 1.05), true);
        assert_eq!(comparison.verdict(), Verdict::Better);
        let report = serde_json::to_value(comparison.report()).unwrap();
        assert_eq!(report["verdict"], "better");
        assert_eq!(report["metrics"]["p99_us"]["verdict"], "better");
        assert!((report["metrics"]["handshakes_per_second"]["ratio"].as_f64().unwrap() - 1.05).abs() < 1e-9);
        assert!(comparison.table().contains("B is better: +5.0 %"), "{}", comparison.table());
        assert_eq!(compared(&STEADY.map(|r| r * 1.05), &STEADY, false).verdict(), Verdict::Worse);
    }

    #[test]
    fn no_difference_says_how_large_one_could_be() {
        let comparison = compared(&STEADY, &STEADY, false);
        assert_eq!(comparison.verdict(), Verdict::NoDifference);
        assert!(comparison.table().contains("if there is one, it is between -"), "{}", comparison.table());
    }

    #[test]
    fn two_single_runs_cannot_tell_whatever_they_read() {
        let comparison = compared(&[9000.0], &[18_000.0], false);
        assert!(matches!(comparison.verdict(), Verdict::CannotTell(_)));
        assert!(comparison.table().contains("cannot tell: 1 and 1 rounds are too few"), "{}", comparison.table());
        assert!(comparison.report().why.is_some());
    }

    #[test]
    fn failures_are_pointed_at() {
        let mut b = side("b", &STEADY);
        b.rounds[0].errors.insert("timeout".to_owned(), 500);
        let comparison = Comparison::of(side("a", &STEADY), b, Metric::Rate, Confidence::default(), true);
        assert!(comparison.table().contains("9.1 % of B's handshakes failed"), "{}", comparison.table());
    }
}
