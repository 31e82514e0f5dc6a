//! The gather phase: what all ready connections received, side by side in one arena.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::Shard;
use super::queue::Look;
use super::services::lock;
use super::slots::{Conn, Slot};
use crate::crypto::batch::AHEAD_MAX;
use crate::error::Refusal;
use crate::handshake::{Handshake, Offered};
use crate::peer::PeerAddr;
use crate::time::Instant64;
use crate::transport::{Close, ConnId, Event, More, Recv, Transport};

/// Connections in one batch: no more than agreements can be computed ahead for.
const BATCH_ITEMS_MAX: usize = AHEAD_MAX;
/// Received bytes in one batch, give or take one connection's budget.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What one connection received in this turn.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) conn: ConnId,
    /// Its bytes in the arena.
    pub(super) range: Range<usize>,
    /// The peer's direction ended behind them.
    pub(super) end: bool,
    /// The connection broke.
    pub(super) broken: bool,
    /// The bytes cannot start a handshake.
    pub(super) refusal: Option<Refusal>,
}

impl<T: Transport> Shard<T> {
    /// Gathers one batch from what is ready, then prepares and advances it. The rest is for the next turn.
    pub(super) fn gather(&mut self, now: Instant64) {
        while self.items.len() < BATCH_ITEMS_MAX && self.arena.len() < BATCH_BYTES_MAX {
            match self.queue.next() {
                None => break,
                Some(Look::Again(id)) => {
                    if let Some(slot) = self.slots.get_mut(id) {
                        slot.again = false;
                    }
                    self.gather_one(id, now);
                }
                Some(Look::Event(event)) => self.gather_event(event, now),
            }
        }
        self.advance_batch(now);
    }

    fn gather_event(&mut self, Event { conn, ready }: Event, now: Instant64) {
        if ready.accepted {
            self.open(conn, now);
        }
        if ready.writable {
            self.writable(conn, now);
        }
        // One that is to be looked at again has had its budget.
        if ready.readable && self.slots.get(conn).is_some_and(|slot| !slot.again) {
            self.gather_one(conn, now);
        }
    }

    /// Has a connection looked at again, whether or not there is an event for it.
    pub(super) fn look_again(&mut self, id: ConnId) {
        if let Some(slot) = self.slots.get_mut(id) {
            self.queue.again(id, &mut slot.again);
        }
    }

    fn open(&mut self, id: ConnId, now: Instant64) {
        self.counters.opened.add(1);
        let peer = self.transport.peer(id).unwrap_or(PeerAddr::Unix);
        let (handshake, source, deadline) = match self.transport.proxy_protocol(id) {
            None => (Handshake::new(now), peer.ip(), self.limits.handshake_deadline),
            Some(proxy) if proxy.trusts(peer) => {
                let deadline = self.limits.proxy_header_deadline.min(self.limits.handshake_deadline);
                (Handshake::behind_proxy(now), None, deadline)
            }
            Some(_) => return self.turn_away(id, &Refusal::ProxyUntrusted),
        };
        let seat = self.admission.seat(&self.limits).and_then(|mut seat| {
            if let Some(source) = source {
                self.admission.place(&mut seat, source.ip(), &self.limits, now)?;
            }
            Ok(seat)
        });
        match seat {
            Ok(seat) => {
                let mut slot = Slot::new(Conn::Handshaking(handshake, Rc::clone(&self.serving)));
                slot.seat = Some(seat);
                self.set_timer(id, &mut slot, now + deadline);
                self.slots.put(id, slot);
            }
            Err(refusal) => self.turn_away(id, &refusal),
        }
    }

    /// Resets a connection of which nothing was read.
    fn turn_away(&mut self, id: ConnId, refusal: &Refusal) {
        self.counters.refuse(refusal.class());
        self.transport.close(id, Close::Abort);
        self.counters.closed.add(1);
    }

    /// The PROXY protocol header is there: its client is the source from now on, and the handshake's deadline counts.
    fn introduce(&mut self, id: ConnId, now: Instant64) -> Result<(), Refusal> {
        let Some(mut slot) = self.slots.take(id) else { return Ok(()) };
        let mut placed = Ok(());
        if let Conn::Handshaking(handshake, _) = &slot.conn {
            let deadline = handshake.accepted_at() + self.limits.handshake_deadline;
            let client = handshake.client().and_then(|client| client.ip());
            if let (Some(client), Some(seat)) = (client, &mut slot.seat) {
                placed = self.admission.place(seat, client.ip(), &self.limits, now);
            }
            self.set_timer(id, &mut slot, deadline);
        }
        self.slots.put(id, slot);
        placed
    }

