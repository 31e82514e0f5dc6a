//! Arithmetic modulo 2^255 - 19 in eight lanes.

use super::lanes::{self, LANES, Lanes};

const LOW_51: u64 = (1 << 51) - 1;

/// A number modulo 2^255 - 19 in each lane, in five limbs of 51 bits.
///
/// Between operations a limb is below 2^51 + 2^16. A factor of a product may have limbs up to 2^52; so a sum, which
/// could exceed that, is carried at once.
#[derive(Clone, Copy)]
pub(super) struct Fe<L>([L; 5]);

impl<L: Lanes> Fe<L> {
    /// A small number, the same in every lane.
    #[inline(always)]
    pub(super) fn small(value: u64) -> Self {
        Self([L::splat(value), L::splat(0), L::splat(0), L::splat(0), L::splat(0)])
    }

    /// A number in little-endian words, the same in every lane.
    #[inline(always)]
    pub(super) fn constant(words: [u64; 4]) -> Self {
        Self::from_words([L::splat(words[0]), L::splat(words[1]), L::splat(words[2]), L::splat(words[3])])
    }

    /// From little-endian words. The highest bit is ignored, and numbers that are not reduced are taken as they are
    /// (RFC 7748 section 5).
    #[inline(always)]
    pub(super) fn from_words(w: [L; 4]) -> Self {
        let mask = L::splat(LOW_51);
        Self([
            w[0] & mask,
            (w[0].shr(51) | w[1].shl(13)) & mask,
            (w[1].shr(38) | w[2].shl(26)) & mask,
            (w[2].shr(25) | w[3].shl(39)) & mask,
            w[3].shr(12) & mask,
        ])
    }

    /// The limbs, for a table.
    #[inline(always)]
    pub(super) fn limbs(self) -> [[u64; LANES]; 5] {
        self.reduced().0.map(L::store)
    }

    /// From limbs below 2^51 + 2^16.
    #[inline(always)]
    pub(super) const fn from_limbs(limbs: [L; 5]) -> Self {
        Self(limbs)
    }

    /// As little-endian words, fully reduced.
    #[inline(always)]
    pub(super) fn to_words(self) -> [L; 4] {
        let h = self.reduced().0;
        [h[0] | h[1].shl(51), h[1].shr(13) | h[2].shl(38), h[2].shr(26) | h[3].shl(25), h[3].shr(39) | h[4].shl(12)]
    }

    /// The one representation below 2^255 - 19, with limbs below 2^51.
    #[inline(always)]
    fn reduced(self) -> Self {
        let mask = L::splat(LOW_51);
        let mut h = self.0;
        // Twice around leaves every limb below 2^51, and so the number below 2^255.
        for _ in 0..2 {
            let mut carry = L::splat(0);
            for limb in &mut h {
                *limb = *limb + carry;
                carry = limb.shr(51);
                *limb = *limb & mask;
            }
            h[0] = h[0] + times_19(carry);
        }
        // The number is at least 2^255 - 19 exactly when adding 19 reaches 2^255.
        let mut carry = L::splat(19);
        for limb in h {
            carry = (limb + carry).shr(51);
        }
        h[0] = h[0] + times_19(carry);
        let mut carry = L::splat(0);
        for limb in &mut h {
            *limb = *limb + carry;
            carry = limb.shr(51);
            *limb = *limb & mask;
        }
        Self(h)
    }

    /// Carries each limb into the next at once; limbs below 2^62 come out below 2^51 + 2^16.
    #[inline(always)]
    fn carried(r: [L; 5]) -> Self {
        if L::IN_REGISTER { Self::carried_inline(r) } else { Self::carried_outlined(r) }
    }

    #[inline(never)]
    fn carried_outlined(r: [L; 5]) -> Self {
        Self::carried_inline(r)
    }

    #[inline(always)]
    fn carried_inline(r: [L; 5]) -> Self {
        let mask = L::splat(LOW_51);
        Self([
            (r[0] & mask).madd_lo(r[4].shr(51), L::splat(19)),
            (r[1] & mask) + r[0].shr(51),
            (r[2] & mask) + r[1].shr(51),
            (r[3] & mask) + r[2].shr(51),
            (r[4] & mask) + r[3].shr(51),
        ])
    }

    /// Folds the upper half of a product in: 2^255 is 19.
    #[inline(always)]
    fn folded(z: [L; 10]) -> Self {
        Self::carried([
            z[0] + times_19(z[5]),
            z[1] + times_19(z[6]),
            z[2] + times_19(z[7]),
            z[3] + times_19(z[8]),
            z[4] + times_19(z[9]),
        ])
    }

