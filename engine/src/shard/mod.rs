//! One thread's share of the engine.

pub mod timers;
