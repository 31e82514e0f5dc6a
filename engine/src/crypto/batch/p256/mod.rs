//! ECDSA on P-256 (FIPS 186-5 section 6.4) whose part before the message is computed ahead, eight nonces at a time.
//!
//! For a nonce k that part is r, the x-coordinate of k times the base point, and 1/k. What is left for a message is
//! s = (e + r d) / k: two multiplications.
//!
//! **Whoever sees two signatures of different messages with one nonce has the key.** A nonce here is drawn before its
//! message is known, so it is not hedged by the message; it is used once, by value, within one turn.

mod comb;
mod field;
mod scalar;

use aws_lc_rs::rand;
use zeroize::{Zeroize, Zeroizing};

use super::kernels::Kernels;
use super::lanes::LANES;
pub(super) use comb::{Table, multiples};
pub(super) use scalar::{Montgomery, Scalar};

/// What of a signature does not depend on the message. It is used once: [`sign`](Self::sign) takes it by value.
pub(super) struct Nonce {
    pub(super) r: Scalar,
    pub(super) inverse: Montgomery,
}

impl Drop for Nonce {
    fn drop(&mut self) {
        self.inverse.zeroize();
    }
}

impl Nonce {
    /// Eight of them; `None` without randomness.
    pub(super) fn draw(kernels: Kernels, table: &Table) -> Option<[Self; LANES]> {
        loop {
            let mut nonces = Zeroizing::new([Scalar::ZERO; LANES]);
            for nonce in nonces.iter_mut() {
                *nonce = random_scalar()?;
            }
            let drawn = Self::of(kernels, table, &nonces);
            // A zero r is one in 2^256.
            if drawn.iter().all(|nonce| !nonce.r.is_zero()) {
                return Some(drawn);
            }
        }
    }

    pub(super) fn of(kernels: Kernels, table: &Table, nonces: &[Scalar; LANES]) -> [Self; LANES] {
        // The negative of a nonce has the same x-coordinate; of the two one is odd, as the comb wants it.
        let mut halves = Zeroizing::new([[0; LANES]; 4]);
        for (lane, nonce) in nonces.iter().enumerate() {
            let half = Zeroizing::new(nonce.half_of_the_odd_one());
            for (words, word) in halves.iter_mut().zip(*half) {
                words[lane] = word;
            }
        }
        let x = kernels.p256_multiples(&halves, table);
        let inverses = inverses(nonces);
        core::array::from_fn(|lane| Self { r: Scalar::of_words(x.map(|words| words[lane])), inverse: inverses[lane] })
    }

    /// The signature of a SHA-256 digest; `None` if it would be invalid, for one nonce in 2^256.
    pub(super) fn sign(self, digest: &[u8; 32], key: &Montgomery) -> Option<Vec<u8>> {
        let s = self.s(digest, key);
        (!s.is_zero()).then(|| der(&self.r.to_bytes(), &s.to_bytes()))
    }

    /// The other half of the signature.
    pub(super) fn s(&self, digest: &[u8; 32], key: &Montgomery) -> Scalar {
        let mut sum = Scalar::reduced(digest).plus_product(key, &self.r);
        let s = sum.times(&self.inverse);
        sum.zeroize();
        s
    }
}

/// Uniform between 1 and n - 1.
fn random_scalar() -> Option<Scalar> {
    let mut bytes = Zeroizing::new([0; 32]);
    loop {
        rand::fill(&mut *bytes).ok()?;
        // What is rejected, one in 2^32, says nothing about what is taken.
        if let Some(scalar) = Scalar::new(&bytes) {
            return Some(scalar);
        }
    }
}

/// The inverses of all of them for the price of one, and three multiplications each.
fn inverses(numbers: &[Scalar; LANES]) -> Zeroizing<[Montgomery; LANES]> {
    let numbers = Zeroizing::new(numbers.map(Scalar::to_montgomery));
    let mut products = Zeroizing::new(*numbers);
    for i in 1..LANES {
        products[i] = products[i - 1].mul(&numbers[i]);
    }
    let mut inverses = Zeroizing::new(*numbers);
    let mut inverse = Zeroizing::new(products[LANES - 1].invert());
    for i in (1..LANES).rev() {
        inverses[i] = inverse.mul(&products[i - 1]);
        *inverse = inverse.mul(&numbers[i]);
    }
    inverses[0] = *inverse;
    inverses
}

/// `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3): a SEQUENCE of two INTEGERs.
fn der(r: &[u8; 32], s: &[u8; 32]) -> Vec<u8> {
    let mut out = vec![0x30, 0];
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count().min(31);
        let digits = &number[zeros..];
        let sign = usize::from(digits[0] >> 7);
        // Two numbers of at most 33 bytes: every length fits in seven bits.
        out.extend_from_slice(&[2, u8::try_from(digits.len() + sign).unwrap_or(33)]);
        out.extend_from_slice(&[0][..sign]);
        out.extend_from_slice(digits);
    }
    out[1] = u8::try_from(out.len() - 2).unwrap_or(70);
    out
}
