//! Multiples of P-256's base point, eight at once, by a comb.

use std::io;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use zeroize::Zeroizing;

use super::super::digits::{DIGITS, Digit, odd_digit};
use super::super::lanes::{LANES, Lanes, Portable};
use super::field::Fe;
use super::scalar::Scalar;

/// One limb of the 16 odd multiples of one place's point.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Row([u64; 16]);

/// For each place the odd multiples 1, 3, .. 31 of that power of 32 times the base point, in affine coordinates.
///
/// It is public knowledge; only which entry is used is secret, and so a look-up reads a whole row.
pub(in super::super) struct Table(Box<[[[Row; 5]; 2]]>);

impl Table {
    /// Asks aws-lc for each of them, which takes some ten milliseconds.
    pub(in super::super) fn compute() -> io::Result<Self> {
        let mut rows = vec![[[Row([0; 16]); 5]; 2]; DIGITS as usize].into_boxed_slice();
        // The place's power of 32 modulo the order.
        let mut power = Scalar::reduced(&one());
        for row in &mut rows {
            let twice = power.plus(&power);
            let mut multiple = power;
            for half in 0..16 / LANES {
                let mut points = [[0; 64]; LANES];
                for point in &mut points {
                    *point = point_of(&multiple)?;
                    multiple = multiple.plus(&twice);
                }
                for (part, coordinates) in row.iter_mut().enumerate() {
                    let limbs = Fe::from_words(coordinate_words::<Portable>(&points, 32 * part)).limbs();
                    for (limb, lanes) in coordinates.iter_mut().zip(limbs) {
                        limb.0[half * LANES..][..LANES].copy_from_slice(&lanes);
                    }
                }
            }
            for _ in 0..5 {
                power = power.plus(&power);
            }
        }
        Ok(Self(rows))
    }

    /// The digit's multiple of the place's point.
    #[inline(always)]
    fn entry<L: Lanes>(&self, place: u32, digit: Digit<L>) -> (Fe<L>, Fe<L>) {
        let [x, y] = &self.0[place as usize];
        let (x, y) = (look_up(x, digit.index), look_up(y, digit.index));
        (x, Fe::select(digit.positive, y, y.neg()))
    }
}

fn one() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[31] = 1;
    bytes
}

/// The coordinates of a multiple of the base point.
fn point_of(multiple: &Scalar) -> io::Result<[u8; 64]> {
    let failed = |_| io::Error::other("aws-lc has no point for a scalar");
    let key = PrivateKey::from_private_key(&ECDH_P256, &multiple.to_bytes()).map_err(failed)?;
    let point = key.compute_public_key().map_err(|_| io::Error::other("aws-lc has no point for a scalar"))?;
    // An uncompressed point is 4 and its coordinates (SEC 1 section 2.3.3).
    let coordinates = point.as_ref().strip_prefix(&[4]).and_then(|c| c.try_into().ok());
    coordinates.ok_or_else(|| io::Error::other("aws-lc has no uncompressed point"))
}

/// The coordinates that begin at byte `at` of each point, as little-endian words.
fn coordinate_words<L: Lanes>(points: &[[u8; 64]; LANES], at: usize) -> [L; 4] {
    let mut words = [L::splat(0); 4];
    for (i, word) in words.iter_mut().enumerate() {
        let mut lanes = [0; LANES];
        for (lane, point) in lanes.iter_mut().zip(points) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&point[at + 24 - 8 * i..][..8]);
            *lane = u64::from_be_bytes(bytes);
        }
        *word = L::load(&lanes);
    }
    words
}

#[inline(always)]
fn look_up<L: Lanes>(rows: &[Row; 5], index: L) -> Fe<L> {
    let mut limbs = [index; 5];
    for (limb, row) in limbs.iter_mut().zip(rows) {
        *limb = L::lookup(&row.0, index);
    }
    Fe::from_limbs(limbs)
}

/// A point in Jacobian coordinates: x = X / Z^2, y = Y / Z^3. X and Y are below 1.1 p, Z below 1.3 p.
#[derive(Clone, Copy)]
struct Point<L> {
    x: Fe<L>,
    y: Fe<L>,
    z: Fe<L>,
}

impl<L: Lanes> Point<L> {
    /// The sum with an affine point that is neither this one nor its negative.
    #[inline(always)]
    fn add_affine(self, (x, y): (Fe<L>, Fe<L>)) -> Self {
        let zz = self.z.square();
        let u = x.mul(zz);
        let s = y.mul(self.z.mul(zz));
        // Each below 3.2 p, so that their squares and products are below 1.7 p.
        let (h, r) = (u.sub(self.x), s.sub(self.y));
        let hh = h.square();
        let hhh = h.mul(hh);
        let v = self.x.mul(hh);
        let x = r.square().sub_twice_reduced(hhh, v);
        let y = r.mul(v.sub(x)).sub_reduced(self.y.mul(hhh));
        Self { x, y, z: self.z.mul(h) }
    }
}

/// The x-coordinates, in little-endian words, of multiples of the base point by odd numbers below the order, of which
/// `halves` are the halves, rounded down.
///
/// Before a place is added, the sum of those below it is between -32^place and 32^place, and so neither what is added
/// nor its negative, also modulo the order. There is one exception, 2^256 less the order, for which the result is 0;
/// that is no valid r, and the caller draws another nonce.
#[inline(always)]
pub(in super::super) fn multiples<L: Lanes>(halves: &[[u64; LANES]; 4], table: &Table) -> Zeroizing<[[u64; LANES]; 4]> {
    let half = halves.each_ref().map(L::load);
    let (x, y) = table.entry(0, odd_digit(&half, 0));
    let mut sum = Point { x, y, z: Fe::one() };
    for place in 1..DIGITS {
        sum = sum.add_affine(table.entry(place, odd_digit(&half, place)));
    }
    let inverse = sum.z.invert();
    let [a, b, c, d] = sum.x.mul(inverse.square()).to_words();
    Zeroizing::new([a.store(), b.store(), c.store(), d.store()])
}
