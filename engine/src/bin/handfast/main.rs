//! `handfast serve`: the engine as a server of its own.

mod args;
mod identities;
mod serve;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args::Cli { command } = args::Cli::parse();
    let args::Command::Serve(args) = command;
    match serve::serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handfast: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
