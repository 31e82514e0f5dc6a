//! What the side-by-side runs share: servers as child processes, certificates in files, a client that asks one
//! request after another, figures with their noise.

pub mod exchange;
pub mod figures;
pub mod servers;

use std::fmt::Display;
use std::process::ExitCode;

/// How `program` ends; an error is told on standard error.
pub fn exit_code<E: Display>(program: &str, ended: Result<(), E>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{program}: {e}");
            ExitCode::FAILURE
        }
    }
}
