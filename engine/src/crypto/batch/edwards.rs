//! The twisted Edwards curve that Curve25519 is birationally equivalent to (RFC 7748 section 4.1), for key
//! generation: multiples of the base point by a comb.
//!
//! The curve is -x^2 + y^2 = 1 + d x^2 y^2. As -1 is a square and d is none, its addition law has no exceptions.

use super::digits::{DIGITS, Digit};
use super::field25519::Fe;
use super::lanes::{LANES, Lanes};

const BASE_X: [u64; 4] = [0xc956_2d60_8f25_d51a, 0x692c_c760_9525_a7b2, 0xc0a4_e231_fdd6_dc5c, 0x2169_36d3_cd6e_53fe];
const BASE_Y: [u64; 4] = [0x6666_6666_6666_6658, 0x6666_6666_6666_6666, 0x6666_6666_6666_6666, 0x6666_6666_6666_6666];
const TWICE_D: [u64; 4] = [0xebd6_9b94_26b2_f159, 0x00e0_149a_8283_b156, 0x198e_80f2_eef3_d130, 0x2406_d9dc_56df_fce7];

/// A point in extended coordinates: x = X / Z, y = Y / Z, x y = T / Z.
#[derive(Clone, Copy)]
pub(super) struct Point<L> {
    x: Fe<L>,
    y: Fe<L>,
    z: Fe<L>,
    t: Fe<L>,
}

/// A point in affine coordinates, as addition wants it.
#[derive(Clone, Copy)]
pub(super) struct Affine<L> {
    y_plus_x: Fe<L>,
    y_minus_x: Fe<L>,
    xy_2d: Fe<L>,
}

impl<L: Lanes> Point<L> {
    #[inline(always)]
    pub(super) fn neutral() -> Self {
        Self { x: Fe::small(0), y: Fe::small(1), z: Fe::small(1), t: Fe::small(0) }
    }

    #[inline(always)]
    fn base() -> Self {
        let (x, y) = (Fe::constant(BASE_X), Fe::constant(BASE_Y));
        Self { x, y, z: Fe::small(1), t: x.mul(y) }
    }

    #[inline(always)]
    pub(super) fn add_affine(self, other: Affine<L>) -> Self {
        let a = self.y.sub(self.x).mul(other.y_minus_x);
        let b = self.y.add(self.x).mul(other.y_plus_x);
        let c = self.t.mul(other.xy_2d);
        let d = self.z.add(self.z);
        let (e, f, g, h) = (b.sub(a), d.sub(c), d.add(c), b.add(a));
        Self { x: e.mul(f), y: g.mul(h), z: f.mul(g), t: e.mul(h) }
    }

    #[inline(always)]
    fn double(self) -> Self {
        let (a, b, zz) = (self.x.square(), self.y.square(), self.z.square());
        let h = a.add(b);
        let e = h.sub(self.x.add(self.y).square());
        let g = a.sub(b);
        let f = zz.add(zz).add(g);
        Self { x: e.mul(f), y: g.mul(h), z: f.mul(g), t: e.mul(h) }
    }

    #[inline(always)]
    fn to_affine(self) -> Affine<L> {
        let inverse = self.z.invert();
        let (x, y) = (self.x.mul(inverse), self.y.mul(inverse));
        Affine { y_plus_x: y.add(x), y_minus_x: y.sub(x), xy_2d: x.mul(y).mul(Fe::constant(TWICE_D)) }
    }

    /// The u-coordinate of the same point on Curve25519: (1 + y) / (1 - y).
    #[inline(always)]
    pub(super) fn montgomery_u(self) -> Fe<L> {
        self.z.add(self.y).mul(self.z.sub(self.y).invert())
    }

    #[inline(always)]
    fn select(mask: L::Mask, yes: Self, no: Self) -> Self {
        Self {
            x: Fe::select(mask, yes.x, no.x),
            y: Fe::select(mask, yes.y, no.y),
            z: Fe::select(mask, yes.z, no.z),
            t: Fe::select(mask, yes.t, no.t),
        }
    }
}

/// One limb of the 16 odd multiples of one place's point.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Row([u64; 16]);

/// For each place the odd multiples 1, 3, .. 31 of that power of 32 times the base point.
///
/// It is public knowledge; only which entry is used is secret, and so a look-up reads a whole row.
pub(super) struct Table(Box<[[[Row; 5]; 3]]>);

impl Table {
    /// Computes it: a millisecond with IFMA, some ten without.
    #[inline(always)]
    pub(super) fn compute<L: Lanes>() -> Self {
        let mut rows = vec![[[Row([0; 16]); 5]; 3]; DIGITS as usize].into_boxed_slice();
        // Eight places at a time, one in each lane; the first lane's is the base point itself.
        let mut places = Point::<L>::base();
        for step in 0..5 * (LANES - 1) {
            let behind = L::load(&core::array::from_fn(|lane| u64::from(5 * lane > step)));
            places = Point::select(behind.bit(0), places.double(), places);
        }
        for group in rows.chunks_mut(LANES) {
            let mut multiple = places;
            let twice = places.double().to_affine();
            for entry in 0..16 {
                let affine = multiple.to_affine();
                for (part, fe) in [affine.y_plus_x, affine.y_minus_x, affine.xy_2d].into_iter().enumerate() {
                    for (limb, lanes) in fe.limbs().into_iter().enumerate() {
                        for (row, value) in group.iter_mut().zip(lanes) {
                            row[part][limb].0[entry] = value;
                        }
                    }
                }
                multiple = multiple.add_affine(twice);
            }
            for _ in 0..5 * LANES {
                places = places.double();
            }
        }
        Self(rows)
    }

    /// The digit's multiple of the place's point.
    #[inline(always)]
    pub(super) fn entry<L: Lanes>(&self, place: u32, digit: Digit<L>) -> Affine<L> {
        let [plus, minus, product] = &self.0[place as usize];
        let (plus, minus, product) =
            (look_up(plus, digit.index), look_up(minus, digit.index), look_up(product, digit.index));
        // The negative of (x, y) is (-x, y).
        Affine {
            y_plus_x: Fe::select(digit.positive, plus, minus),
            y_minus_x: Fe::select(digit.positive, minus, plus),
            xy_2d: Fe::select(digit.positive, product, product.neg()),
        }
    }
}

#[inline(always)]
fn look_up<L: Lanes>(rows: &[Row; 5], index: L) -> Fe<L> {
    let mut limbs = [index; 5];
    for (limb, row) in limbs.iter_mut().zip(rows) {
        *limb = L::lookup(&row.0, index);
    }
    Fe::from_limbs(limbs)
}
