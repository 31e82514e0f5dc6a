//! The subcommands. Each reads its part of the command line, does its runs, and hands its result to stdout and files.

mod compare;
mod files;
mod hold;
mod max;
mod merge;
mod plan;
mod run;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use handfast::crypto::{Crypto, Shortfall};

use crate::args::Args;
use crate::error::RunError;
use crate::plan::shares_x25519;
use crate::progress::say;

const EXAMPLES: &str = "\
Examples:
  handfast-load
      Measures the built-in engine for about ten seconds.
  handfast-load localhost:8443 --connections 256
      Keeps 256 handshakes under way against any TLS server.
  handfast-load max localhost:8443 --slo 'p99<20ms,errors<0.1%'
      Finds the highest rate at which the server keeps to that.
  handfast-load compare --interleave localhost:8443 localhost:9443 --rounds 5
      Says whether the second server is better, worse, or no different.
  handfast-load localhost:8443 --duration 500ms --json | jq .handshakes_per_second
      For scripts: one JSON object on stdout.";

const AFTER: &str = "\
Exit status: 0 done; 1 the measured thing failed (no handshake succeeded, the target was lost, an objective was \
missed, a comparison was lost), or this machine was the limit (too late for the rate, out of ports or descriptors); 2 wrong usage.
Without --verify or --ca no certificate and no server signature is checked: this tool measures, and its output \
says so. docs/LOADGEN.md has the method and every field of the JSON.";

/// Measures how many TLS handshakes a server can take.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "handfast-load",
    version,
    before_help = EXAMPLES,
    after_help = AFTER,
    max_term_width = 110,
    args_conflicts_with_subcommands = true
)]
#[non_exhaustive]
pub struct Cli {
    /// What to do; without one of these, `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `run`.
    #[command(flatten)]
    pub run: run::RunArgs,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Measure one server (what happens without a subcommand)
    #[command(before_help = run::EXAMPLES, after_help = "")]
    Run(Box<run::RunArgs>),
    /// Find the highest rate that keeps to an objective
    #[command(before_help = max::EXAMPLES, after_help = max::AFTER)]
    Max(Box<max::MaxArgs>),
    /// Hold idle connections: how many survive, and what each costs the server
    #[command(before_help = hold::EXAMPLES, after_help = "")]
    Hold(Box<hold::HoldArgs>),
    /// Measure at several numbers of connections, and show how rate and latency follow
    #[command(before_help = sweep::EXAMPLES, after_help = "")]
    Sweep(Box<sweep::SweepArgs>),
    /// Fit a sweep to the Universal Scalability Law: what a stated rate and latency need
    #[command(before_help = plan::EXAMPLES)]
    Plan(plan::PlanArgs),
    /// Say whether one server is better or worse than another, from several rounds of each
    #[command(before_help = compare::EXAMPLES, after_help = compare::AFTER)]
    Compare(Box<compare::CompareArgs>),
    /// Exact percentiles of several runs together, from their HDR logs
    #[command(before_help = merge::EXAMPLES)]
    Merge(merge::MergeArgs),
}

impl Cli {
    /// Does what the command line says, and returns the exit status. `interrupted` ends it early, with the figures so
    /// far.
    ///
    /// # Errors
    /// Wrong usage, or nothing could be measured.
    pub fn execute(self, interrupted: &Arc<AtomicBool>) -> Result<u8, RunError> {
        if let Some(warning) = self.warning(Crypto::shortfall) {
            say(&warning);
        }
        match self.command {
            None => run::execute(self.run, interrupted),
            Some(Command::Run(args)) => run::execute(*args, interrupted),
            Some(Command::Max(args)) => max::execute(*args, interrupted),
            Some(Command::Hold(args)) => hold::execute(*args, interrupted),
            Some(Command::Sweep(args)) => sweep::execute(*args, interrupted),
            Some(Command::Plan(args)) => plan::execute(&args),
            Some(Command::Compare(args)) => compare::execute(*args, interrupted),
            Some(Command::Merge(args)) => merge::execute(&args),
        }
    }

