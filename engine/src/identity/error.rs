//! What can be wrong with an identity, told so that an operator can mend it.

use core::fmt;
use std::io;
use std::path::PathBuf;

use rustls::pki_types::UnixTime;

use crate::error::Culprit;

/// Where a certificate or a key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// The program itself.
    Memory,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("what the program passed"),
        }
    }
}

/// Why certificates and keys cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be opened or read.
    FileUnreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The file is larger than any certificate chain.
    FileTooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// There is no certificate.
    NoCertificate {
        /// Where it was looked for.
        at: Place,
    },
    /// There is a certificate that cannot be parsed (RFC 5280).
    CertificateMalformed {
        /// Where it is.
        at: Place,
        /// Which one in the chain; the leaf is 0.
        index: usize,
    },
    /// A certificate of the chain has issued none of those before it (RFC 8446 section 4.4.2).
    ChainBroken {
        /// Where it is.
        at: Place,
        /// Which one in the chain; the leaf is 0.
        index: usize,
    },
    /// There is no private key.
    NoPrivateKey {
        /// Where it was looked for.
        at: Place,
    },
    /// The private key is encrypted.
    KeyEncrypted {
        /// Where it is.
        at: Place,
    },
    /// The private key is malformed, or of a kind that the crypto provider does not support.
    KeyUnusable {
        /// Where it is.
        at: Place,
    },
    /// The private key belongs to another certificate.
    KeyMismatch {
        /// Where the certificate is.
        certificate: Place,
        /// Where the key is.
        key: Place,
    },
    /// There is no certificate revocation list.
    NoRevocationList {
        /// Where it was looked for.
        at: Place,
    },
    /// There is a certificate revocation list that cannot be used (RFC 5280 section 5).
    RevocationListMalformed {
        /// Where it is.
        at: Place,
        /// Which one there; the first is 0.
        index: usize,
    },
    /// An OCSP response cannot be parsed (RFC 6960 section 4.2).
    OcspMalformed {
        /// Where it is.
        at: Place,
    },
    /// An OCSP response says that the responder had none.
    OcspUnsuccessful {
        /// Where it is.
        at: Place,
    },
    /// An OCSP response is about other certificates.
    OcspForeign {
        /// Where it is.
        at: Place,
    },
    /// In a directory of identities, a chain has no key or a key no chain.
    Unpaired {
        /// What is there.
        path: PathBuf,
        /// What should be as well.
        missing: PathBuf,
    },
    /// In a directory there is no identity.
    EmptyDirectory {
        /// Which directory.
        path: PathBuf,
    },
    /// A certificate set has no identity.
    EmptySet {
        /// The set's name.
        name: Box<str>,
    },
}

impl IdentityError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        Culprit::Config
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileUnreadable { path, kind: io::ErrorKind::NotFound } => {
                write!(f, "{} does not exist; check the path", path.display())
            }
            Self::FileUnreadable { path, kind: io::ErrorKind::PermissionDenied } => {
                write!(f, "{} may not be read by this user; check its owner and mode", path.display())
            }
            Self::FileUnreadable { path, kind } => write!(f, "{} cannot be read: {kind}", path.display()),
            Self::FileTooLarge { path } => {
                write!(f, "{} is over 1 MiB; it should hold one certificate chain or one key", path.display())
            }
            Self::NoCertificate { at } => {
                write!(f, "no certificate in {at}; expected PEM that begins with -----BEGIN CERTIFICATE-----")
            }
            Self::CertificateMalformed { at, index } => {
                write!(f, "certificate {} in {at} is malformed; issue or export it again", index + 1)
            }
            Self::NoPrivateKey { at } => {
                write!(f, "no private key in {at}; expected PEM that begins with -----BEGIN PRIVATE KEY-----")
            }
            Self::KeyEncrypted { at } => {
                write!(f, "the private key in {at} is encrypted; decrypt it first (openssl pkey -in KEY -out PLAIN)")
            }
            Self::KeyUnusable { at } => write!(
                f,
                "the private key in {at} is malformed or not supported; use ECDSA (P-256, P-384, P-521), Ed25519, or \
                 RSA of 2048 to 8192 bits"
            ),
            Self::KeyMismatch { certificate, key } => write!(
                f,
                "the private key in {key} does not belong to the first certificate in {certificate}; put the leaf \
                 first and its own key beside it"
            ),
            Self::NoRevocationList { at } => {
                write!(f, "no revocation list in {at}; expected PEM that begins with -----BEGIN X509 CRL-----")
            }
            Self::RevocationListMalformed { at, index } => {
                write!(f, "revocation list {} in {at} is malformed, or of a kind that is not supported", index + 1)
            }
            Self::ChainBroken { at, index } => write!(
                f,
                "certificate {} in {at} has issued none of those before it; put the leaf first, then each one's \
                 issuer, and leave out what does not belong to them",
                index + 1
            ),
            Self::OcspMalformed { at } => {
                write!(f, "the OCSP response in {at} is malformed; expected DER, as `openssl ocsp -respout` writes it")
            }
            Self::OcspUnsuccessful { at } => {
                write!(f, "the OCSP response in {at} reports an error of the responder; fetch it again")
            }
            Self::OcspForeign { at } => {
                write!(f, "the OCSP response in {at} is about another certificate; fetch one for this one")
            }
            Self::Unpaired { path, missing } => {
                write!(f, "{} has no counterpart; expected {}", path.display(), missing.display())
            }
            Self::EmptyDirectory { path } => write!(
                f,
                "no identity in {}; expected NAME.pem with NAME.key, or directories with fullchain.pem and privkey.pem",
                path.display()
            ),
            Self::EmptySet { name } => write!(f, "the certificate set {name:?} has no identity; add a certificate"),
        }
    }
}

impl std::error::Error for IdentityError {}

/// What an operator should know about an identity that is served all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityWarning {
    /// The certificate is no longer valid.
    Expired {
        /// Since when.
        since: UnixTime,
    },
    /// The certificate is not valid yet.
    NotYetValid {
        /// Until when.
        until: UnixTime,
    },
    /// The certificate names no DNS name, so that clients will not accept it for one.
    NoDnsName,
    /// The OCSP response is out of date.
    OcspExpired {
        /// Since when.
        since: UnixTime,
    },
    /// The OCSP response says that the certificate is revoked.
    Revoked,
    /// Every user of the machine has access to the private key's file.
    KeyExposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl fmt::Display for IdentityWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { since } => {
                write!(f, "the certificate expired (Unix time {}); renew it", since.as_secs())
            }
            Self::NotYetValid { until } => {
                write!(f, "the certificate is not valid before Unix time {}; check the clock", until.as_secs())
            }
            Self::NoDnsName => {
                f.write_str("the certificate has no DNS name as subject alternative name; clients will refuse it")
            }
            Self::OcspExpired { since } => {
                write!(f, "the OCSP response is out of date (Unix time {}); fetch it again", since.as_secs())
            }
            Self::Revoked => f.write_str("the OCSP response says that the certificate is revoked; replace it"),
            Self::KeyExposed { path, mode } => write!(
                f,
                "every user of this machine has access to the private key {} (mode {mode:04o}); run `chmod 600` on it",
                path.display()
            ),
        }
    }
}
