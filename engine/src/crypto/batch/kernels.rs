//! The kernels for this CPU, and the proof at start-up that they compute what they should.

use core::fmt;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use super::edwards::Table;
#[cfg(target_arch = "x86_64")]
use super::ifma::Ifma;
use super::lanes::{LANES, Portable};
use super::x25519::{self, Octets};

/// Why nothing can be computed in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The CPU has no AVX-512 with IFMA.
    NoIfma,
    /// A kernel gave a wrong answer to a known question.
    SelfTest(&'static str),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIfma => f.write_str("this CPU has no AVX-512 IFMA, which batched cryptography needs"),
            Self::SelfTest(kernel) => {
                write!(f, "the self-test of batched {kernel} failed: do not trust this CPU or this build")
            }
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
}

impl Kernels {
    /// Those of this CPU, tested once in the life of the process.
    pub(super) fn of_this_cpu() -> Result<Self, Unavailable> {
        static TESTED: OnceLock<Result<(), Unavailable>> = OnceLock::new();
        #[cfg(target_arch = "x86_64")]
        if let Some(ifma) = Ifma::detect() {
            let kernels = Self::Ifma(ifma);
            return TESTED.get_or_init(|| kernels.test()).map(|()| kernels);
        }
        let _ = &TESTED;
        Err(Unavailable::NoIfma)
    }

    /// Each secret times each peer's point; zeros for a point of low order.
    pub(super) fn agree(self, secrets: &Octets, peers: &Octets) -> Zeroizing<Octets> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.agree(secrets, peers),
            Self::Portable => x25519::agree::<Portable>(secrets, peers),
        }
    }

    /// The public key of each secret.
    pub(super) fn public(self, secrets: &Octets) -> Octets {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.public(secrets, self.table()),
            Self::Portable => x25519::public::<Portable>(secrets, self.table()),
        }
    }

    /// The multiples of the base point; whoever asks first computes them.
    fn table(self) -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) => ifma.table(),
            Self::Portable => Table::compute::<Portable>(),
        })
    }

    /// Known answers, every lane with another question.
    fn test(self) -> Result<(), Unavailable> {
        let mut secrets = [RFC_7748_ALICE_SECRET, RFC_7748_BOB_SECRET].repeat(LANES / 2);
        let mut peers = [RFC_7748_BOB_PUBLIC, RFC_7748_ALICE_PUBLIC].repeat(LANES / 2);
        // The first vectors of RFC 7748 section 5.2, in two of the lanes.
        (secrets[2], peers[2]) = (RFC_7748_SCALAR, RFC_7748_U);
        (secrets[7], peers[7]) = (RFC_7748_SCALAR, RFC_7748_U);
        let (secrets, peers) = (array(&secrets), array(&peers));
        let shared = self.agree(&secrets, &peers);
        let right = shared.iter().enumerate().all(|(lane, shared)| {
            *shared == if lane == 2 || lane == 7 { RFC_7748_PRODUCT } else { RFC_7748_SHARED }
        });
        if !right {
            return Err(Unavailable::SelfTest("X25519 key agreement"));
        }
        let public = self.public(&secrets);
        let right = public.iter().enumerate().all(|(lane, public)| match lane {
            2 | 7 => *public == RFC_7748_SCALAR_PUBLIC,
            _ if lane % 2 == 0 => *public == RFC_7748_ALICE_PUBLIC,
            _ => *public == RFC_7748_BOB_PUBLIC,
        });
        if right { Ok(()) } else { Err(Unavailable::SelfTest("X25519 key generation")) }
    }
}

fn array(octets: &[[u8; 32]]) -> Octets {
    let mut lanes = [[0; 32]; LANES];
    lanes.copy_from_slice(octets);
    lanes
}

/// Reads 64 hexadecimal digits.
const fn hex(text: &[u8; 64]) -> [u8; 32] {
    const fn digit(c: u8) -> u8 {
        match c {
            b'0'..=b'9' => c - b'0',
            _ => c - b'a' + 10,
        }
    }
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

// RFC 7748 section 6.1.
const RFC_7748_ALICE_SECRET: [u8; 32] = hex(b"77076d0a7318a57d3c16c17251b26645df4c9f92ebc099ac5ff17e8c5cc1f21c"
    .first_chunk().unwrap());
