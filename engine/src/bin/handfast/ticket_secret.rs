//! `handfast ticket-secret`: makes the file that a fleet shares.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use handfast::crypto::new_ticket_secret;

/// Why there is no new secret.
#[derive(Debug)]
pub(crate) enum TicketSecretError {
    /// The file cannot be made or written.
    File(PathBuf, io::Error),
    /// Standard output cannot be written.
    Stdout(io::Error),
    /// The system gives no randomness.
    NoRandomness,
}

impl TicketSecretError {
    /// 2: the user can mend it. 1: this machine failed.
    pub(crate) const fn exit_status(&self) -> u8 {
        match self {
            Self::File(..) => 2,
            Self::Stdout(_) | Self::NoRandomness => 1,
        }
    }
}

impl fmt::Display for TicketSecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, e) if e.kind() == io::ErrorKind::AlreadyExists => write!(
                f,
                "{} exists: its secrets may be in use. To add one, append what `handfast ticket-secret` prints",
                path.display()
            ),
            Self::File(path, e) => write!(f, "cannot write {}: {e}", path.display()),
            Self::Stdout(e) => write!(f, "cannot write the secret: {e}"),
            Self::NoRandomness => f.write_str("the system gives no randomness"),
        }
    }
}

/// Writes a new secret to a new file, which others cannot read at any time, or to standard output.
pub(crate) fn make(file: Option<&Path>) -> Result<(), TicketSecretError> {
    let line = new_ticket_secret().map_err(|_| TicketSecretError::NoRandomness)?;
    let Some(path) = file else {
        let mut out = io::stdout().lock();
        return match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(TicketSecretError::Stdout(e)),
            _ => Ok(()),
        };
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(line.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| TicketSecretError::File(path.to_owned(), e))
}
