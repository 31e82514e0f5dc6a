//! Arithmetic modulo the prime of P-256, p = 2^256 - 2^224 + 2^192 + 2^96 - 1, in eight lanes.

use super::super::lanes::{self, LANES, LOW_52, Lanes};

/// p in limbs of 52 bits.
const P: [u64; 5] = [LOW_52, (1 << 44) - 1, 0, 1 << 36, ((1 << 32) - 1) << 16];

/// 2^520 mod p: times it, a number comes into Montgomery form.
const R_SQUARED: [u64; 5] = [0x300, 0xf_ffff_fff0_0000, 0xf_fffe_ffff_fffb, 0xf_dfff_ffff_ffff, 0x4ff_ffff];

/// A number modulo p in each lane, times 2^260 (Montgomery form): five limbs of 52 bits.
///
/// The limbs are normal, so that the fused multiplication may read them, and the number is below 16 p. A product is
/// below (1 + a b / 16) p for factors below a p and b p; each function says how far below its results are.
#[derive(Clone, Copy)]
pub(super) struct Fe<L>([L; 5]);

impl<L: Lanes> Fe<L> {
    /// The number 1, in Montgomery form: 2^260 mod p.
    #[inline(always)]
    pub(super) fn one() -> Self {
        // 2^228 - 2^196 - 2^100 + 16, as 2^256 is 2^224 - 2^192 - 2^96 + 1.
        const ONE: [u64; 5] = [16, 0xf_0000_0000_0000, LOW_52, 0xf_feff_ffff_ffff, 0xf_ffff];
        Self(ONE.map(L::splat))
    }

    /// From limbs of a number below p that is in Montgomery form.
    #[inline(always)]
    pub(super) const fn from_limbs(limbs: [L; 5]) -> Self {
        Self(limbs)
    }

    /// Into Montgomery form, below 1.1 p, from little-endian words of a number below p.
    #[inline(always)]
    pub(super) fn from_words(w: [L; 4]) -> Self {
        let mask = L::splat(LOW_52);
        let plain = Self([
            w[0] & mask,
            (w[0].shr(52) | w[1].shl(12)) & mask,
            (w[1].shr(40) | w[2].shl(24)) & mask,
            (w[2].shr(28) | w[3].shl(36)) & mask,
            w[3].shr(16),
        ]);
        plain.mul(Self(R_SQUARED.map(L::splat)))
    }

    /// The number itself, below p, as little-endian words.
    #[inline(always)]
    pub(super) fn to_words(self) -> [L; 4] {
        let mut one = [L::splat(0); 5];
        one[0] = L::splat(1);
        // At most p, and p only for a multiple of p.
        let l = self.mul(Self(one)).reduced().0;
        [l[0] | l[1].shl(52), l[1].shr(12) | l[2].shl(40), l[2].shr(24) | l[3].shl(28), l[3].shr(36) | l[4].shl(16)]
    }

    /// The limbs of the Montgomery form, below p, for a table.
    #[inline(always)]
    pub(super) fn limbs(self) -> [[u64; LANES]; 5] {
        self.reduced().0.map(L::store)
    }

    /// Below p, from below 2 p.
    #[inline(always)]
    fn reduced(self) -> Self {
        let mut difference = self.0;
        for (limb, p) in difference.iter_mut().zip(P) {
            *limb = *limb - L::splat(p);
        }
        let difference = normal(difference);
        // A negative number has the sign in its highest limb.
        let negative = difference[4].bit(63);
        Self(select(negative, self.0, difference))
    }

    #[inline(always)]
    pub(super) fn mul(self, other: Self) -> Self {
        if L::IN_REGISTER { self.product(other) } else { self.product_outlined(other) }
    }

    #[inline(never)]
    fn product_outlined(self, other: Self) -> Self {
        self.product(other)
    }

    #[inline(always)]
    fn product(self, other: Self) -> Self {
        Self::montgomery(lanes::product::<L, 52>(self.0, other.0))
    }

