//! PEM (RFC 7468), from files or from memory.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use zeroize::Zeroizing;

use super::error::{IdentityError, Place};

/// No chain and no key comes near it; a device or a log file named by mistake does.
const FILE_LEN_MAX: u64 = 1 << 20;

/// How an encrypted key is marked: in PKCS #8 (RFC 7468 section 11), and before that (RFC 1421 section 4.6.1.1).
const ENCRYPTED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];

pub(super) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let unreadable = |error: std::io::Error| IdentityError::FileUnreadable { path: path.into(), kind: error.kind() };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(IdentityError::FileTooLarge { path: path.into() });
    }
    Ok(bytes)
}

/// Group or others may read it.
pub(super) const OTHERS_READ: u32 = 0o044;

/// A file with a private key, and its permissions.
pub(super) fn read_key(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), IdentityError> {
    let unreadable = |error: std::io::Error| IdentityError::FileUnreadable { path: path.into(), kind: error.kind() };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // With room for all of it, so that nothing is copied to a larger place and left behind.
    let room = usize::try_from(metadata.len().min(FILE_LEN_MAX)).unwrap_or(0).saturating_add(64);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(IdentityError::FileTooLarge { path: path.into() });
    }
    Ok((bytes, mode(&metadata)))
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0
}

pub(super) fn certificates(pem: &[u8], at: &Place) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let index = chain.len();
        chain.push(certificate.map_err(|_| IdentityError::CertificateMalformed { at: at.clone(), index })?);
    }
    if chain.is_empty() {
        return Err(IdentityError::NoCertificate { at: at.clone() });
    }
    Ok(chain)
}

pub(super) fn revocation_lists(
    pem: &[u8],
    at: &Place,
) -> Result<Vec<CertificateRevocationListDer<'static>>, IdentityError> {
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(pem) {
        let index = lists.len();
        lists.push(list.map_err(|_| IdentityError::RevocationListMalformed { at: at.clone(), index })?);
    }
    if lists.is_empty() {
        return Err(IdentityError::NoRevocationList { at: at.clone() });
    }
    Ok(lists)
}

pub(super) fn private_key(pem: &[u8], at: &Place) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let at = at.clone();
        if ENCRYPTED.iter().any(|mark| pem.windows(mark.len()).any(|window| window == *mark)) {
            return IdentityError::KeyEncrypted { at };
        }
        match error {
            Error::NoItemsFound => IdentityError::NoPrivateKey { at },
            _ => IdentityError::KeyUnusable { at },
        }
    })
}
