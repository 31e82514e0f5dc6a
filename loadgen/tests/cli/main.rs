//! The binary, driven as a person or a script drives it.

mod bad_servers;
mod documented;
mod good_servers;
mod loads;
mod server;
mod shapes;
mod subcommands;
mod usage;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What the binary did.
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Run {
    /// Its one JSON object, whose fields are those of the documentation.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line on stdout: {}{}", self.stdout, self.stderr);
        let json = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout));
        documented::check(&json);
        json
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handfast-load"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Run {
    let started = Instant::now();
    let output = command(args).output().unwrap();
    Run {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: started.elapsed(),
    }
}

/// Runs with `--json` against `target`.
fn load(target: &str, args: &[&str]) -> (Run, Value) {
    let run = run(&[&[target, "--json"], args].concat());
    let json = run.json();
    (run, json)
}