    #[inline(always)]
    pub(super) fn square(self) -> Self {
        if L::IN_REGISTER { self.own_product() } else { self.own_product_outlined() }
    }

    #[inline(never)]
    fn own_product_outlined(self) -> Self {
        self.own_product()
    }

    #[inline(always)]
    fn own_product(self) -> Self {
        Self::montgomery(lanes::square::<L, 52>(self.0))
    }

    /// Divides by 2^260: makes the five lowest limbs zero by adding multiples of p.
    #[inline(always)]
    fn montgomery(mut z: [L; 10]) -> Self {
        let (low, p1, p3, p4) = (L::splat(LOW_52), L::splat(1 << 44), L::splat(1 << 36), L::splat(P[4]));
        for i in 0..5 {
            // p is -1 modulo 2^52, so the multiple is the limb itself. Its product with the lowest limb of p leaves
            // the multiple as a carry, which the -1 in the second limb, 2^44 - 1, takes away again.
            let m = z[i] & low;
            z[i + 1] = (z[i + 1] + z[i].shr(52)).madd_lo(m, p1);
            z[i + 2] = z[i + 2] + m.shr(8);
            z[i + 3] = z[i + 3].madd_lo(m, p3);
            z[i + 4] = (z[i + 4] + m.shr(16)).madd_lo(m, p4);
            z[i + 5] = z[i + 5].madd_hi(m, p4);
        }
        Self(normal([z[5], z[6], z[7], z[8], z[9]]))
    }

    /// `self - other`, plus 2 p: for an `other` below 2 p, and as far as that below the sum of their bounds.
    #[inline(always)]
    pub(super) fn sub(self, other: Self) -> Self {
        let mut limbs = self.0;
        for i in 0..5 {
            limbs[i] = limbs[i] + L::splat(2 * P[i]) - other.0[i];
        }
        Self(normal(limbs))
    }

    /// `self - other`, below 1.1 p: for an `other` below 2 p.
    #[inline(always)]
    pub(super) fn sub_reduced(self, other: Self) -> Self {
        let mut limbs = self.0;
        for i in 0..5 {
            limbs[i] = limbs[i] + L::splat(2 * P[i]) - other.0[i];
        }
        Self(folded(limbs))
    }

    /// `self - other - 2 third`, below 1.1 p: for an `other` that is with twice `third` below 4 p.
    #[inline(always)]
    pub(super) fn sub_twice_reduced(self, other: Self, third: Self) -> Self {
        let mut limbs = self.0;
        for i in 0..5 {
            limbs[i] = limbs[i] + L::splat(4 * P[i]) - other.0[i] - (third.0[i] + third.0[i]);
        }
        Self(folded(limbs))
    }

    #[inline(always)]
    fn squared(mut self, times: u32) -> Self {
        for _ in 0..times {
            self = self.square();
        }
        self
    }

    /// The inverse, and 0 of 0, below 1.1 p: the power p - 2.
    #[inline(always)]
    pub(super) fn invert(self) -> Self {
        // `ones_n` is the power 2^n - 1. p - 2 has 32 ones, 31 zeros, a one, 96 zeros, 94 ones, a zero and a one.
        let ones_2 = self.square().mul(self);
        let ones_3 = ones_2.square().mul(self);
        let ones_6 = ones_3.squared(3).mul(ones_3);
        let ones_12 = ones_6.squared(6).mul(ones_6);
        let ones_15 = ones_12.squared(3).mul(ones_3);
        let ones_30 = ones_15.squared(15).mul(ones_15);
        let ones_32 = ones_30.squared(2).mul(ones_2);
        let upper = ones_32.squared(32).mul(self);
        let lower = upper.squared(128).mul(ones_32).squared(32).mul(ones_32);
        lower.squared(30).mul(ones_30).squared(2).mul(self)
    }

    #[inline(always)]
    pub(super) fn select(mask: L::Mask, yes: Self, no: Self) -> Self {
        Self(select(mask, yes.0, no.0))
    }

