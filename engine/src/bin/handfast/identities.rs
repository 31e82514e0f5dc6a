//! The certificates that the command line names, or one made on the spot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use handfast::identity::{CertificateSet, Identity};
use handfast::rustls::crypto::CryptoProvider;
use handfast::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::serve::ServeError;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A set with the identities of these pairs of files, and then those of a directory.
pub(crate) fn from_files(
    name: &str,
    files: &[(PathBuf, PathBuf)],
    directory: Option<&Path>,
    provider: &CryptoProvider,
) -> Result<Arc<CertificateSet>, ServeError> {
    let identities = files.iter().map(|(cert, key)| Identity::from_files(cert, key, provider));
    let mut identities: Vec<_> = identities.collect::<Result<_, _>>().map_err(ServeError::Identity)?;
    if let Some(directory) = directory {
        let set = CertificateSet::from_directory(name, directory, provider).map_err(ServeError::Identity)?;
        identities.extend_from_slice(set.identities());
    }
    Ok(Arc::new(CertificateSet::new(name, identities).map_err(ServeError::Identity)?))
}

/// A self-signed ECDSA P-256 identity for this machine's loopback names, good for a year.
pub(crate) fn self_signed(provider: &CryptoProvider) -> Result<(Arc<CertificateSet>, String), ServeError> {
    let failed = |e: rcgen::Error| ServeError::SelfSigned(e.to_string());
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let names = ["localhost".into(), "127.0.0.1".into(), "::1".into()];
    let mut params = rcgen::CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "handfast self-signed");
    // A little back, for clients whose clocks are behind.
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 365 * DAY).into();
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![certificate.der().clone()];
    let identity = Identity::from_der(chain, key, provider).map_err(ServeError::Identity)?;
    let fingerprint = identity.fingerprint_sha256().to_string();
    let set = CertificateSet::new("default", vec![identity]).map_err(ServeError::Identity)?;
    Ok((Arc::new(set), fingerprint))
}
