//! Who we are to a client: certificates with their keys, and which of them answers which server name.
//!
//! An [`Identity`] is one certificate chain with its private key. A [`CertificateSet`] finds the identity for a
//! ClientHello, by its server name and its signature schemes. [`ClientAuth`] says whether clients show certificates
//! too, and [`ClientIdentity`] who they are then. The [ticket domain](ticket_domain()) says between
//! which configurations a session may be resumed.

mod client;
mod compression;
mod directory;
mod domain;
mod error;
mod ocsp;
mod pem;
mod set;
#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use x509_parser::prelude::{GeneralName, X509Certificate};

pub(crate) use client::has_expired;
pub use client::{AltName, ClientAuth, ClientIdentity, ClientRoots};
pub use compression::BROTLI;
pub use domain::{ClientAuthMode, ticket_domain};
pub use error::{IdentityError, IdentityWarning, Place};
pub use set::CertificateSet;

/// A certificate chain with its private key.
#[derive(Clone)]
pub struct Identity {
    certified_key: Arc<CertifiedKey>,
    key_kind: KeyKind,
    /// What the key can sign with; asked for once, because rustls builds a signer for every answer.
    schemes: Box<[SignatureScheme]>,
    dns_names: Box<[Box<str>]>,
    not_before: UnixTime,
    not_after: UnixTime,
    fingerprint: Fingerprint,
    staple: Option<ocsp::Staple>,
    /// The key's file and its permissions, if more have access to it than should.
    exposed: Option<(PathBuf, u32)>,
}

/// What kind of key an identity has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on one of the NIST curves.
    Ecdsa,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// RSA.
    Rsa,
}

impl Identity {
    /// From PEM: the leaf first, then what leads to its root; and a PKCS #8, SEC 1 or PKCS #1 key.
    ///
    /// # Errors
    /// Anything that keeps the two from being used, except what [`warnings`](Self::warnings) reports.
    pub fn from_pem(certificates: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Self, IdentityError> {
        Self::from_pem_at(certificates, key, &Place::Memory, &Place::Memory, provider)
    }

    /// As [`from_pem`](Self::from_pem), from two files (which may be the same one).
    ///
    /// # Errors
    /// As for [`from_pem`](Self::from_pem), and when a file cannot be read.
    pub fn from_files(certificates: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, IdentityError> {
        let (certificate_pem, (key_pem, exposed)) = (pem::read(certificates)?, pem::read_key(key)?);
        let exposed = exposed.map(|mode| (key.into(), mode));
        let (certificates, key) = (Place::File(certificates.into()), Place::File(key.into()));
        let identity = Self::from_pem_at(&certificate_pem, &key_pem, &certificates, &key, provider)?;
        Ok(Self { exposed, ..identity })
    }

    /// From DER: the leaf first.
    ///
    /// # Errors
    /// As for [`from_pem`](Self::from_pem).
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, IdentityError> {
        Self::from_der_at(chain, key, &Place::Memory, &Place::Memory, provider)
    }

    fn from_pem_at(
        certificate_pem: &[u8],
        key_pem: &[u8],
        certificate_at: &Place,
        key_at: &Place,
        provider: &CryptoProvider,
    ) -> Result<Self, IdentityError> {
        let chain = pem::certificates(certificate_pem, certificate_at)?;
        let key = pem::private_key(key_pem, key_at)?;
        Self::from_der_at(chain, key, certificate_at, key_at, provider)
    }

    fn from_der_at(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        certificate_at: &Place,
        key_at: &Place,
        provider: &CryptoProvider,
    ) -> Result<Self, IdentityError> {
        let malformed = |index| IdentityError::CertificateMalformed { at: certificate_at.clone(), index };
        let unusable = || IdentityError::KeyUnusable { at: key_at.clone() };
        // Before all else, as what is loaded is wiped when it goes.
        let key = provider.key_provider.load_private_key(key).map_err(|_| unusable());
        let parsed = chain.iter().enumerate().map(|(index, der)| parse(der).ok_or_else(|| malformed(index)));
        let parsed: Vec<_> = parsed.collect::<Result<_, _>>()?;
        let leaf = parsed.first().ok_or_else(|| IdentityError::NoCertificate { at: certificate_at.clone() })?;
        if let Some(index) = stray(&parsed) {
            return Err(IdentityError::ChainBroken { at: certificate_at.clone(), index });
        }
        let dns_names = dns_names(leaf).ok_or_else(|| malformed(0))?;
        let not_before = unix_time(leaf.validity().not_before.timestamp());
        let not_after = unix_time(leaf.validity().not_after.timestamp());
        let fingerprint = Fingerprint::of(&chain[0]);

        let key = key?;
        // Not rustls' own comparison: it wants to understand all that is critical in the certificate, and acmeIdentifier
        // (RFC 8737) is for the client to understand.
        if key.public_key().is_some_and(|spki| *spki != *leaf.public_key().raw) {
            return Err(IdentityError::KeyMismatch { certificate: certificate_at.clone(), key: key_at.clone() });
        }
        drop(parsed);
        let key_kind = KeyKind::of(key.algorithm()).ok_or_else(unusable)?;
        let schemes = SCHEMES.into_iter().filter(|scheme| key.choose_scheme(&[*scheme]).is_some()).collect();
        let certified_key = Arc::new(CertifiedKey::new(chain, key));
        let (staple, exposed) = (None, None);
        Ok(Self { certified_key, key_kind, schemes, dns_names, not_before, not_after, fingerprint, staple, exposed })
    }

    /// Staples an OCSP response, in DER, to the certificate (RFC 6066 section 8, RFC 8446 section 4.4.2.1), for clients
    /// that ask for one.
    ///
    /// It must concern this certificate; its signature is left to clients.
    ///
    /// # Errors
    /// It cannot be parsed, reports an error, or is about other certificates.
    pub fn with_ocsp_response(self, der: Vec<u8>) -> Result<Self, IdentityError> {
        self.with_ocsp_at(der, &Place::Memory)
    }

    /// As [`with_ocsp_response`](Self::with_ocsp_response), from a file.
    ///
    /// # Errors
    /// As for [`with_ocsp_response`](Self::with_ocsp_response), and when the file cannot be read.
    pub fn with_ocsp_file(self, path: &Path) -> Result<Self, IdentityError> {
        self.with_ocsp_at(pem::read(path)?.to_vec(), &Place::File(path.into()))
    }

    fn with_ocsp_at(self, der: Vec<u8>, at: &Place) -> Result<Self, IdentityError> {
        let leaf = self.certified_key.cert.first().ok_or_else(|| IdentityError::NoCertificate { at: at.clone() })?;
        let staple = Some(ocsp::read(&der, leaf, at)?);
        let certified_key = Arc::new(CertifiedKey { ocsp: Some(der), ..(*self.certified_key).clone() });
        Ok(Self { certified_key, staple, ..self })
    }

    /// What rustls serves.
    #[must_use]
    pub const fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }

    /// What kind of key it has.
    #[must_use]
    pub const fn key_kind(&self) -> KeyKind {
        self.key_kind
    }

    /// The signature schemes that its key can sign with.
    #[must_use]
    pub fn signature_schemes(&self) -> &[SignatureScheme] {
        &self.schemes
    }

    /// The DNS names in the certificate (RFC 6125 section 6.4), lower case, without a final dot, sorted; a wildcard
    /// stands for exactly one label and begins with `*.`. The common name does not count.
    pub fn dns_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.dns_names.iter().map(|name| &**name)
    }

