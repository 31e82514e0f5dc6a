//! When a slot may start its next handshake. Pure: time is an argument.
//!
//! A slot is one seat of the load: at most one handshake at a time sits in it. In a closed loop a slot starts again as
//! soon as its last handshake has ended; a variant does so in rounds. In an open loop [`Arrivals`] say when handshakes
//! are due, whatever the server does, and each takes the slot that is free for the longest time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use handfast::time::Instant64;

use crate::arrivals::Arrivals;

/// The pause after a slot's first failure in a row; it doubles with each further one.
pub const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
/// The longest pause.
pub const BACK_OFF_LAST: Duration = Duration::from_secs(1);

/// Unstarted handshakes that [`Pacer::stop`] counts at most: a rate that no machine can follow must not take its memory.
const UNSTARTED_MAX: usize = 10_000_000;

/// Leave for one slot to start a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Start {
    /// The slot.
    pub slot: u32,
    /// In an open loop, when the handshake had to start.
    pub due: Option<Due>,
}

/// When a handshake had to start, and when it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Due {
    /// When it was due.
    pub at: Instant64,
    /// When a slot was free for it: not before it was due.
    pub free: Instant64,
}

#[derive(Debug)]
enum Model {
    /// Each slot by itself.
    Closed,
    /// All slots start together when all have ended; the number of this round's starts that are still to come.
    Rounds { to_start: usize },
    /// When it is due.
    Open { arrivals: Arrivals, began: Instant64 },
}

/// Says when each of a fixed number of slots may start.
#[derive(Debug)]
pub struct Pacer {
    model: Model,
    /// Free slots and since when, the earliest first.
    ready: VecDeque<(u32, Instant64)>,
    /// Slots that failed, by the end of their pause.
    resting: BinaryHeap<Reverse<(Instant64, u32)>>,
    failures_in_a_row: Vec<u8>,
    busy: usize,
    busy_max: usize,
    /// Starts that are still allowed; `None` without a limit.
    left: Option<u64>,
}

impl Pacer {
    /// A closed loop of `slots`, which ends after `starts` when there is such a number.
    #[must_use]
    pub fn closed(slots: u32, starts: Option<u64>) -> Self {
        Self::new(Model::Closed, slots, starts)
    }

    /// As [`closed`](Self::closed) for slots that are [`kept`](Self::kept): no more than `busy_max` are under way at a
    /// time.
    #[must_use]
    pub fn keeping(slots: u32, starts: Option<u64>, busy_max: usize) -> Self {
        Self { busy_max, ..Self::new(Model::Closed, slots, starts) }
    }

    /// As [`closed`](Self::closed), but all slots start together, once all of them have ended.
    #[must_use]
    pub fn rounds(slots: u32, starts: Option<u64>) -> Self {
        Self::new(Model::Rounds { to_start: slots as usize }, slots, starts)
    }

    /// An open loop, which begins at `now` and ends after `starts` when there is such a number. A failure gives no
    /// pause: what is due is due.
    #[must_use]
    pub fn open(slots: u32, starts: Option<u64>, arrivals: Arrivals, now: Instant64) -> Self {
        Self::new(Model::Open { arrivals, began: now }, slots, starts)
    }

    fn new(model: Model, slots: u32, left: Option<u64>) -> Self {
        Self {
            model,
            ready: (0..slots).map(|slot| (slot, Instant64::ZERO)).collect(),
            resting: BinaryHeap::new(),
            failures_in_a_row: vec![0; slots as usize],
            busy: 0,
            busy_max: usize::MAX,
            left,
        }
    }

    /// The next slot that may start at `now`; it counts as busy until [`ended`](Self::ended).
    pub fn start(&mut self, now: Instant64) -> Option<Start> {
        if self.left == Some(0) || self.busy >= self.busy_max {
            return None;
        }
        self.wake(now);
        let mut due = None;
        match &mut self.model {
            Model::Closed => {}
            Model::Rounds { to_start } => {
                if *to_start == 0 {
                    if self.busy > 0 || !self.resting.is_empty() {
                        return None;
                    }
                    *to_start = self.ready.len();
                }
                *to_start = to_start.saturating_sub(1);
            }
            Model::Open { arrivals, began } => {
                let at = *began + arrivals.peek()?;
                let (_, free_since) = *self.ready.front()?;
                if at > now {
                    return None;
                }
                arrivals.next();
                due = Some(Due { at, free: at.max(free_since) });
            }
        }
        let (slot, _) = self.ready.pop_front()?;
        self.busy += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Some(Start { slot, due })
    }

