//! The secrets that ticket keys follow from: of this process alone, or of a fleet.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign_to_buffer};
use aws_lc_rs::rand;
use rustls::crypto::GetRandomFailed;
use zeroize::Zeroizing;

use super::ticket_ratchet::Ratchet;
use crate::error::Culprit;
use crate::files;

/// Bytes that a secret has at least.
const SECRET_BYTES_MIN: usize = 32;
/// Bytes that a secret has at most.
const SECRET_BYTES_MAX: usize = 256;
/// Secrets that a file lists at most: a rotation needs three.
const SECRETS_MAX: usize = 16;
/// Bytes of a file that are read at most.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// What all ticket keys follow from: the first secret seals, every one opens.
///
/// Processes with the same first secrets resume each other's sessions; without a file each process has one of its own,
/// made at random. Shared secrets stay as they are until they are replaced. One's own is replaced in each epoch, for
/// all of its clones together, and what it was before the last epoch is forgotten.
///
/// The file has one secret per line, in hexadecimal, of 32 to 256 bytes, all of them random. Empty lines and what
/// follows a `#` do not count. `handfast ticket-secret` and `openssl rand -hex 32` make such a line.
///
/// To rotate, add the new secret as the last line and reload every host; then move it to the first line and reload
/// again; and when the tickets of the old one have expired, remove that.
///
/// Secrets are overwritten when they are dropped, and [`Debug`] shows none.
#[derive(Clone)]
pub struct TicketSecrets {
    kind: Kind,
    exposed: Option<Arc<TicketSecretExposed>>,
}

#[derive(Clone)]
enum Kind {
    /// Extracted (RFC 5869 section 2.2), so that each is 32 bytes without structure.
    Shared(Arc<[Zeroizing<[u8; 32]>]>),
    /// Of this process alone.
    Own(Arc<Ratchet>),
}

impl TicketSecrets {
    /// One secret of this process: clones of it open each other's tickets, in their epoch and the next.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn random() -> Result<Self, GetRandomFailed> {
        let extracted = extract(&*drawn()?).ok_or(GetRandomFailed)?;
        Ok(Self { kind: Kind::Own(Arc::new(Ratchet::new(extracted))), exposed: None })
    }

    /// Secrets that other processes may have too, each of full entropy.
    ///
    /// # Errors
    /// None, too many, or one that is too short, too long or there twice; the line is its place in the list.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, TicketSecretError> {
        let mut list = List::default();
        for (i, secret) in secrets.into_iter().enumerate() {
            list.add(i + 1, secret.as_ref()).map_err(|e| e.at(None))?;
        }
        list.finish().map_err(|e| e.at(None))
    }

    /// The secrets that a file lists.
    ///
    /// # Errors
    /// The file cannot be read, or is not as [`TicketSecrets`] describes it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TicketSecretError> {
        let path = path.as_ref();
        let unreadable = |e: io::Error| TicketSecretFault::Unreadable { kind: e.kind() }.at(Some(path));
        let content = files::read(path, FILE_BYTES_MAX).map_err(unreadable)?;
        let mut secrets = parse(&content.bytes).map_err(|e| e.at(Some(path)))?;
        secrets.exposed = content.exposed().map(|mode| Arc::new(TicketSecretExposed { path: path.to_owned(), mode }));
        Ok(secrets)
    }

    /// What an operator should mend though the secrets can be used.
    #[must_use]
    pub fn warning(&self) -> Option<&TicketSecretExposed> {
        self.exposed.as_deref()
    }

    /// Other processes may have them too.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    /// What one's own secret is in, if it is that.
    pub(super) fn ratchet(&self) -> Option<&Ratchet> {
        match &self.kind {
            Kind::Own(ratchet) => Some(ratchet),
            Kind::Shared(_) => None,
        }
    }

    /// Each shared secret as a key for derivations, with the epochs whose tickets open: clocks of hosts may differ by
    /// one. What seals is first.
    pub(super) fn around(&self, epoch: u64) -> Vec<(Key, u64)> {
        let Kind::Shared(secrets) = &self.kind else { return Vec::new() };
        let near = [Some(epoch), epoch.checked_sub(1), epoch.checked_add(1)].into_iter().flatten();
        near.flat_map(|near| secrets.iter().map(move |secret| (Key::new(HMAC_SHA256, &**secret), near))).collect()
    }
}

impl fmt::Debug for TicketSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = match &self.kind {
            Kind::Shared(secrets) => secrets.len(),
            Kind::Own(_) => 1,
        };
        f.debug_struct("TicketSecrets").field("len", &len).field("shared", &self.is_shared()).finish_non_exhaustive()
    }
}

