//! Measurements that need no other server: `cargo run --release -p handfast-bench -- --help`

mod batch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measurements that need no other server
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Server CPU of full handshakes in memory: cryptography in batches against aws-lc alone, and the cost of each
    /// operation
    Batch(batch::Args),
}

fn main() -> ExitCode {
    let Command::Batch(args) = Cli::parse().command;
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), batch::run(&args))
}
