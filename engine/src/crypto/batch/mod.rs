//! The key exchanges of a turn computed together, two or eight at a time, in AVX-512 IFMA lanes.
//!
//! rustls calls key exchange and signer synchronously, so what they need is made ready before the call: a pool of
//! single-use X25519 key pairs, made eight at a time after a turn's answers have left; and the shared secrets with
//! all clients of a turn, computed in its prepare phase, which the key exchange then finds by the client's key share.
//! What is not found is computed by aws-lc, so a wrong guess costs time and nothing else.
//!
//! Presigning, which is a switch of its own, also computes the part of ECDSA P-256 signatures that does not depend on
//! the message, for the ClientHellos of the turn that will need one. See `docs/SECURITY.md` for what that gives up.
//!
//! This is the only module of the engine with `unsafe` code: for the instructions, and for memory that is locked.
#![allow(unsafe_code, reason = "intrinsics of AVX-512, and memory that is locked and wiped on fork")]

#[cfg_attr(not(feature = "client"), allow(dead_code, reason = "a part is for the client alone"))]
mod client;
#[cfg(all(test, target_arch = "x86_64"))]
mod constant_time;
mod digits;
mod edwards;
mod ephemeral;
mod field25519;
mod groups;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod kernels;
mod lanes;
mod locked;
mod p256;
#[cfg(test)]
pub(crate) mod pretend;
mod randomness;
mod signer;
mod stash;
#[cfg(test)]
mod tests;
mod turn;
mod x25519;

use std::io;

use rustls::NamedGroup;
use rustls::crypto::CryptoProvider;

use super::key_schedule::accelerated;
pub use client::ClientKeys;
#[cfg(feature = "client")]
pub(crate) use client::{Met, with_pool};
pub use groups::x25519_answer;
pub(crate) use groups::x25519_share;
pub use kernels::Unavailable;
use kernels::{Kernels, Presigning};
use p256::{Nonce, Scalar};
use signer::Keys;
pub use turn::BatchCounters;
pub(crate) use turn::{Installed, Turn};
use zeroize::Zeroizing;

/// Key exchanges that are computed together at most.
pub(crate) const LANES: usize = lanes::LANES;

/// Key exchanges of one batch of ClientHellos that are computed ahead at most.
pub(crate) const AHEAD_MAX: usize = turn::STASH;

/// Batched cryptography on this machine: the CPU has what it needs, and the kernels have passed their self-test.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    kernels: Kernels,
    presigning: Option<Presigning>,
}

impl Batch {
    /// Looks at the CPU, tests the kernels once in the life of the process, and sees whether the system has memory for
    /// secrets.
    ///
    /// # Errors
    /// The CPU cannot, a kernel's answer was wrong, or there is no such memory.
    pub fn detect() -> Result<Self, Unavailable> {
        let kernels = Kernels::of_this_cpu()?;
        locked::probe().map_err(|e| Unavailable::Memory(e.kind()))?;
        Ok(Self { kernels, presigning: None })
    }

    /// With ECDSA nonces drawn ahead in each turn, for keys that are loaded with [`provider`](Self::provider) of what
    /// this returns. The first call computes a table, which takes some ten milliseconds.
    ///
    /// A copy of the machine's memory that is taken inside a turn and then run, as by a snapshot, a rollback or a clone
    /// of a virtual machine, can use a nonce twice, and that gives the certificate's key away.
    ///
    /// # Errors
    /// A kernel's answer was wrong.
    pub fn with_presigning(self) -> Result<Self, Unavailable> {
        Ok(Self { presigning: Some(self.kernels.presigning()?), ..self })
    }

    /// Whether nonces are drawn ahead.
    #[must_use]
    pub const fn presigns(&self) -> bool {
        self.presigning.is_some()
    }

    /// `provider` with its X25519 and X25519MLKEM768 replaced by those that look for a prepared result first, and
    /// with a key schedule of TLS 1.3 that keeps HMAC's states where the CPU has instructions for SHA-256. Keys for ECDSA
    /// P-256 that are loaded with it use nonces that were drawn ahead, if [there are any](Self::with_presigning).
    /// Randomness is aws-lc's, whatever `provider` has.
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
        provider.secure_random = randomness::RANDOM;
        if self.presigns() {
            provider.key_provider = &Keys;
        }
        provider
    }

    /// Gives the clients of this thread key shares from a pool, until what it returns is dropped; `None` when the
    /// thread has that already.
    ///
    /// # Errors
    /// The system gives no memory for the secrets.
    pub fn client_keys(&self) -> io::Result<Option<ClientKeys>> {
        Ok(ClientKeys::new(self.turn()?))
    }

    /// X25519 (RFC 7748 section 5) of eight secrets with eight peers' u-coordinates.
    ///
    /// A result of zeros comes of a point of low order; whoever agrees on a key must refuse it.
    #[must_use]
    pub fn x25519(&self, secrets: &[[u8; 32]; 8], peers: &[[u8; 32]; 8]) -> Zeroizing<[[u8; 32]; 8]> {
        self.kernels.agree(secrets, peers)
    }

    /// As [`x25519`](Self::x25519) for two, in half the time.
    #[must_use]
    pub fn x25519_of_two(&self, secrets: &[[u8; 32]; 2], peers: &[[u8; 32]; 2]) -> Zeroizing<[[u8; 32]; 2]> {
        self.kernels.agree_two(secrets, peers)
    }

    /// The public keys of eight secrets for X25519.
    #[must_use]
    pub fn x25519_public(&self, secrets: &[[u8; 32]; 8]) -> [[u8; 32]; 8] {
        self.kernels.public(secrets)
    }

    /// Signatures of eight SHA-256 digests by an ECDSA P-256 key in network order, in DER. `None`: this is no key, no
    /// [presigning](Self::with_presigning), or there is no randomness.
    #[must_use]
    pub fn ecdsa_p256(&self, key: &[u8; 32], digests: &[[u8; 32]; 8]) -> Option<[Vec<u8>; 8]> {
        let key = Zeroizing::new(Scalar::new(key)?.to_montgomery());
        let nonces = Nonce::draw(self.kernels, self.presigning?.table)?;
        let mut signatures = [const { Vec::new() }; 8];
        for ((signature, nonce), digest) in signatures.iter_mut().zip(nonces).zip(digests) {
            *signature = nonce.sign(digest, &key)?;
        }
        Some(signatures)
    }

    /// What one shard has for its turns.
    pub(crate) fn turn(self) -> io::Result<Turn> {
        Turn::new(self.kernels, self.presigning)
    }
}
