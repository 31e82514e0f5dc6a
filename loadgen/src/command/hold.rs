//! `hold`: idle connections, how many survive, and what each costs.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use clap::Args as ClapArgs;
use serde::Serialize;

use super::files::{Files, Measured};
use crate::capacity::binary;
use crate::cpu::ServerCpu;
use crate::duration::Human;
use crate::error::{RunError, UsageError};
use crate::output::emit;
use crate::plan::{Extent, Plan, Then};
use crate::progress::{Progress, Status, View, say};
use crate::report::{self, RunResult, SCHEMA, grouped};
use crate::run::Ending;
use crate::server_side::{self, Sample};

use crate::{Args, Outcome, run, source};

pub(super) const EXAMPLES: &str = "\
Examples:
  handfast-load hold localhost:8443 --connections 5000 --duration 60s --server-pid 1
      Five thousand idle connections for a minute, and what each takes on the server.
  handfast-load hold localhost:8443 -c 18000 --source 127.0.0.0/24 --duration 60s --hdr 1.hdr
      From many addresses, so that local ports do not run out; the log of several such processes is for `merge`.";

/// The options of `hold`.
#[derive(Clone, Debug, ClapArgs)]
#[non_exhaustive]
pub struct HoldArgs {
    /// What to load, and how.
    #[command(flatten)]
    pub load: Args,

    /// Files to write besides the result.
    #[command(flatten)]
    pub files: Files,
}

const CONNECTIONS_DEFAULT: u32 = 1000;

/// A look at the server and at ourselves.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    server: Option<Sample>,
    client: Option<Sample>,
}

/// Looks before the first connection, when all of them are up, and at the end.
struct Watcher<'a> {
    progress: Progress,
    server: &'a ServerCpu,
    wanted: u64,
    before: Look,
    full: Option<Look>,
    end: Option<Look>,
}

fn look(server: &ServerCpu) -> Look {
    let client = server_side::sample(&ServerCpu::Process(std::process::id()));
    Look { at: Instant::now(), server: server_side::sample(server), client }
}

impl View for Watcher<'_> {
    fn begins(&mut self, line: &str) {
        self.progress.begins(line);
        self.before = look(self.server);
    }

    fn shows(&mut self, status: &Status) {
        self.progress.shows(status);
        let now = look(self.server);
        if self.full.is_none() && status.handshakes + status.failures >= self.wanted {
            self.full = Some(now);
        }
        self.end = Some(now);
    }

    fn ends(&mut self) {
        self.progress.ends();
    }
}

/// The result of `hold`.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    kind: &'static str,
    wanted: u32,
    established: u64,
    held: u64,
    lost: u64,
    idle_s: Option<f64>,
    server_resident_bytes_per_connection: Option<f64>,
    server_cpu_us_per_connection_second: Option<f64>,
    client_resident_bytes_per_connection: Option<f64>,
    run: RunResult,
}

pub(super) fn execute(args: HoldArgs, interrupted: &Arc<AtomicBool>) -> Result<u8, RunError> {
    let mut load = args.load;
    if load.then != Then::Close || load.count.is_some() || load.rate.is_some() || load.stages.is_some() || load.burst {
        let why =
            "hold keeps --connections open for --duration: leave --then, --count, --rate, --stages and --burst out";
        return Err(UsageError::OptionMismatch(why).into());
    }
    // They would make memory resident that nothing has touched, and so hide what a connection takes. A kernel that knows
    // no such switch has no such pages.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    load.then = Then::Hold;
    load.connections = Some(load.connections.unwrap_or(CONNECTIONS_DEFAULT));
    let plan = Plan::new(load)?;
    args.files.claim()?;
    if let Some(warning) = crowded(&plan, source::ports()).filter(|_| !plan.quiet) {
        say(&warning);
    }
    // The built-in engine shares our process, so that its memory cannot be told from ours.
    let server = plan.server_cpu.clone();
    let mut watcher = Watcher {
        progress: Progress::new(plan.quiet),
        before: look(&server),
        server: &server,
        wanted: u64::from(plan.connections),
        full: None,
        end: None,
    };
    let started = SystemTime::now();
    let outcome = run::run_with(&plan, interrupted, &mut watcher)?;
    let report = report_of(&plan, &outcome, &watcher);
    let round = [Measured { result: report.run.clone(), outcome, started }];
    args.files.write(&plan, &round)?;
    let [Measured { outcome, .. }] = round;
    emit(&if plan.json { report::line(&report) } else { table(&plan, &outcome, &report) })?;
    if let Some(complaint) = report::complaint(&outcome) {
        say(&format!("handfast-load: {complaint}"));
    }
    if outcome.ending == Ending::Planned && report.established + outcome.record.failures() < u64::from(plan.connections)
    {
        say(
            "handfast-load: not all connections were up when the time was over: allow more with --duration, which has to \
             hold both the coming up and the idling",
        );
    }
    let all_survived = report.held == u64::from(plan.connections);
    Ok(outcome.exit_status().max(u8::from(!all_survived)))
}

