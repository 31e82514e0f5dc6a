//! A hierarchical timing wheel: what a shard keeps its deadlines in.
//!
//! Time is cut into ticks of 2^20 ns. A level has 64 slots, a slot of level `n` spans 64^n ticks, and eight levels
//! span every deadline that an [`Instant64`] can express. A timer sits in the level of the highest bit in which
//! its tick differs from the current one, so everything in a lower level is due before everything in a higher one,
//! and the next thing to do is found with one bit scan a level. When time reaches a slot of a higher level, its
//! timers move down (they *cascade*); a timer moves at most once a level.

use crate::chunks::Chunks;
use crate::time::Instant64;

/// log2 of the nanoseconds in a tick.
const TICK_BITS: u32 = 20;
/// log2 of the slots in a level.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Ticks have 64 - 20 bits, and rounding up may carry into one more: eight levels of six hold them all.
const LEVELS: usize = 8;
/// The list of timers that were due already when they were set.
const DUE: usize = LEVELS * SLOTS;
/// No entry.
const NIL: u32 = u32::MAX;

/// Names one timer of one [`Wheel`] until it fires or is cancelled; after that it finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    /// `None` while the entry is free; `next` is then the next free one.
    value: Option<T>,
    tick: u64,
    generation: u32,
    list: u32,
    prev: u32,
    next: u32,
}

/// Timers that each carry a `T`.
///
/// Setting, cancelling and rescheduling take constant time and allocate only while the number of timers grows
/// beyond what it ever was. A timer fires at or up to one [granularity](Self::GRANULARITY_NS) after its deadline,
/// never before it.
///
/// ```
/// use core::time::Duration;
/// use handfast::{shard::timers::Wheel, time::Instant64};
///
/// let start = Instant64::ZERO;
/// let mut wheel = Wheel::new(start);
/// wheel.insert(start + Duration::from_secs(10), "handshake deadline");
/// let mut fired = Vec::new();
/// wheel.expire(start + Duration::from_secs(9), |what| fired.push(what));
/// assert!(fired.is_empty());
/// wheel.expire(start + Duration::from_secs(11), |what| fired.push(what));
/// assert_eq!(fired, ["handshake deadline"]);
/// ```
#[derive(Debug)]
pub struct Wheel<T> {
    /// The tick up to which everything has fired; all timers outside the due list are later.
    current: u64,
    /// Which slots hold timers, a word for each level.
    occupied: [u64; LEVELS],
    /// The first entry of each slot's circular list, and of the due list.
    heads: [u32; DUE + 1],
    entries: Chunks<Entry<T>>,
    free: u32,
    len: usize,
}

impl<T> Wheel<T> {
    /// How late a timer may fire, in nanoseconds.
    pub const GRANULARITY_NS: u64 = 1 << TICK_BITS;

    /// An empty wheel whose time is `now`.
    #[must_use]
    pub const fn new(now: Instant64) -> Self {
        Self {
            current: now.as_nanos() >> TICK_BITS,
            occupied: [0; LEVELS],
            heads: [NIL; DUE + 1],
            entries: Chunks::new(),
            free: NIL,
            len: 0,
        }
    }

    /// How many timers are set.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer. One whose deadline has passed fires with the next [`expire`](Self::expire).
    ///
    /// # Panics
    /// With 2^32 - 1 timers or more.
    pub fn insert(&mut self, deadline: Instant64, value: T) -> TimerKey {
        let index = if self.free == NIL {
            let index = u32::try_from(self.entries.len()).ok().filter(|i| *i != NIL).expect("fewer than 2^32 timers");
            self.entries.push(Entry { value: None, tick: 0, generation: 0, list: 0, prev: NIL, next: NIL });
            index
        } else {
            let index = self.free;
            self.free = self.entry(index).next;
            index
        };
        let entry = self.entry(index);
        entry.value = Some(value);
        entry.tick = tick_at_or_after(deadline);
        let generation = entry.generation;
        self.len += 1;
        self.link(index);
        TimerKey { index, generation }
    }

