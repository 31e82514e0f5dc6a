//! ECDSA P-256 keys that sign with the turn's nonces, and with aws-lc where there is none.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::crypto::KeyProvider;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use zeroize::Zeroizing;

use super::p256::{Montgomery, Scalar};
use super::turn;

/// Loads keys as aws-lc does, and those for ECDSA P-256 so that they can use nonces.
#[derive(Debug)]
pub(super) struct Keys;

/// Keys that can use nonces: without any it is no use to draw them.
static LOADED: AtomicUsize = AtomicUsize::new(0);

/// Whether any key can use a nonce.
pub(super) fn any_key() -> bool {
    LOADED.load(Ordering::Relaxed) > 0
}

impl KeyProvider for Keys {
    fn load_private_key(&self, der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let scalar = scalar(&der);
        let inner = provider::default_provider().key_provider.load_private_key(der)?;
        Ok(match scalar {
            Some(scalar) => Arc::new(Key::new(inner, scalar)),
            None => inner,
        })
    }
}

/// The secret scalar, if this is a key for P-256. What else is wrong with it aws-lc says when it loads it.
fn scalar(der: &PrivateKeyDer<'_>) -> Option<Zeroizing<Montgomery>> {
    let pair = match der {
        PrivateKeyDer::Pkcs8(der) => {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der()).ok()?
        }
        PrivateKeyDer::Sec1(der) => {
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_sec1_der()).ok()?
        }
        _ => return None,
    };
    let bytes: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok()?;
    let scalar = Zeroizing::new(Scalar::new(bytes.as_ref().try_into().ok()?)?);
    Some(Zeroizing::new(scalar.to_montgomery()))
}

struct Key {
    inner: Arc<dyn SigningKey>,
    secret: Arc<Zeroizing<Montgomery>>,
}

impl Key {
    fn new(inner: Arc<dyn SigningKey>, secret: Zeroizing<Montgomery>) -> Self {
        LOADED.fetch_add(1, Ordering::Relaxed);
        Self { inner, secret: Arc::new(secret) }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        LOADED.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let inner = self.inner.choose_scheme(offered)?;
        Some(match inner.scheme() {
            SignatureScheme::ECDSA_NISTP256_SHA256 => Box::new(Presigned { inner, secret: Arc::clone(&self.secret) }),
            _ => inner,
        })
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.inner.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }
}

struct Presigned {
    inner: Box<dyn Signer>,
    secret: Arc<Zeroizing<Montgomery>>,
}

impl fmt::Debug for Presigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presigned").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Signer for Presigned {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = turn::take_nonce().and_then(|nonce| {
            let digest = digest(&SHA256, message);
            nonce.sign(digest.as_ref().first_chunk()?, &self.secret)
        });
        match signature {
            Some(signature) => Ok(signature),
            None => self.inner.sign(message),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.inner.scheme()
    }
}
