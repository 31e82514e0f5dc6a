//! Arithmetic modulo the order n of P-256, one number at a time, in constant time.

use zeroize::Zeroize;

/// n in little-endian words.
const N: [u64; 4] = [0xf3b9_cac2_fc63_2551, 0xbce6_faad_a717_9e84, 0xffff_ffff_ffff_ffff, 0xffff_ffff_0000_0000];
/// -1 / n mod 2^64.
const N_NEGATIVE_INVERSE: u64 = 0xccd1_c8aa_ee00_bc4f;
/// 2^512 mod n.
const R_SQUARED: Montgomery =
    Montgomery([0x8324_4c95_be79_eea2, 0x4699_799c_49bd_6fa6, 0x2845_b239_2b6b_ec59, 0x66e1_2d94_f3d9_5620]);

/// A number below n in little-endian words.
#[derive(Clone, Copy)]
pub(in super::super) struct Scalar([u64; 4]);

/// A number modulo n, times 2^256.
#[derive(Clone, Copy)]
pub(in super::super) struct Montgomery([u64; 4]);

impl Zeroize for Scalar {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl Zeroize for Montgomery {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl Scalar {
    pub(super) const ZERO: Self = Self([0; 4]);

    /// From little-endian words of a number below 2 n.
    pub(super) fn of_words(words: [u64; 4]) -> Self {
        Self(less_n(words, 0))
    }

    /// `self + other`.
    pub(super) fn plus(&self, other: &Self) -> Self {
        self.plus_product(&other.to_montgomery(), &Self([1, 0, 0, 0]))
    }

    /// From 32 bytes in network order; `None` for 0 and for n and above.
    pub(in super::super) fn new(bytes: &[u8; 32]) -> Option<Self> {
        let words = words(bytes);
        let (_, below) = sub(words, N);
        let zero = words.iter().fold(0, |bits, word| bits | word) == 0;
        (below == 1 && !zero).then_some(Self(words))
    }

    /// From 32 bytes in network order, of which at most one n is taken off: how ECDSA reads a digest (FIPS 186-5
    /// section 6.4.1) and a coordinate.
    pub(in super::super) fn reduced(bytes: &[u8; 32]) -> Self {
        Self(less_n(words(bytes), 0))
    }

    /// In network order.
    pub(in super::super) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.0.iter().rev()) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    pub(in super::super) fn is_zero(&self) -> bool {
        self.0.iter().fold(0, |bits, word| bits | word) == 0
    }

    pub(in super::super) fn to_montgomery(self) -> Montgomery {
        Montgomery(product(&self.0, &R_SQUARED.0))
    }

    /// `self + a * b`, where only one of the factors is in Montgomery form.
    pub(super) fn plus_product(&self, a: &Montgomery, b: &Self) -> Self {
        let mut product = product(&a.0, &b.0);
        let mut sum = [0; 4];
        let mut carry = 0;
        for i in 0..4 {
            (sum[i], carry) = add_carry(self.0[i], product[i], carry);
        }
        let result = Self(less_n(sum, carry));
        // Of a signature's r and either of these the key follows.
        product.zeroize();
        sum.zeroize();
        result
    }

    /// `self * b`.
    pub(super) fn times(&self, b: &Montgomery) -> Self {
        Self(product(&self.0, &b.0))
    }

    /// Half, rounded down, of the odd one among the number, which is not 0, and its negative.
    pub(super) fn half_of_the_odd_one(&self) -> [u64; 4] {
        let (mut negative, _) = sub(N, self.0);
        let odd = core::hint::black_box(0u64.wrapping_sub(self.0[0] & 1));
        let mut chosen = [0; 4];
        for i in 0..4 {
            chosen[i] = (self.0[i] & odd) | (negative[i] & !odd);
        }
        let half = core::array::from_fn(|i| chosen[i] >> 1 | chosen.get(i + 1).map_or(0, |above| above << 63));
        chosen.zeroize();
        negative.zeroize();
        half
    }
}

impl Montgomery {
    /// Whether it was wiped.
    #[cfg(test)]
    pub(super) fn is_zero(&self) -> bool {
        self.0 == [0; 4]
    }

    pub(super) fn mul(&self, other: &Self) -> Self {
        Self(product(&self.0, &other.0))
    }

    /// The inverse of a number that is not 0: the power n - 2.
    pub(super) fn invert(&self) -> Self {
        // Four bits of the exponent at a time; the exponent is public.
        let mut powers = [*self; 15];
        for i in 1..15 {
            powers[i] = powers[i - 1].mul(self);
        }
        let mut result = powers[14];
        for place in (0..63).rev() {
            for _ in 0..4 {
                result = result.mul(&result);
            }
            let word = if place < 16 { N[0] - 2 } else { N[place / 16] };
            let digit = (word >> (4 * (place % 16))) & 15;
            if let Some(power) = (digit as usize).checked_sub(1) {
                result = result.mul(&powers[power]);
            }
        }
        powers.iter_mut().for_each(Zeroize::zeroize);
        result
    }
}

fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        let mut octets = [0; 8];
        octets.copy_from_slice(bytes);
        *word = u64::from_be_bytes(octets);
    }
    words
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
const fn halves(value: u128) -> (u64, u64) {
    (value as u64, (value >> 64) as u64)
}

