//! What limits cost an honest client's handshake, and what they are worth under a flood.
//!
//! `cargo run --release -p handfast-bench --bin limits -- cost` compares server CPU per full handshake with and without
//! limits on sources and PROXY protocol headers, in interleaved rounds; `-- flood` measures honest handshakes beside a
//! flood. The server is a child process on core 0, clients and flood are on core 1.

mod clients;
mod cost;
mod flood;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What limits cost, and what they are worth under a flood
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Server CPU per full handshake with limits on sources and PROXY protocol headers, against none
    Cost(cost::Args),
    /// Honest handshakes beside a flood of half-open and garbage connections
    Flood(flood::Args),
    /// The server under measurement
    #[command(hide = true)]
    Serve(server::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Cost(args) => cost::run(&args),
        Command::Flood(args) => flood::run(&args),
        Command::Serve(args) => server::run(&args),
    };
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), result)
}
