//! What a shard looks at next.

use std::mem;

use crate::transport::{ConnId, Event};

/// A connection's turn to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Without an event: more may be there than could be read before.
    Again(ConnId),
    /// Something became ready.
    Event(Event),
}

/// The events of a poll, which may last for several turns, and before them those that are looked at again. Whoever is to
/// be looked at again meanwhile comes after the next poll, so each has its turn before any has its second.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: Vec<ConnId>,
    events: Vec<Event>,
    /// How many of `due`, then of `events`, were looked at.
    looked_at: usize,
    again: Vec<ConnId>,
}

impl Queue {
    /// Whether there is nothing to look at before the next poll.
    pub(super) const fn is_done(&self) -> bool {
        self.looked_at == self.due.len() + self.events.len()
    }

    /// Whether some are to be looked at again after the next poll, which must not wait then.
    pub(super) const fn is_pressing(&self) -> bool {
        !self.again.is_empty()
    }

    /// Where the next poll appends its events. All that came before must be done.
    pub(super) fn restart(&mut self) -> &mut Vec<Event> {
        debug_assert!(self.is_done(), "events that nobody looked at");
        self.looked_at = 0;
        self.due.clear();
        mem::swap(&mut self.due, &mut self.again);
        self.events.clear();
        &mut self.events
    }

    /// Has a connection looked at again, once however often it is asked for: `flag` is its `Slot::again`.
    pub(super) fn again(&mut self, id: ConnId, flag: &mut bool) {
        if !mem::replace(flag, true) {
            self.again.push(id);
        }
    }

    /// What is next. Whoever looks at a connection [again](Look::Again) clears that flag.
    pub(super) fn next(&mut self) -> Option<Look> {
        let look = match self.looked_at.checked_sub(self.due.len()) {
            None => Look::Again(self.due[self.looked_at]),
            Some(at) => Look::Event(*self.events.get(at)?),
        };
        self.looked_at += 1;
        Some(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Ready;

    fn event(index: u32) -> Event {
        Event { conn: ConnId::new(index, 0), ready: Ready::default() }
    }

    #[test]
    fn each_is_looked_at_once_and_those_before_the_poll_first() {
        let (mut queue, mut first, mut second) = (Queue::default(), false, false);
        let [a, b, c] = [0, 1, 2].map(|index| event(index).conn);
        queue.again(a, &mut first);
        queue.again(a, &mut first);
        assert!(queue.is_done() && queue.is_pressing());
        queue.restart().extend([event(1), event(2)]);
        assert_eq!((queue.next(), queue.is_pressing(), queue.is_done()), (Some(Look::Again(a)), false, false));
        first = false;
        queue.again(a, &mut first);
        queue.again(b, &mut second);
        assert_eq!(queue.next(), Some(Look::Event(event(1))));
        assert_eq!((queue.next(), queue.next()), (Some(Look::Event(Event { conn: c, ..event(2) })), None));
        assert!(queue.is_done() && queue.is_pressing());
        queue.restart();
        assert_eq!((queue.next(), queue.next(), queue.next()), (Some(Look::Again(a)), Some(Look::Again(b)), None));
    }
}
