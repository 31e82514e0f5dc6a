//! What is wrong, or worth knowing, about a configuration, with the line that says so.

use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

use crate::crypto::{Shortfall, TicketSecretError, TicketSecretExposed};
use crate::engine::StartError;
use crate::error::Culprit;
use crate::identity::{IdentityError, IdentityWarning};

/// A configuration that cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigError {
    findings: Vec<Finding>,
}

impl ConfigError {
    pub(super) fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| (finding.line, finding.column));
        Self { findings }
    }

    /// All that is wrong, in the order of the file; at least one.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The same, taken out.
    #[must_use]
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        Culprit::Config
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.findings.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Severity {
    /// The configuration can be used.
    Warning,
    /// It cannot.
    Error,
}

/// One thing that is wrong, or worth knowing: where, which key, what, and the mend.
#[derive(Debug)]
pub struct Finding {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) key: String,
    pub(super) kind: FindingKind,
}

impl Finding {
    /// The configuration file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line, from 1; 0 when it is about the whole file.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The character in the line, from 1; 0 when it is about the whole file.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The key with its tables, as in `limits.handshake_deadline`; empty when it is about no single key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> &FindingKind {
        &self.kind
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self.kind {
            FindingKind::IdentityWarning(_)
            | FindingKind::TicketSecretsExposed(_)
            | FindingKind::Shortfall(_)
            | FindingKind::UnusedSet
            | FindingKind::SelfSigned => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

impl fmt::Display for Finding {
    /// `FILE:LINE:COLUMN: KEY: what is wrong; the mend`, in one line; without the place where there is no file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = OneLine(f);
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        if self.severity() == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.kind)
    }
}

/// Escapes line breaks and other control characters, which names and values of the file may hold.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let plain = part.trim_end_matches(char::is_control);
            self.0.write_str(plain)?;
            write!(self.0, "{}", part[plain.len()..].escape_default())?;
        }
        Ok(())
    }
}

/// What is wrong, or worth knowing.
#[derive(Debug)]
#[non_exhaustive]
pub enum FindingKind {
    /// The configuration file cannot be read.
    Unreadable(io::ErrorKind),
    /// The configuration file is larger than any configuration.
    TooLarge,
    /// The configuration file is not in UTF-8.
    NotUtf8,
    /// It is not TOML.
    Syntax(String),
    /// There is no such key.
    UnknownKey {
        /// The key that was probably meant.
        meant: Option<String>,
    },
    /// A key that has to be there is not.
    MissingKey,
    /// The value is of the wrong type, or out of range.
    Value {
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// The same name a second time.
    Repeated {
        /// The name.
        name: String,
        /// The line where it stands already.
        line: usize,
    },
    /// A protocol names a certificate set that the file does not have.
    UnknownSet {
        /// The name.
        name: String,
        /// The set that was probably meant.
        meant: Option<String>,
    },
    /// `fallback` or `without_alpn` names a protocol that the file does not have.
    UnknownProtocol {
        /// The name.
        name: String,
        /// The protocol that was probably meant.
        meant: Option<String>,
    },
    /// Nothing serves the protocol.
    NoWorker {
        /// The protocol.
        protocol: String,
    },
    /// The protocol is served by the program, and it does not.
    NoProgram {
        /// The protocol.
        protocol: String,
    },
    /// The facts can be served over HTTP only.
    FactsWithoutHttp {
        /// The protocol.
        protocol: String,
    },
    /// There are more protocols than can be registered.
    TooManyProtocols,
    /// A certificate or a key cannot be used.
    Identity(IdentityError),
    /// The secrets of session tickets cannot be used.
    TicketSecrets(TicketSecretError),
    /// The secrets of session tickets can be read by others.
    TicketSecretsExposed(TicketSecretExposed),
    /// The engine would not start.
    Start(StartError),
    /// A certificate is served all the same.
    IdentityWarning(IdentityWarning),
    /// With `crypto = "auto"` this machine does without something that its CPU could do.
    Shortfall(Shortfall),
    /// No protocol uses the certificate set.
    UnusedSet,
    /// The protocol has no certificates: the program makes them, or the engine does not start.
    SelfSigned,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meant = |f: &mut fmt::Formatter<'_>, meant: &Option<String>, otherwise: &str| match meant {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => f.write_str(otherwise),
        };
        match self {
            Self::Unreadable(io::ErrorKind::NotFound) => f.write_str("does not exist; check the path"),
            Self::Unreadable(io::ErrorKind::PermissionDenied) => {
                f.write_str("may not be read by this user; check its owner and mode")
            }
            Self::Unreadable(kind) => write!(f, "cannot be read: {kind}"),
            Self::TooLarge => f.write_str("is over 1 MiB; is it a configuration?"),
            Self::NotUtf8 => f.write_str("there are bytes that are not UTF-8; save the file as UTF-8"),
            Self::Syntax(what) => write!(f, "not TOML: {what}"),
            Self::UnknownKey { meant: name } => {
                f.write_str("there is no such key")?;
                meant(f, name, "; `handfast check --print-defaults` shows those that there are")
            }
            Self::MissingKey => f.write_str("is missing; add it"),
            Self::Value { found, expected } => write!(f, "`{found}` does not fit; write {expected}"),
            Self::Repeated { name, line } => {
                write!(f, "`{name}` is there already, in line {line}; keep one of them")
            }
            Self::UnknownSet { name, meant: near } => {
                write!(f, "there is no certificate set `{name}`")?;
                meant(f, near, "; add its identities as [[certificates.NAME.identity]]")
            }
            Self::UnknownProtocol { name, meant: near } => {
                write!(f, "there is no protocol `{name}`")?;
                meant(f, near, "; register it as a [[protocol]]")
            }
            Self::NoWorker { protocol } => write!(
                f,
                "nothing serves `{protocol}`; add serve = \"echo\", \"close\" or \"program\", or register `h2`, \
                 `http/1.1`, `echo` or `close`"
            ),
            Self::NoProgram { protocol } => write!(
                f,
                "this program does not serve `{protocol}` itself; \"program\" is for those that embed the engine"
            ),
            Self::FactsWithoutHttp { protocol } => {
                write!(f, "`{protocol}` has no pages; \"facts\" is for `h2` and `http/1.1`")
            }
            Self::TooManyProtocols => {
                write!(f, "one protocol too many; {} can be registered", crate::selection::PROTOCOLS_MAX)
            }
            Self::Identity(e) => e.fmt(f),
            Self::TicketSecrets(e) => e.fmt(f),
            Self::TicketSecretsExposed(w) => w.fmt(f),
            Self::Start(e) => e.fmt(f),
            Self::IdentityWarning(w) => w.fmt(f),
            Self::Shortfall(what) => what.fmt(f),
            Self::UnusedSet => f.write_str("no protocol uses this certificate set; name it in one, or remove it"),
            Self::SelfSigned => f.write_str(
                "no certificates here and no set `default`; `handfast serve` makes a self-signed one at each start, \
                 which clients do not trust",
            ),
        }
    }
}
