//! The answers of a few connections leave together.
//!
//! A send wakes whoever waits for it, on this machine or behind a network card's interrupt. Computing a flight takes
//! far longer than sending it, so sent one by one the answers of a batch would each find their receiver asleep again.
//! A group is small, so that the first answer does not wait for the last of a large batch.

use std::io::IoSlice;
use std::mem;
use std::ops::Range;

use super::Shard;
use super::slots::{Conn, Slot};
use crate::error::Refusal;
use crate::time::Instant64;
use crate::transport::{Close, ConnId, Push, Transport};

/// Connections in a group.
const GROUP: usize = 8;

/// What follows a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The peer's turn.
    Wait,
    /// Our end, in the same segment.
    Close,
}

#[derive(Debug)]
struct Departure {
    conn: ConnId,
    range: Range<usize>,
    then: Then,
}

/// Bytes on their way out, side by side.
#[derive(Debug, Default)]
pub(super) struct Departures {
    bytes: Vec<u8>,
    list: Vec<Departure>,
}

impl<T: Transport> Shard<T> {
    /// Puts a connection back whose answer is in `self.out`; it leaves with its group.
    pub(super) fn depart(&mut self, conn: ConnId, slot: Slot, then: Then, now: Instant64) {
        let start = self.departures.bytes.len();
        self.departures.bytes.append(&mut self.out);
        let range = start..self.departures.bytes.len();
        self.slots.put(conn, slot);
        self.departures.list.push(Departure { conn, range, then });
        if self.departures.list.len() >= GROUP {
            self.send_departures(now);
        }
    }

    /// Sends what is on its way out. Called at the end of each batch, so nothing stays behind.
    pub(super) fn send_departures(&mut self, now: Instant64) {
        let mut departures = mem::take(&mut self.departures);
        for Departure { conn, range, then } in departures.list.drain(..) {
            let Some(mut slot) = self.slots.take(conn) else { continue };
            let push = if then == Then::Close { Push::BeforeClose } else { Push::Now };
            let bytes = &departures.bytes[range];
            let waits = slot.unsent.len() > 0;
            let sent =
                if waits || bytes.is_empty() { Ok(0) } else { self.transport.send(conn, &[IoSlice::new(bytes)], push) };
            match (sent, then) {
                (Ok(sent), _) if sent < bytes.len() => {
                    slot.unsent.back().extend_from_slice(&bytes[sent..]);
                    if then == Then::Close { self.linger(conn, slot, now) } else { self.slots.put(conn, slot) }
                }
                (Ok(_), Then::Wait) => self.slots.put(conn, slot),
                (Ok(_), Then::Close) => self.close(conn, slot, Close::Graceful),
                (Err(_), _) if matches!(slot.conn, Conn::Handshaking(..)) => {
                    self.refused(conn, slot, &Refusal::Reset, now);
                }
                (Err(_), _) => self.close(conn, slot, Close::Abort),
            }
        }
        departures.bytes.clear();
        self.departures = departures;
    }
}
