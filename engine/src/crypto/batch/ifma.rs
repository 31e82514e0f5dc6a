//! The lanes on AVX-512 registers, and the kernels compiled for them.
//!
//! [`Wide`] does not leave this module: its operations are only sound on a CPU that has the instructions, and so are
//! only reached through [`Ifma`], which exists on such a CPU alone.

use core::arch::x86_64::*;
use core::ops::{Add, BitAnd, BitOr, Sub};

use zeroize::Zeroizing;

use super::edwards::Table;
use super::lanes::{LANES, Lanes};
use super::p256;
use super::x25519::{self, Octets, Pair};

/// Proof that this CPU has AVX-512 with its fused 52-bit multiplication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ifma(());

impl Ifma {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma");
        found.then_some(Self(()))
    }

    pub(super) fn agree(self, secrets: &Octets, peers: &Octets) -> Zeroizing<Octets> {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { agree(secrets, peers) }
    }

    pub(super) fn agree_two(self, secrets: &Pair, peers: &Pair) -> Zeroizing<Pair> {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { agree_two(secrets, peers) }
    }

    pub(super) fn public(self, secrets: &Octets, table: &Table) -> Octets {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { public(secrets, table) }
    }

    pub(super) fn p256_multiples(
        self,
        halves: &[[u64; LANES]; 4],
        table: &p256::Table,
    ) -> Zeroizing<[[u64; LANES]; 4]> {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { p256_multiples(halves, table) }
    }

    pub(super) fn table(self) -> Table {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { table() }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn agree(secrets: &Octets, peers: &Octets) -> Zeroizing<Octets> {
    x25519::agree::<Wide>(secrets, peers)
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn agree_two(secrets: &Pair, peers: &Pair) -> Zeroizing<Pair> {
    x25519::agree_two::<Wide>(secrets, peers)
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn public(secrets: &Octets, table: &Table) -> Octets {
    x25519::public::<Wide>(secrets, table)
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn p256_multiples(halves: &[[u64; LANES]; 4], table: &p256::Table) -> Zeroizing<[[u64; LANES]; 4]> {
    p256::multiples::<Wide>(halves, table)
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn table() -> Table {
    Table::compute::<Wide>()
}

/// Eight lanes in one register.
#[derive(Clone, Copy)]
struct Wide(__m512i);

/// One instruction.
macro_rules! wide {
    ($e:expr) => {
        // SAFETY: `Wide` is used inside the functions above alone, which are compiled for the features that they are
        // only called with; what is inlined into them runs on a CPU that has them.
        Wide(unsafe { $e })
    };
}

impl Add for Wide {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        wide!(_mm512_add_epi64(self.0, other.0))
    }
}

impl Sub for Wide {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        wide!(_mm512_sub_epi64(self.0, other.0))
    }
}

impl BitAnd for Wide {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        wide!(_mm512_and_si512(self.0, other.0))
    }
}

impl BitOr for Wide {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        wide!(_mm512_or_si512(self.0, other.0))
    }
}

impl Lanes for Wide {
    type Mask = __mmask8;

    const IN_REGISTER: bool = true;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        wide!(_mm512_set1_epi64(value.cast_signed()))
    }

    #[inline(always)]
    fn load(values: &[u64; LANES]) -> Self {
        wide!(_mm512_loadu_si512(values.as_ptr().cast()))
    }

    #[inline(always)]
    fn store(self) -> [u64; LANES] {
        let mut values = [0; LANES];
        // SAFETY: as in `wide!`; and the array has the size of the register.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), self.0) };
        values
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        wide!(_mm512_sll_epi64(self.0, _mm_cvtsi64_si128(i64::from(bits))))
    }

    #[inline(always)]
    fn rol<const BITS: i32>(self) -> Self {
        wide!(_mm512_rol_epi64::<BITS>(self.0))
    }

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        wide!(_mm512_srl_epi64(self.0, _mm_cvtsi64_si128(i64::from(bits))))
    }

    #[inline(always)]
    fn sar(self, bits: u32) -> Self {
        wide!(_mm512_sra_epi64(self.0, _mm_cvtsi64_si128(i64::from(bits))))
    }

    #[inline(always)]
    fn madd_lo(self, a: Self, b: Self) -> Self {
        wide!(_mm512_madd52lo_epu64(self.0, a.0, b.0))
    }

    #[inline(always)]
    fn madd_hi(self, a: Self, b: Self) -> Self {
        wide!(_mm512_madd52hi_epu64(self.0, a.0, b.0))
    }

    #[inline(always)]
    fn bit(self, bit: u32) -> __mmask8 {
        let wanted = Self::splat(1 << bit);
        // SAFETY: as in `wide!`.
        unsafe { _mm512_test_epi64_mask(self.0, wanted.0) }
    }

    #[inline(always)]
    fn select(mask: __mmask8, yes: Self, no: Self) -> Self {
        wide!(_mm512_mask_blend_epi64(mask, no.0, yes.0))
    }

    #[inline(always)]
    fn mask(lanes: u8) -> __mmask8 {
        lanes
    }

    #[inline(always)]
    fn quads<const ORDER: i32>(self) -> Self {
        wide!(_mm512_permutex_epi64::<ORDER>(self.0))
    }

    #[inline(always)]
    fn lookup(table: &[u64; 16], index: Self) -> Self {
        let (low, high) = table.split_at(LANES);
        // The permutation reads the low four bits of each index.
        wide!(_mm512_permutex2var_epi64(
            _mm512_loadu_si512(low.as_ptr().cast()),
            index.0,
            _mm512_loadu_si512(high.as_ptr().cast())
        ))
    }
}
