//! The key exchanges of a turn computed together, eight at a time, in AVX-512 IFMA lanes.
//!
//! rustls calls key exchange and signer synchronously, so what they need is made ready before the call: a pool of
//! single-use X25519 key pairs, made eight at a time after a turn's answers have left; and the shared secrets with
//! all clients of a turn, computed in its prepare phase, which the key exchange then finds by the client's key share.
//! What is not found is computed by aws-lc, so a wrong guess costs time and nothing else.
//!
//! This is the only module of the engine with `unsafe` code: for the instructions, and for memory that is locked.
#![allow(unsafe_code, reason = "intrinsics of AVX-512, and memory that is locked and wiped on fork")]

mod digits;
mod edwards;
mod field25519;
mod groups;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod kernels;
mod lanes;
mod locked;
#[cfg(test)]
mod tests;
mod turn;
mod x25519;

use std::io;

use rustls::NamedGroup;
use rustls::crypto::CryptoProvider;

use super::key_schedule::accelerated;
pub(crate) use groups::x25519_share;
use kernels::Kernels;
pub use kernels::Unavailable;
pub use turn::BatchCounters;
pub(crate) use turn::{Installed, Turn};

/// Batched cryptography on this machine: the CPU has what it needs, and the kernels have passed their self-test.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    kernels: Kernels,
}

impl Batch {
    /// Looks at the CPU, and tests the kernels once in the life of the process.
    ///
    /// # Errors
    /// The CPU cannot, or a kernel's answer was wrong.
    pub fn detect() -> Result<Self, Unavailable> {
        Kernels::of_this_cpu().map(|kernels| Self { kernels })
    }

    /// `provider` with its X25519 and X25519MLKEM768 replaced by those that look for a prepared result first, and
    /// with a key schedule of TLS 1.3 that keeps HMAC's states where the CPU has instructions for SHA-256.
    ///
    /// Configurations made of it work everywhere; where no turn has prepared anything, aws-lc computes as ever.
    #[must_use]
    pub fn provider(&self, mut provider: CryptoProvider) -> CryptoProvider {
        for group in &mut provider.kx_groups {
            match group.name() {
                NamedGroup::X25519 => *group = groups::X25519,
                NamedGroup::X25519MLKEM768 => *group = groups::X25519MLKEM768,
                _ => {}
            }
        }
        provider.cipher_suites.iter_mut().for_each(|suite| *suite = accelerated(*suite));
        provider
    }

    /// What one shard has for its turns.
    pub(crate) fn turn(self) -> io::Result<Turn> {
        Turn::new(self.kernels)
    }
}
