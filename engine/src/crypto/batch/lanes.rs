//! Eight 64-bit numbers that are computed with together.
//!
//! The kernels are written once, over [`Lanes`]. On a CPU with AVX-512 IFMA they run on its registers (`ifma.rs`);
//! [`Portable`] is the twin in plain Rust, which tests, valgrind and machines without those instructions can run.
//!
//! Nothing here branches on a lane's value or uses one as an address.

use core::ops::{Add, BitAnd, BitOr, Sub};

/// How many numbers there are.
pub(super) const LANES: usize = 8;

/// The low 52 bits: what the fused multiplication reads of its factors.
pub(super) const LOW_52: u64 = (1 << 52) - 1;

/// Eight lanes of 64 bits. Sums and differences wrap.
pub(super) trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + BitAnd<Output = Self> + BitOr<Output = Self>
{
    /// One yes or no for each lane.
    type Mask: Copy;

    /// Whether the lanes are one register: then everything is inlined into the kernel. Where they are not, the code
    /// would grow beyond what a compiler can bear, and the larger operations stay functions of their own.
    const IN_REGISTER: bool;

    /// The same value in every lane.
    fn splat(value: u64) -> Self;

    /// One value for each lane.
    fn load(values: &[u64; LANES]) -> Self;

    /// The lanes as an array.
    fn store(self) -> [u64; LANES];

    /// Shifts left by fewer than 64 bits. The distance is public.
    fn shl(self, bits: u32) -> Self;

    /// Rotates left. The distance is public.
    fn rol<const BITS: i32>(self) -> Self;

    /// Shifts right by fewer than 64 bits, filling with zeros. The distance is public.
    fn shr(self, bits: u32) -> Self;

    /// Shifts right by fewer than 64 bits, filling with the sign. The distance is public.
    fn sar(self, bits: u32) -> Self;

    /// `self` plus the low 52 bits of the product of the low 52 bits of `a` and `b`.
    fn madd_lo(self, a: Self, b: Self) -> Self;

    /// `self` plus the high 52 bits of that 104-bit product.
    fn madd_hi(self, a: Self, b: Self) -> Self;

    /// The lanes in which bit `bit` is set. The place of the bit is public.
    fn bit(self, bit: u32) -> Self::Mask;

    /// `yes` where the mask says so, `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    /// The lanes whose bit is set in `lanes`, the first lane's being the lowest. It is public.
    fn mask(lanes: u8) -> Self::Mask;

    /// Moves lanes within each half of four: the one at `i` takes the one at `order >> 2 i & 3`, for `order` below 256.
    fn quads<const ORDER: i32>(self) -> Self;

    /// For each lane the entry of `table` that its low four bits name. The whole table is read whatever they are.
    fn lookup(table: &[u64; 16], index: Self) -> Self;
}

/// The product of two numbers of five limbs, in ten columns of so many bits as a limb has: 51 or 52.
///
/// A low half counts in the column where its limbs meet; the high half, which begins at bit 52, in the next one, twice
/// for limbs of 51 bits. The low halves are added onto the high ones, so that no addition is needed to join them.
#[inline(always)]
pub(super) fn product<L: Lanes, const LIMB_BITS: u32>(a: [L; 5], b: [L; 5]) -> [L; 10] {
    let mut columns = [L::splat(0); 10];
    for i in 0..5 {
        for j in 0..5 {
            columns[i + j + 1] = columns[i + j + 1].madd_hi(a[i], b[j]);
        }
    }
    high_halves_weighed::<L, LIMB_BITS>(&mut columns);
    for i in 0..5 {
        for j in 0..5 {
            columns[i + j] = columns[i + j].madd_lo(a[i], b[j]);
        }
    }
    columns
}

/// The [`product`] of a number with itself: two different limbs are multiplied once and counted twice.
#[inline(always)]
pub(super) fn square<L: Lanes, const LIMB_BITS: u32>(a: [L; 5]) -> [L; 10] {
    let mut columns = [L::splat(0); 10];
    for i in 0..5 {
        for j in i + 1..5 {
            columns[i + j + 1] = columns[i + j + 1].madd_hi(a[i], a[j]);
        }
    }
    high_halves_weighed::<L, LIMB_BITS>(&mut columns);
    for i in 0..5 {
        for j in i + 1..5 {
            columns[i + j] = columns[i + j].madd_lo(a[i], a[j]);
        }
    }
    for (i, limb) in a.iter().enumerate() {
        let (even, odd) = (2 * i, 2 * i + 1);
        // With limbs of 51 bits the doubling that comes next is the weight of this high half.
        if LIMB_BITS == 51 {
            columns[odd] = columns[odd].madd_hi(*limb, *limb);
        }
        columns[even] = (columns[even] + columns[even]).madd_lo(*limb, *limb);
        columns[odd] = columns[odd] + columns[odd];
        if LIMB_BITS == 52 {
            columns[odd] = columns[odd].madd_hi(*limb, *limb);
        }
    }
    columns
}

#[inline(always)]
fn high_halves_weighed<L: Lanes, const LIMB_BITS: u32>(columns: &mut [L; 10]) {
    const { assert!(LIMB_BITS == 51 || LIMB_BITS == 52) }
    if LIMB_BITS == 51 {
        for column in columns {
            *column = *column + *column;
        }
    }
}

/// The twin in plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable([u64; LANES]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(u64) -> u64) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let mut lanes = self.0;
        for (lane, other) in lanes.iter_mut().zip(other.0) {
            *lane = f(*lane, other);
        }
        Self(lanes)
    }

    /// The 104-bit product of the low 52 bits of each.
    #[inline(always)]
    fn product(a: u64, b: u64) -> u128 {
        u128::from(a & LOW_52) * u128::from(b & LOW_52)
    }
}

