//! A key log in a file, in the format that NSS introduced and that the tools read.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustls::KeyLog;

use super::error::ClientError;

/// Appends a line for each secret: label, client random and secret, the last two in hexadecimal.
#[derive(Debug)]
pub(super) struct KeyLogFile(File);

impl KeyLogFile {
    pub(super) fn open(path: &Path) -> Result<Self, ClientError> {
        // Nobody else on the machine may read what is in there.
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        opened.map(Self).map_err(|e| ClientError::KeyLog { path: path.into(), kind: e.kind() })
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = String::with_capacity(label.len() + 2 * (client_random.len() + secret.len()) + 3);
        line.push_str(label);
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                // A string takes everything.
                let _ = write!(line, "{byte:02x}");
            }
        }
        line.push('\n');
        // In one call, so that lines of several connections and programs stay whole. A full disk is no reason to
        // fail the connection.
        let _ = (&self.0).write_all(line.as_bytes());
    }
}
