//! Measures how many TLS handshakes a server can take.
//!
//! The way of a run: [`args`] (the command line) -> [`plan`] (checked) -> [`pacer`] (when may a handshake start, from
//! [`arrivals`] in an open loop) -> [`client`] (shards that make handshakes over the engine's transport) -> [`record`]
//! (counts, histograms of [`latency`] and a [`series`]) -> [`report`] (a table or JSON). [`target`] finds what is
//! measured, [`cpu`] reads what it costs.

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
pub mod series;
pub mod source;
pub mod target;
pub mod weighted;

pub use args::Args;
pub use plan::Plan;
pub use run::{Outcome, run};
