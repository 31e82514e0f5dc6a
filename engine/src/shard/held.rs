//! ClientHellos that wait for company where the prepare phase asks for it: turns go on without them meanwhile.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Shard;
use super::gather::Item;
use super::slots::{Conn, Slot};
use crate::peer::PeerAddr;
use crate::time::Instant64;
use crate::transport::{ConnId, Transport};

/// ClientHellos that wait.
#[derive(Debug, Default)]
pub(super) struct Held {
    items: Vec<Item>,
    /// What the items' ranges mean.
    bytes: Vec<u8>,
    /// When the first of them has waited long enough.
    until: Option<Instant64>,
    /// Those of which there is more to read.
    again: Vec<ConnId>,
}

impl Held {
    /// When they must go on.
    pub(super) const fn until(&self) -> Option<Instant64> {
        self.until
    }

    /// What more this connection has received comes after its ClientHello; `false` when that does not wait here.
    pub(super) fn read_later(&mut self, id: ConnId) -> bool {
        let held = self.items.iter().any(|item| item.conn == id);
        if held && !self.again.contains(&id) {
            self.again.push(id);
        }
        held
    }
}

impl<T: Transport> Shard<T> {
    /// Takes ClientHellos out of the batch that should wait, or puts those back in that have.
    pub(super) fn hold_back(&mut self, now: Instant64) {
        if self.held.items.is_empty() && self.prepare.patience(1).is_none() {
            return;
        }
        let gains: Vec<bool> = self.items.iter().map(|item| self.gains(item)).collect();
        let fresh = gains.iter().filter(|gains| **gains).count();
        let until = self.prepare.patience(self.held.items.len() + fresh).map(|wait| now + wait);
        let until = until.map(|until| self.held.until.unwrap_or(until)).filter(|until| now < *until);
        match until {
            Some(_) => {
                self.held.until = until;
                self.counters.batch_held.add(fresh as u64);
                self.hold(&gains);
            }
            None => self.release(),
        }
    }

    fn gains(&self, item: &Item) -> bool {
        let Some(Slot { conn: Conn::Handshaking(handshake, _), .. }) = self.slots.get(item.conn) else { return false };
        if item.refusal.is_some() || item.broken || item.end {
            return false;
        }
        let peer = self.transport.peer(item.conn).unwrap_or(PeerAddr::Unix);
        // As in the prepare phase: whatever bytes a peer found for a panic, the shard goes on.
        let gains = || handshake.hello(&self.arena[item.range.clone()], peer).is_some_and(|h| self.prepare.gains(&h));
        catch_unwind(AssertUnwindSafe(gains)).unwrap_or(false)
    }

    /// Takes the items out of the batch that `chosen` says.
    fn hold(&mut self, chosen: &[bool]) {
        let mut chosen = chosen.iter();
        for mut item in mem::take(&mut self.items) {
            if chosen.next() == Some(&true) {
                let start = self.held.bytes.len();
                self.held.bytes.extend_from_slice(&self.arena[item.range.clone()]);
                item.range = start..self.held.bytes.len();
                self.held.items.push(item);
            } else {
                self.items.push(item);
            }
        }
        if self.items.is_empty() {
            self.arena.clear();
        }
    }

    /// Puts all that waited into the batch, before what came later.
    fn release(&mut self) {
        let offset = self.arena.len();
        self.arena.append(&mut self.held.bytes);
        let moved = |mut item: Item| {
            item.range = item.range.start + offset..item.range.end + offset;
            item
        };
        self.items.splice(0..0, self.held.items.drain(..).map(moved));
        for id in mem::take(&mut self.held.again) {
            self.look_again(id);
        }
        self.held.until = None;
    }
}