    /// When [`start`](Self::start) may have something to say without a slot ending first.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Instant64> {
        if self.left == Some(0) || self.busy >= self.busy_max {
            return None;
        }
        match &self.model {
            Model::Open { arrivals, began } if !self.ready.is_empty() => arrivals.peek().map(|t| *began + t),
            Model::Open { .. } => None,
            Model::Closed if !self.ready.is_empty() => Some(Instant64::ZERO),
            Model::Closed => self.resting.peek().map(|Reverse((at, _))| *at),
            Model::Rounds { to_start } if *to_start > 0 => Some(Instant64::ZERO),
            Model::Rounds { .. } if self.busy > 0 => None,
            Model::Rounds { .. } => {
                Some(self.resting.iter().map(|Reverse((at, _))| *at).max().unwrap_or(Instant64::ZERO))
            }
        }
    }

    /// The handshake of `slot` has ended. In a closed loop the slot rests after a failure, so that a dead target is
    /// not hammered.
    pub fn ended(&mut self, slot: u32, now: Instant64, succeeded: bool) {
        self.busy = self.busy.saturating_sub(1);
        let failures = &mut self.failures_in_a_row[slot as usize];
        if succeeded || matches!(self.model, Model::Open { .. }) {
            *failures = 0;
            self.ready.push_back((slot, now));
        } else {
            let pause = (BACK_OFF_FIRST * (1 << (*failures).min(7))).min(BACK_OFF_LAST);
            *failures = failures.saturating_add(1);
            self.resting.push(Reverse((now + pause, slot)));
        }
    }

    /// The handshake of `slot` has ended, and its connection stays in it: the slot never starts again.
    pub const fn kept(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// No slot starts any more. In an open loop, the times of those handshakes that were due before `now` and have
    /// found no free slot.
    pub fn stop(&mut self, now: Instant64) -> Vec<Instant64> {
        let stopped = self.left == Some(0);
        self.left = Some(0);
        match &mut self.model {
            Model::Open { arrivals, began } if !stopped => {
                let times = arrivals.map(|t| *began + t);
                times.take_while(|at| *at < now).take(UNSTARTED_MAX).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Nothing starts any more and nothing is busy.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let nothing_is_due = matches!(&self.model, Model::Open { arrivals, .. } if arrivals.peek().is_none());
        (self.left == Some(0) || nothing_is_due) && self.busy == 0
    }

    /// How many handshakes are under way.
    #[must_use]
    pub const fn busy(&self) -> usize {
        self.busy
    }

    fn wake(&mut self, now: Instant64) {
        while let Some(Reverse((at, slot))) = self.resting.peek().copied() {
            if at > now {
                break;
            }
            self.resting.pop();
            self.ready.push_back((slot, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::{Law, Profile};

    fn at(ms: u64) -> Instant64 {
        Instant64::from_nanos(ms * 1_000_000)
    }

    fn drain(pacer: &mut Pacer, now: Instant64) -> Vec<u32> {
        std::iter::from_fn(|| pacer.start(now)).map(|s| s.slot).collect()
    }

    #[test]
    fn a_slot_starts_again_as_soon_as_it_ended() {
        let mut pacer = Pacer::closed(3, None);
        assert_eq!(drain(&mut pacer, at(0)), [0, 1, 2]);
        assert_eq!(pacer.wakes_at(), None);
        pacer.ended(1, at(5), true);
        assert_eq!(pacer.wakes_at(), Some(Instant64::ZERO));
        assert_eq!(drain(&mut pacer, at(5)), [1]);
        assert_eq!(pacer.busy(), 3);
    }

    #[test]
    fn slots_that_are_kept_start_a_few_at_a_time() {
        let mut pacer = Pacer::keeping(5, Some(5), 2);
        assert_eq!(drain(&mut pacer, at(0)), [0, 1]);
        assert_eq!(pacer.wakes_at(), None);
        pacer.kept();
        pacer.ended(1, at(1), false);
        assert_eq!(drain(&mut pacer, at(1)), [2, 3]);
        pacer.kept();
        pacer.kept();
        assert_eq!(drain(&mut pacer, at(2)), [4], "one failed, and there are no more starts");
        pacer.kept();
        assert!(pacer.is_over());
    }

    #[test]
    fn pauses_double_up_to_a_second_and_a_success_forgets_them() {
        let mut pacer = Pacer::closed(1, None);
        let mut now = at(0);
        for pause_ms in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert_eq!(drain(&mut pacer, now), [0]);
            pacer.ended(0, now, false);
            let wake = now + Duration::from_millis(pause_ms);
            assert_eq!(pacer.wakes_at(), Some(wake));
            assert_eq!(pacer.start(wake - Duration::from_nanos(1)), None);
            now = wake;
        }
        assert_eq!(drain(&mut pacer, now), [0]);
        pacer.ended(0, now, true);
        assert_eq!(drain(&mut pacer, now), [0]);
        pacer.ended(0, now, false);
        assert_eq!(pacer.wakes_at(), Some(now + BACK_OFF_FIRST));
    }

    #[test]
    fn a_count_ends_it() {
        let mut pacer = Pacer::closed(2, Some(3));
        assert_eq!(drain(&mut pacer, at(0)), [0, 1]);
        pacer.ended(0, at(1), true);
        assert_eq!(drain(&mut pacer, at(1)), [0]);
        pacer.ended(0, at(2), true);
        assert_eq!(drain(&mut pacer, at(2)), [] as [u32; 0]);
        assert!(!pacer.is_over());
        pacer.ended(1, at(2), false);
        assert!(pacer.is_over());
        assert_eq!(pacer.wakes_at(), None);
    }

    #[test]
    fn a_round_waits_for_all_slots_and_for_their_pauses() {
        let mut pacer = Pacer::rounds(3, None);
        assert_eq!(drain(&mut pacer, at(0)), [0, 1, 2]);
        pacer.ended(2, at(1), true);
        pacer.ended(0, at(1), false);
        assert_eq!(pacer.start(at(5)), None);
        assert_eq!(pacer.wakes_at(), None);
        pacer.ended(1, at(2), true);
        assert_eq!(pacer.wakes_at(), Some(at(11)));
        assert_eq!(pacer.start(at(10)), None);
        assert_eq!(drain(&mut pacer, at(11)), [2, 1, 0]);
    }

    #[test]
    fn stopping_lets_what_is_under_way_end() {
        let mut pacer = Pacer::closed(2, None);
        assert!(pacer.start(at(0)).is_some());
        assert_eq!(pacer.stop(at(0)), []);
        assert_eq!(pacer.start(at(0)), None);
        pacer.ended(0, at(1), true);
        assert!(pacer.is_over());
    }

    fn open(slots: u32, starts: Option<u64>) -> Pacer {
        Pacer::open(slots, starts, Arrivals::new(Profile::steady(100.0), Law::Constant, 1, 0, 1), at(1000))
    }

    #[test]
    fn an_open_loop_starts_what_is_due_whatever_became_of_the_others() {
        let mut pacer = open(2, None);
        assert_eq!(pacer.wakes_at(), Some(at(1000)));
        assert_eq!(pacer.start(at(999)), None);
        let due = |ms, free| Some(Due { at: at(ms), free: at(free) });
        assert_eq!(pacer.start(at(1000)), Some(Start { slot: 0, due: due(1000, 1000) }));
        assert_eq!((pacer.start(at(1000)), pacer.wakes_at()), (None, Some(at(1010))));
        pacer.ended(0, at(1003), false);
        assert_eq!(pacer.start(at(1012)), Some(Start { slot: 1, due: due(1010, 1010) }), "2 ms late, nobody waited");
        assert_eq!(pacer.start(at(1020)), Some(Start { slot: 0, due: due(1020, 1020) }), "no pause after a failure");
    }

    #[test]
    fn what_finds_no_free_slot_waits_and_is_not_forgotten() {
        let mut pacer = open(1, None);
        assert!(pacer.start(at(1000)).is_some());
        assert_eq!((pacer.start(at(1035)), pacer.wakes_at()), (None, None));
        pacer.ended(0, at(1035), true);
        let start = pacer.start(at(1036)).unwrap();
        assert_eq!(start.due, Some(Due { at: at(1010), free: at(1035) }), "25 ms for the slot, 1 ms ours");
        assert_eq!(pacer.stop(at(1040)), [at(1020), at(1030)]);
        assert_eq!(pacer.stop(at(2000)), [], "counted once");
        pacer.ended(0, at(1041), true);
        assert!(pacer.is_over());
    }

    #[test]
    fn a_count_ends_an_open_loop_too() {
        let mut pacer = open(4, Some(3));
        assert_eq!(std::iter::from_fn(|| pacer.start(at(5000))).count(), 3);
        assert_eq!(pacer.wakes_at(), None);
        (0..3).for_each(|slot| pacer.ended(slot, at(5001), true));
        assert!(pacer.is_over());
    }

    #[test]
    fn a_slot_that_keeps_its_connection_is_not_busy_and_starts_no_more() {
        let mut pacer = Pacer::closed(2, None);
        assert_eq!(drain(&mut pacer, at(0)), [0, 1]);
        pacer.kept();
        assert_eq!((pacer.busy(), pacer.start(at(9))), (1, None));
    }
}
