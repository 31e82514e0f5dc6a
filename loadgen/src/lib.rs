//! Measures how many TLS handshakes a server can take.
//!
//! The way of a run: [`args`] (the command line) -> [`plan`] (checked) -> [`pacer`] (when may a handshake start, from
//! [`arrivals`] in an open loop) -> [`client`] (shards that make handshakes over the engine's transport) -> [`record`]
//! (counts, histograms of [`latency`] and a [`series`]) -> [`report`] (tables, JSON, CSV, HTML). [`target`] finds what is
//! measured, [`cpu`] and [`server_side`] read what it costs.
//!
//! [`command`] has the subcommands around a run. What they compute is pure and lies apart: [`stats`] and [`comparison`]
//! (rounds compared), [`search`] and [`slo`] (the highest rate that keeps to an objective), [`usl`] and [`capacity`] (what
//! a sweep says about machines).

pub mod args;
pub mod arrivals;
pub mod capacity;
pub mod client;
pub mod command;
pub mod comparison;
pub mod cpu;
pub mod duration;
pub mod error;
pub mod failure;
pub mod hdr_log;
pub mod latency;
pub mod live;
pub mod machine;
pub mod metric;
pub mod names;
pub mod output;
pub mod pacer;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod search;
pub mod series;
pub mod server_side;
pub mod slo;
pub mod source;
pub mod stats;
pub mod target;
pub mod tricks;
pub mod usl;
pub mod weighted;

pub use args::Args;
pub use plan::Plan;
pub use run::{Outcome, run};
