//! Starts the servers of this program.

use std::path::PathBuf;

use clap::ValueEnum;
use handfast_bench::servers::{Certificate, Server};

use super::Error;
use super::serve::{Settings, Stack};

/// The core of servers.
const SERVER_CORE: &str = "0";
/// The core of clients.
pub(crate) const CLIENT_CORE: usize = 1;

/// What every server of a run has in common.
pub(crate) struct Peers {
    program: PathBuf,
    certificate: Certificate,
    /// Whether servers may have huge pages.
    huge_pages: bool,
}

impl Peers {
    /// Servers whose memory is whole pages of what they have touched, and nothing of what lies beside it.
    pub(crate) fn new() -> Result<Self, Error> {
        Self::with_huge_pages(false)
    }

    /// Servers with transparent huge pages, where the system has them.
    pub(crate) fn with_huge_pages(huge_pages: bool) -> Result<Self, Error> {
        if let Err(e) = handfast::transport::tcp::raise_descriptor_limit() {
            super::report::progress(&format!("the limit on open files stays: {e}"));
        }
        Ok(Self { program: std::env::current_exe()?, certificate: Certificate::make()?, huge_pages })
    }

    /// Starts a server; `workers` is for Handfast.
    pub(crate) fn start(&self, stack: Stack, websocket: Settings, workers: usize) -> Result<Server, Error> {
        let (cert, key) = (self.certificate.cert(), self.certificate.key());
        let (cert, key, workers) = (cert.to_string_lossy(), key.to_string_lossy(), workers.to_string());
        let (stack, websocket) = (name(stack), name(websocket));
        let mut args = vec![
            "serve",
            "--core",
            SERVER_CORE,
            "--cert",
            &cert,
            "--key",
            &key,
            "--stack",
            &stack,
            "--websocket",
            &websocket,
            "--workers",
            &workers,
        ];
        if self.huge_pages {
            args.push("--huge-pages");
        }
        Ok(Server::start(&self.program, &args)?)
    }
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}
