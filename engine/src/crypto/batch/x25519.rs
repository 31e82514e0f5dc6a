//! X25519 (RFC 7748 section 5), eight scalar multiplications at once.

use zeroize::Zeroizing;

use super::digits::{DIGITS, odd_digit};
use super::edwards::{Point, Table};
use super::field25519::{Fe, Loose};
use super::lanes::{LANES, Lanes};

/// Eight scalars, u-coordinates or results, each 32 bytes in little-endian order.
pub(super) type Octets = [[u8; 32]; LANES];

/// Two scalars, u-coordinates or results.
pub(super) type Pair = [[u8; 32]; 2];

/// Each secret times the point with the peer's u-coordinate: the Montgomery ladder.
///
/// The result is all zeros for a peer's point of low order, which the caller must refuse (RFC 7748 section 6.1).
#[inline(always)]
pub(super) fn agree<L: Lanes>(secrets: &Octets, peers: &Octets) -> Zeroizing<Octets> {
    let swaps = swaps::<L>(secrets);
    let x1 = Fe::from_words(words::<L>(peers));
    let (mut x2, mut z2, mut x3, mut z3) = (Fe::small(1), Fe::small(0), x1, Fe::small(1));
    for t in (0..255_u32).rev() {
        let swap = swaps[(t / 64) as usize].bit(t % 64);
        (x2, x3) = (Fe::select(swap, x3, x2), Fe::select(swap, x2, x3));
        (z2, z3) = (Fe::select(swap, z3, z2), Fe::select(swap, z2, z3));
        // In the names of RFC 7748.
        let (a, b, c, d) = (x2.add(z2), x2.sub(z2), x3.add(z3), x3.sub(z3));
        let (aa, bb, da, cb) = (a.square(), b.square(), d.mul(a), c.mul(b));
        let e = aa.sub(bb);
        x3 = da.add(cb).square();
        z3 = x1.mul(da.sub(cb).square());
        x2 = aa.mul(bb);
        z2 = e.mul(aa.add_121665_times(e));
    }
    // The last bit of a clamped scalar is 0: the points are in their places.
    octets(x2.mul(z2.invert()).to_words())
}

/// As [`agree`], for two: each has four lanes, in which one step of its ladder is computed, in three products instead
/// of ten.
#[inline(always)]
pub(super) fn agree_two<L: Lanes>(secrets: &Pair, peers: &Pair) -> Zeroizing<Pair> {
    // Orders for `quads`: neighbours change places; the two points do; (a, b, b, a).
    const NEIGHBOURS: i32 = 0b10_11_00_01;
    const POINTS: i32 = 0b01_00_11_10;
    const CROSSED: i32 = 0b00_01_01_00;
    let quadrupled = |two: &Pair| Zeroizing::new(core::array::from_fn(|lane| two[lane / 4]));
    let (first, second, last, odd) =
        (L::mask(0b0001_0001), L::mask(0b0010_0010), L::mask(0b1000_1000), L::mask(0b1010_1010));
    let swaps = swaps::<L>(&quadrupled(secrets));
    let x1 = Fe::from_words(words::<L>(&quadrupled(peers)));
    let third = L::mask(0b0100_0100);
    let (zero, one, coefficient) = (Fe::small(0), Fe::small(1), Fe::small(121_666));
    let one_and_x1 = Fe::select(last, x1, one);
    // (x2, z2, x3, z3) in the names of RFC 7748, as all that follows.
    let mut points = Fe::select(second, zero, Fe::select(third, x1, one)).loose();
    for t in (0..255_u32).rev() {
        let swap = swaps[(t / 64) as usize].bit(t % 64);
        points = Loose::select(swap, points.quads::<POINTS>(), points);
        // (A, B, C, D)
        let sums = points.added_to_or_taken_from(points.quads::<NEIGHBOURS>(), odd).carried();
        // (AA, BB, CB, DA)
        let products = sums.mul_loose(sums.quads::<CROSSED>());
        let neighbours = products.quads::<NEIGHBOURS>();
        // (AA, E, DA + CB, CB - DA)
        let sums = Loose::select(first, products, products.added_to_or_taken_from(neighbours, odd)).carried();
        let others = Fe::select(first, neighbours.carried(), Fe::select(second, coefficient, sums));
        // (AA BB, BB + 121666 E, (DA + CB)^2, (CB - DA)^2), of which the second is AA + 121665 E.
        let almost = sums.mul_loose(others).adding(second, products).carried();
        points = almost.mul_loose(Fe::select(second, sums, one_and_x1));
    }
    let points = points.carried();
    // The last bit of a clamped scalar is 0: the points are in their places.
    let all = octets(points.mul(points.invert().quads::<NEIGHBOURS>()).to_words());
    Zeroizing::new([all[0], all[4]])
}

