//! PEM (RFC 7468), from files or from memory.

use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::error::{IdentityError, Place};
use crate::files::{self, Content};

/// No chain and no key comes near it; a device or a log file named by mistake does.
const FILE_LEN_MAX: usize = 1 << 20;

/// How an encrypted key is marked: in PKCS #8 (RFC 7468 section 11), and before that (RFC 1421 section 4.6.1.1).
const ENCRYPTED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];

/// Wiped as well: a chain may be in one file with its key.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    Ok(content(path)?.bytes)
}

/// A file with a private key, and its permissions if more have access to it than should.
pub(super) fn read_key(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Option<u32>), IdentityError> {
    let content = content(path)?;
    let exposed = content.exposed();
    Ok((content.bytes, exposed))
}

fn content(path: &Path) -> Result<Content, IdentityError> {
    let content = files::read(path, FILE_LEN_MAX)
        .map_err(|error| IdentityError::FileUnreadable { path: path.into(), kind: error.kind() })?;
    if content.bytes.len() > FILE_LEN_MAX {
        return Err(IdentityError::FileTooLarge { path: path.into() });
    }
    Ok(content)
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
