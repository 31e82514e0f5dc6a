//! What a bench prints: a table for people, one JSON object for programs.

use std::io::{self, Write};

use handfast_bench::figures::{Interval, Spread};
use serde::Serialize;

use super::Error;

/// One comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// Of what is under test.
    pub(crate) ours: Spread,
    /// Of what it is compared with.
    pub(crate) theirs: Spread,
    /// The first by the second, round by round.
    pub(crate) ratio: Spread,
    /// The 95 % interval of that ratio.
    pub(crate) interval: Option<Interval>,
    /// What it is held to.
    pub(crate) bar: Option<Bar>,
    /// Whether it is met; without a bar it is.
    pub(crate) met: bool,
}

/// What a comparison is held to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// The median of the ratio.
    RatioAtMost(f64),
    /// The lower bound of the ratio's interval.
    LowerBoundAtLeast(f64),
}

impl Row {
    /// Of the values of each round, ours and theirs; `None` without a round.
    pub(crate) fn of(name: impl Into<String>, values: &[(f64, f64)], bar: Option<Bar>) -> Option<Self> {
        let (ours, theirs): (Vec<_>, Vec<_>) = values.iter().copied().unzip();
        let ratios: Vec<f64> = values.iter().map(|(ours, theirs)| ours / theirs).collect();
        let (ratio, interval) = (Spread::of(&ratios)?, Interval::of_ratios(&ratios));
        let met = match bar {
            None => true,
            Some(Bar::RatioAtMost(bar)) => ratio.median <= bar,
            Some(Bar::LowerBoundAtLeast(bar)) => interval.is_some_and(|i| i.low >= bar),
        };
        Some(Self {
            name: name.into(),
            ours: Spread::of(&ours)?,
            theirs: Spread::of(&theirs)?,
            ratio,
            interval,
            bar,
            met,
        })
    }
}

/// All comparisons of a bench.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    pub(crate) unit: &'static str,
    /// What stands in the columns.
    pub(crate) columns: [&'static str; 2],
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Prints it and says whether every bar is met.
    pub(crate) fn print(&self, json: bool) -> Result<bool, Error> {
        let text = if json { format!("{}\n", serde_json::to_string(self)?) } else { self.table() };
        match io::stdout().lock().write_all(text.as_bytes()) {
            // Whoever has read enough has read enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
        Ok(self.rows.iter().all(|row| row.met))
    }

    fn table(&self) -> String {
        let [ours, theirs] = self.columns;
        let mut text = format!("{}, min / median / max of {} rounds\n\n", self.unit, self.rounds);
        text += &format!("{:<42} {ours:>24} {theirs:>24} {:>24}\n", "", "ratio");
        for row in &self.rows {
            let (ours, theirs) = (format!("{:.2}", row.ours), format!("{:.2}", row.theirs));
            text += &format!("{:<42} {ours:>24} {theirs:>24} {:>24}", row.name, format!("{:.3}", row.ratio));
            match (row.bar, row.interval) {
                (Some(Bar::RatioAtMost(bar)), _) => text += &format!("  {} {bar}", verdict(row.met, "<=", ">")),
                (Some(Bar::LowerBoundAtLeast(bar)), Some(interval)) => {
                    text +=
                        &format!("\n{:<42} 95 %: {interval:.3}; lower bound {} {bar}", "", verdict(row.met, ">=", "<"));
                }
                _ => {}
            }
            text.push('\n');
        }
        text
    }
}

fn verdict(met: bool, yes: &'static str, no: &'static str) -> &'static str {
    if met { yes } else { no }
}

/// Says on standard error what is being done.
pub(crate) fn progress(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
