//! Where results go: stdout and files.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use crate::error::RunError;

/// Writes a result to stdout. Whoever has read enough and closed the pipe has read enough.
///
/// # Errors
/// stdout cannot be written for another reason.
pub fn emit(text: &str) -> Result<(), RunError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(RunError::Local { doing: "write the result", source }),
        Ok(()) => Ok(()),
    }
}

/// What `write` writes.
pub(crate) fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out);
    out
}

/// Writes a whole file.
///
/// # Errors
/// It cannot be written.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<(), RunError> {
    std::fs::write(path, contents).map_err(|source| RunError::File { doing: "write", path: path.to_owned(), source })
}

/// Looks before a long run whether a file can be written after it. Creates it empty; what was in it is lost, as it
/// will be anyway.
///
/// # Errors
/// It cannot be written.
pub fn claim_file(path: &Path) -> Result<(), RunError> {
    write_file(path, b"")
}