    /// Takes a timer back; `None` when it has fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.find(key)?;
        self.unlink(key.index);
        self.release(key.index)
    }

    /// Moves a timer to another deadline, earlier or later; `false` when it has fired or was cancelled.
    pub fn reschedule(&mut self, key: TimerKey, deadline: Instant64) -> bool {
        if self.find(key).is_none() {
            return false;
        }
        self.unlink(key.index);
        self.entry(key.index).tick = tick_at_or_after(deadline);
        self.link(key.index);
        true
    }

    /// When [`expire`](Self::expire) has something to do next: never later than the earliest deadline plus the
    /// granularity; earlier where timers have to cascade first, which is at most once a level for each timer.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant64> {
        if self.heads[DUE] != NIL {
            return Some(start_of(self.current));
        }
        self.next_slot().map(|(_, _, tick)| start_of(tick))
    }

    /// Hands every timer that is due at `now` to `fire`: earlier ticks first, within a tick as they were set or
    /// moved there. A `now` before an earlier one changes nothing but what was due already.
    pub fn expire(&mut self, now: Instant64, mut fire: impl FnMut(T)) {
        let target = now.as_nanos() >> TICK_BITS;
        self.fire_list(DUE, &mut fire);
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.current = tick;
            let list = level * SLOTS + slot;
            if level == 0 {
                self.fire_list(list, &mut fire);
            } else {
                self.cascade(list);
                self.fire_list(DUE, &mut fire);
            }
        }
        self.current = self.current.max(target);
    }

    /// Moves the timers of a slot that begins now to lower levels, or to the due list.
    fn cascade(&mut self, list: usize) {
        while self.heads[list] != NIL {
            let index = self.heads[list];
            self.unlink(index);
            self.link(index);
        }
    }

    fn fire_list(&mut self, list: usize, fire: &mut impl FnMut(T)) {
        while self.heads[list] != NIL {
            let index = self.heads[list];
            self.unlink(index);
            if let Some(value) = self.release(index) {
                fire(value);
            }
        }
    }

    /// The first slot in time that holds timers: its level, its index, and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let below = SLOT_BITS * u32::try_from(level).ok()?;
        let above = below + SLOT_BITS;
        let tick = (self.current >> above << above) | (u64::from(slot) << below);
        Some((level, slot as usize, tick))
    }

    /// The list for `tick`, given the current one.
    const fn list_for(&self, tick: u64) -> usize {
        if tick <= self.current {
            return DUE;
        }
        let level = (tick ^ self.current).ilog2() / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) & (SLOTS as u64 - 1);
        #[allow(clippy::cast_possible_truncation, reason = "both are below 64")]
        let list = level as usize * SLOTS + slot as usize;
        list
    }

    fn entry(&mut self, index: u32) -> &mut Entry<T> {
        &mut self.entries[index as usize]
    }

    /// The value of a timer; `None` when it has fired or was cancelled.
    fn find(&self, key: TimerKey) -> Option<&T> {
        self.entries.get(key.index as usize).filter(|e| e.generation == key.generation)?.value.as_ref()
    }

    /// Appends the entry to the list of its tick.
    fn link(&mut self, index: u32) {
        let list = self.list_for(self.entries[index as usize].tick);
        let head = self.heads[list];
        let (prev, next) = if head == NIL { (index, index) } else { (self.entry(head).prev, head) };
        let entry = self.entry(index);
        // At most DUE, which is 512.
        entry.list = u32::try_from(list).unwrap_or(NIL);
        entry.prev = prev;
        entry.next = next;
        self.entry(prev).next = index;
        self.entry(next).prev = index;
        if head == NIL {
            self.heads[list] = index;
            if list != DUE {
                self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
            }
        }
    }

    /// Takes the entry out of its list.
    fn unlink(&mut self, index: u32) {
        let Entry { list, prev, next, .. } = *self.entry(index);
        let list = list as usize;
        if next == index {
            self.heads[list] = NIL;
            if list != DUE {
                self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            }
            return;
        }
        self.entry(prev).next = next;
        self.entry(next).prev = prev;
        if self.heads[list] == index {
            self.heads[list] = next;
        }
    }

    /// Frees an entry that is in no list.
    fn release(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let entry = self.entry(index);
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        let value = entry.value.take();
        self.free = index;
        self.len -= 1;
        value
    }
}

/// The first tick that begins at or after `deadline`, so that nothing fires early.
const fn tick_at_or_after(deadline: Instant64) -> u64 {
    deadline.as_nanos().div_ceil(1 << TICK_BITS)
}

