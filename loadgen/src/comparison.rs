//! Two sides, several rounds of each, and what they say about each figure. Pure.

use std::fmt::Write;

use serde::Serialize;

use crate::metric::Metric;
use crate::output::written;
use crate::report::{RunResult, SCHEMA};
use crate::run::Ending;
use crate::stats::{
    CannotTell, Confidence, ERROR_SHARE_MAX, RatioInterval, Verdict, median, paired, unpaired, verdict,
};

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// A file, or a target.
    pub name: String,
    /// What was measured.
    pub rounds: Vec<RunResult>,
}

impl Side {
    /// A value for each round, because neighbours are compared: NaN, which nothing is computed from, where a round has
    /// none.
    fn values(&self, metric: Metric) -> Vec<f64> {
        self.rounds.iter().map(|r| metric.of(r).unwrap_or(f64::NAN)).collect()
    }

    fn median(&self, metric: Metric) -> Option<f64> {
        median(&self.rounds.iter().filter_map(|r| metric.of(r)).collect::<Vec<_>>())
    }

    fn count(&self, of: impl Fn(&RunResult) -> bool) -> usize {
        self.rounds.iter().filter(|r| of(r)).count()
    }

    fn error_share(&self) -> f64 {
        let failed: u64 = self.rounds.iter().map(RunResult::failures).sum();
        let all = failed + self.rounds.iter().map(|r| r.handshakes).sum::<u64>();
        if all == 0 { 0.0 } else { failed as f64 / all as f64 }
    }
}

/// Why none of the figures decides anything, whatever it is.
fn doubt(a: &Side, b: &Side) -> Option<CannotTell> {
    let both = |of: fn(&RunResult) -> bool| Some((a.count(of), b.count(of))).filter(|counts| *counts != (0, 0));
    if let Some((a, b)) = both(|r| !r.valid) {
        return Some(CannotTell::GeneratorLimit { a, b });
    }
    if let Some((a, b)) = both(|r| r.ended != Ending::Planned.name()) {
        return Some(CannotTell::CutShort { a, b });
    }
    (a.error_share().max(b.error_share()) > ERROR_SHARE_MAX).then_some(CannotTell::Failures)
}

#[derive(Clone, Debug)]
struct Row {
    metric: Metric,
    medians: (Option<f64>, Option<f64>),
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
    a_median: Option<f64>,
    b_median: Option<f64>,
    ratio: Option<f64>,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
    verdict: &'static str,
}

