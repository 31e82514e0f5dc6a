//! What goes wrong in the simulated network, and the seeded randomness that decides when.

use std::time::Duration;

/// A small seeded generator (SplitMix64): the only randomness of the simulation.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose whole sequence follows from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let bits = self.next_u64();
        if bound == 0 { 0 } else { bits % bound }
    }

    /// An index in `0..bound`; 0 when `bound` is 0.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// True once in `n` times on average; never when `n` is 0, and then without drawing a number.
    pub const fn one_in(&mut self, n: u32) -> bool {
        n != 0 && self.below(n as u64) == 0
    }

    /// A duration in `0..=max`, without drawing a number when that is zero.
    pub fn up_to(&mut self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX - 1);
        if nanos == 0 { Duration::ZERO } else { Duration::from_nanos(self.below(nanos + 1)) }
    }
}

/// Which faults the simulated network has, and how often. Everything is off by default.
///
/// `*_one_in` is the chance of each occasion: 0 is never, 1 is always, `n` once in `n` times on average.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// What is sent arrives in pieces of 1 to this many bytes; 0: as it was sent.
    pub segment_bytes_max: usize,
    /// Each segment, connect and answer takes up to this much longer, so connections overtake one another. The
    /// order within a direction stays.
    pub delay_max: Duration,
    /// A `recv` shows fewer bytes than are there.
    pub short_reads_one_in: u32,
    /// A `send` takes fewer bytes than there is room for, perhaps none.
    pub short_writes_one_in: u32,
    /// An arrival is followed by readiness for nothing.
    pub spurious_one_in: u32,
    /// A segment is followed by a reset of the connection, on both sides, as from a middlebox.
    pub resets_one_in: u32,
    /// A segment of a hand-driven peer is its last: FIN follows, and what the peer sends later is lost.
    pub half_closes_one_in: u32,
    /// A segment arrives with one bit changed.
    pub bit_flips_one_in: u32,
    /// A sender finds the peer's window closed, for up to [`stall_max`](Self::stall_max).
    pub stalls_one_in: u32,
    /// How long a closed window stays closed.
    pub stall_max: Duration,
    /// An accept fails: the connection is reset and counted in
    /// [`TransportCounters`](crate::transport::TransportCounters).
    pub accept_errors_one_in: u32,
    /// Time moves further than it was asked to, by up to [`clock_jump_max`](Self::clock_jump_max).
    pub clock_jumps_one_in: u32,
    /// How far the clock jumps.
    pub clock_jump_max: Duration,
}

impl Faults {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A subset of all faults that follows from `seed`: about half of the harmless ones, fewer of those that
    /// break connections, so that many seeds still get somewhere.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let rng = &mut SplitMix64::new(seed ^ 0x5eed_0f5e_ed0f_5eed);
        let mut chance = |on_one_in: u32, often: u32, seldom: u32| {
            let one_in = often + u32::try_from(rng.below(u64::from(seldom - often))).unwrap_or(0);
            if rng.one_in(on_one_in) { one_in } else { 0 }
        };
        let mut faults = Self {
            short_reads_one_in: chance(2, 1, 5),
            short_writes_one_in: chance(2, 1, 5),
            spurious_one_in: chance(2, 1, 8),
            resets_one_in: chance(4, 8, 128),
            half_closes_one_in: chance(4, 8, 128),
            bit_flips_one_in: chance(4, 8, 128),
            stalls_one_in: chance(3, 2, 16),
            accept_errors_one_in: chance(4, 2, 16),
            clock_jumps_one_in: chance(4, 8, 128),
            ..Self::default()
        };
        if rng.one_in(2) {
            faults.segment_bytes_max = 1 << rng.below(11);
        }
        if rng.one_in(2) {
            faults.delay_max = Duration::from_micros(10 << rng.below(12));
        }
        faults.stall_max = Duration::from_millis(1 << rng.below(9));
        faults.clock_jump_max = Duration::from_millis(1 << rng.below(23));
        faults
    }

    /// Whether a connection may fail through no fault of its ends. A run without such faults must bring every
    /// connection to its good end.
    #[must_use]
    pub const fn may_break_connections(&self) -> bool {
        self.resets_one_in != 0
            || self.half_closes_one_in != 0
            || self.bit_flips_one_in != 0
            || self.accept_errors_one_in != 0
            // A jump may pass a deadline.
            || self.clock_jumps_one_in != 0
    }
}