    /// What is to be said when key exchanges are not computed as they should be on this machine.
    fn warning(&self, shortfall: impl FnOnce(Crypto) -> Option<Shortfall>) -> Option<String> {
        let load = self.load().filter(|load| shares_x25519(load))?;
        Some(format!("handfast-load: warning: {}", shortfall(load.crypto.into())?))
    }

    /// What is loaded, and how, if anything is.
    fn load(&self) -> Option<&Args> {
        match &self.command {
            None => Some(&self.run.load),
            Some(Command::Run(args)) => Some(&args.load),
            Some(Command::Max(args)) => Some(&args.load),
            Some(Command::Hold(args)) => Some(&args.load),
            Some(Command::Sweep(args)) => Some(&args.load),
            Some(Command::Compare(args)) => Some(&args.load),
            Some(Command::Plan(_) | Command::Merge(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use handfast::crypto::batch::Unavailable;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_opens_with_five_examples() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        let head = help.split("Usage:").next().unwrap();
        assert!(help.starts_with("Examples:"), "{help}");
        assert_eq!(head.matches("\n  handfast-load").count(), 5);
    }

    #[test]
    fn each_subcommand_opens_its_help_with_examples_of_its_own() {
        let command = Cli::command();
        for sub in command.get_subcommands() {
            let name = sub.get_name().to_owned();
            let help = sub.clone().render_long_help().to_string();
            let head = help.split("Usage:").next().unwrap();
            assert!(help.starts_with("Examples:"), "{name}: {help}");
            assert!(head.matches(&format!("\n  handfast-load {name}")).count() >= 2, "{name}: {head}");
        }
    }

    #[test]
    fn every_example_parses() {
        let mut command = Cli::command();
        let helps: Vec<String> = command
            .get_subcommands()
            .cloned()
            .chain([command.clone()])
            .map(|mut c| c.render_long_help().to_string())
            .collect();
        let mut seen = 0;
        for line in helps.iter().flat_map(|h| h.lines()) {
            let Some(example) = line.strip_prefix("  handfast-load") else { continue };
            let words = example.split(['|', '>', '#']).next().unwrap_or_default().split_whitespace();
            let words = std::iter::once("handfast-load").chain(words).map(|w| w.trim_matches('\''));
            command.try_get_matches_from_mut(words).unwrap_or_else(|e| panic!("{line}: {e}"));
            seen += 1;
        }
        assert!(seen >= 12, "{seen} examples");
    }

    #[test]
    fn without_a_subcommand_it_is_run() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["handfast-load"], args].concat());
        assert!(parse(&[]).unwrap().command.is_none());
        assert_eq!(parse(&["a:1", "-c", "5"]).unwrap().run.load.connections, Some(5));
        assert!(matches!(parse(&["run", "a:1"]).unwrap().command, Some(Command::Run(_))));
        assert!(parse(&["--json", "run", "a:1"]).is_err());
    }

    #[test]
    fn a_failed_self_test_is_told_whatever_is_run() {
        let failed = |crypto| {
            (crypto == Crypto::Auto).then_some(Shortfall::Batch(Unavailable::SelfTest("X25519 key agreement")))
        };
        let warning = |args: &[&str]| Cli::try_parse_from([&["handfast-load"], args].concat()).unwrap().warning(failed);
        let said = "handfast-load: warning: the self-test of batched X25519 key agreement failed: do not trust this CPU or \
                    this build; aws-lc computes everything";
        for args in [&[][..], &["run"], &["--quiet"], &["--groups", "x25519"], &["hold", "a:1"], &["sweep"]] {
            assert_eq!(warning(args).as_deref(), Some(said), "{args:?}");
        }
        for args in [&["--crypto", "aws-lc"][..], &["--crypto", "batch"], &["--groups", "p256"], &["merge", "a.hlog"]] {
            assert_eq!(warning(args), None, "{args:?}");
        }
    }
}