    #[inline(always)]
    pub(super) fn add(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self::carried([a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4]])
    }

    #[inline(always)]
    pub(super) fn sub(self, other: Self) -> Self {
        // Twice the modulus: no limb falls below zero.
        let (low, high) = (L::splat((1 << 52) - 38), L::splat((1 << 52) - 2));
        let (a, b) = (self.0, other.0);
        Self::carried([
            a[0] + low - b[0],
            a[1] + high - b[1],
            a[2] + high - b[2],
            a[3] + high - b[3],
            a[4] + high - b[4],
        ])
    }

    #[inline(always)]
    pub(super) fn neg(self) -> Self {
        Self::small(0).sub(self)
    }

    #[inline(always)]
    pub(super) fn mul(self, other: Self) -> Self {
        if L::IN_REGISTER { self.product(other) } else { self.product_outlined(other) }
    }

    #[inline(always)]
    fn product(self, other: Self) -> Self {
        Self::folded(lanes::product::<L, 51>(self.0, other.0))
    }

    #[inline(always)]
    pub(super) fn square(self) -> Self {
        if L::IN_REGISTER { self.own_product() } else { self.own_product_outlined() }
    }

    #[inline(always)]
    fn own_product(self) -> Self {
        Self::folded(lanes::square::<L, 51>(self.0))
    }

    #[inline(never)]
    fn product_outlined(self, other: Self) -> Self {
        self.product(other)
    }

    #[inline(never)]
    fn own_product_outlined(self) -> Self {
        self.own_product()
    }

    /// `self + 121665 * other`, where 121665 is (A - 2) / 4 of Curve25519 (RFC 7748 section 5).
    #[inline(always)]
    pub(super) fn add_121665_times(self, other: Self) -> Self {
        let (a, e, k, zero) = (self.0, other.0, L::splat(121_665), L::splat(0));
        let mut r = a;
        for i in 0..5 {
            r[i] = r[i].madd_lo(e[i], k);
        }
        for i in 0..4 {
            let hi = zero.madd_hi(e[i], k);
            r[i + 1] = r[i + 1] + (hi + hi);
        }
        let hi = zero.madd_hi(e[4], k);
        r[0] = r[0] + times_19(hi + hi);
        Self::carried(r)
    }

    /// The product, its limbs below 2^60 and not carried: for where each product waits for the one before.
    #[inline(always)]
    pub(super) fn mul_loose(self, other: Self) -> Loose<L> {
        if L::IN_REGISTER { self.product_loose(other) } else { self.product_loose_outlined(other) }
    }

    #[inline(always)]
    fn product_loose(self, other: Self) -> Loose<L> {
        let z = lanes::product::<L, 51>(self.0, other.0);
        Loose(core::array::from_fn(|i| z[i] + times_19_at_once(z[i + 5])))
    }

    #[inline(never)]
    fn product_loose_outlined(self, other: Self) -> Loose<L> {
        self.product_loose(other)
    }

    /// As it is; its limbs are small enough.
    #[inline(always)]
    pub(super) const fn loose(self) -> Loose<L> {
        Loose(self.0)
    }

    /// Moves the lanes; see [`Lanes::quads`].
    #[inline(always)]
    pub(super) fn quads<const ORDER: i32>(self) -> Self {
        Self(self.0.map(L::quads::<ORDER>))
    }

    #[inline(always)]
    fn squared(mut self, times: u32) -> Self {
        for _ in 0..times {
            self = self.square();
        }
        self
    }

    /// The inverse, and 0 of 0: the power 2^255 - 21.
    #[inline(always)]
    pub(super) fn invert(self) -> Self {
        // Each name is the exponent: `ones_n` is 2^n - 1.
        let two = self.square();
        let nine = two.squared(2).mul(self);
        let eleven = nine.mul(two);
        let ones_5 = eleven.square().mul(nine);
        let ones_10 = ones_5.squared(5).mul(ones_5);
        let ones_20 = ones_10.squared(10).mul(ones_10);
        let ones_40 = ones_20.squared(20).mul(ones_20);
        let ones_50 = ones_40.squared(10).mul(ones_10);
        let ones_100 = ones_50.squared(50).mul(ones_50);
        let ones_200 = ones_100.squared(100).mul(ones_100);
        let ones_250 = ones_200.squared(50).mul(ones_50);
        ones_250.squared(5).mul(eleven)
    }

    #[inline(always)]
    pub(super) fn select(mask: L::Mask, yes: Self, no: Self) -> Self {
        let mut chosen = no.0;
        for (i, limb) in chosen.iter_mut().enumerate() {
            *limb = L::select(mask, yes.0[i], no.0[i]);
        }
        Self(chosen)
    }
}

/// A number modulo 2^255 - 19 in each lane that is not carried, and so no factor: its limbs are below 2^62. What is
/// computed with is below 2^60.
#[derive(Clone, Copy)]
pub(super) struct Loose<L>([L; 5]);

impl<L: Lanes> Loose<L> {
    #[inline(always)]
    pub(super) fn carried(self) -> Fe<L> {
        Fe::carried(self.0)
    }