impl Comparison {
    /// Compares `b` with `a`; `pairs` when round i of one was measured next to round i of the other.
    #[must_use]
    pub fn of(a: Side, b: Side, decides: Metric, confidence: Confidence, pairs: bool) -> Self {
        let (judge, doubt) = (if pairs { paired } else { unpaired }, doubt(&a, &b));
        let row = |metric: Metric| {
            let interval = judge(&a.values(metric), &b.values(metric), confidence);
            let verdict = doubt.map_or_else(|| verdict(&interval, metric.better()), Verdict::CannotTell);
            Row { metric, medians: (a.median(metric), b.median(metric)), interval, verdict }
        };
        let verdict = row(decides).verdict;
        let rows = Metric::ALL.into_iter().map(row).filter(|row| row.medians != (None, None)).collect();
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
        written(|out| self.write(out))
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
            let text = |value: Option<f64>, with: &dyn Fn(f64) -> String| value.map_or_else(|| "-".to_owned(), with);
            let (a, b) = row.medians;
            let (ratio, ends) = match &row.interval {
                Ok(i) => (change(i.ratio), format!("{} .. {}", change(i.low), change(i.high))),
                Err(_) => (text(a.zip(b).map(|(a, b)| b / a), &change), "-".to_owned()),
            };
            let (a, b) = (text(a, &|v| row.metric.text(v)), text(b, &|v| row.metric.text(v)));
            writeln!(out, "  {:<14}{a:>12}{b:>12}{ratio:>12}{ends:>26}   {}", row.metric.heading(), row.verdict)?;
        }
        writeln!(out)?;
        for (letter, side) in [('A', &self.a), ('B', &self.b)] {
            let share = side.error_share();
            if share > ERROR_SHARE_MAX {
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
            let ended = "planned".to_owned();
            RunResult {
                handshakes: 1000,
                handshakes_per_second: *rate,
                latency_us,
                ended,
                valid: true,
                ..RunResult::default()
            }
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

    /// B is 10 % better, but for what `spoil` does to it.
    fn spoilt(decides: Metric, pairs: bool, spoil: impl FnOnce(&mut Side, &mut Side)) -> Comparison {
        let (mut a, mut b) = (side("a", &STEADY), side("b", &STEADY.map(|r| r * 1.1)));
        spoil(&mut a, &mut b);
        Comparison::of(a, b, decides, Confidence::default(), pairs)
    }

    #[track_caller]
    fn cannot_tell(comparison: &Comparison, why: &str) {
        assert!(matches!(comparison.verdict(), Verdict::CannotTell(_)), "{:?}", comparison.verdict());
        let report = comparison.report();
        assert!(report.why.as_ref().is_some_and(|w| w.contains(why)), "{:?}", report.why);
        assert!(comparison.table().contains(why), "{}", comparison.table());
        let decides = &report.metrics[comparison.decides.name()];
        assert_eq!(decides.verdict, "cannot_tell");
    }

    #[test]
    fn a_round_without_a_figure_is_not_left_out() {
        for pairs in [false, true] {
            let comparison = spoilt(Metric::P99, pairs, |a, b| {
                a.rounds[1].latency_us.total.p99 = None;
                b.rounds[3].latency_us.total.p99 = None;
            });
            cannot_tell(&comparison, "a round has no figure above zero");
            assert_eq!(serde_json::to_value(comparison.report()).unwrap()["metrics"]["p50_us"]["verdict"], "better");
        }
        let one_sided = spoilt(Metric::ServerCpu, true, |_, b| {
            b.rounds.iter_mut().for_each(|r| r.server_cpu_us_per_handshake = Some(90.0));
        });
        cannot_tell(&one_sided, "a round has no figure above zero");
        let report = serde_json::to_value(one_sided.report()).unwrap();
        let cpu = &report["metrics"]["server_cpu_us"];
        assert_eq!((&cpu["a_median"], &cpu["b_median"]), (&serde_json::Value::Null, &90.0.into()));
        assert!(report["metrics"]["client_cpu_us"].is_null(), "no round of either side has it");
        // A figure that nobody measured decides nothing either.
        let nobody = spoilt(Metric::ClientCpu, true, |_, _| ());
        assert!(nobody.report().why.unwrap().contains("not measured"));
    }

    #[test]
    fn rounds_that_tell_of_something_else_decide_nothing() {
        for pairs in [false, true] {
            let generator = spoilt(Metric::Rate, pairs, |_, b| b.rounds[2].valid = false);
            cannot_tell(&generator, "the generator or its machine, not the server, was the limit in 0 and 1 rounds");
            for how in ["interrupted", "gave_up", "target_lost"] {
                let cut = spoilt(Metric::Rate, pairs, |a, _| a.rounds[4].ended = how.to_owned());
                cannot_tell(&cut, "1 and 0 rounds did not come to their planned end");
            }
        }
    }

    #[test]
    fn a_side_that_fails_is_not_better_by_what_succeeds() {
        let fails = |n| {
            spoilt(Metric::Rate, true, move |_, b| {
                for round in &mut b.rounds {
                    round.errors.insert("timeout".to_owned(), n);
                }
            })
        };
        assert_eq!(fails(10).verdict(), Verdict::Better, "1 % is what is let pass");
        cannot_tell(&fails(9000), "more than 1 % of a side's handshakes failed");
        cannot_tell(&fails(20), "more than 1 % of a side's handshakes failed");
        assert!(fails(100).table().contains("9.1 % of B's handshakes failed"), "{}", fails(100).table());
    }
}
