//! Clients that show certificates: who vouches for them, and what they turn out to be.

use core::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use x509_cert::der::Decode;
use x509_cert::name::Name;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::{ClientAuthMode, Fingerprint, IdentityError, Place, parse, pem, ticket_domain, unix_time};

/// Whether the clients of a protocol show certificates, and who vouches for them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// They are asked. One that is shown must verify; a client without one is served as well.
    Optional(ClientRoots),
    /// They must show one that verifies; others are refused (RFC 8446 section 4.4.2.4).
    Required(ClientRoots),
}

impl ClientAuth {
    /// Without the roots.
    #[must_use]
    pub const fn mode(&self) -> ClientAuthMode {
        match self {
            Self::None => ClientAuthMode::None,
            Self::Optional(_) => ClientAuthMode::Optional,
            Self::Required(_) => ClientAuthMode::Required,
        }
    }

    /// Where sessions resume that were made with the certificate set `set_name`; see [`ticket_domain`]. Revocation
    /// lists take part like roots: a new one ends the sessions that were made before it.
    #[must_use]
    pub fn ticket_domain(&self, set_name: &str) -> [u8; 32] {
        match self {
            Self::None => ticket_domain(set_name, self.mode(), &[] as &[&[u8]]),
            Self::Optional(roots) | Self::Required(roots) => ticket_domain(set_name, self.mode(), roots.0.ders()),
        }
    }

    /// What rustls asks.
    pub(crate) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let (roots, optional) = match self {
            Self::None => return Ok(WebPkiClientVerifier::no_client_auth()),
            Self::Optional(roots) => (roots, true),
            Self::Required(roots) => (roots, false),
        };
        roots.0.verifier(provider, optional).map_err(|e| rustls::Error::General(e.to_string()))
    }
}

/// The roots that vouch for clients, with the revocation lists, if any. Cheap to clone.
#[derive(Clone)]
pub struct ClientRoots(Arc<Roots>);

#[derive(Clone)]
struct Roots {
    store: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

impl ClientRoots {
    /// From a PEM file of one or more certificates.
    ///
    /// # Errors
    /// The file cannot be read, holds no certificate, or one that cannot be a root.
    pub fn from_file(path: &Path) -> Result<Self, IdentityError> {
        Self::from_pem_at(&pem::read(path)?, &Place::File(path.into()))
    }

    /// From PEM in memory.
    ///
    /// # Errors
    /// There is no certificate in it, or one that cannot be a root.
    pub fn from_pem(pem: &[u8]) -> Result<Self, IdentityError> {
        Self::from_pem_at(pem, &Place::Memory)
    }

    /// From DER.
    ///
    /// # Errors
    /// As for [`from_pem`](Self::from_pem).
    pub fn from_der(certificates: Vec<CertificateDer<'static>>) -> Result<Self, IdentityError> {
        Self::from_der_at(certificates, &Place::Memory)
    }

    fn from_pem_at(pem: &[u8], at: &Place) -> Result<Self, IdentityError> {
        Self::from_der_at(pem::certificates(pem, at)?, at)
    }

    fn from_der_at(certificates: Vec<CertificateDer<'static>>, at: &Place) -> Result<Self, IdentityError> {
        if certificates.is_empty() {
            return Err(IdentityError::NoCertificate { at: at.clone() });
        }
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            let unusable = |_| IdentityError::CertificateMalformed { at: at.clone(), index };
            store.add(certificate.clone()).map_err(unusable)?;
        }
        Ok(Self(Arc::new(Roots { store: Arc::new(store), certificates, revocation_lists: Vec::new() })))
    }

    /// Refuses clients whose certificates are revoked, by a PEM file of revocation lists (RFC 5280 section 5).
    ///
    /// With at least one, every certificate of a chain below its root must be covered by one that has not expired.
    ///
    /// # Errors
    /// The file cannot be read, holds no revocation list, or one that cannot be used.
    pub fn with_revocation_lists_from_file(self, path: &Path) -> Result<Self, IdentityError> {
        self.with_revocation_lists_at(&pem::read(path)?, &Place::File(path.into()))
    }

    /// As [`with_revocation_lists_from_file`](Self::with_revocation_lists_from_file), from memory.
    ///
    /// # Errors
    /// There is no revocation list in it, or one that cannot be used.
    pub fn with_revocation_lists(self, pem: &[u8]) -> Result<Self, IdentityError> {
        self.with_revocation_lists_at(pem, &Place::Memory)
    }

    fn with_revocation_lists_at(self, pem: &[u8], at: &Place) -> Result<Self, IdentityError> {
        let provider = Arc::new(crate::crypto::provider());
        let added = pem::revocation_lists(pem, at)?;
        let mut roots = (*self.0).clone();
        for (index, list) in added.into_iter().enumerate() {
            let alone = Roots { revocation_lists: vec![list.clone()], ..roots.clone() };
            let malformed = |_| IdentityError::RevocationListMalformed { at: at.clone(), index };
            alone.verifier(&provider, false).map_err(malformed)?;
            roots.revocation_lists.push(list);
        }
        Ok(Self(Arc::new(roots)))
    }

