//! The TLS configurations of a plan.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{fs, io};

use handfast::crypto::batch::{Batch, ClientKeys};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme, version,
};

use super::hellos::{Hellos, Offer, Share};
use super::sessions::Sessions;
use crate::args::{Group, TlsVersions};
use crate::arrivals::randomness;
use crate::error::UsageError;
use crate::plan::{ClientAuth, TlsShape, Verify};
use crate::weighted::Weighted;

/// Set apart from the randomness of the arrivals, so that another mix does not change those.
const SEED: u64 = 0x68_65_6c_6c_6f;

/// Makes the client connections of one plan.
#[derive(Clone, Debug)]
pub struct TlsSource {
    offers: Weighted<ClientConfig>,
    /// Whoever verifies, if anybody does.
    verifier: Option<Arc<dyn ServerCertVerifier>>,
    schemes: Arc<[SignatureScheme]>,
    names: Arc<Weighted<ServerName<'static>>>,
    resume: f64,
    batch: Option<Batch>,
    early_data: f64,
}

impl TlsSource {
    /// Builds the configurations; `own` is the embedded engine's certificate, for [`Verify::Embedded`].
    ///
    /// # Errors
    /// A file is no good, or the options exclude each other.
    pub fn new(shape: &TlsShape, own: &[CertificateDer<'static>]) -> Result<Self, UsageError> {
        let provider = Arc::new(provider(shape));
        let versions: &[_] = match shape.versions {
            TlsVersions::Tls12 => &[&version::TLS12],
            TlsVersions::Tls13 => &[&version::TLS13],
            TlsVersions::Any => &[&version::TLS13, &version::TLS12],
        };
        let verifier: Option<Arc<dyn ServerCertVerifier>> = match roots(&shape.verify, own)? {
            Some(roots) => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|e| UsageError::Tls(Error::General(e.to_string())))?,
            ),
            None => None,
        };
        let schemes: Arc<[_]> = match &shape.signatures[..] {
            [] => schemes().into(),
            asked => asked.into(),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(UsageError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Watched::new(&verifier, &schemes)));
        let mut config = match &shape.client_auth {
            None => builder.with_no_client_auth(),
            Some(auth) => {
                let (chain, key) = client_certificate(auth)?;
                builder.with_client_auth_cert(chain, key).map_err(UsageError::Tls)?
            }
        };
        config.resumption = Resumption::disabled();
        let offers = shape.alpn.map(|list| {
            let mut config = config.clone();
            config.alpn_protocols.clone_from(&list.0);
            config
        });
        let names = Arc::new(shape.names.clone());
        let (batch, early_data) = (shape.batch, shape.early_data);
        Ok(Self { offers, verifier, schemes, names, resume: shape.resume, batch, early_data })
    }

    /// Key shares for the shard on this thread; `None` leaves them to aws-lc.
    ///
    /// # Errors
    /// The system gives no memory for their secrets.
    pub(super) fn keys(&self) -> io::Result<Option<ClientKeys>> {
        let Some(batch) = self.batch else { return Ok(None) };
        batch.client_keys().map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("no memory for the secrets of key shares: {e}; `--crypto aws-lc` needs none"),
            )
        })
    }

    /// What shard `index` with so many `slots` makes its ClientHellos of. It shares nothing that changes with others.
    pub(super) fn hellos(&self, slots: u32, seed: u64, index: u32) -> Hellos {
        let verifier = Watched::new(&self.verifier, &self.schemes);
        let scheme = Arc::clone(&verifier.seen);
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier);
        let offers = self.offers.map(|config| {
            let mut config = config.clone();
            config.dangerous().set_certificate_verifier(Arc::clone(&verifier));
            let sessions = (self.resume > 0.0).then(|| Arc::new(Sessions::new(slots)));
            if let Some(sessions) = &sessions {
                config.resumption = Resumption::store(Arc::clone(sessions) as _);
            }
            let early = (self.early_data > 0.0).then(|| {
                let mut config = config.clone();
                config.enable_early_data = true;
                Arc::new(config)
            });
            Offer { config: Arc::new(config), early, sessions }
        });
        Hellos {
            offers,
            names: Arc::clone(&self.names),
            resume: Share::new(self.resume, slots),
            early_data: Share::new(self.early_data, slots),
            rng: randomness(seed ^ SEED, index),
            scheme,
        }
    }
}