fn drawn() -> Result<Zeroizing<[u8; SECRET_BYTES_MIN]>, GetRandomFailed> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES_MIN]);
    rand::fill(&mut *secret).map_err(|_| GetRandomFailed)?;
    Ok(secret)
}

/// A new secret, as a line of a file of [`TicketSecrets`].
///
/// # Errors
/// The system gives no randomness.
pub fn new_ticket_secret() -> Result<Zeroizing<String>, GetRandomFailed> {
    let secret = drawn()?;
    // With room for all of it, as above.
    let mut line = Zeroizing::new(String::with_capacity(2 * secret.len() + 1));
    for byte in secret.iter() {
        for digit in [byte >> 4, byte & 15] {
            line.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    line.push('\n');
    Ok(line)
}

/// A file of ticket secrets that more can read than should.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TicketSecretExposed {
    /// Which file.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
}

impl fmt::Display for TicketSecretExposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode } = self;
        let path = path.display();
        write!(
            f,
            "every user of this machine has access to {path} (mode {mode:04o}), and whoever reads it can resume \
             the sessions of your clients: run `chmod 600` on it, and replace the secrets"
        )
    }
}

/// Why ticket secrets cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TicketSecretError {
    /// The file; `None` for secrets that the program passed.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub what: TicketSecretFault,
}

/// What is wrong with a list of ticket secrets. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TicketSecretFault {
    /// The file cannot be opened or read.
    Unreadable {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The file is longer than any list of secrets.
    FileTooLarge,
    /// There is none.
    Empty,
    /// A line is not hexadecimal digits, two for each byte.
    NotHexadecimal {
        /// Which line.
        line: usize,
    },
    /// A secret has too few bytes to be one, or more than anybody needs.
    Length {
        /// Which line.
        line: usize,
        /// How many bytes it has.
        len: usize,
    },
    /// A secret is there twice, as when a rotation went wrong.
    Repeated {
        /// Which line.
        line: usize,
        /// The line that has it first.
        first: usize,
    },
    /// More secrets than a rotation needs.
    TooMany {
        /// The first line that is too many.
        line: usize,
    },
}

impl TicketSecretFault {
    fn at(self, path: Option<&Path>) -> TicketSecretError {
        TicketSecretError { path: path.map(Path::to_owned), what: self }
    }
}

impl TicketSecretError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        Culprit::Config
    }

    const fn line(&self) -> Option<usize> {
        match self.what {
            TicketSecretFault::Unreadable { .. } | TicketSecretFault::FileTooLarge | TicketSecretFault::Empty => None,
            TicketSecretFault::NotHexadecimal { line }
            | TicketSecretFault::Length { line, .. }
            | TicketSecretFault::Repeated { line, .. }
            | TicketSecretFault::TooMany { line } => Some(line),
        }
    }
}

impl fmt::Display for TicketSecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "ticket secrets {}: ", path.display())?,
            None => f.write_str("ticket secrets: ")?,
        }
        if let Some(line) = self.line() {
            write!(f, "line {line}: ")?;
        }
        match &self.what {
            TicketSecretFault::Unreadable { kind: io::ErrorKind::NotFound } => {
                f.write_str("the file does not exist: check the path, or make it with `handfast ticket-secret`")
            }
            TicketSecretFault::Unreadable { kind: io::ErrorKind::PermissionDenied } => {
                f.write_str("the file may not be read: check its owner and mode")
            }
            TicketSecretFault::Unreadable { kind } => write!(f, "the file cannot be read: {kind}"),
            TicketSecretFault::FileTooLarge => {
                write!(f, "the file has over {FILE_BYTES_MAX} bytes: is it the right one?")
            }
            TicketSecretFault::Empty => f.write_str("there is none: add a line that `handfast ticket-secret` prints"),
            TicketSecretFault::NotHexadecimal { .. } => f.write_str(
                "this is not a secret in hexadecimal: write one per line, as `handfast ticket-secret` prints it",
            ),
            TicketSecretFault::Length { len, .. } => write!(
                f,
                "{len} bytes: a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes, in twice as many \
                 hexadecimal digits; `handfast ticket-secret` prints one"
            ),
            TicketSecretFault::Repeated { first, .. } => {
                write!(f, "the secret of line {first} once more: remove one of them")
            }
            TicketSecretFault::TooMany { .. } => {
                write!(f, "more than {SECRETS_MAX} secrets: remove those whose tickets have expired")
            }
        }
    }
}

impl std::error::Error for TicketSecretError {}

/// Secrets with their lines, as they are collected.
#[derive(Default)]
struct List(Vec<(usize, Zeroizing<[u8; 32]>)>);

