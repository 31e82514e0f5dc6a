//! Signed odd digits: how the fixed-base combs read a scalar.
//!
//! An odd number below 2^256 is a sum of 52 digits, each odd and between -31 and 31, times powers of 32. As no digit
//! is 0, every step of a comb does the same: it looks one of 16 multiples up, negates it or not, and adds it.
//!
//! For the sum of `(2 b - 1) 2^j` over 260 bits `b` is twice the number that those bits are, less 2^260 - 1. So the
//! bits are those of half the odd number, rounded down, with bit 259 set.

use super::lanes::Lanes;

/// Digits of a scalar.
pub(super) const DIGITS: u32 = 52;

/// One digit of each lane's scalar.
#[derive(Clone, Copy)]
pub(super) struct Digit<L: Lanes> {
    /// Which of the multiples 1, 3, .. 31 it is, in the low four bits.
    pub(super) index: L,
    /// The lanes in which the digit is above 0.
    pub(super) positive: L::Mask,
}

/// Digit `place` of the odd number whose half, rounded down, is `half`: little-endian words.
#[inline(always)]
pub(super) fn odd_digit<L: Lanes>(half: &[L; 4], place: u32) -> Digit<L> {
    let at = 5 * place;
    let (word, shift) = ((at / 64) as usize, at % 64);
    let bits = match place {
        // Bit 255 of the half is 0, and bit 259 is set for every number.
        51 => half[3].shr(63) | L::splat(16),
        _ if shift > 59 => half[word].shr(shift) | half[word + 1].shl(64 - shift),
        _ => half[word].shr(shift),
    };
    // With the five bits v the digit is 2 v - 31: above 0 from v = 16 on, where the index is v - 16; else it is 15 - v.
    let positive = bits.bit(4);
    let index = bits & L::splat(15);
    Digit { index: L::select(positive, index, L::splat(15) - index), positive }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    #[test]
    fn the_digits_add_up_to_the_number() {
        let numbers = [[1, 0, 0, 0], [u64::MAX; 4], [0x0123_4567_89ab_cdef, 5, 1 << 63, 0xffff_ffff_0000_0000]];
        for number in numbers {
            let half: [u64; 4] =
                core::array::from_fn(|i| number[i] >> 1 | number.get(i + 1).map_or(0, |above| above << 63));
            let half = half.map(Portable::splat);
            // From the highest place down: sum = 32 sum + digit, with enough words for what lies between.
            let mut sum = [0i128; 5];
            for place in (0..DIGITS).rev() {
                let digit = odd_digit(&half, place);
                let multiple = i128::from(2 * digit.index.store()[0] + 1);
                let signed = Portable::select(digit.positive, Portable::splat(1), Portable::splat(0)).store()[0];
                let mut carry = if signed == 1 { multiple } else { -multiple };
                for word in &mut sum {
                    let value = *word * 32 + carry;
                    *word = value & i128::from(u64::MAX);
                    carry = value >> 64;
                }
                assert!(multiple < 32);
            }
            let sum: Vec<u64> = sum.iter().map(|w| u64::try_from(*w).unwrap()).collect();
            assert_eq!(sum, [&number[..], &[0]].concat());
        }
    }
}
