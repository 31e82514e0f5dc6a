//! The kernels for this CPU, and the proof at start-up that they compute what they should.

use core::fmt;
use std::io;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use super::edwards::Table;
#[cfg(target_arch = "x86_64")]
use super::ifma::Ifma;
use super::lanes::{LANES, Portable};
use super::p256;
use super::x25519::{self, Octets, Pair};

/// Why nothing can be computed in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The CPU has no AVX-512 with IFMA.
    NoIfma,
    /// A kernel gave a wrong answer to a known question.
    SelfTest(&'static str),
    /// The system gives no memory for secrets that a forked child finds wiped.
    Memory(io::ErrorKind),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIfma => f.write_str("this CPU has no AVX-512 IFMA, which batched cryptography needs"),
            Self::SelfTest(kernel) => {
                write!(f, "the self-test of batched {kernel} failed: do not trust this CPU or this build")
            }
            Self::Memory(kind) => write!(
                f,
                "no memory that forked children find wiped ({kind}), which batched cryptography keeps secrets in: it needs \
                 Linux 4.14 or later, and a sandbox that allows MADV_WIPEONFORK"
            ),
        }
    }
}

impl std::error::Error for Unavailable {}

/// What computes in batches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernels {
    #[cfg(target_arch = "x86_64")]
    Ifma(Ifma),
    #[cfg_attr(not(test), expect(dead_code, reason = "tests run the twin on every machine"))]
    Portable,
    /// The twin, one of whose kernels gets one lane wrong.
    #[cfg(test)]
    Faulty(Kernel, usize),
}

#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    Agree,
    AgreeTwo,
    Public,
    P256Multiples,
}

impl Kernels {
    /// Those of this CPU, tested once in the life of the process.
    pub(super) fn of_this_cpu() -> Result<Self, Unavailable> {
        static TESTED: OnceLock<Result<(), Unavailable>> = OnceLock::new();
        #[cfg(test)]
        if let Some(machine) = super::pretend::machine() {
            return machine.and_then(|kernels| kernels.unless_faulty(&OnceLock::new()));
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(ifma) = Ifma::detect() {
            return Self::Ifma(ifma).unless_faulty(&TESTED);
        }
        let _ = &TESTED;
        Err(Unavailable::NoIfma)
    }

    fn unless_faulty(self, tested: &OnceLock<Result<(), Unavailable>>) -> Result<Self, Unavailable> {
        tested.get_or_init(|| self.test()).map(|()| self)
    }

    /// Each secret times each peer's point; zeros for a point of low order.
    pub(super) fn agree(self, secrets: &Octets, peers: &Octets) -> Zeroizing<Octets> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.agree(secrets, peers),
            Self::Portable => x25519::agree::<Portable>(secrets, peers),
            #[cfg(test)]
            Self::Faulty(kernel, lane) => {
                let mut agreed = Self::Portable.agree(secrets, peers);
                agreed[lane][31] ^= u8::from(kernel == Kernel::Agree);
                agreed
            }
        }
    }

    /// As [`agree`](Self::agree) for two, in half the time.
    pub(super) fn agree_two(self, secrets: &Pair, peers: &Pair) -> Zeroizing<Pair> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.agree_two(secrets, peers),
            Self::Portable => x25519::agree_two::<Portable>(secrets, peers),
            #[cfg(test)]
            Self::Faulty(kernel, lane) => {
                let mut agreed = Self::Portable.agree_two(secrets, peers);
                agreed[lane % 2][0] ^= u8::from(kernel == Kernel::AgreeTwo);
                agreed
            }
        }
    }

    /// The public key of each secret.
    pub(super) fn public(self, secrets: &Octets) -> Octets {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.public(secrets, self.table()),
            Self::Portable => x25519::public::<Portable>(secrets, self.table()),
            #[cfg(test)]
            Self::Faulty(kernel, lane) => {
                let mut public = Self::Portable.public(secrets);
                public[lane][0] ^= u8::from(kernel == Kernel::Public);
                public
            }
        }
    }

    /// The x-coordinates of multiples of P-256's base point; see [`p256::multiples`].
    pub(super) fn p256_multiples(
        self,
        halves: &[[u64; LANES]; 4],
        table: &p256::Table,
    ) -> Zeroizing<[[u64; LANES]; 4]> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.p256_multiples(halves, table),
            Self::Portable => p256::multiples::<Portable>(halves, table),
            #[cfg(test)]
            Self::Faulty(kernel, lane) => {
                let mut x = Self::Portable.p256_multiples(halves, table);
                x[0][lane] ^= u64::from(kernel == Kernel::P256Multiples);
                x
            }
        }
    }

    /// What drawing nonces ahead needs, tested once in the life of the process.
    pub(super) fn presigning(self) -> Result<Presigning, Unavailable> {
        static PRESIGNING: OnceLock<Result<p256::Table, Unavailable>> = OnceLock::new();
        let failed = Unavailable::SelfTest("ECDSA nonces");
        #[cfg(test)]
        if matches!(self, Self::Faulty(..)) {
            return self.tested_table(failed).map(|table| Presigning { table: Box::leak(Box::new(table)) });
        }
        let table = PRESIGNING.get_or_init(|| self.tested_table(failed));
        table.as_ref().map(|table| Presigning { table }).map_err(|e| *e)
    }

    fn tested_table(self, failed: Unavailable) -> Result<p256::Table, Unavailable> {
        let table = p256::Table::compute().map_err(|_| failed)?;
        if self.signs_as_rfc_6979(&table) { Ok(table) } else { Err(failed) }
    }

    /// Whether the signatures of RFC 6979 appendix A.2.5 come out.
    fn signs_as_rfc_6979(self, table: &p256::Table) -> bool {
        let [Some(key), Some(sample), Some(test)] =
            [RFC_6979_KEY, RFC_6979_SAMPLE.0, RFC_6979_TEST.0].map(|bytes| p256::Scalar::new(&bytes))
        else {
            return false;
        };
        let nonces = core::array::from_fn(|lane| if lane.is_multiple_of(3) { test } else { sample });
        let expected = |lane: usize| if lane.is_multiple_of(3) { RFC_6979_TEST } else { RFC_6979_SAMPLE };
        let key = key.to_montgomery();
        let signed = p256::Nonce::of(self, table, &nonces).map(|nonce| (nonce.r().to_bytes(), nonce));
        signed.into_iter().enumerate().all(|(lane, (r, nonce))| {
            let (_, digest, expected_r, expected_s) = expected(lane);
            let signature = nonce.sign(&digest, &key).unwrap_or_default();
            r == expected_r && signature.ends_with(&expected_s)
        })
    }

    /// The multiples of the base point; whoever asks first computes them.
    fn table(self) -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.table(),
            Self::Portable => Table::compute::<Portable>(),
            #[cfg(test)]
            Self::Faulty(..) => Table::compute::<Portable>(),
        })
    }

    /// Known answers, with different questions in the lanes.
    fn test(self) -> Result<(), Unavailable> {
        let (alice, bob) = (RFC_7748_ALICE, RFC_7748_BOB);
        let mut secrets = lanes(|lane| if lane.is_multiple_of(2) { alice.0 } else { bob.0 });
        let public = self.public(&secrets);
        if public != lanes(|lane| if lane.is_multiple_of(2) { alice.1 } else { bob.1 }) {
            return Err(Unavailable::SelfTest("X25519 key generation"));
        }
        let mut peers = lanes(|lane| if lane.is_multiple_of(2) { bob.1 } else { alice.1 });
        let (scalar, u, product) = RFC_7748_PRODUCT;
        (secrets[6], peers[6]) = (scalar, u);
        if *self.agree(&secrets, &peers) != lanes(|lane| if lane == 6 { product } else { RFC_7748_SHARED }) {
            return Err(Unavailable::SelfTest("X25519 key agreement"));
        }
        let two = |one, other| *self.agree_two(&[secrets[one], secrets[other]], &[peers[one], peers[other]]);
        if two(0, 6) != [RFC_7748_SHARED, product] || two(6, 1) != [product, RFC_7748_SHARED] {
            return Err(Unavailable::SelfTest("X25519 key agreement of two"));
        }
        Ok(())
    }
}

