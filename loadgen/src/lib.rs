//! Measures how many TLS handshakes a server can take.
//!
//! The way of a run: [`args`] (the command line) -> [`plan`] (checked) -> [`pacer`] (when may a handshake start, from
//! [`arrivals`] in an open loop) -> [`client`] (shards that make handshakes over the engine's transport) -> [`record`]
//! (counts, histograms of [`latency`] and a [`series`]) -> [`report`] (a table or JSON). [`target`] finds what is
//! measured, [`cpu`] reads what it costs.
//!
//! Pure, and apart from a run: [`stats`] (rounds compared), [`search`] and [`slo`] (the highest rate that keeps to an
//! objective), [`usl`] (what a sweep says about capacity).

pub mod args;
pub mod arrivals;
pub mod client;
pub mod cpu;
pub mod duration;
pub mod error;
pub mod failure;
pub mod latency;
pub mod names;
pub mod pacer;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod search;
pub mod series;
pub mod slo;
pub mod source;
pub mod stats;
pub mod target;
pub mod usl;
pub mod weighted;

pub use args::Args;
pub use plan::Plan;
pub use run::{Outcome, run};