    fn gather_one(&mut self, id: ConnId, now: Instant64) {
        let Some(slot) = self.slots.get(id) else { return };
        if slot.ended {
            return;
        }
        if slot.gathered {
            // What it received is in the batch already; the rest comes after it.
            if !self.held.read_later(id) {
                self.look_again(id);
            }
            return;
        }
        match &slot.conn {
            // Its socket leaves with what is in it.
            Conn::HandingOff(_) => return,
            Conn::Lingering { .. } => return self.discard(id),
            Conn::Streaming(s) => {
                let mut state = lock(&s.shared.state);
                if state.is_full() {
                    state.paused = true;
                    self.counters.stream_reads_paused.add(1);
                    return;
                }
            }
            Conn::Handshaking(..) | Conn::Closing(_) => {}
        }
        let mut item = self.read(id);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.ended |= item.end || item.broken;
            slot.gathered = true;
            // As in `advance_batch`: our readers of headers and hellos see the peer's bytes here.
            if matches!(slot.conn, Conn::Handshaking(..))
                && catch_unwind(AssertUnwindSafe(|| self.offer(&mut item, now))).is_err()
            {
                return self.contain(id);
            }
        }
        self.items.push(item);
    }

    /// Offers what has come to its handshake.
    fn offer(&mut self, item: &mut Item, now: Instant64) {
        let Some(Slot { conn: Conn::Handshaking(handshake, _), .. }) = self.slots.get_mut(item.conn) else { return };
        let awaited = handshake.awaits_proxy();
        let offered = handshake.offer(&self.arena[item.range.clone()], &self.limits);
        let introduced = awaited && !handshake.awaits_proxy();
        match offered {
            Ok(Offered::InPlace(from)) => item.range.start += from,
            Ok(Offered::Kept) => item.forget_bytes(&mut self.arena),
            Err(refusal) => item.refusal = Some(refusal),
        }
        if introduced && let Err(refusal) = self.introduce(item.conn, now) {
            item.refusal.get_or_insert(refusal);
        }
    }

    /// Reads what is there, within the connection's budget.
    fn read(&mut self, id: ConnId) -> Item {
        let start = self.arena.len();
        let mut budget = self.limits.read_bytes_per_turn;
        let mut item = Item { conn: id, range: start..start, end: false, broken: false, refusal: None };
        let arena = &mut self.arena;
        loop {
            let take = |bytes: &mut [u8]| {
                arena.extend_from_slice(bytes);
                bytes.len()
            };
            match self.transport.recv(id, budget, take) {
                Ok(Recv::Data(n, more)) => {
                    budget = budget.saturating_sub(n);
                    match more {
                        More::No => break,
                        More::End => {
                            item.end = true;
                            break;
                        }
                        More::Maybe if budget == 0 => {
                            self.counters.read_budget_met.add(1);
                            if let Some(slot) = self.slots.get_mut(id) {
                                self.queue.again(id, &mut slot.again);
                            }
                            break;
                        }
                        More::Maybe => {}
                    }
                }
                Ok(Recv::Eof) => {
                    item.end = true;
                    break;
                }
                Ok(Recv::WouldBlock) => break,
                Err(_) => {
                    item.broken = true;
                    break;
                }
            }
        }
        item.range = start..self.arena.len();
        item
    }

    /// Throws away what a connection that is closing still receives.
    fn discard(&mut self, id: ConnId) {
        let mut budget = self.limits.read_bytes_per_turn;
        let broken = loop {
            match self.transport.recv(id, budget, |bytes| bytes.len()) {
                Ok(Recv::Data(_, More::End) | Recv::Eof) => break false,
                Err(_) => break true,
                Ok(Recv::Data(_, More::No) | Recv::WouldBlock) => return,
                Ok(Recv::Data(n, More::Maybe)) => {
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        return self.look_again(id);
                    }
                }
            }
        };
        // A peer that has only ended its direction still reads: `linger` closes once all is sent.
        if !broken
            && let Some(slot) = self.slots.get_mut(id)
            && slot.unsent.len() > 0
        {
            slot.ended = true;
            return;
        }
        if let Some(slot) = self.slots.take(id) {
            self.close(id, slot, Close::Graceful);
        }
    }
}

impl Item {
    /// Somebody else keeps the bytes.
    fn forget_bytes(&mut self, arena: &mut Vec<u8>) {
        arena.truncate(self.range.start);
        self.range.end = self.range.start;
    }
}