/// `a + b + carry` and the carry out of it.
const fn add_carry(a: u64, b: u64, carry: u64) -> (u64, u64) {
    halves(a as u128 + b as u128 + carry as u128)
}

/// `sum + a * b + carry` and what is carried.
const fn multiply_add(sum: u64, a: u64, b: u64, carry: u64) -> (u64, u64) {
    halves(sum as u128 + a as u128 * b as u128 + carry as u128)
}

/// `a - b - borrow`, and 1 if that is below 0.
const fn sub_borrow(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let (low, high) = halves((a as u128).wrapping_sub(b as u128 + borrow as u128));
    (low, high & 1)
}

/// `a - b`, and 1 if that is below 0.
fn sub(a: [u64; 4], b: [u64; 4]) -> ([u64; 4], u64) {
    let mut difference = [0; 4];
    let mut borrow = 0;
    for i in 0..4 {
        (difference[i], borrow) = sub_borrow(a[i], b[i], borrow);
    }
    (difference, borrow)
}

/// `number + high * 2^256`, which is below 2 n, less n if it is n or more.
fn less_n(number: [u64; 4], high: u64) -> [u64; 4] {
    // The difference is computed twice, so that none is left behind that would be as good as the number.
    let (_, below) = sub(number, N);
    let keep = core::hint::black_box(0u64.wrapping_sub(below & (high ^ 1)));
    sub(number, N.map(|word| word & !keep)).0
}

/// a b / 2^256 mod n, for a b below 2^256 n.
fn product(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let mut t = [0; 6];
    for b in b {
        let mut carry = 0;
        for j in 0..4 {
            (t[j], carry) = multiply_add(t[j], a[j], *b, carry);
        }
        (t[4], t[5]) = add_carry(t[4], carry, 0);
        let m = t[0].wrapping_mul(N_NEGATIVE_INVERSE);
        let (_, mut carry) = multiply_add(t[0], m, N[0], 0);
        for j in 1..4 {
            (t[j - 1], carry) = multiply_add(t[j], m, N[j], carry);
        }
        (t[3], carry) = add_carry(t[4], carry, 0);
        t[4] = t[5] + carry;
    }
    less_n([t[0], t[1], t[2], t[3]], t[4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(low: u8) -> Scalar {
        let mut bytes = [0; 32];
        bytes[31] = low;
        Scalar::new(&bytes).unwrap()
    }

    #[test]
    fn zero_and_the_order_are_no_scalars() {
        let n = Scalar(N).to_bytes();
        assert!(Scalar::new(&n).is_none() && Scalar::new(&[0; 32]).is_none() && Scalar::new(&[0xff; 32]).is_none());
        let mut less = n;
        less[31] -= 1;
        assert_eq!(Scalar::new(&less).unwrap().to_bytes(), less);
        assert!(Scalar::reduced(&n).is_zero());
        assert_eq!(Scalar::reduced(&less).to_bytes(), less);
    }

    #[test]
    fn a_number_times_its_inverse_is_one() {
        for bytes in [[1; 32], [0x7f; 32], number(2).to_bytes()] {
            let x = Scalar::new(&bytes).unwrap();
            let inverse = x.to_montgomery().invert();
            assert_eq!(x.times(&inverse).to_bytes(), number(1).to_bytes());
        }
    }

    #[test]
    fn sums_wrap_at_the_order() {
        let (minus_one, _) = sub(N, number(1).0);
        let minus_one = Scalar(minus_one);
        assert!(number(1).plus_product(&number(1).to_montgomery(), &minus_one).is_zero());
        // -1 + -1 * -1 = 0, and 3 + -1 * -1 = 4.
        assert!(minus_one.plus_product(&minus_one.to_montgomery(), &minus_one).is_zero());
        let four = number(3).plus_product(&minus_one.to_montgomery(), &minus_one);
        assert_eq!(four.to_bytes(), number(4).to_bytes());
    }

    #[test]
    fn the_odd_one_of_a_number_and_its_negative_is_halved() {
        assert_eq!(number(5).half_of_the_odd_one(), [2, 0, 0, 0]);
        let (negative, _) = sub(N, number(4).0);
        let half = number(4).half_of_the_odd_one();
        assert_eq!((half[0] << 1 | 1, half[3] >> 63), (negative[0], 0));
    }
}
