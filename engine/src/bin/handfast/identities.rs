//! The certificates that the command line names, or one made on the spot.

use std::path::PathBuf;
use std::sync::Arc;

use handfast::identity::{CertificateSet, Identity};
use handfast::rustls::crypto::CryptoProvider;
use handfast::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::serve::ServeError;

/// A set with the identities of these pairs of files.
pub(crate) fn from_files(
    name: &str,
    files: &[(PathBuf, PathBuf)],
    provider: &CryptoProvider,
) -> Result<Arc<CertificateSet>, ServeError> {
    let identities = files.iter().map(|(cert, key)| Identity::from_files(cert, key, provider));
    let identities: Vec<_> = identities.collect::<Result<_, _>>().map_err(ServeError::Identity)?;
    Ok(Arc::new(CertificateSet::new(name, identities).map_err(ServeError::Identity)?))
}

/// A self-signed ECDSA P-256 identity for this machine's loopback names.
pub(crate) fn self_signed(provider: &CryptoProvider) -> Result<(Arc<CertificateSet>, String), ServeError> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into(), "::1".into()])
        .map_err(|e| ServeError::SelfSigned(e.to_string()))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let identity = Identity::from_der(vec![made.cert.der().clone()], key, provider).map_err(ServeError::Identity)?;
    let fingerprint = identity.fingerprint_sha256().to_string();
    let set = CertificateSet::new("default", vec![identity]).map_err(ServeError::Identity)?;
    Ok((Arc::new(set), fingerprint))
}
