//! Deadlines that all have the same length, so that the oldest is always the next.

use std::collections::VecDeque;
use std::time::Duration;

use handfast::time::Instant64;
use handfast::transport::ConnId;

/// A queue of connections by deadline. Nobody takes a deadline back: the owner says which are still wanted.
#[derive(Debug)]
pub(super) struct Deadlines {
    length: Duration,
    queue: VecDeque<(Instant64, ConnId)>,
}

impl Deadlines {
    pub(super) const fn new(length: Duration) -> Self {
        Self { length, queue: VecDeque::new() }
    }

    pub(super) fn add(&mut self, now: Instant64, conn: ConnId) {
        self.queue.push_back((now + self.length, conn));
    }

    /// The next connection whose deadline has passed.
    pub(super) fn expired(&mut self, now: Instant64, wanted: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        let at = self.next(wanted)?;
        if at > now {
            return None;
        }
        self.queue.pop_front().map(|(_, conn)| conn)
    }

    /// The next deadline that is still wanted.
    pub(super) fn next(&mut self, wanted: impl Fn(ConnId) -> bool) -> Option<Instant64> {
        while let Some((at, conn)) = self.queue.front() {
            if wanted(*conn) {
                return Some(*at);
            }
            self.queue.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwanted_ones_are_passed_over() {
        let mut deadlines = Deadlines::new(Duration::from_nanos(10));
        let conns: Vec<_> = (0..3).map(|i| ConnId::new(i, 0)).collect();
        for (i, conn) in conns.iter().enumerate() {
            deadlines.add(Instant64::from_nanos(i as u64), *conn);
        }
        let wanted = |c: ConnId| c != conns[0];
        assert_eq!(deadlines.next(wanted), Some(Instant64::from_nanos(11)));
        assert_eq!(deadlines.expired(Instant64::from_nanos(10), wanted), None);
        assert_eq!(deadlines.expired(Instant64::from_nanos(12), wanted), Some(conns[1]));
        assert_eq!(deadlines.expired(Instant64::from_nanos(12), wanted), Some(conns[2]));
        assert_eq!(deadlines.next(wanted), None);
    }
}
