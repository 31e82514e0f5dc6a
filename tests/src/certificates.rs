//! Certificates made on the spot.

use std::sync::Arc;

use handfast::identity::{CertificateSet, Identity};
use handfast::rustls::RootCertStore;
use handfast::rustls::crypto::CryptoProvider;
use handfast::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate for some names, with its key.
#[derive(Debug)]
pub struct Made {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// As PEM.
    pub pem: String,
    /// Its key, as PEM.
    pub key_pem: String,
    key_der: Vec<u8>,
}

/// The key types that the tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    P256,
    /// Ed25519.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa,
}

/// A self-signed ECDSA P-256 certificate for `names`.
#[must_use]
pub fn make(names: &[&str]) -> Made {
    make_with(names, Key::P256, |_| ())
}

/// A self-signed certificate for `names` that `adjust` has changed.
///
/// # Panics
/// When it cannot be made, which fails the test.
#[must_use]
pub fn make_with(names: &[&str], key: Key, adjust: impl FnOnce(&mut rcgen::CertificateParams)) -> Made {
    let algorithm = match key {
        Key::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Key::Ed25519 => &rcgen::PKCS_ED25519,
        Key::Rsa => &rcgen::PKCS_RSA_SHA256,
    };
    let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).expect("valid names");
    adjust(&mut params);
    let cert = params.self_signed(&key).expect("a certificate");
    Made { der: cert.der().clone(), pem: cert.pem(), key_pem: key.serialize_pem(), key_der: key.serialize_der() }
}

impl Made {
    /// Its key in PKCS #8.
    #[must_use]
    pub fn key_der(&self) -> &[u8] {
        &self.key_der
    }

    /// As an identity of the engine.
    ///
    /// # Panics
    /// When the engine refuses it, which fails the test.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        Identity::from_der(vec![self.der.clone()], key, &handfast::crypto::provider()).expect("an identity")
    }

    /// As a set of one.
    ///
    /// # Panics
    /// When the engine refuses it, which fails the test.
    #[must_use]
    pub fn set(&self, name: &str) -> Arc<CertificateSet> {
        Arc::new(CertificateSet::new(name, vec![self.identity()]).expect("a set"))
    }

    /// As a set of one whose key is loaded by `provider`.
    ///
    /// # Panics
    /// When the engine refuses it, which fails the test.
    #[must_use]
    pub fn set_with(&self, name: &str, provider: &CryptoProvider) -> Arc<CertificateSet> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let identity = Identity::from_der(vec![self.der.clone()], key, provider).expect("an identity");
        Arc::new(CertificateSet::new(name, vec![identity]).expect("a set"))
    }

    /// As the only trusted root.
    ///
    /// # Panics
    /// When rustls refuses it, which fails the test.
    #[must_use]
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a root");
        Arc::new(roots)
    }
}

/// A certificate authority.
pub struct Authority {
    /// Its certificate.
    pub der: CertificateDer<'static>,
    /// As PEM.
    pub pem: String,
    /// Its key, as PEM.
    pub key_pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    /// One with this common name.
    ///
    /// # Panics
    /// When it cannot be made, which fails the test.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).expect("a certificate");
        let (der, key_pem) = (cert.der().clone(), key.serialize_pem());
        Self { der, pem: cert.pem(), key_pem, issuer: rcgen::Issuer::new(params, key) }
    }

    /// A P-256 certificate with this common name, which `adjust` may change.
    ///
    /// # Panics
    /// When it cannot be made, which fails the test.
    #[must_use]
    pub fn issue(&self, name: &str, adjust: impl FnOnce(&mut rcgen::CertificateParams)) -> Made {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        adjust(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Made { der: cert.der().clone(), pem: cert.pem(), key_pem: key.serialize_pem(), key_der: key.serialize_der() }
    }

    /// A revocation list with these serial numbers, in PEM, good until the given year.
    ///
    /// # Panics
    /// When it cannot be made, which fails the test.
    #[must_use]
    pub fn revoke(&self, serials: &[u64], until: i32) -> String {
        let long_ago = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = serials.iter().map(|&serial| rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: long_ago,
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: long_ago,
            next_update: rcgen::date_time_ymd(until, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a revocation list")
    }
}
