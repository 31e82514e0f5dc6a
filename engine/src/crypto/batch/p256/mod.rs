//! ECDSA on P-256 (FIPS 186-5 section 6.4) whose part before the message is computed ahead, eight nonces at a time.
//!
//! For a nonce k that part is r, the x-coordinate of k times the base point, and 1/k. What is left for a message is
//! s = (e + r d) / k: two multiplications.
//!
//! **Whoever sees two signatures of different messages with one nonce has the key.** A nonce here is drawn before its
//! message is known, so it is not hedged by the message; it is used once, by value, within one turn.

mod comb;
mod field;
mod nonce;
mod scalar;

pub(super) use comb::{Table, multiples};
pub(super) use nonce::{Nonce, Nonces};
pub(super) use scalar::{Montgomery, Scalar};

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
