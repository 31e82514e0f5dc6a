//! How many sockets this process may have.

use std::io;

/// Raises the soft limit on file descriptors to the hard one, and says what it is then.
///
/// # Errors
/// The system does not tell or change the limit.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
