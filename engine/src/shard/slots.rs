//! What a shard keeps of each of its transport's connections.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Seat;
use super::hand_off::Leaving;
use super::reload::Serving;
use super::stream::{Ended, Shared};
use super::timers::TimerKey;
use crate::buffer::Buffer;
use crate::chunks::Chunks;
use crate::handshake::{EarlyData, Handshake, Session};
use crate::time::Instant64;
use crate::transport::ConnId;

/// The state of one connection; each owns what only it needs.
pub(super) enum Conn {
    /// Until its Finished is verified; with what it is served with.
    Handshaking(Handshake, Rc<Serving>),
    /// Negotiated, and its mailbox is full.
    HandingOff(Leaving),
    /// Of the `close` protocol: waits for the peer's close_notify.
    Closing(Session),
    /// With a worker on this thread.
    Streaming(Streaming),
    /// All is sent; what still comes is thrown away until the peer closes, so that it can read our last bytes.
    Lingering { fin_sent: bool },
}

/// A connection whose plaintext a worker reads and writes.
pub(super) struct Streaming {
    pub(super) session: Session,
    pub(super) shared: Arc<Shared>,
    /// Our close_notify is written.
    pub(super) closed: bool,
    /// And our FIN is sent.
    pub(super) fin_sent: bool,
    /// It began with early data, and until the client's Finished comes the deadline of the handshake is its timer.
    pub(super) early: Option<EarlyData>,
    /// Its worker has left with something unsent: the timer is that of `unsent_wait`, otherwise that of `idle_deadline`.
    pub(super) left: bool,
    /// When bytes last went either way.
    pub(super) active_at: Instant64,
    pub(super) control: ControlRecords,
}

/// Records without application data, counted by stretches of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlRecords {
    since: Instant64,
    seen: u32,
}

impl ControlRecords {
    const STRETCH: Duration = Duration::from_secs(10);

    pub(super) const fn new(now: Instant64) -> Self {
        Self { since: now, seen: 0 }
    }

    /// Counts `more`; whether that is still within `max`.
    pub(super) fn count(&mut self, more: u32, max: u32, now: Instant64) -> bool {
        if now.since(self.since) >= Self::STRETCH {
            *self = Self::new(now);
        }
        self.seen = self.seen.saturating_add(more);
        self.seen <= max
    }
}

impl Drop for Streaming {
    /// However a connection ends, its worker learns of it; one that has left already does not care.
    fn drop(&mut self) {
        self.shared.end(Ended::Broken);
    }
}

pub(super) struct Slot {
    pub(super) conn: Conn,
    /// Records that the transport has not taken; without memory of its own once it has taken all.
    pub(super) unsent: Buffer,
    pub(super) timer: Option<TimerKey>,
    /// The peer's direction of the stream has ended.
    pub(super) ended: bool,
    /// It is in the batch that is being gathered.
    pub(super) gathered: bool,
    /// It will be looked at again without an event.
    pub(super) again: bool,
    /// Its place among the connections that were accepted here; one that was taken in has none.
    pub(super) seat: Option<Seat>,
}

impl Slot {
    pub(super) fn new(conn: Conn) -> Self {
        Self { conn, unsent: Buffer::default(), timer: None, ended: false, gathered: false, again: false, seat: None }
    }

    /// The connection is no longer in its handshake.
    pub(super) fn handshake_over(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.handshake_over();
        }
    }

    /// The transport has taken `n` bytes of what was unsent.
    pub(super) fn sent(&mut self, n: usize) {
        self.unsent.consume(n);
        if self.unsent.len() == 0 {
            // Most connections idle after their tickets, and there are many.
            self.unsent = Buffer::default();
        }
    }
}

/// Slots by [`ConnId`]: beside the transport's own slab, with the same indices and generations.
#[derive(Default)]
pub(super) struct Slots {
    entries: Chunks<Option<(u32, Slot)>>,
    len: usize,
}

impl Slots {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Slot> {
        let (generation, slot) = self.entries.get(id.slot())?.as_ref()?;
        (*generation == id.generation()).then_some(slot)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Slot> {
        let (generation, slot) = self.entries.get_mut(id.slot())?.as_mut()?;
        (*generation == id.generation()).then_some(slot)
    }

    /// Takes a slot out, for a transition that consumes it.
    pub(super) fn take(&mut self, id: ConnId) -> Option<Slot> {
        self.get(id)?;
        let (_, slot) = self.entries[id.slot()].take()?;
        self.len -= 1;
        Some(slot)
    }

    pub(super) fn put(&mut self, id: ConnId, slot: Slot) {
        while self.entries.len() <= id.slot() {
            self.entries.push(None);
        }
        self.entries[id.slot()] = Some((id.generation(), slot));
        self.len += 1;
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        let id = |(i, e): (usize, &Option<(u32, Slot)>)| {
            e.as_ref().and_then(|(generation, _)| Some(ConnId::new(u32::try_from(i).ok()?, *generation)))
        };
        self.entries.iter().enumerate().filter_map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each idle connection has one.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn slots_do_not_grow_unseen() {
        assert!(size_of::<Option<(u32, Slot)>>() <= 312, "{}", size_of::<Option<(u32, Slot)>>());
        assert!(size_of::<Streaming>() <= 88, "{}", size_of::<Streaming>());
    }
}