impl Add for Portable {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }
}

impl Sub for Portable {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_sub)
    }
}

impl BitAnd for Portable {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }
}

impl BitOr for Portable {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a product are taken on purpose")]
impl Lanes for Portable {
    /// All ones or all zeros.
    type Mask = Self;

    const IN_REGISTER: bool = false;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[u64; LANES]) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn store(self) -> [u64; LANES] {
        self.0
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        self.map(|lane| lane << bits)
    }

    #[inline(always)]
    fn rol<const BITS: i32>(self) -> Self {
        self.map(|lane| lane.rotate_left(BITS.cast_unsigned()))
    }

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        self.map(|lane| lane >> bits)
    }

    #[inline(always)]
    fn sar(self, bits: u32) -> Self {
        self.map(|lane| (lane.cast_signed() >> bits).cast_unsigned())
    }

    #[inline(always)]
    fn madd_lo(self, a: Self, b: Self) -> Self {
        self + a.zip(b, |a, b| Self::product(a, b) as u64 & LOW_52)
    }

    #[inline(always)]
    fn madd_hi(self, a: Self, b: Self) -> Self {
        self + a.zip(b, |a, b| (Self::product(a, b) >> 52) as u64)
    }

    #[inline(always)]
    fn bit(self, bit: u32) -> Self {
        // Through a fence, or the compiler may find that this is a condition and branch on it.
        self.map(|lane| core::hint::black_box(0u64.wrapping_sub((lane >> bit) & 1)))
    }

    #[inline(always)]
    fn select(mask: Self, yes: Self, no: Self) -> Self {
        (mask & yes) | (mask.map(|lane| !lane) & no)
    }

    #[inline(always)]
    fn mask(lanes: u8) -> Self {
        Self(core::array::from_fn(|lane| 0u64.wrapping_sub(u64::from(lanes >> lane & 1))))
    }

    #[inline(always)]
    fn quads<const ORDER: i32>(self) -> Self {
        Self(core::array::from_fn(|lane| self.0[(lane & 4) | (ORDER >> (2 * (lane & 3)) & 3) as usize]))
    }

    #[inline(always)]
    fn lookup(table: &[u64; 16], index: Self) -> Self {
        index.map(|index| {
            (0..).zip(table).fold(0, |found, (at, entry)| {
                let difference = (index ^ at) & 15;
                // The sign of `difference - 1`: all ones where they are equal.
                let equal = core::hint::black_box((difference.wrapping_sub(1).cast_signed() >> 63).cast_unsigned());
                found | (entry & equal)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fused_multiplication_reads_52_bits_and_gives_both_halves() {
        let (a, b) = (0xfedc_ba98_7654_3210_u64, u64::MAX);
        let product = u128::from(a & LOW_52) * u128::from(b & LOW_52);
        let lo = Portable::splat(5).madd_lo(Portable::splat(a), Portable::splat(b)).store();
        let hi = Portable::splat(7).madd_hi(Portable::splat(a), Portable::splat(b)).store();
        assert_eq!(u128::from(lo[3] - 5) + (u128::from(hi[3] - 7) << 52), product);
    }

    #[test]
    fn each_lane_finds_its_own_entry() {
        let table = core::array::from_fn(|i| 100 + i as u64);
        let found = Portable::lookup(&table, Portable::load(&[0, 15, 16, 31, 7, 8, 1, 14])).store();
        assert_eq!(found, [100, 115, 100, 115, 107, 108, 101, 114]);
    }

    #[test]
    fn lanes_move_within_their_half() {
        let moved = Portable::load(&[10, 11, 12, 13, 24, 25, 26, 27]).quads::<0b00_01_11_10>().store();
        assert_eq!(moved, [12, 13, 11, 10, 26, 27, 25, 24]);
    }

    /// The sum of the columns, modulo 2^128: each at its place.
    fn value(columns: [Portable; 10], limb_bits: u32) -> u128 {
        (0..)
            .zip(columns)
            .take(3)
            .fold(0, |sum: u128, (i, column)| sum.wrapping_add(u128::from(column.store()[2]) << (i * limb_bits)))
    }

    #[test]
    fn columns_add_up_to_the_product_whatever_the_limbs_hold() {
        let number = |low: u64, next: u64| [low, next, 3, 5, LOW_52].map(Portable::splat);
        let whole = |low: u64, next: u64, bits: u32| {
            u128::from(low).wrapping_add(u128::from(next) << bits).wrapping_add(3 << (2 * bits))
        };
        let (a, b) = ((LOW_52, 0x000d_cba9_8765_4321), (0x000f_edcb_a987_6543, LOW_52));
        let (x, y) = (number(a.0, a.1), number(b.0, b.1));
        for (x, y, a, b) in [(x, y, a, b), (y, y, b, b)] {
            assert_eq!(value(product::<_, 51>(x, y), 51), whole(a.0, a.1, 51).wrapping_mul(whole(b.0, b.1, 51)));
            assert_eq!(value(product::<_, 52>(x, y), 52), whole(a.0, a.1, 52).wrapping_mul(whole(b.0, b.1, 52)));
        }
        assert_eq!(value(square::<_, 51>(x), 51), value(product::<_, 51>(x, x), 51));
        assert_eq!(value(square::<_, 52>(x), 52), value(product::<_, 52>(x, x), 52));
    }

    #[test]
    fn a_mask_chooses_lane_by_lane() {
        let mask = Portable::load(&[0, 4, 8, 12, 0, 4, 8, 12]).bit(2);
        let chosen = Portable::select(mask, Portable::splat(1), Portable::splat(2)).store();
        assert_eq!(chosen, [2, 1, 2, 1, 2, 1, 2, 1]);
    }
}