    /// Since when the certificate is valid.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Until when the certificate is valid.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The SHA-256 digest of the leaf.
    #[must_use]
    pub const fn fingerprint_sha256(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What an operator should know although the identity can be served.
    #[must_use]
    pub fn warnings(&self, now: UnixTime) -> Vec<IdentityWarning> {
        let mut warnings = Vec::new();
        if now > self.not_after {
            warnings.push(IdentityWarning::Expired { since: self.not_after });
        }
        if now < self.not_before {
            warnings.push(IdentityWarning::NotYetValid { until: self.not_before });
        }
        if self.dns_names.is_empty() {
            warnings.push(IdentityWarning::NoDnsName);
        }
        if let Some(staple) = &self.staple {
            if staple.revoked {
                warnings.push(IdentityWarning::Revoked);
            }
            if let Some(since) = staple.until.filter(|until| now > *until) {
                warnings.push(IdentityWarning::OcspExpired { since });
            }
        }
        if let Some((path, mode)) = self.exposed.clone() {
            warnings.push(IdentityWarning::KeyExposed { path, mode });
        }
        warnings
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("dns_names", &self.dns_names)
            .field("key_kind", &self.key_kind)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl KeyKind {
    const fn of(algorithm: SignatureAlgorithm) -> Option<Self> {
        match algorithm {
            SignatureAlgorithm::ECDSA => Some(Self::Ecdsa),
            SignatureAlgorithm::ED25519 => Some(Self::Ed25519),
            SignatureAlgorithm::RSA => Some(Self::Rsa),
            _ => None,
        }
    }
}

/// The SHA-256 digest of a certificate; shown as colon-separated hexadecimal, as certificate tools do.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &[u8]) -> Self {
        Self(sha256(certificate))
    }

    /// The digest itself.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Every scheme that a key may be asked for (RFC 8446 section 4.2.3).
const SCHEMES: [SignatureScheme; 12] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA1,
    SignatureScheme::ECDSA_SHA1_Legacy,
];

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match x509_parser::parse_x509_certificate(der) {
        Ok((&[], certificate)) => Some(certificate),
        _ => None,
    }
}

/// The first certificate that issued none of those before it. RFC 8446 section 4.4.2 wants each to certify the one
/// before it; more than one may do so, where an authority is cross-signed.
fn stray(chain: &[X509Certificate<'_>]) -> Option<usize> {
    let issued_one = |index: usize| {
        let subject = chain[index].subject().as_raw();
        chain[..index].iter().any(|earlier| earlier.issuer().as_raw() == subject)
    };
    (1..chain.len()).find(|index| !issued_one(*index))
}

/// The names that a server name can match; `None` when the extension cannot be read.
fn dns_names(certificate: &X509Certificate<'_>) -> Option<Box<[Box<str>]>> {
    let Some(extension) = certificate.subject_alternative_name().ok()? else {
        return Some(Box::default());
    };
    let mut names: Vec<Box<str>> = extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.strip_suffix('.').unwrap_or(name)),
            _ => None,
        })
        .filter(|name| DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok())
        .map(|name| name.to_ascii_lowercase().into_boxed_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    Some(names.into_boxed_slice())
}

/// Certificates may be dated before 1970; what matters is only that that is long ago.
fn unix_time(timestamp: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(timestamp).unwrap_or(0)))
}
