//! Which part of a run counts. Pure: time is an argument.

use std::time::Duration;

use handfast::time::Instant64;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not counted yet.
    WarmUp,
    /// What ends now counts.
    Counting,
    /// Nothing starts any more; what is under way ends, uncounted.
    Draining,
}

/// The counted part of a run: after the warm-up, for a time or until it is closed.
#[derive(Debug)]
pub(super) struct Window {
    duration: Option<Duration>,
    phase: Phase,
    /// When counting begins, or began.
    opened: Instant64,
    closed: Instant64,
}

impl Window {
    pub(super) fn new(now: Instant64, warm_up: Duration, duration: Option<Duration>) -> Self {
        let opened = now + warm_up;
        Self { duration, phase: Phase::WarmUp, opened, closed: opened }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Moves on by at most one phase, and says whether it did.
    pub(super) fn advance(&mut self, now: Instant64) -> bool {
        match (self.phase, self.next()) {
            (Phase::WarmUp, Some(at)) if now >= at => {
                // `opened` is not `now`: what is due from then on is due whether we are late or not.
                self.phase = Phase::Counting;
                true
            }
            (Phase::Counting, Some(at)) if now >= at => self.close(now),
            _ => false,
        }
    }

    /// Ends the counting before its time. False when it has ended already.
    pub(super) fn close(&mut self, now: Instant64) -> bool {
        if self.phase == Phase::Draining {
            return false;
        }
        if self.phase == Phase::WarmUp {
            self.opened = now;
        }
        self.phase = Phase::Draining;
        self.closed = now;
        true
    }

    /// When [`advance`](Self::advance) has something to do.
    pub(super) fn next(&self) -> Option<Instant64> {
        match self.phase {
            Phase::WarmUp => Some(self.opened),
            Phase::Counting => self.duration.map(|d| self.opened + d),
            Phase::Draining => None,
        }
    }

    /// When counting begins, or began.
    pub(super) const fn opened(&self) -> Instant64 {
        self.opened
    }

    /// Whether what is due `at` this time is due in the time that counts. The phase says nothing about that: it is
    /// that of the last look at the clock, and what is due since then may have started meanwhile.
    pub(super) fn covers(&self, at: Instant64) -> bool {
        at >= self.opened && self.duration.is_none_or(|d| at < self.opened + d)
    }

    /// When counting ended.
    pub(super) const fn closed(&self) -> Instant64 {
        self.closed
    }

    /// The time that was counted.
    pub(super) const fn length(&self) -> Duration {
        self.closed.since(self.opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Instant64 {
        Instant64::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_warm_up_is_outside_and_the_end_is_on_time() {
        let mut window = Window::new(at(0), SECOND, Some(2 * SECOND));
        assert!(!window.advance(at(999)));
        assert!(window.advance(at(1001)));
        assert_eq!((window.phase(), window.next()), (Phase::Counting, Some(at(3000))));
        assert!(!window.advance(at(2999)));
        assert!(window.advance(at(3000)));
        assert_eq!((window.phase(), window.length()), (Phase::Draining, 2 * SECOND));
        assert!(!window.close(at(4000)));
        assert_eq!([999, 1000, 2999, 3000].map(|ms| window.covers(at(ms))), [false, true, true, false]);
    }

    #[test]
    fn what_is_due_from_the_opening_on_counts_before_anybody_has_looked_at_the_clock() {
        let window = Window::new(at(0), SECOND, Some(2 * SECOND));
        assert_eq!(window.phase(), Phase::WarmUp);
        assert_eq!([999, 1000, 2999, 3000].map(|ms| window.covers(at(ms))), [false, true, true, false]);
        assert_eq!(window.opened(), at(1000));
    }

    #[test]
    fn closing_in_the_warm_up_counts_nothing() {
        let mut window = Window::new(at(0), SECOND, None);
        assert!(window.close(at(500)));
        assert_eq!(window.length(), Duration::ZERO);
    }
}
