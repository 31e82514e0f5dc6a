//! What a person sees while a run goes on: on stderr, so that stdout holds the result alone.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use crate::report::{grouped, grouped_rate};
use crate::series::Point;

/// Writes a line to stderr; that nobody reads it is no error.
pub fn say(line: &str) {
    let _ = writeln!(stderr().lock(), "{line}");
}

/// What a progress line shows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Since the start, warm-up included.
    pub elapsed: Duration,
    /// Complete handshakes since then.
    pub handshakes: u64,
    /// Failed ones.
    pub failures: u64,
    /// Complete handshakes per second since the last line.
    pub rate: f64,
    /// Whether the warm-up still lasts.
    pub warming_up: bool,
}

/// What shows a run to somebody while it goes on.
pub trait View {
    /// What is going to be measured, in one line.
    fn begins(&mut self, line: &str);

    /// Where the run is: about once a second, from the warm-up on.
    fn shows(&mut self, status: &Status);

    /// What all shards have seen in an interval of the time that counts: its number, when it is over. Intervals are a
    /// second long; in a very long run they become longer, as those of [`Series`](crate::series::Series) do.
    fn interval(&mut self, number: usize, point: &Point) {
        let _ = (number, point);
    }

    /// Nothing more will be shown.
    fn ends(&mut self);
}

/// Shows progress: one line that is written over on a terminal, a line each time in a pipe.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// For this process's stderr.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet, terminal: stderr().is_terminal(), shown: false }
    }

    /// Takes the line that is written over away.
    fn clear(&mut self) {
        if self.shown && self.terminal {
            let mut out = stderr().lock();
            let _ = write!(out, "\r\x1b[K");
            let _ = out.flush();
        }
        self.shown = false;
    }
}

impl View for Progress {
    fn begins(&mut self, line: &str) {
        if !self.quiet {
            self.clear();
            say(line);
        }
    }

    fn shows(&mut self, status: &Status) {
        if self.quiet {
            return;
        }
        let line = render(status);
        let mut out = stderr().lock();
        // A person who closed the pipe does not want to know.
        let _ = if self.terminal { write!(out, "\r{line}\x1b[K") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        self.shown = true;
    }

    fn ends(&mut self) {
        self.clear();
    }
}

fn render(status: &Status) -> String {
    let errors = match status.failures {
        0 => String::new(),
        n => format!(", {} failed", grouped(n)),
    };
    format!(
        "{:>5.1} s  {:>9} handshakes/s  {} in all{errors}{}",
        status.elapsed.as_secs_f64(),
        grouped_rate(status.rate),
        grouped(status.handshakes),
        if status.warming_up { "  (warming up)" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rate_count_and_failures() {
        let elapsed = Duration::from_millis(2500);
        let status = Status { elapsed, handshakes: 21_000, failures: 3, rate: 8400.4, warming_up: false };
        assert_eq!(render(&status), "  2.5 s      8,400 handshakes/s  21,000 in all, 3 failed");
    }
}