/// Of each secret as a scalar, in bit t, whether the ladder's two points change places before step t: whether bits t
/// and t + 1 differ.
#[inline(always)]
fn swaps<L: Lanes>(secrets: &Octets) -> [L; 4] {
    let k = clamped::<L>(secrets);
    let mut swaps = k;
    for i in 0..4 {
        let above = if i < 3 { k[i + 1].shl(63) } else { L::splat(0) };
        let shifted = k[i].shr(1) | above;
        // Exclusive or, of what the trait has.
        swaps[i] = (k[i] | shifted) - (k[i] & shifted);
    }
    swaps
}

/// Each secret times the base point: the public keys.
#[inline(always)]
pub(super) fn public<L: Lanes>(secrets: &Octets, table: &Table) -> Octets {
    // Adding the order of the base point, which is odd, changes no result and makes the scalar odd: each of its
    // signed digits then is odd, and no digit is 0.
    let k = clamped::<L>(secrets);
    let mut half = [L::splat(0); 4];
    for i in 0..4 {
        let above = if i < 3 { k[i + 1].shl(63) } else { L::splat(0) };
        half[i] = k[i].shr(1) | above;
    }
    let half = plus_half_order(half);
    let mut sum = Point::neutral();
    for place in 0..DIGITS {
        let digit = odd_digit(&half, place);
        sum = sum.add_affine(table.entry(place, digit));
    }
    *octets(sum.montgomery_u().to_words())
}

/// `half + (order - 1) / 2`, of two numbers whose sum is below 2^256.
#[inline(always)]
fn plus_half_order<L: Lanes>(half: [L; 4]) -> [L; 4] {
    /// Half of 2^252 + 27742317777372353535851937790883648493, rounded down.
    const HALF_ORDER: [u64; 4] = [0x2c09_318d_2e7a_e9f6, 0x0a6f_7cef_517b_ce6b, 0, 0x0800_0000_0000_0000];
    let mut sum = half;
    let mut carry = L::splat(0);
    for i in 0..4 {
        // In halves of 32 bits, as a carry out of 64 cannot be seen.
        let mask = L::splat(0xffff_ffff);
        let low = (half[i] & mask) + L::splat(HALF_ORDER[i] & 0xffff_ffff) + carry;
        let high = half[i].shr(32) + L::splat(HALF_ORDER[i] >> 32) + low.shr(32);
        carry = high.shr(32);
        sum[i] = (low & mask) | high.shl(32);
    }
    sum
}

/// The scalars as RFC 7748 section 5 decodes them: a multiple of the cofactor with bit 254 set.
#[inline(always)]
fn clamped<L: Lanes>(secrets: &Octets) -> [L; 4] {
    let [first, second, third, last] = words::<L>(secrets);
    [first & L::splat(!7), second, third, (last & L::splat(!(1 << 63))) | L::splat(1 << 62)]
}

/// Little-endian words, lane by lane.
#[inline(always)]
fn words<L: Lanes>(octets: &Octets) -> [L; 4] {
    let mut words = [L::splat(0); 4];
    for (i, word) in words.iter_mut().enumerate() {
        let mut lanes = Zeroizing::new([0; LANES]);
        for (lane, octets) in lanes.iter_mut().zip(octets) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&octets[8 * i..8 * i + 8]);
            *lane = u64::from_le_bytes(bytes);
        }
        *word = L::load(&lanes);
    }
    words
}

#[inline(always)]
fn octets<L: Lanes>(words: [L; 4]) -> Zeroizing<Octets> {
    let mut octets = Zeroizing::new([[0; 32]; LANES]);
    for (i, word) in words.into_iter().enumerate() {
        let lanes = Zeroizing::new(word.store());
        for (octets, lane) in octets.iter_mut().zip(*lanes) {
            octets[8 * i..8 * i + 8].copy_from_slice(&lane.to_le_bytes());
        }
    }
    octets
}
