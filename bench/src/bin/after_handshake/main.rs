//! What connections cost after their handshake: Handfast against the same libraries on tokio and tokio-rustls, and
//! against itself.
//!
//! `cargo run --release -p handfast-bench --bin after_handshake -- --help`

mod cpu;
mod crowd;
mod handshakes;
mod memory;
mod peers;
mod placement;
mod report;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use serve::Error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  after_handshake cpu
      Server CPU per request, against hyper and yawc on tokio and tokio-rustls.
  after_handshake memory --connections 500 --json
      Resident memory per idle connection, as one JSON object.";

const AFTER: &str = "\
Servers are processes of their own on core 0, clients run on core 1, all on 127.0.0.1. Each round measures all that \
are compared, the first of them changing from round to round.
Exit status: 0 done and each bar met; 1 a bar was missed, or nothing could be measured; 2 wrong usage.";

/// What connections cost after their handshake
#[derive(Debug, Parser)]
#[command(before_help = EXAMPLES, after_help = AFTER, max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Server CPU per request over long-lived connections
    Cpu(cpu::CpuArgs),
    /// Resident memory per idle connection that has served an 8 KiB request
    Memory(memory::MemoryArgs),
    /// Handshake rate of a shard that holds idle WebSockets, against one that holds none
    IdleWebsockets(crowd::CrowdArgs),
    /// Handshake times beside handlers that sleep, by where these run
    Placement(placement::PlacementArgs),
    /// One of the servers that are compared
    #[command(hide = true)]
    Serve(serve::ServeArgs),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Cpu(args) => cpu::run(&args),
        Command::Memory(args) => memory::run(&args),
        Command::IdleWebsockets(args) => crowd::run(&args),
        Command::Placement(args) => placement::run(&args),
        Command::Serve(args) => serve::serve(&args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("after_handshake: {e}");
            ExitCode::FAILURE
        }
    }
}