    /// The negative of a number that is at most p, below p.
    #[inline(always)]
    pub(super) fn neg(self) -> Self {
        let mut limbs = self.0;
        for (limb, p) in limbs.iter_mut().zip(P) {
            *limb = L::splat(p) - *limb;
        }
        Self(normal(limbs))
    }
}

#[inline(always)]
fn select<L: Lanes>(mask: L::Mask, yes: [L; 5], no: [L; 5]) -> [L; 5] {
    let mut chosen = no;
    for i in 0..5 {
        chosen[i] = L::select(mask, yes[i], no[i]);
    }
    chosen
}

/// Carries through; limbs may be negative, and so may the number be, which then shows in the highest limb.
#[inline(always)]
fn normal<L: Lanes>(mut z: [L; 5]) -> [L; 5] {
    let low = L::splat(LOW_52);
    for i in 0..4 {
        z[i + 1] = z[i + 1] + z[i].sar(52);
        z[i] = z[i] & low;
    }
    z
}

/// Carries through, and takes p off as often as 2^256 is in the number, which is positive: below 1.1 p remains.
#[inline(always)]
fn folded<L: Lanes>(mut z: [L; 5]) -> [L; 5] {
    // What is carried into the highest limb afterwards is too little to matter.
    let q = z[4].sar(48);
    z[0] = z[0] + q;
    z[1] = z[1] - q.shl(44);
    z[3] = z[3] - q.shl(36);
    z[4] = z[4] - q.shl(48) + q.shl(16);
    normal(z)
}

#[cfg(test)]
mod tests {
    use super::super::super::lanes::Portable;
    use super::*;

    type F = Fe<Portable>;

    const P_WORDS: [u64; 4] = [u64::MAX, u64::MAX >> 32, 0, 0xffff_ffff_0000_0001];

    fn fe(words: [u64; 4]) -> F {
        F::from_words(words.map(Portable::splat))
    }

    fn words(f: F) -> [u64; 4] {
        f.to_words().map(|w| w.store()[3])
    }

    #[test]
    fn what_goes_in_comes_out() {
        for w in [[0; 4], [1, 0, 0, 0], [1, 2, 3, 4], [P_WORDS[0] - 1, P_WORDS[1], P_WORDS[2], P_WORDS[3]]] {
            assert_eq!(words(fe(w)), w);
        }
        assert_eq!(words(fe(P_WORDS)), [0; 4]);
        assert_eq!(words(F::one()), [1, 0, 0, 0]);
    }

    #[test]
    fn differences_and_negatives() {
        let (one, two) = (F::one(), fe([2, 0, 0, 0]));
        let minus_one = [P_WORDS[0] - 1, P_WORDS[1], P_WORDS[2], P_WORDS[3]];
        assert_eq!(words(one.sub(two).mul(one)), minus_one);
        assert_eq!(words(one.sub_reduced(two)), minus_one);
        assert_eq!(words(one.neg()), minus_one);
        assert_eq!(words(fe([5, 0, 0, 0]).sub_twice_reduced(two, two)), minus_one);
        assert_eq!(words(F::from_limbs([Portable::splat(0); 5]).neg()), [0; 4]);
    }

    #[test]
    fn the_largest_limbs_do_not_overflow() {
        // Just below 16 p.
        let top = F::from_limbs([LOW_52, LOW_52, LOW_52, LOW_52, LOW_52 - (1 << 20)].map(Portable::splat));
        let low = top.mul(F::one());
        assert_eq!(words(top.mul(F::one())), words(low.mul(F::one())));
        assert_eq!(words(low.square()), words(low.mul(low)));
        assert_eq!(words(top.mul(low)), words(low.mul(low)));
    }

    #[test]
    fn a_number_times_its_inverse_is_one() {
        let x = fe([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x0f1e_2d3c_4b5a_6978, 0x7fff_0000_ffff_0000]);
        assert_eq!(words(x.mul(x.invert())), [1, 0, 0, 0]);
        assert_eq!(words(fe([0; 4]).invert()), [0; 4]);
    }
}
