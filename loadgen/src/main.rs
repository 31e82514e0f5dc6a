//! `handfast-load`: measures how many TLS handshakes a server can take.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use handfast_load::command::Cli;
use handfast_load::error::RunError;
use handfast_load::progress::say;
use signal_hook::consts::{SIGINT, SIGTERM};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let status = on_signal().and_then(|interrupted| Cli::parse().execute(&interrupted));
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&format!("handfast-load: {error}"));
            ExitCode::from(error.exit_status())
        }
    }
}

/// The first signal ends the run with the figures so far, the second one ends the process.
fn on_signal() -> Result<Arc<AtomicBool>, RunError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|source| RunError::Local { doing: "listen for signals", source })?;
    }
    Ok(interrupted)
}
