//! What stops a run before or while it measures.

use std::fmt;
use std::io;
use std::path::PathBuf;

use handfast::crypto::batch::Unavailable;

/// What was asked for cannot be done: exit status 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum UsageError {
    /// The target has no port.
    NoPort(String),
    /// The target's port is no number from 1 to 65535.
    BadPort(String),
    /// An IPv6 address without brackets.
    BareIpv6(String),
    /// The target's host is empty.
    NoHost(String),
    /// The name does not resolve.
    UnknownHost {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name for SNI is no DNS name.
    BadName(String),
    /// A file of names cannot be read.
    NamesUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line of a file of names is wrong.
    BadLine {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1 on.
        line: usize,
    },
    /// The names have no weight.
    NoNames(String),
    /// The source address is not one of this machine's.
    ForeignSource {
        /// The address.
        address: std::net::IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file of certificates cannot be read.
    CertificatesUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// A CA file holds no certificate that can be a root.
    CaEmpty(PathBuf),
    /// The client certificate's file holds none.
    ClientCertificateEmpty(PathBuf),
    /// The client certificate's key cannot be read.
    KeyUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// `--server-pid` names no process.
    NoSuchProcess(u32),
    /// `--server-cgroup` names no control group.
    NoSuchCgroup(PathBuf),
    /// The CPU to pin to is not ours to use.
    NoSuchCpu {
        /// The CPU that was asked for.
        cpu: usize,
        /// Those that there are.
        allowed: Vec<usize>,
    },
    /// More connections than file descriptors.
    TooManyConnections {
        /// What was asked for.
        connections: u32,
        /// What the limit leaves room for.
        room: u64,
    },
    /// An option that only means something with, or without, a target.
    OptionMismatch(&'static str),
    /// TLS options that exclude each other.
    Tls(rustls::Error),
    /// Batched cryptography was asked for and is not to be had.
    Crypto(Unavailable),
    /// A file that was to be read cannot be.
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is no HDR log.
    BadLog {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// A file is not the result that it was to be.
    BadResult {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort(target) => write!(f, "`{target}` has no port; write for example {target}:443"),
            Self::BadPort(target) => {
                write!(f, "the port of `{target}` is no number from 1 to 65535; write for example localhost:443")
            }
            Self::BareIpv6(target) => {
                write!(f, "`{target}` has several colons; put an IPv6 address in brackets, for example [::1]:443")
            }
            Self::NoHost(target) => write!(f, "`{target}` has no host; write for example localhost:443"),
            Self::UnknownHost { host, source } => {
                write!(f, "cannot find the host `{host}`: {source}; check the name, or write its address")
            }
            Self::BadName(name) => {
                write!(f, "`{name}` is no name that a certificate can have; write for example --sni www.example.com")
            }
            Self::NamesUnreadable { path, source } => {
                write!(f, "--sni: cannot read names from {}: {source}; it must hold one name a line", path.display())
            }
            Self::BadLine { path, line } => write!(
                f,
                "--sni: line {line} of {} is no name, or its weight no number above 0; write for example `a.example 70`",
                path.display()
            ),
            Self::NoNames(names) => write!(
                f,
                "--sni {names}: no names with weights above 0; write for example --sni 'a.example=70;b.example=30'"
            ),
            Self::ForeignSource { address, source } => write!(
                f,
                "--source: cannot connect from {address}: {source}; give addresses of this machine (ip addr shows them; \
                 all of 127.0.0.0/8 are)"
            ),
            Self::CertificatesUnreadable { path, source } => {
                write!(f, "cannot read certificates from {}: {source}; it must be a PEM file", path.display())
            }
            Self::ClientCertificateEmpty(path) => {
                write!(f, "--client-cert: {} holds no certificate; it must be a PEM file", path.display())
            }
            Self::KeyUnreadable { path, source } => {
                write!(f, "--client-key: cannot read a key from {}: {source}; it must be a PEM file", path.display())
            }
            Self::CaEmpty(path) => {
                write!(f, "{} holds no usable certificate; it must be a PEM file with CA certificates", path.display())
            }
            Self::NoSuchProcess(pid) => {
                write!(f, "--server-pid {pid}: no such process (or no /proc); give the process ID of the server")
            }
            Self::NoSuchCgroup(path) => write!(
                f,
                "--server-cgroup {}: it has no cpu.stat; give the directory of a control group (version 2), for example \
                 /sys/fs/cgroup/system.slice/nginx.service",
                path.display()
            ),
            Self::NoSuchCpu { cpu, allowed } => {
                write!(f, "--pin-client {cpu}: this process may use the CPUs {allowed:?}; choose one of them")
            }
            Self::TooManyConnections { connections, room } => write!(
                f,
                "--connections {connections}: the limit of open files leaves room for {room}; raise it (ulimit -n) or \
                 ask for fewer"
            ),
            Self::OptionMismatch(what) => f.write_str(what),
            Self::FileUnreadable { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::BadLog { path, why } => {
                write!(f, "{} is no HDR log that can be read: {why}; write one with `run --hdr FILE`", path.display())
            }
            Self::BadResult { path, why } => {
                write!(f, "{} is no result that can be used here: {why}; write one with --json", path.display())
            }
            Self::Crypto(error) => write!(f, "{error}; --crypto auto or aws-lc do without"),
            Self::Tls(error) => write!(f, "these TLS options do not go together: {error}"),
        }
    }
}

impl std::error::Error for UsageError {}

/// Why nothing could be measured.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// Wrong usage: exit status 2.
    Usage(UsageError),
    /// This machine did not give what a client needs: exit status 1.
    Local {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written: exit status 1.
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A client thread panicked, which is a bug of ours: exit status 1.
    Panicked,
}

impl RunError {
    /// The exit status that tells a script what happened.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Local { .. } | Self::File { .. } | Self::Panicked => 1,
        }
    }
}

impl From<UsageError> for RunError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Local { doing, source } => write!(f, "cannot {doing}: {source}"),
            Self::File { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Panicked => f.write_str("a client thread panicked; this is a bug, please report it"),
        }
    }
}

impl std::error::Error for RunError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_cannot_compute_in_batches_is_wrong_usage_with_a_way_out() {
        let error = RunError::from(UsageError::Crypto(Unavailable::NoIfma));
        assert_eq!(error.exit_status(), 2);
        assert_eq!(
            error.to_string(),
            "this CPU has no AVX-512 IFMA, which batched cryptography needs; --crypto auto or aws-lc do without"
        );
    }
}
