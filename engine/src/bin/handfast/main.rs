//! `handfast serve`: the engine as a server of its own; `handfast check`: whether its configuration is right.
//! `handfast ticket-secret`: what a fleet of them shares.

mod args;
mod check;
mod identities;
mod overrides;
mod serve;
mod ticket_secret;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args::Cli { command } = args::Cli::parse();
    let failed = match command {
        args::Command::Check(args) => return check::check(&args),
        args::Command::Serve(args) => serve::serve(&args).map_err(|e| (e.exit_status(), e.to_string())),
        args::Command::TicketSecret(args) => {
            ticket_secret::make(args.file.as_deref()).map_err(|e| (e.exit_status(), e.to_string()))
        }
    };
    match failed {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, error)) => {
            error.lines().for_each(|line| eprintln!("handfast: {line}"));
            ExitCode::from(status)
        }
    }
}