impl List {
    fn add(&mut self, line: usize, secret: &[u8]) -> Result<(), TicketSecretFault> {
        let wrong = TicketSecretFault::Length { line, len: secret.len() };
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
            return Err(wrong);
        }
        if self.0.len() == SECRETS_MAX {
            return Err(TicketSecretFault::TooMany { line });
        }
        let extracted = extract(secret).ok_or(wrong)?;
        if let Some((first, _)) = self.0.iter().find(|(_, known)| *known == extracted) {
            return Err(TicketSecretFault::Repeated { line, first: *first });
        }
        self.0.push((line, extracted));
        Ok(())
    }

    fn finish(self) -> Result<TicketSecrets, TicketSecretFault> {
        if self.0.is_empty() {
            return Err(TicketSecretFault::Empty);
        }
        let extracted = self.0.into_iter().map(|(_, secret)| secret).collect();
        Ok(TicketSecrets { kind: Kind::Shared(extracted), exposed: None })
    }
}

fn parse(bytes: &[u8]) -> Result<TicketSecrets, TicketSecretFault> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(TicketSecretFault::FileTooLarge);
    }
    let mut list = List::default();
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let digits = line.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
        if digits.is_empty() {
            continue;
        }
        let (pairs, odd) = digits.as_chunks::<2>();
        let mut secret = Zeroizing::new(Vec::with_capacity(pairs.len()));
        for [high, low] in pairs {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(TicketSecretFault::NotHexadecimal { line: i + 1 });
            };
            secret.push(high << 4 | low);
        }
        if !odd.is_empty() {
            return Err(TicketSecretFault::NotHexadecimal { line: i + 1 });
        }
        list.add(i + 1, &secret)?;
    }
    list.finish()
}

/// HKDF-Extract (RFC 5869 section 2.2).
fn extract(secret: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let salt = Key::new(HMAC_SHA256, b"handfast ticket secret 2");
    let mut extracted = Zeroizing::new([0; 32]);
    sign_to_buffer(&salt, secret, &mut *extracted).ok()?;
    Some(extracted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const B: &str = "FFEEDDCCBBAA99887766554433221100FFEEDDCCBBAA99887766554433221100";

    fn read(text: &str) -> Result<TicketSecrets, TicketSecretFault> {
        parse(text.as_bytes())
    }

    fn extracted(secrets: &TicketSecrets) -> Vec<[u8; 32]> {
        let Kind::Shared(secrets) = &secrets.kind else { panic!("not shared") };
        secrets.iter().map(|s| **s).collect()
    }

    fn secrets(text: &str) -> Vec<[u8; 32]> {
        extracted(&read(text).unwrap())
    }

    #[test]
    fn a_file_has_one_secret_per_line_and_comments() {
        let both = secrets(&format!("# a fleet\n\n  {A}  # since May\r\n{B}\n"));
        assert_eq!(both, [secrets(A)[0], secrets(B)[0]]);
        assert_eq!(both[1], secrets(&B.to_ascii_lowercase())[0]);
        let same = TicketSecrets::new([[0x11_u8; 40]]).unwrap();
        assert_eq!(extracted(&same), secrets(&"11".repeat(40)));
        assert!(same.is_shared());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        let many: String = (0..=SECRETS_MAX).map(|i| format!("{i:064x}\n")).collect();
        let long = "ab".repeat(SECRET_BYTES_MAX + 1);
        for (text, wrong) in [
            ("", TicketSecretFault::Empty),
            ("# none yet\n", TicketSecretFault::Empty),
            ("\nsecret\n", TicketSecretFault::NotHexadecimal { line: 2 }),
            (&A[1..], TicketSecretFault::NotHexadecimal { line: 1 }),
            (&A[2..], TicketSecretFault::Length { line: 1, len: 31 }),
            (&long, TicketSecretFault::Length { line: 1, len: 257 }),
            (&format!("{A}\n#\n{A}\n"), TicketSecretFault::Repeated { line: 3, first: 1 }),
            (&many, TicketSecretFault::TooMany { line: 17 }),
            (&" ".repeat(FILE_BYTES_MAX + 1), TicketSecretFault::FileTooLarge),
        ] {
            let error = read(text).map(|_| ()).unwrap_err();
            assert_eq!(error, wrong);
            let said = error.at(Some(Path::new("fleet.secret"))).to_string();
            assert!(said.starts_with("ticket secrets fleet.secret: "), "{said}");
            assert!(!said.contains(&A[2..10]), "{said}");
        }
    }

    #[test]
    fn a_new_secret_can_be_read_and_is_not_shown() {
        let (one, two) = (new_ticket_secret().unwrap(), new_ticket_secret().unwrap());
        assert_ne!(one, two);
        let text = format!("{}{}", *one, *two);
        let secrets = read(&text).unwrap();
        assert_eq!(format!("{secrets:?}"), "TicketSecrets { len: 2, shared: true, .. }");
    }
}
