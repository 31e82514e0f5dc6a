//! The hashes, HMAC (RFC 2104) and HKDF (RFC 5869) of TLS 1.3's key schedule (RFC 8446 section 7.1) on the `sha2` and
//! `hmac` crates.
//!
//! A secret is expanded several times. HMAC's two keyed states are computed once for it and copied for each expansion,
//! and nothing is allocated but the box that rustls asks for. With the CPU's instructions for SHA-256 that takes half
//! of the time that it takes otherwise.

use core::marker::PhantomData;

use hmac::{Hmac, KeyInit, Mac};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::crypto::{CipherSuiteCommon, hash, hmac as rustls_hmac};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroize;

/// `suite` with the key schedule of this module, if it is one of TLS 1.3 and the CPU has instructions for SHA-256.
pub(super) fn accelerated(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    if !has_sha() {
        return suite;
    }
    let ours = [&AES_128_GCM_SHA256, &AES_256_GCM_SHA384, &CHACHA20_POLY1305_SHA256];
    match ours.into_iter().find(|s| s.common.suite == suite.suite()) {
        Some(ours) => SupportedCipherSuite::Tls13(ours),
        None => suite,
    }
}

/// Ours of SHA-256 and of SHA-384, whatever the CPU has.
#[cfg(test)]
pub(super) fn both() -> [&'static dyn Hkdf; 2] {
    [&KeySchedule::SHA256, &KeySchedule::SHA384]
}

#[cfg(target_arch = "x86_64")]
fn has_sha() -> bool {
    is_x86_feature_detected!("sha")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_sha() -> bool {
    false
}

static AES_128_GCM_SHA256: Tls13CipherSuite =
    suite(&cipher_suite::TLS13_AES_128_GCM_SHA256, Some(&Transcript::<Sha256>(PhantomData)), &KeySchedule::SHA256);

// The CPU has no instructions for SHA-384, where aws-lc's assembly is the better one for long input.
static AES_256_GCM_SHA384: Tls13CipherSuite =
    suite(&cipher_suite::TLS13_AES_256_GCM_SHA384, None, &KeySchedule::SHA384);

static CHACHA20_POLY1305_SHA256: Tls13CipherSuite = suite(
    &cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    Some(&Transcript::<Sha256>(PhantomData)),
    &KeySchedule::SHA256,
);

const fn suite(
    of_aws_lc: &SupportedCipherSuite,
    transcript: Option<&'static dyn hash::Hash>,
    hkdf_provider: &'static dyn Hkdf,
) -> Tls13CipherSuite {
    let SupportedCipherSuite::Tls13(suite) = of_aws_lc else { panic!("a suite of TLS 1.3") };
    Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: match transcript {
                Some(transcript) => transcript,
                None => suite.common.hash_provider,
            },
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: suite.quic,
    }
}

/// The key schedule over one HMAC.
struct KeySchedule<M>(PhantomData<fn() -> M>);

impl KeySchedule<Hmac<Sha256>> {
    const SHA256: Self = Self(PhantomData);
}

impl KeySchedule<Hmac<Sha384>> {
    const SHA384: Self = Self(PhantomData);
}

impl<M: Mac + KeyInit + Clone + Send + Sync + 'static> Hkdf for KeySchedule<M> {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.extract_from_secret(salt, &[0; OkmBlock::MAX_LEN][..M::output_size()])
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        // A salt of zeros is the empty one: HMAC pads keys with zeros (RFC 5869 section 2.2).
        let prk = tag(keyed::<M>(salt.unwrap_or_default()), &[secret]);
        Box::new(Expander(keyed::<M>(prk.as_ref())))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(Expander(keyed::<M>(okm.as_ref())))
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> rustls_hmac::Tag {
        rustls_hmac::Tag::new(tag(keyed::<M>(key.as_ref()), &[message]).as_ref())
    }
}

/// A pseudorandom key as HMAC's keyed states, which are wiped when they are dropped.
struct Expander<M>(M);

impl<M: Mac + Clone + Send + Sync> HkdfExpander for Expander<M> {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        let mut previous = OkmBlock::new(&[]);
        for (counter, chunk) in (1u16..).zip(output.chunks_mut(M::output_size())) {
            // "L <= 255*HashLen" (RFC 5869 section 2.3).
            let counter = u8::try_from(counter).map_err(|_| OutputLengthError)?;
            let mut mac = self.0.clone();
            mac.update(previous.as_ref());
            info.iter().for_each(|part| mac.update(part));
            previous = tag(mac, &[&[counter]]);
            chunk.copy_from_slice(&previous.as_ref()[..chunk.len()]);
        }
        Ok(())
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        let mut mac = self.0.clone();
        info.iter().for_each(|part| mac.update(part));
        tag(mac, &[&[1]])
    }

    fn hash_len(&self) -> usize {
        M::output_size()
    }
}