/// What drawing nonces ahead needs.
#[derive(Clone, Copy)]
pub(super) struct Presigning {
    pub(super) table: &'static p256::Table,
}

impl fmt::Debug for Presigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presigning")
    }
}

fn lanes(octets: impl Fn(usize) -> [u8; 32]) -> Octets {
    core::array::from_fn(octets)
}

/// Reads 64 hexadecimal digits.
pub(super) const fn hex(text: &str) -> [u8; 32] {
    const fn digit(c: u8) -> u8 {
        if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 }
    }
    let text = text.as_bytes();
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

/// Secret and public keys of RFC 7748 section 6.1.
pub(super) const RFC_7748_ALICE: ([u8; 32], [u8; 32]) = (
    hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
    hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
);
pub(super) const RFC_7748_BOB: ([u8; 32], [u8; 32]) = (
    hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
    hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
);
const RFC_7748_SHARED: [u8; 32] = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
/// Scalar, u-coordinate and result of RFC 7748 section 5.2.
pub(super) const RFC_7748_PRODUCT: ([u8; 32], [u8; 32], [u8; 32]) = (
    hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
    hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
    hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
);
/// The key of RFC 6979 appendix A.2.5, and for the messages "sample" and "test" nonce, SHA-256 digest, r and s.
const RFC_6979_KEY: [u8; 32] = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
const RFC_6979_SAMPLE: ([u8; 32], [u8; 32], [u8; 32], [u8; 32]) = (
    hex("a6e3c57dd01abe90086538398355dd4c3b17aa873382b0f24d6129493d8aad60"),
    hex("af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf"),
    hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"),
    hex("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"),
);
const RFC_6979_TEST: ([u8; 32], [u8; 32], [u8; 32], [u8; 32]) = (
    hex("d16b6ae827f17175e040871a1c7ec3500192c4c92677336ec2537acaee0008e0"),
    hex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
    hex("f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367"),
    hex("019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"),
);

#[cfg(test)]
mod tests {
    use super::*;

    /// What asks for kernels of this CPU is told, now and whenever it asks again.
    #[test]
    fn a_kernel_that_gets_one_lane_wrong_is_not_used() {
        for (kernel, name) in [
            (Kernel::Agree, "X25519 key agreement"),
            (Kernel::AgreeTwo, "X25519 key agreement of two"),
            (Kernel::Public, "X25519 key generation"),
        ] {
            for lane in 0..LANES {
                let tested = OnceLock::new();
                for _ in 0..2 {
                    let refused = Kernels::Faulty(kernel, lane).unless_faulty(&tested).unwrap_err();
                    assert_eq!(refused, Unavailable::SelfTest(name), "lane {lane}");
                }
            }
        }
        assert!(Kernels::Portable.unless_faulty(&OnceLock::new()).is_ok());
    }

    #[test]
    fn a_comb_that_gets_one_lane_wrong_draws_no_nonces() {
        let failed = Unavailable::SelfTest("ECDSA nonces");
        for lane in 0..LANES {
            let refused = Kernels::Faulty(Kernel::P256Multiples, lane).tested_table(failed);
            assert!(refused.is_err_and(|e| e == failed), "lane {lane}");
        }
        assert!(Kernels::Portable.tested_table(failed).is_ok());
    }
}