/// The cipher suites that can be asked for, the preferred one first.
pub(crate) fn suites() -> Vec<CipherSuite> {
    let mut suites: Vec<_> = aws_lc_rs::ALL_CIPHER_SUITES.iter().map(|s| s.suite()).collect();
    // As browsers do; and SHA-256 has instructions of its own where SHA-384 has none.
    suites.sort_by_key(|s| !format!("{s:?}").contains("AES_128_GCM"));
    suites
}

/// The signature schemes that can be asked for.
pub(crate) fn schemes() -> Vec<SignatureScheme> {
    aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
}

fn provider(shape: &TlsShape) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = shape.groups.iter().map(|g| kx(*g)).collect();
    let asked = if shape.suites.is_empty() { suites() } else { shape.suites.clone() };
    let known = |suite: &CipherSuite| aws_lc_rs::ALL_CIPHER_SUITES.iter().copied().find(|s| s.suite() == *suite);
    provider.cipher_suites = asked.iter().filter_map(known).collect();
    match shape.batch {
        Some(batch) => batch.provider(provider),
        None => provider,
    }
}

const fn kx(group: Group) -> &'static dyn SupportedKxGroup {
    match group {
        Group::X25519 => kx_group::X25519,
        Group::P256 => kx_group::SECP256R1,
        Group::P384 => kx_group::SECP384R1,
        Group::X25519Mlkem768 => kx_group::X25519MLKEM768,
    }
}

fn roots(verify: &Verify, own: &[CertificateDer<'static>]) -> Result<Option<RootCertStore>, UsageError> {
    let mut roots = RootCertStore::empty();
    match verify {
        Verify::No => return Ok(None),
        Verify::PublicRoots => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Verify::Embedded => {
            roots.add_parsable_certificates(own.iter().cloned());
        }
        Verify::File(path) => {
            if roots.add_parsable_certificates(certificates(path)?).0 == 0 {
                return Err(UsageError::CaEmpty(path.clone()));
            }
        }
    }
    Ok(Some(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UsageError> {
    let unreadable = |source| UsageError::CertificatesUnreadable { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)
}

fn client_certificate(auth: &ClientAuth) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), UsageError> {
    let chain = certificates(&auth.certificates)?;
    if chain.is_empty() {
        return Err(UsageError::ClientCertificateEmpty(auth.certificates.clone()));
    }
    let unreadable = |source| UsageError::KeyUnreadable { path: auth.key.clone(), source };
    let pem = fs::read(&auth.key).map_err(|e| unreadable(rustls::pki_types::pem::Error::Io(e)))?;
    Ok((chain, PrivateKeyDer::from_pem_slice(&pem).map_err(unreadable)?))
}

/// A verifier that offers only the schemes asked for, and leaves word of the one that was used, because rustls tells
/// nobody else.
#[derive(Debug)]
struct Watched {
    /// Who verifies; without, every certificate and every signature is taken: a load generator spends its CPU on load.
    inner: Option<Arc<dyn ServerCertVerifier>>,
    schemes: Arc<[SignatureScheme]>,
    seen: Arc<AtomicU16>,
}

impl Watched {
    fn new(inner: &Option<Arc<dyn ServerCertVerifier>>, schemes: &Arc<[SignatureScheme]>) -> Self {
        Self { inner: inner.clone(), schemes: Arc::clone(schemes), seen: Arc::default() }
    }

    /// Leaves word of the scheme, and lets whoever verifies `verify`.
    fn signed(
        &self,
        signed: &DigitallySignedStruct,
        verify: impl FnOnce(&dyn ServerCertVerifier) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.seen.store(signed.scheme.into(), Ordering::Relaxed);
        self.inner.as_deref().map_or_else(|| Ok(HandshakeSignatureValid::assertion()), verify)
    }
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(signed, |inner| inner.verify_tls12_signature(message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(signed, |inner| inner.verify_tls13_signature(message, certificate, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.to_vec()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.requires_raw_public_keys())
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.as_ref()?.root_hint_subjects()
    }
}