fn keyed<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104 section 2)")
}

/// The tag, in a type that wipes itself.
fn tag<M: Mac>(mut mac: M, message: &[&[u8]]) -> OkmBlock {
    message.iter().for_each(|part| mac.update(part));
    let mut bytes = mac.finalize().into_bytes();
    let block = OkmBlock::new(&bytes);
    bytes.as_mut_slice().zeroize();
    block
}

/// The hash of the handshake's messages.
struct Transcript<D>(PhantomData<fn() -> D>);

impl hash::Hash for Transcript<Sha256> {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(Hashing(Sha256::new()))
    }

    fn hash(&self, data: &[u8]) -> hash::Output {
        hash::Output::new(&Sha256::digest(data))
    }

    fn output_len(&self) -> usize {
        32
    }

    fn algorithm(&self) -> hash::HashAlgorithm {
        hash::HashAlgorithm::SHA256
    }
}

struct Hashing(Sha256);

impl hash::Context for Hashing {
    fn fork_finish(&self) -> hash::Output {
        hash::Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> hash::Output {
        hash::Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites() -> impl Iterator<Item = (&'static Tls13CipherSuite, &'static Tls13CipherSuite)> {
        [
            (&AES_128_GCM_SHA256, cipher_suite::TLS13_AES_128_GCM_SHA256),
            (&AES_256_GCM_SHA384, cipher_suite::TLS13_AES_256_GCM_SHA384),
            (&CHACHA20_POLY1305_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
        ]
        .into_iter()
        .map(|(ours, theirs)| (ours, theirs.tls13().unwrap()))
    }

    #[test]
    fn rfc_5869_test_case_1() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let expander = KeySchedule::SHA256.extract_from_secret(Some(&salt), &[0x0b; 22]);
        let mut okm = [0; 42];
        expander.expand_slice(&[&info[..3], &info[3..]], &mut okm).unwrap();
        let hex: String = okm.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    }

    #[test]
    fn every_operation_agrees_with_aws_lc() {
        for (ours, theirs) in suites() {
            assert_eq!(ours.common.suite, theirs.common.suite);
            let (our_hkdf, their_hkdf) = (ours.hkdf_provider, theirs.hkdf_provider);
            for len in 0..150_u8 {
                let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(37) ^ len).collect();
                let salt = (len % 3 != 0).then_some(&bytes[..]);
                let pairs = [
                    [our_hkdf.extract_from_secret(salt, &bytes), their_hkdf.extract_from_secret(salt, &bytes)],
                    [our_hkdf.extract_from_zero_ikm(salt), their_hkdf.extract_from_zero_ikm(salt)],
                ];
                for [ours, theirs] in pairs {
                    assert_eq!(ours.hash_len(), theirs.hash_len());
                    let info = [&bytes[..], b"label"];
                    let block = ours.expand_block(&info);
                    assert_eq!(block.as_ref(), theirs.expand_block(&info).as_ref());
                    let (mut a, mut b) = (vec![0; usize::from(len)], vec![0; usize::from(len)]);
                    ours.expand_slice(&info, &mut a).unwrap();
                    theirs.expand_slice(&info, &mut b).unwrap();
                    assert_eq!(a, b);
                    let [a, b] = [our_hkdf, their_hkdf].map(|hkdf| hkdf.expander_for_okm(&block).expand_block(&[]));
                    assert_eq!(a.as_ref(), b.as_ref());
                    let [a, b] = [our_hkdf, their_hkdf].map(|hkdf| hkdf.hmac_sign(&block, &bytes));
                    assert_eq!(a.as_ref(), b.as_ref());
                }
                let [a, b] = [ours, theirs].map(|suite| {
                    let mut context = suite.common.hash_provider.start();
                    context.update(&bytes);
                    let fork = context.fork();
                    context.update(b"more");
                    [fork.finish(), context.fork_finish(), context.finish(), suite.common.hash_provider.hash(&bytes)]
                });
                assert!(a.iter().zip(&b).all(|(a, b)| a.as_ref() == b.as_ref()));
            }
        }
    }

    #[test]
    fn output_ends_at_255_blocks() {
        for (ours, _) in suites() {
            let expander = ours.hkdf_provider.extract_from_zero_ikm(None);
            let len = 255 * expander.hash_len();
            assert!(expander.expand_slice(&[], &mut vec![0; len]).is_ok());
            assert!(expander.expand_slice(&[], &mut vec![0; len + 1]).is_err());
        }
    }
}
