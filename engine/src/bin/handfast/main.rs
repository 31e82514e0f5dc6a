//! `handfast serve`: the engine as a server of its own; `handfast check`: whether its configuration is right.

mod args;
mod check;
mod identities;
mod overrides;
mod serve;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args::Cli { command } = args::Cli::parse();
    match command {
        args::Command::Check(args) => check::check(&args),
        args::Command::Serve(args) => match serve::serve(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error.to_string().lines().for_each(|line| eprintln!("handfast: {line}"));
                ExitCode::from(error.exit_status())
            }
        },
    }
}
