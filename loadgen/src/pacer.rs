//! When a slot may start its next handshake. Pure: time is an argument.
//!
//! A slot is one seat of the load: at most one handshake at a time sits in it. Now there is the closed loop alone,
//! where a slot starts again as soon as its last handshake has ended, and its variant in rounds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use handfast::time::Instant64;

/// The pause after a slot's first failure in a row; it doubles with each further one.
pub const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
/// The longest pause.
pub const BACK_OFF_LAST: Duration = Duration::from_secs(1);

/// Leave for one slot to start a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Start {
    /// The slot.
    pub slot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    /// Each slot by itself.
    Closed,
    /// All slots start together when all have ended; the number of this round's starts that are still to come.
    Rounds { to_start: usize },
}

/// Says when each of a fixed number of slots may start.
#[derive(Debug)]
pub struct Pacer {
    model: Model,
    ready: VecDeque<u32>,
    /// Slots that failed, by the end of their pause.
    resting: BinaryHeap<Reverse<(Instant64, u32)>>,
    failures_in_a_row: Vec<u8>,
    busy: usize,
    /// Starts that are still allowed; `None` without a limit.
    left: Option<u64>,
}

impl Pacer {
    /// A closed loop of `slots`, which ends after `starts` when there is such a number.
    #[must_use]
    pub fn closed(slots: u32, starts: Option<u64>) -> Self {
        Self::new(Model::Closed, slots, starts)
    }

    /// As [`closed`](Self::closed), but all slots start together, once all of them have ended.
    #[must_use]
    pub fn rounds(slots: u32, starts: Option<u64>) -> Self {
        Self::new(Model::Rounds { to_start: slots as usize }, slots, starts)
    }

    fn new(model: Model, slots: u32, left: Option<u64>) -> Self {
        Self {
            model,
            ready: (0..slots).collect(),
            resting: BinaryHeap::new(),
            failures_in_a_row: vec![0; slots as usize],
            busy: 0,
            left,
        }
    }

    /// The next slot that may start at `now`; it counts as busy until [`ended`](Self::ended).
    pub fn start(&mut self, now: Instant64) -> Option<Start> {
        if self.left == Some(0) {
            return None;
        }
        self.wake(now);
        if let Model::Rounds { to_start } = &mut self.model {
            if *to_start == 0 {
                if self.busy > 0 || !self.resting.is_empty() {
                    return None;
                }
                *to_start = self.ready.len();
            }
            *to_start = to_start.saturating_sub(1);
        }
        let slot = self.ready.pop_front()?;
        self.busy += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Some(Start { slot })
    }

    /// When [`start`](Self::start) may have something to say without a slot ending first.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Instant64> {
        if self.left == Some(0) {
            return None;
        }
        match self.model {
            Model::Closed if !self.ready.is_empty() => Some(Instant64::ZERO),
            Model::Closed => self.resting.peek().map(|Reverse((at, _))| *at),
            Model::Rounds { to_start } if to_start > 0 => Some(Instant64::ZERO),
            Model::Rounds { .. } if self.busy > 0 => None,
            Model::Rounds { .. } => {
                Some(self.resting.iter().map(|Reverse((at, _))| *at).max().unwrap_or(Instant64::ZERO))
            }
        }
    }

    /// The handshake of `slot` has ended. After a failure the slot rests, so that a dead target is not hammered.
    pub fn ended(&mut self, slot: u32, now: Instant64, succeeded: bool) {
        self.busy = self.busy.saturating_sub(1);
        let failures = &mut self.failures_in_a_row[slot as usize];
        if succeeded {
            *failures = 0;
            self.ready.push_back(slot);
        } else {
            let pause = (BACK_OFF_FIRST * (1 << (*failures).min(7))).min(BACK_OFF_LAST);
            *failures = failures.saturating_add(1);
            self.resting.push(Reverse((now + pause, slot)));
        }
    }

    /// No slot starts any more.
    pub const fn stop(&mut self) {
        self.left = Some(0);
    }

    /// Nothing starts any more and nothing is busy.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left == Some(0) && self.busy == 0
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
            self.ready.push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        pacer.stop();
        assert_eq!(pacer.start(at(0)), None);
        pacer.ended(0, at(1), true);
        assert!(pacer.is_over());
    }
}
