//! The figures of a run that are compared between runs.

use clap::ValueEnum;

use crate::duration::Human;
use crate::report::{RunResult, grouped_rate};
use crate::stats::Better;

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Metric {
    /// Complete handshakes per second.
    #[value(name = "rate")]
    Rate,
    /// Median of the whole latency.
    #[value(name = "p50")]
    P50,
    /// 99th percentile of the whole latency.
    #[value(name = "p99")]
    P99,
    /// Client CPU per handshake.
    #[value(name = "client-cpu")]
    ClientCpu,
    /// Server CPU per handshake.
    #[value(name = "server-cpu")]
    ServerCpu,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Rate, Self::P50, Self::P99, Self::ClientCpu, Self::ServerCpu];

    /// Its name in JSON, with the unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "handshakes_per_second",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::ClientCpu => "client_cpu_us",
            Self::ServerCpu => "server_cpu_us",
        }
    }

    /// Its name in tables.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Rate => "handshakes/s",
            Self::P50 => "latency p50",
            Self::P99 => "latency p99",
            Self::ClientCpu => "client CPU",
            Self::ServerCpu => "server CPU",
        }
    }

    /// Which way it is good.
    #[must_use]
    pub const fn better(self) -> Better {
        match self {
            Self::Rate => Better::Higher,
            Self::P50 | Self::P99 | Self::ClientCpu | Self::ServerCpu => Better::Lower,
        }
    }

    /// Read off a run, in handshakes per second or microseconds; `None` when it was not measured.
    #[must_use]
    pub fn of(self, run: &RunResult) -> Option<f64> {
        match self {
            Self::Rate => Some(run.handshakes_per_second),
            Self::P50 => run.latency_us.total.p50,
            Self::P99 => run.latency_us.total.p99,
            Self::ClientCpu => run.client_cpu_us_per_handshake,
            Self::ServerCpu => run.server_cpu_us_per_handshake,
        }
    }

    /// A value with its unit.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{}/s", grouped_rate(value)),
            _ => micros(value),
        }
    }
}

/// Microseconds in the unit that fits them.
#[must_use]
pub fn micros(value: f64) -> String {
    std::time::Duration::try_from_secs_f64(value / 1e6).map_or_else(|_| "-".to_owned(), |d| Human(d).to_string())
}
