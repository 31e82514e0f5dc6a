//! `handfast-load`: measures how many TLS handshakes a server can take.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use handfast_load::error::RunError;
use handfast_load::progress::say;
use handfast_load::{Args, Plan, report};
use signal_hook::consts::{SIGINT, SIGTERM};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(args) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&format!("handfast-load: {error}"));
            ExitCode::from(error.exit_status())
        }
    }
}

fn measure(args: Args) -> Result<u8, RunError> {
    let plan = Plan::new(args)?;
    let outcome = handfast_load::run(&plan, &on_signal()?)?;
    let text = if plan.json { report::json(&plan, &outcome) } else { report::table(&plan, &outcome) };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever has read enough has read enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
        Err(source) => return Err(RunError::Local { doing: "write the result", source }),
        Ok(()) => {}
    }
    if let Some(complaint) = report::complaint(&outcome) {
        say(&format!("handfast-load: {complaint}"));
    }
    Ok(outcome.exit_status())
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