/// When `tick` begins; the one after the last that the clock can tell is the end of time.
const fn start_of(tick: u64) -> Instant64 {
    Instant64::from_nanos(tick.saturating_mul(1 << TICK_BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn drain<T>(wheel: &mut Wheel<T>, now: Instant64) -> Vec<T> {
        let mut fired = Vec::new();
        wheel.expire(now, |value| fired.push(value));
        fired
    }

    /// Expires at each `next_deadline` until nothing is left; the number of wake-ups.
    fn wake_ups(wheel: &mut Wheel<u32>) -> usize {
        let mut count = 0;
        while let Some(at) = wheel.next_deadline() {
            drain(wheel, at);
            count += 1;
        }
        count
    }

    #[test]
    fn a_cancelled_timer_does_not_find_the_next_one_in_its_slot() {
        let mut wheel = Wheel::new(Instant64::ZERO);
        let first = wheel.insert(Instant64::from_nanos(1), "first");
        assert_eq!(wheel.cancel(first), Some("first"));
        let second = wheel.insert(Instant64::from_nanos(1), "second");
        assert_eq!(second.index, first.index);
        assert_eq!(wheel.cancel(first), None);
        assert!(!wheel.reschedule(first, Instant64::ZERO));
        assert_eq!(wheel.len(), 1);
        assert_eq!(wheel.cancel(second), Some("second"));
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_timer_that_fired_cannot_be_cancelled() {
        let mut wheel = Wheel::new(Instant64::ZERO);
        let key = wheel.insert(Instant64::ZERO, ());
        assert_eq!(drain(&mut wheel, Instant64::ZERO).len(), 1);
        assert_eq!(wheel.cancel(key), None);
    }

    #[test]
    fn an_idle_loop_wakes_up_a_handful_of_times_for_a_timer() {
        for secs in [0, 1, 10, 75, 3_600, 86_400, 86_400 * 400] {
            let start = Instant64::from_nanos(123_456_789_123);
            let mut wheel = Wheel::new(start);
            wheel.insert(start + Duration::from_secs(secs), 0);
            let count = wake_ups(&mut wheel);
            assert!(count <= LEVELS, "{count} wake-ups for {secs} s");
        }
    }

    #[test]
    fn a_timer_that_is_moved_on_again_and_again_costs_no_wake_ups_of_its_own() {
        let mut wheel = Wheel::new(Instant64::ZERO);
        let key = wheel.insert(Instant64::ZERO + Duration::from_secs(10), 0);
        for ms in 0..5_000 {
            let now = Instant64::ZERO + Duration::from_millis(ms);
            assert!(wheel.reschedule(key, now + Duration::from_secs(10)));
            assert!(wheel.next_deadline().is_some_and(|at| at > now + Duration::from_secs(1)), "at {now:?}");
            assert!(drain(&mut wheel, now).is_empty());
        }
        assert!(wake_ups(&mut wheel) <= LEVELS);
    }

    #[test]
    fn standing_or_falling_time_fires_what_is_due_and_nothing_else() {
        let now = Instant64::from_nanos(50 << TICK_BITS);
        let mut wheel = Wheel::new(now);
        assert!(drain(&mut wheel, now).is_empty());
        wheel.insert(now - Duration::from_secs(1), 1);
        wheel.insert(now + Duration::from_secs(1), 2);
        assert!(wheel.next_deadline().is_some_and(|at| at <= now));
        assert_eq!(drain(&mut wheel, now), [1]);
        assert!(drain(&mut wheel, Instant64::ZERO).is_empty());
        assert!(drain(&mut wheel, now).is_empty());
        assert_eq!(drain(&mut wheel, now + Duration::from_secs(5 * 3_600)), [2]);
    }

    #[test]
    fn the_end_of_time_has_a_slot_and_is_never_reached() {
        let mut wheel = Wheel::new(Instant64::ZERO);
        let key = wheel.insert(Instant64::from_nanos(u64::MAX), ());
        assert!(wake_ups_until_the_end(&mut wheel) <= LEVELS);
        assert_eq!(wheel.cancel(key), Some(()));
    }

    fn wake_ups_until_the_end(wheel: &mut Wheel<()>) -> usize {
        let mut count = 0;
        while let Some(at) = wheel.next_deadline().filter(|at| at.as_nanos() < u64::MAX) {
            assert!(drain(wheel, at).is_empty());
            count += 1;
        }
        assert!(drain(wheel, Instant64::from_nanos(u64::MAX)).is_empty());
        count
    }

    #[test]
    fn a_warm_wheel_does_not_grow() {
        let mut wheel = Wheel::new(Instant64::ZERO);
        for round in 0..100u64 {
            let now = Instant64::ZERO + Duration::from_millis(round);
            let keys: Vec<_> = (0..10).map(|n| wheel.insert(now + Duration::from_secs(n), n)).collect();
            for key in keys {
                wheel.cancel(key);
            }
        }
        assert_eq!(wheel.entries.len(), 10);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Cancel(prop::sample::Index),
        Reschedule(prop::sample::Index, u64),
        Advance(u64),
        StepBack(u64),
        AdvanceToNext,
    }

    /// Nanoseconds of every order of magnitude.
    fn span() -> impl Strategy<Value = u64> {
        (0u32..54, any::<u64>()).prop_map(|(bits, n)| n & ((1 << bits) - 1))
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => span().prop_map(Op::Insert),
            2 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            2 => (any::<prop::sample::Index>(), span()).prop_map(|(i, n)| Op::Reschedule(i, n)),
            2 => span().prop_map(Op::Advance),
            1 => span().prop_map(Op::StepBack),
            2 => Just(Op::AdvanceToNext),
        ]
    }

    /// What a wheel must do, the slow way.
    struct Model {
        now: Instant64,
        pending: BTreeMap<u32, Instant64>,
    }

    impl Model {
        fn check_expire(&mut self, wheel: &mut Wheel<u32>, now: Instant64) {
            self.now = self.now.max(now);
            let fired = drain(wheel, now);
            let ticks: Vec<_> = fired
                .iter()
                .map(|id| {
                    let deadline = self.pending.remove(id).expect("fires once");
                    assert!(deadline <= self.now, "fired early");
                    deadline
                })
                .collect();
            assert!(ticks.windows(2).all(|w| w[0] <= w[1] + Duration::from_nanos(1 << TICK_BITS)), "out of order");
            let late = now - Duration::from_nanos(1 << TICK_BITS);
            assert!(self.pending.values().all(|deadline| *deadline > late), "did not fire");
        }

        fn check_bounds(&self, wheel: &Wheel<u32>) {
            assert_eq!(wheel.len(), self.pending.len());
            let latest = self.pending.values().min().map(|at| *at + Duration::from_nanos(1 << TICK_BITS));
            assert_eq!(wheel.next_deadline().is_some(), latest.is_some());
            assert!(wheel.next_deadline() <= latest);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_wheel_does_what_a_sorted_map_does(start in span(), ops in prop::collection::vec(op(), 0..200)) {
            let start = Instant64::from_nanos(start);
            let mut wheel = Wheel::new(start);
            let mut model = Model { now: start, pending: BTreeMap::new() };
            let mut keys = Vec::new();
            for (id, op) in (0u32..).zip(ops) {
                match op {
                    Op::Insert(after) => {
                        let deadline = model.now + Duration::from_nanos(after);
                        keys.push((id, wheel.insert(deadline, id)));
                        model.pending.insert(id, deadline);
                    }
                    Op::Cancel(_) | Op::Reschedule(..) if keys.is_empty() => {}
                    Op::Cancel(at) => {
                        let (id, key) = *at.get(&keys);
                        prop_assert_eq!(wheel.cancel(key), model.pending.remove(&id).map(|_| id));
                    }
                    Op::Reschedule(at, after) => {
                        let (id, key) = *at.get(&keys);
                        let deadline = model.now + Duration::from_nanos(after);
                        prop_assert_eq!(wheel.reschedule(key, deadline), model.pending.contains_key(&id));
                        model.pending.entry(id).and_modify(|at| *at = deadline);
                    }
                    Op::Advance(by) => model.check_expire(&mut wheel, model.now + Duration::from_nanos(by)),
                    Op::StepBack(by) => model.check_expire(&mut wheel, model.now - Duration::from_nanos(by)),
                    Op::AdvanceToNext => {
                        let next = wheel.next_deadline().unwrap_or(model.now);
                        model.check_expire(&mut wheel, next.max(model.now));
                    }
                }
                model.check_bounds(&wheel);
            }
        }
    }
}