/// What to do against a crowd of connections from one address. Linux looks for a free local port one by one, the even
/// ones first; when those are taken, each further connection costs milliseconds.
fn crowded(plan: &Plan, ports: Option<u32>) -> Option<String> {
    let addresses = u32::try_from(plan.sources.len().max(1)).unwrap_or(u32::MAX);
    let (each, quick) = (plan.connections.div_ceil(addresses), ports? / 2);
    (each > quick).then(|| {
        let (each, quick) = (grouped(u64::from(each)), grouped(u64::from(quick)));
        format!(
            "{each} connections from one address: beyond {quick} they come up slowly, as the system searches long for a \
             free port; --source with more addresses (127.0.0.0/28 for a server on this machine) avoids that"
        )
    })
}

fn report_of(plan: &Plan, outcome: &Outcome, watcher: &Watcher<'_>) -> Report {
    let held = outcome.record.held;
    let ends = watcher.full.zip(watcher.end).filter(|(full, end)| end.at > full.at);
    let idle = ends.map(|(full, end)| end.at.duration_since(full.at));
    let grown = |pick: fn(&Look) -> Option<Sample>| {
        let before = pick(&watcher.before)?.resident?;
        let grown = pick(watcher.end.as_ref()?)?.resident?.checked_sub(before)?;
        (held > 0).then(|| (grown as f64 / held as f64).round())
    };
    let idle_cpu = || {
        let (full, end) = ends?;
        let (full, end) = (full.server?, end.server?);
        let used = (end.user + end.system).checked_sub(full.user + full.system)?;
        let seconds = idle?.as_secs_f64();
        (held > 0).then(|| used.as_secs_f64() * 1e6 / held as f64 / seconds)
    };
    // Our own process holds the built-in engine as well.
    let own = matches!(plan.target, crate::plan::Target::Server(_));
    Report {
        schema: SCHEMA,
        kind: "hold",
        wanted: plan.connections,
        // Some may have come up while the run ended.
        established: outcome.handshakes_all,
        held,
        lost: outcome.record.lost,
        idle_s: idle.map(|d| d.as_secs_f64()),
        server_resident_bytes_per_connection: grown(|l| l.server),
        server_cpu_us_per_connection_second: idle_cpu(),
        client_resident_bytes_per_connection: own.then(|| grown(|l| l.client)).flatten(),
        run: RunResult::of(plan, outcome),
    }
}

fn table(plan: &Plan, outcome: &Outcome, report: &Report) -> String {
    let mut out = format!("{}\n{}\n", report::opening(plan, outcome), report::configuration(plan));
    let memory = |bytes: Option<f64>| bytes.map_or_else(|| "unknown".to_owned(), binary);
    let cpu =
        report.server_cpu_us_per_connection_second.map_or_else(|| "unknown".to_owned(), |us| format!("{us:.2} µs"));
    let extent = match plan.extent {
        Extent::Time(time) => time,
        Extent::Handshakes(_) => Duration::ZERO,
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\n  established     {:>12}   of {}",
        grouped(report.established),
        grouped(u64::from(report.wanted))
    );
    let _ = writeln!(out, "  held            {:>12}   to the end, after {}", grouped(report.held), Human(extent));
    let _ = writeln!(out, "  lost            {:>12}   ended by the server meanwhile", grouped(report.lost));
    let _ = writeln!(out, "  failed          {:>12}   handshakes", grouped(outcome.record.failures()));
    let _ = writeln!(
        out,
        "  server memory   {:>12}   resident per connection",
        memory(report.server_resident_bytes_per_connection)
    );
    let _ = writeln!(out, "  server CPU      {cpu:>12}   per idle connection and second");
    let _ = writeln!(
        out,
        "  client memory   {:>12}   resident per connection",
        memory(report.client_resident_bytes_per_connection)
    );
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_crowd_from_one_address_is_told_to_spread() {
        let warning = |args: &[&str]| {
            let args = [&["handfast-load", "127.0.0.1:1", "--shards", "1"], args].concat();
            crowded(&Plan::new(Args::try_parse_from(args).unwrap()).unwrap(), Some(100))
        };
        assert_eq!(warning(&["--connections", "50"]), None);
        assert!(warning(&["--connections", "51"]).unwrap().contains("--source"));
        assert_eq!(warning(&["--connections", "100", "--source", "127.0.0.1,127.0.0.2"]), None);
    }
}
