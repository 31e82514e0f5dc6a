//! The identities of a directory; [`CertificateSet::from_directory`](super::CertificateSet::from_directory) says how
//! their files are called.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::crypto::CryptoProvider;

use super::Identity;
use super::error::IdentityError;

/// As ACME clients call them.
const FULL_CHAIN: &str = "fullchain.pem";
const PRIVATE_KEY: &str = "privkey.pem";
const OCSP: &str = "ocsp.der";

/// The files of one identity.
struct Files {
    chain: PathBuf,
    key: PathBuf,
    ocsp: PathBuf,
}

pub(super) fn read(path: &Path, provider: &CryptoProvider) -> Result<Vec<Identity>, IdentityError> {
    if let Some(files) = Files::of_acme(path) {
        return Ok(vec![files.identity(provider)?]);
    }
    let unreadable = |error: std::io::Error| IdentityError::FileUnreadable { path: path.into(), kind: error.kind() };
    let entries = fs::read_dir(path).map_err(unreadable)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(unreadable)?;
    // The first one is the set's default, so their order must not be the file system's.
    entries.sort_unstable();
    let mut identities = Vec::new();
    for entry in entries {
        if let Some(files) = Files::of(&entry)? {
            identities.push(files.identity(provider)?);
        }
    }
    if identities.is_empty() {
        return Err(IdentityError::EmptyDirectory { path: path.into() });
    }
    Ok(identities)
}

impl Files {
    /// What `entry` is the chain of.
    fn of(entry: &Path) -> Result<Option<Self>, IdentityError> {
        if entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            return Ok(None);
        }
        if entry.is_dir() {
            return Ok(Self::of_acme(entry));
        }
        let beside = |extension| entry.with_extension(extension);
        match entry.extension().and_then(|extension| extension.to_str()) {
            Some("pem" | "crt") => {
                let key = if beside("key").exists() { beside("key") } else { entry.into() };
                Ok(Some(Self { chain: entry.into(), key, ocsp: beside("ocsp") }))
            }
            Some("key") if !beside("pem").exists() && !beside("crt").exists() => {
                Err(IdentityError::Unpaired { path: entry.into(), missing: beside("pem") })
            }
            _ => Ok(None),
        }
    }

    fn of_acme(directory: &Path) -> Option<Self> {
        let chain = directory.join(FULL_CHAIN);
        chain.exists().then(|| Self { chain, key: directory.join(PRIVATE_KEY), ocsp: directory.join(OCSP) })
    }

    fn identity(&self, provider: &CryptoProvider) -> Result<Identity, IdentityError> {
        let identity = Identity::from_files(&self.chain, &self.key, provider).map_err(|error| match error {
            IdentityError::NoPrivateKey { .. } if self.key == self.chain => {
                IdentityError::Unpaired { path: self.chain.clone(), missing: self.chain.with_extension("key") }
            }
            error => error,
        })?;
        if self.ocsp.exists() { identity.with_ocsp_file(&self.ocsp) } else { Ok(identity) }
    }
}
