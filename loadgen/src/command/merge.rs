//! `merge`: several runs' HDR logs, taken together.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde::Serialize;

use crate::duration::Human;
use crate::error::RunError;
use crate::hdr_log::{self, Merge, Merged};
use crate::output::emit;
use crate::report::result::Quantiles;
use crate::report::{self, SCHEMA, grouped};

pub(super) const EXAMPLES: &str = "\
Examples:
  handfast-load merge one.hdr two.hdr three.hdr
      The percentiles of three machines' handshakes together.
  handfast-load merge one.hdr two.hdr --hdr all.hdr --json
      The same as JSON, and as a log.";

/// The options of `merge`.
#[derive(Clone, Debug, ClapArgs)]
#[non_exhaustive]
pub struct MergeArgs {
    /// Logs of `run --hdr`
    #[arg(value_name = "FILE", required = true)]
    pub logs: Vec<PathBuf>,

    /// Write all together into this log
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    kind: &'static str,
    logs: usize,
    span_s: f64,
    phases: BTreeMap<String, Phase>,
}

#[derive(Debug, Serialize)]
struct Phase {
    histograms: usize,
    count: u64,
    latency_us: Quantiles,
}

pub(super) fn execute(args: &MergeArgs) -> Result<u8, RunError> {
    let mut entries = Vec::new();
    for path in &args.logs {
        entries.extend(hdr_log::read(path)?);
    }
    let merged = hdr_log::merge(&entries);
    if let Some(path) = &args.hdr {
        crate::output::write_file(path, &hdr_log::write(&entries, "merged by handfast-load")?)?;
    }
    emit(&if args.json { json(args.logs.len(), &merged) } else { table(args.logs.len(), &merged) })?;
    Ok(0)
}

fn json(logs: usize, merged: &Merge) -> String {
    let phase = |m: &Merged| {
        let phase = Phase { histograms: m.entries, count: m.latency.count(), latency_us: Quantiles::of(&m.latency) };
        (m.phase.clone(), phase)
    };
    let phases = merged.phases.iter().map(phase).collect();
    report::line(&Report { schema: SCHEMA, kind: "merge", logs, span_s: merged.span.as_secs_f64(), phases })
}

fn table(logs: usize, merged: &Merge) -> String {
    let mut out = format!("\n  {logs} logs, {} from the first start to the last end\n\n", Human(merged.span));
    let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];
    // Writing to a string cannot fail.
    let _ = write!(out, "  {:<24}{:>14}", "latency", "handshakes");
    for (name, _) in quantiles {
        let _ = write!(out, "{name:>11}");
    }
    out.push('\n');
    for phase in &merged.phases {
        let _ = write!(out, "  {:<24}{:>14}", phase.phase, grouped(phase.latency.count()));
        for (_, q) in quantiles {
            let _ = write!(out, "{:>11}", Human(phase.latency.quantile(q).unwrap_or_default()));
        }
        out.push('\n');
    }
    out
}
