//! The files that a run writes besides its result.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args as ClapArgs;

use crate::error::RunError;
use crate::hdr_log::{self, Entry};
use crate::output::{claim_file, write_file};
use crate::plan::Plan;
use crate::report::html::{self, Round};
use crate::report::{self, RunResult};
use crate::{Outcome, machine};

/// Files to write.
#[derive(Clone, Debug, Default, ClapArgs)]
#[non_exhaustive]
pub struct Files {
    /// Write each second (rate, errors, latency) as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Write the latency histograms as a log, for `merge` and other HDR tools
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,

    /// Write a page with charts, which needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// A round that has ended.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) result: RunResult,
    pub(super) outcome: Outcome,
    /// When counting began.
    pub(super) started: SystemTime,
}

impl Files {
    /// Looks whether they can be written, before time is spent on measuring.
    pub(super) fn claim(&self) -> Result<(), RunError> {
        [&self.csv, &self.hdr, &self.html].into_iter().flatten().try_for_each(|path| claim_file(path))
    }

    pub(super) fn write(&self, plan: &Plan, rounds: &[Measured]) -> Result<(), RunError> {
        if let Some(path) = &self.csv {
            write_file(path, csv(rounds).as_bytes())?;
        }
        if let Some(path) = &self.hdr {
            write_file(path, &hdr(rounds)?)?;
        }
        if let (Some(path), Some(first)) = (&self.html, rounds.first()) {
            let pages: Vec<Round<'_>> =
                rounds.iter().map(|r| Round::new(&r.result, &r.outcome.record, &r.outcome.series)).collect();
            let notes: Vec<String> = rounds.iter().filter_map(|r| report::complaint(&r.outcome)).collect();
            let page = html::page(&report::opening(plan, &first.outcome), &pages, &notes);
            write_file(path, page.as_bytes())?;
        }
        Ok(())
    }
}

const CSV_HEADER: &str =
    "round,start_s,length_s,started,complete,failed,complete_per_second,p50_us,p90_us,p99_us,p999_us,max_us";

/// A line for each interval of each round; a latency is empty where nothing was complete.
fn csv(rounds: &[Measured]) -> String {
    let mut out = format!("{CSV_HEADER}\n");
    for (number, round) in rounds.iter().enumerate() {
        let step = round.outcome.series.interval();
        for (i, point) in round.outcome.series.points().iter().enumerate() {
            let start = step * u32::try_from(i).unwrap_or(u32::MAX);
            let length = round.outcome.record.wall.saturating_sub(start).min(step).as_secs_f64();
            let rate = if length > 0.0 { point.finished as f64 / length } else { 0.0 };
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "{},{},{length:.3},{},{},{},{rate:.1}",
                number + 1,
                start.as_secs(),
                point.started,
                point.finished,
                point.failed
            );
            let quantiles = [0.5, 0.9, 0.99, 0.999].map(|q| point.quantile(q));
            for value in quantiles.into_iter().chain([point.max()]) {
                let _ = match value {
                    Some(value) => write!(out, ",{}", value.as_micros()),
                    None => write!(out, ","),
                };
            }
            out.push('\n');
        }
    }
    out
}

fn hdr(rounds: &[Measured]) -> Result<Vec<u8>, RunError> {
    let entries = rounds.iter().flat_map(|round| {
        let record = &round.outcome.record;
        let length = record.wall.max(Duration::from_millis(1));
        report::phases(record)
            .into_iter()
            .map(move |(phase, latency)| Entry::new(&phase, round.started, length, latency.clone()))
    });
    let comment = format!("{}\nvalues in nanoseconds; without a tag: the whole latency", machine::command_line());
    hdr_log::write(&entries.collect::<Vec<_>>(), &comment)
}