    /// `other + self`, and in the lanes of `mask` `other - self`.
    #[inline(always)]
    pub(super) fn added_to_or_taken_from(self, other: Self, mask: L::Mask) -> Self {
        let (a, mut sum) = (self.0, other.0);
        for (i, limb) in sum.iter_mut().enumerate() {
            // 1024 times the modulus: no limb falls below zero.
            let multiple = L::splat(((1 << 51) - if i == 0 { 19 } else { 1 }) << 10);
            *limb = *limb + L::select(mask, multiple - a[i], a[i]);
        }
        Self(sum)
    }

    /// Plus another one in the lanes of `mask`.
    #[inline(always)]
    pub(super) fn adding(mut self, mask: L::Mask, other: Self) -> Self {
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            *limb = L::select(mask, *limb + other, *limb);
        }
        self
    }

    #[inline(always)]
    pub(super) fn select(mask: L::Mask, yes: Self, no: Self) -> Self {
        Self(Fe::select(mask, Fe(yes.0), Fe(no.0)).0)
    }

    /// Moves the lanes; see [`Lanes::quads`].
    #[inline(always)]
    pub(super) fn quads<const ORDER: i32>(self) -> Self {
        Self(self.0.map(L::quads::<ORDER>))
    }
}

/// 19 times x. The compiler makes a multiplication of 64 bits of it: three instructions for the CPU, though slow ones.
#[inline(always)]
fn times_19<L: Lanes>(x: L) -> L {
    x.shl(4) + ((x + x) + x)
}

/// 19 times x below 2^60, in more instructions that take a third of the time: for where each waits for the one before.
/// Rotating keeps the compiler from multiplying.
#[inline(always)]
fn times_19_at_once<L: Lanes>(x: L) -> L {
    let twice = x + x;
    x.rol::<4>() + twice + x
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    type F = Fe<Portable>;

    /// 2^255 - 19.
    const P: [u64; 4] = [0xffff_ffff_ffff_ffed, u64::MAX, u64::MAX, u64::MAX >> 1];

    fn words(f: F) -> [u64; 4] {
        f.to_words().map(|w| w.store()[5])
    }

    #[test]
    fn the_modulus_and_what_is_above_it_reduce() {
        assert_eq!(words(F::constant(P)), [0; 4]);
        assert_eq!(words(F::constant([P[0] + 1, P[1], P[2], P[3]])), [1, 0, 0, 0]);
        assert_eq!(words(F::constant([u64::MAX, P[1], P[2], P[3]])), [18, 0, 0, 0]);
        assert_eq!(words(F::small(0).sub(F::small(1))), [P[0] - 1, P[1], P[2], P[3]]);
    }

    #[test]
    fn the_largest_limbs_do_not_overflow() {
        let top = Fe([Portable::splat((1 << 51) + (1 << 16) - 1); 5]);
        let square = top.square();
        assert_eq!(words(square), words(top.mul(top)));
        // (a + b)^2 = a^2 + 2ab + b^2, with sums of the largest limbs on both sides.
        let sum = top.add(top);
        let expanded = square.add(square).add(square).add(square);
        assert_eq!(words(sum.square()), words(expanded));
        let one = F::small(1);
        let product = top.sub(one).mul(top.add(one));
        assert_eq!(words(product), words(square.sub(one)));
        assert_eq!(words(top.mul_loose(top).carried()), words(square));
    }

    #[test]
    fn numbers_that_are_not_carried_are_added_and_taken_away() {
        let (a, b) = (Fe([Portable::splat((1 << 51) - 1); 5]), Fe([Portable::splat((1 << 51) + (1 << 16) - 1); 5]));
        // The product is as large as one becomes.
        let (x, y) = (a.mul(b), b.square());
        let (loose_x, loose_y) = (a.mul_loose(b), b.mul_loose(b));
        // `words` reads lane 5.
        for (lanes, expected) in [(1 << 5, y.sub(x)), (!(1 << 5), y.add(x))] {
            let mask = Portable::mask(lanes);
            assert_eq!(words(loose_x.added_to_or_taken_from(loose_y, mask).carried()), words(expected));
        }
        assert_eq!(words(loose_x.adding(Portable::mask(1 << 5), loose_y).carried()), words(x.add(y)));
        assert_eq!(words(loose_x.adding(Portable::mask(1 << 4), loose_y).carried()), words(x));
        assert_eq!(words(a.loose().carried()), words(a));
    }

    #[test]
    fn a_number_times_its_inverse_is_one() {
        let x =
            F::constant([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x0f1e_2d3c_4b5a_6978, 0x7fff_0000_ffff_0000]);
        assert_eq!(words(x.mul(x.invert())), [1, 0, 0, 0]);
        assert_eq!(words(F::small(0).invert()), [0; 4]);
        assert_eq!(words(x.add_121665_times(x)), words(x.mul(F::small(121_666))));
    }
}
