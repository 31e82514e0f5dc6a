//! Nonces, each of which signs one message.
//!
//! One leaves where it is kept by value, as a [`Nonce`], and is wiped there; signing consumes it. The records of what
//! is kept can be copied, as memory that begins as zeros wants it, and are nobody's but this module's.

use aws_lc_rs::rand;
use zeroize::{Zeroize, Zeroizing};

use super::super::kernels::Kernels;
use super::super::lanes::LANES;
use super::super::locked::Blank;
use super::comb::Table;
use super::der;
use super::scalar::{Montgomery, Scalar};

/// What of a signature does not depend on the message. It is used once: whatever signs takes it by value.
pub(in super::super) struct Nonce {
    r: Scalar,
    inverse: Montgomery,
}

impl Drop for Nonce {
    fn drop(&mut self) {
        self.inverse.zeroize();
    }
}

impl Nonce {
    /// Eight of them; `None` without randomness.
    pub(in super::super) fn draw(kernels: Kernels, table: &Table) -> Option<[Self; LANES]> {
        Drawn::draw(kernels, table).map(|drawn| drawn.nonces())
    }

    /// Of given numbers, none of which is 0.
    pub(in super::super) fn of(kernels: Kernels, table: &Table, numbers: &[Scalar; LANES]) -> [Self; LANES] {
        Drawn::of(kernels, table, numbers).nonces()
    }

    /// The half of the signature that is there already. It is public in every signature.
    pub(in super::super) const fn r(&self) -> Scalar {
        self.r
    }

    /// The signature of a SHA-256 digest; `None` if it would be invalid, for one nonce in 2^256.
    pub(in super::super) fn sign(self, digest: &[u8; 32], key: &Montgomery) -> Option<Vec<u8>> {
        let r = self.r;
        let s = self.s(digest, key);
        (!s.is_zero()).then(|| der(&r.to_bytes(), &s.to_bytes()))
    }

    /// The other half of the signature.
    pub(in super::super) fn s(self, digest: &[u8; 32], key: &Montgomery) -> Scalar {
        let mut sum = Scalar::reduced(digest).plus_product(key, &self.r);
        let s = sum.times(&self.inverse);
        sum.zeroize();
        s
    }
}

/// What eight nonces are made of.
struct Drawn {
    r: [Scalar; LANES],
    inverses: Zeroizing<[Montgomery; LANES]>,
}

impl Drawn {
    fn draw(kernels: Kernels, table: &Table) -> Option<Self> {
        loop {
            let numbers = random_scalars()?;
            let drawn = Self::of(kernels, table, &numbers);
            // A zero r is one in 2^256.
            if drawn.r.iter().all(|r| !r.is_zero()) {
                return Some(drawn);
            }
        }
    }

    fn of(kernels: Kernels, table: &Table, numbers: &[Scalar; LANES]) -> Self {
        // The negative of a number has the same x-coordinate; of the two one is odd, as the comb wants it.
        let mut halves = Zeroizing::new([[0; LANES]; 4]);
        for (lane, number) in numbers.iter().enumerate() {
            let half = Zeroizing::new(number.half_of_the_odd_one());
            for (words, word) in halves.iter_mut().zip(*half) {
                words[lane] = word;
            }
        }
        let x = kernels.p256_multiples(&halves, table);
        let r = core::array::from_fn(|lane| Scalar::of_words(x.map(|words| words[lane])));
        Self { r, inverses: inverses(numbers) }
    }

    fn nonces(self) -> [Nonce; LANES] {
        core::array::from_fn(|lane| Nonce { r: self.r[lane], inverse: self.inverses[lane] })
    }
}

/// A nonce that waits.
#[derive(Clone, Copy)]
struct Waiting {
    r: Scalar,
    inverse: Montgomery,
}

/// Nonces that wait for their messages, `N` at most.
pub(in super::super) struct Nonces<const N: usize> {
    waiting: [Waiting; N],
    len: usize,
}

// SAFETY: an array of integers and an integer, for which zero bytes are a value; nothing has a destructor.
unsafe impl<const N: usize> Blank for Nonces<N> {}

impl<const N: usize> Nonces<N> {
    /// Whether eight more can be drawn.
    pub(in super::super) const fn has_room(&self) -> bool {
        self.len + LANES <= N
    }

    /// Draws eight, for which there is room, and keeps `wanted` of them; `None` without randomness.
    pub(in super::super) fn draw(&mut self, kernels: Kernels, table: &Table, wanted: usize) -> Option<()> {
        let drawn = Drawn::draw(kernels, table)?;
        for (r, inverse) in drawn.r.iter().zip(drawn.inverses.iter()).take(wanted) {
            self.waiting[self.len] = Waiting { r: *r, inverse: *inverse };
            self.len += 1;
        }
        Some(())
    }

    pub(in super::super) fn pop(&mut self) -> Option<Nonce> {
        self.len = self.len.checked_sub(1)?;
        let waiting = &mut self.waiting[self.len];
        let nonce = Nonce { r: waiting.r, inverse: waiting.inverse };
        waiting.inverse.zeroize();
        Some(nonce)
    }

    pub(in super::super) fn wipe(&mut self) {
        self.waiting[..self.len].iter_mut().for_each(|waiting| waiting.inverse.zeroize());
        self.len = 0;
    }

    /// Secrets that are there although nobody may use them any more.
    #[cfg(test)]
    pub(in super::super) fn leftovers(&self) -> usize {
        self.waiting[self.len..].iter().filter(|waiting| !waiting.inverse.is_zero()).count()
    }
}

/// Uniform between 1 and n - 1. All are one draw: aws-lc's generator takes hardly longer for it than for one of them.
fn random_scalars() -> Option<Zeroizing<[Scalar; LANES]>> {
    let (mut bytes, mut scalars) = (Zeroizing::new([[0; 32]; LANES]), Zeroizing::new([Scalar::ZERO; LANES]));
    'draw: loop {
        rand::fill(bytes.as_flattened_mut()).ok()?;
        for (scalar, bytes) in scalars.iter_mut().zip(bytes.iter()) {
            // What is rejected, one in 2^32, says nothing about what is taken.
            let Some(drawn) = Scalar::new(bytes) else { continue 'draw };
            *scalar = drawn;
        }
        return Some(scalars);
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
