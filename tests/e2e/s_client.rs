//! `openssl s_client`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use handfast_tests::peers::Program;
use handfast_tests::process::{Ended, Pipe, Process};
use serde_json::Value;

use crate::facts;
use crate::server::until;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// One that stays connected until its input ends.
pub(crate) struct SClient(Process);

impl SClient {
    pub(crate) fn start(openssl: &Program, addr: SocketAddr, args: &[&str]) -> Self {
        let mut command = openssl.command();
        command.args(["s_client", "-connect", &addr.to_string(), "-servername", "localhost"]);
        Self(Process::start(command.args(args)))
    }

    /// Waits for the end of the handshake.
    #[track_caller]
    pub(crate) fn established(self) -> Self {
        self.0.wait_for_text("Verify return code:");
        self
    }

    /// Waits until it has written its ticket to `file`, which `-sess_out` names: TLS 1.3 sends it after the handshake.
    #[track_caller]
    pub(crate) fn with_ticket(self, file: &Path) -> Self {
        let client = self.established();
        until("a ticket", || fs::read_to_string(file).is_ok_and(|t| t.contains("-----END SSL SESSION")));
        client
    }

    /// Asks for the facts over HTTP/1.1 and stays connected.
    #[track_caller]
    pub(crate) fn facts(&mut self) -> Value {
        self.0.input(REQUEST);
        self.0.wait_for("facts", Pipe::Stdout, facts::find)
    }

    pub(crate) fn input(&mut self, bytes: &[u8]) {
        self.0.input(bytes);
    }

    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, pipe: Pipe, wanted: impl FnMut(&str) -> Option<T>) -> T {
        self.0.wait_for(what, pipe, wanted)
    }

    #[track_caller]
    pub(crate) fn wait_for_text(&self, wanted: &str) {
        self.0.wait_for_text(wanted);
    }

    /// Closes, and waits for its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.0.end()
    }
}

/// Handshakes and closes.
#[track_caller]
pub(crate) fn handshake(openssl: &Program, addr: SocketAddr, args: &[&str]) -> Ended {
    let ended = SClient::start(openssl, addr, args).established().end();
    assert_eq!(ended.code(), 0, "{ended}");
    ended
}

/// The server's certificate in what it has printed, as PEM.
#[track_caller]
pub(crate) fn certificate(text: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("no certificate: {text}"));
    let end = text[begin..].find(END).unwrap_or_else(|| panic!("half a certificate: {text}"));
    &text[begin..begin + end + END.len()]
}