    /// How many roots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.certificates.len()
    }

    /// Never: roots of nobody are refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for ClientRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRoots")
            .field("roots", &self.0.certificates.len())
            .field("revocation_lists", &self.0.revocation_lists.len())
            .finish()
    }
}

impl Roots {
    fn ders(&self) -> impl Iterator<Item = &[u8]> {
        let lists = self.revocation_lists.iter().map(AsRef::as_ref);
        self.certificates.iter().map(AsRef::as_ref).chain(lists)
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
        optional: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        let (store, provider) = (Arc::clone(&self.store), Arc::clone(provider));
        let mut builder = WebPkiClientVerifier::builder_with_provider(store, provider)
            .with_crls(self.revocation_lists.iter().cloned())
            .enforce_revocation_expiration();
        if optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build()
    }
}

/// Who a client is, by the certificate that it has shown and that was verified: in this handshake, or in the one whose
/// session was resumed.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientIdentity {
    /// The subject's distinguished name, as in RFC 4514: `CN=printer 7,OU=devices,O=Example`. Empty if the certificate
    /// has none, as it may when it has alternative names.
    pub subject: Box<str>,
    /// The subject's alternative names (RFC 5280 section 4.2.1.6) of the kinds that [`AltName`] has.
    pub alt_names: Box<[AltName]>,
    /// The SHA-256 digest of the certificate.
    pub fingerprint: Fingerprint,
    /// The certificate itself, without its chain.
    pub certificate: CertificateDer<'static>,
}

/// A subject's alternative name (RFC 5280 section 4.2.1.6), as it is in the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AltName {
    /// A DNS name.
    Dns(Box<str>),
    /// A mailbox.
    Email(Box<str>),
    /// A URI, such as a SPIFFE ID.
    Uri(Box<str>),
    /// An address.
    Ip(IpAddr),
}

impl ClientIdentity {
    /// What `certificate`, which was verified, says. A name that cannot be read is left out.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let parsed = parse(certificate);
        let subject = parsed.as_ref().and_then(|c| Name::from_der(c.subject().as_raw()).ok());
        Self {
            subject: subject.map_or_else(Box::default, |name| name.to_string().into()),
            alt_names: parsed.as_ref().map_or_else(Box::default, alt_names),
            fingerprint: Fingerprint::of(certificate),
            certificate: certificate.clone().into_owned(),
        }
    }
}

/// Whether `certificate` has had its time, or cannot be read.
pub(crate) fn has_expired(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    parse(certificate).is_none_or(|parsed| now > unix_time(parsed.validity().not_after.timestamp()))
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("subject", &self.subject)
            .field("alt_names", &self.alt_names)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for AltName {
    /// With its kind, as certificate tools write it: `DNS:a.example`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Email(mailbox) => write!(f, "email:{mailbox}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
        }
    }
}

fn alt_names(certificate: &X509Certificate<'_>) -> Box<[AltName]> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Box::default() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(AltName::Dns((*name).into())),
        GeneralName::RFC822Name(mailbox) => Some(AltName::Email((*mailbox).into())),
        GeneralName::URI(uri) => Some(AltName::Uri((*uri).into())),
        GeneralName::IPAddress(bytes) => address(bytes).map(AltName::Ip),
        _ => None,
    });
    names.collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn root() -> String {
        CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn roots_that_are_none_are_named() {
        let at = Place::Memory;
        assert_eq!(ClientRoots::from_pem(b"").unwrap_err(), IdentityError::NoCertificate { at: at.clone() });
        assert_eq!(ClientRoots::from_der(Vec::new()).unwrap_err(), IdentityError::NoCertificate { at: at.clone() });
        let second = ClientRoots::from_der(vec![
            pem::certificates(root().as_bytes(), &at).unwrap().remove(0),
            CertificateDer::from(vec![48, 0]),
        ]);
        assert_eq!(second.unwrap_err(), IdentityError::CertificateMalformed { at, index: 1 });
        let missing = Path::new("/nowhere/ca.pem");
        let error = ClientRoots::from_file(missing).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/ca.pem does not exist"), "{error}");
    }

    #[test]
    fn revocation_lists_that_are_none_are_named() {
        let roots = ClientRoots::from_pem(root().as_bytes()).unwrap();
        let none = roots.clone().with_revocation_lists(root().as_bytes()).unwrap_err();
        assert_eq!(none, IdentityError::NoRevocationList { at: Place::Memory });
        let pem = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
        let malformed = roots.with_revocation_lists(pem.as_bytes()).unwrap_err();
        assert_eq!(malformed, IdentityError::RevocationListMalformed { at: Place::Memory, index: 0 });
        assert!(malformed.to_string().starts_with("revocation list 1 in "), "{malformed}");
    }

    #[test]
    fn a_name_that_cannot_be_read_is_left_out() {
        let client = ClientIdentity::of(&CertificateDer::from(vec![48, 0]));
        assert_eq!((&*client.subject, client.alt_names.len()), ("", 0));
        assert_eq!(client.fingerprint, Fingerprint::of(&[48, 0]));
    }
}
