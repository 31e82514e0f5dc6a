//! The prepare and advance phases: each gathered connection takes its next step and sends its answer.

use std::io::{self, IoSlice};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::departures::Then;
use super::gather::Item;
use super::hand_off::Leaving;
use super::reload::Serving;
use super::slots::{Conn, Slot, Streaming};
use super::{Destination, Shard, Worker};
use crate::error::{Refusal, RefusalClass};
use crate::handshake::{Context, Finished, Handshake, Input, Session, Step, refuse};
use crate::peer::PeerAddr;
use crate::time::Instant64;
use crate::transport::{Close, ConnId, Push, Transport};

impl<T: Transport> Shard<T> {
    /// Prepares all that was gathered together, then advances one after the other.
    pub(super) fn advance_batch(&mut self, now: Instant64) {
        self.hold_back(now);
        if self.items.is_empty() {
            return;
        }
        let mut items = mem::take(&mut self.items);
        let mut arena = mem::take(&mut self.arena);
        if catch_unwind(AssertUnwindSafe(|| self.prepare_batch(&items, &arena, now))).is_err() {
            // Nothing is prepared then, and each handshake computes for itself.
            self.counters.batch_panics.add(1);
            self.prepare.finish();
        }
        for item in &mut items {
            let bytes = &mut arena[item.range.clone()];
            // A panic is a bug of ours or of rustls. Whatever bytes a peer found for it, they end its own connection
            // and not the shard.
            if catch_unwind(AssertUnwindSafe(|| self.advance(item, bytes, now))).is_err() {
                self.contain(item.conn);
            }
        }
        self.send_departures(now);
        self.prepare.finish();
        items.clear();
        arena.clear();
        self.items = items;
        self.arena = arena;
    }

    /// Ends a connection in the middle of whose step something panicked; its state is gone.
    pub(super) fn contain(&mut self, id: ConnId) {
        self.out.clear();
        self.counters.refuse(RefusalClass::Internal);
        match self.slots.take(id) {
            Some(slot) => self.close(id, slot, Close::Abort),
            None => {
                self.transport.close(id, Close::Abort);
                self.counters.closed.add(1);
            }
        }
    }

    fn prepare_batch(&mut self, items: &[Item], arena: &[u8], now: Instant64) {
        let mut hellos = 0;
        for item in items {
            let Some(Slot { conn: Conn::Handshaking(handshake, _), .. }) = self.slots.get_mut(item.conn) else {
                continue;
            };
            if item.refusal.is_some() {
                continue;
            }
            if handshake.is_retrying() {
                self.prepare.see_retry();
                continue;
            }
            let peer = self.transport.peer(item.conn).unwrap_or(PeerAddr::Unix);
            let bytes = &arena[item.range.clone()];
            hellos += u64::from(handshake.hello(bytes, peer).is_some());
            if let Some((hello, foreseen)) = handshake.foresee(bytes, peer, &self.serving.live) {
                self.prepare.see(&hello, &foreseen);
            }
        }
        self.prepare.prepare(now);
        if hellos > 0 {
            self.counters.hellos.add(hellos);
            self.counters.hello_turns.add(1);
            self.counters.hellos_per_turn_max.set(self.counters.hellos_per_turn_max.read().max(hellos));
        }
    }

    fn advance(&mut self, item: &mut Item, bytes: &mut [u8], now: Instant64) {
        if let Some(Slot { conn: Conn::Streaming(_), .. }) = self.slots.get(item.conn) {
            return self.advance_stream(item, bytes, now);
        }
        let Some(mut slot) = self.slots.take(item.conn) else { return };
        slot.gathered = false;
        // The state is consumed; what it becomes takes the place of this one.
        match mem::replace(&mut slot.conn, Conn::Lingering { fin_sent: false }) {
            Conn::Handshaking(handshake, serving) => {
                // Until its ClientHello is acted on, it takes what is newest.
                let serving = if handshake.is_negotiating() { serving } else { Rc::clone(&self.serving) };
                self.advance_handshake(item, slot, (handshake, serving), bytes, now);
            }
            Conn::Closing(session) => self.advance_closing(item, slot, session, bytes, now),
            conn @ (Conn::Streaming(_) | Conn::HandingOff(_) | Conn::Lingering { .. }) => {
                slot.conn = conn;
                self.slots.put(item.conn, slot);
            }
        }
    }

    fn advance_handshake(
        &mut self,
        item: &mut Item,
        mut slot: Slot,
        (handshake, serving): (Handshake, Rc<Serving>),
        bytes: &mut [u8],
        now: Instant64,
    ) {
        let id = item.conn;
        if item.broken {
            return self.refused(id, slot, &Refusal::Reset, now);
        }
        let step = match item.refusal.take() {
            Some(refusal) => refuse(refusal, &mut self.out),
            None => {
                let peer = self.transport.peer(id).unwrap_or(PeerAddr::Unix);
                let cx = Context { live: &serving.live, limits: &self.limits, peer, now };
                handshake.advance(Input { bytes, end: item.end }, cx, &mut self.out)
            }
        };
        match step {
            Step::Wait(handshake) => match self.early_worker(&handshake, &serving) {
                None => {
                    slot.conn = Conn::Handshaking(handshake, serving);
                    self.depart(id, slot, Then::Wait, now);
                }
                Some(worker) => self.start_early(id, slot, handshake.into_early(now), &*worker, now),
            },
            Step::Finished(finished) => self.finished(id, slot, finished, &serving, now),
            Step::Refused(refusal) => self.refused(id, slot, &refusal, now),
        }
    }

    /// The worker here that may begin with early data before the client's Finished.
    fn early_worker(&self, handshake: &Handshake, serving: &Serving) -> Option<Arc<dyn Worker>> {
        let index = handshake.early_data_for().filter(|_| self.workers.is_empty())?;
        match serving.destinations.get(index)? {
            Destination::Worker(worker) => Some(Arc::clone(worker)),
            Destination::Close | Destination::HandOff(_) => None,
        }
    }

    /// Gives a connection to its worker though its handshake is not over, and its deadline runs on.
    fn start_early(&mut self, id: ConnId, slot: Slot, early: Option<Finished>, worker: &dyn Worker, now: Instant64) {
        match early {
            Some(finished) => {
                self.counters.early_data_accepted.add(1);
                self.start_worker(id, slot, finished, worker, now);
            }
            None => self.refused(id, slot, &Refusal::WorkerGone, now),
        }
    }

    /// The handshake is over: sends the connection where its protocol says.
    fn finished(&mut self, id: ConnId, mut slot: Slot, finished: Finished, serving: &Serving, now: Instant64) {
        self.cancel_timer(&mut slot);
        slot.handshake_over();
        let resumed = finished.facts.resumed;
        let counter = if resumed { &self.counters.handshakes_resumed } else { &self.counters.handshakes_full };
        counter.add(1);
        if finished.facts.early_data.is_some() {
            self.counters.early_data_accepted.add(1);
        }
        match serving.destinations.get(finished.facts.index) {
            Some(Destination::Close) => self.start_closing(id, slot, finished, now),
            Some(Destination::Worker(worker)) if self.workers.is_empty() => {
                self.start_worker(id, slot, finished, &**worker, now);
            }
            Some(destination @ (Destination::Worker(_) | Destination::HandOff(_))) => {
                if self.send(id, &mut slot, Push::Now).is_err() {
                    return self.refused(id, slot, &Refusal::Reset, now);
                }
                let leaving = Leaving { finished: Box::new(finished), destination: destination.clone(), since: now };
                self.hand_off(id, slot, leaving, now);
            }
            // The table and the destinations have one length; a slip must not take the shard down.
            None => self.refused(id, slot, &Refusal::WorkerGone, now),
        }
    }

    fn start_closing(&mut self, id: ConnId, mut slot: Slot, finished: Finished, now: Instant64) {
        if finished.peer_closed || finished.end {
            return self.say_goodbye(id, slot, finished.session, now);
        }
        slot.conn = Conn::Closing(finished.session);
        if self.send(id, &mut slot, Push::Now).is_err() {
            return self.close(id, slot, Close::Abort);
        }
        let deadline = now + self.limits.close_wait;
        self.set_timer(id, &mut slot, deadline);
        self.slots.put(id, slot);
    }

    fn advance_closing(&mut self, item: &Item, mut slot: Slot, mut session: Session, bytes: &mut [u8], now: Instant64) {
        let id = item.conn;
        if item.broken {
            return self.close(id, slot, Close::Abort);
        }
        // Application data is read and dropped: this protocol has none.
        let mut dropped = Vec::new();
        match session.receive(bytes, &mut dropped, &mut self.out) {
            Ok(r) if r.peer_closed || item.end => self.say_goodbye(id, slot, session, now),
            Ok(_) => {
                slot.conn = Conn::Closing(session);
                match self.send(id, &mut slot, Push::Now) {
                    Ok(()) => self.slots.put(id, slot),
                    Err(_) => self.close(id, slot, Close::Abort),
                }
            }
            Err(_) => {
                self.counters.faults_after_handshake.add(1);
                self.last_words(id, slot, now);
            }
        }
    }

    /// Answers close_notify and closes, in one segment.
    fn say_goodbye(&mut self, id: ConnId, mut slot: Slot, mut session: Session, now: Instant64) {
        if session.close(&mut self.out).is_err() {
            self.out.clear();
            return self.close(id, slot, Close::Abort);
        }
        slot.conn = Conn::Lingering { fin_sent: false };
        self.depart(id, slot, Then::Close, now);
    }

    /// The connection is refused; `self.out` holds what it is told.
    pub(super) fn refused(&mut self, id: ConnId, mut slot: Slot, refusal: &Refusal, now: Instant64) {
        self.counters.refuse(refusal.class());
        slot.handshake_over();
        match refusal {
            Refusal::Vanished | Refusal::Deadline => {
                self.out.clear();
                self.close(id, slot, Close::Graceful);
            }
            Refusal::Reset
            | Refusal::MailboxFull
            | Refusal::WorkerGone
            | Refusal::HandshakesShed
            | Refusal::SourceRate
            | Refusal::SourceHandshakes
            | Refusal::SourceConnections
            | Refusal::ProxyHeader
            | Refusal::ProxyTooLarge
            | Refusal::ProxyDeadline => {
                self.out.clear();
                self.close(id, slot, Close::Abort);
            }
            _ => self.last_words(id, slot, now),
        }
    }

    /// Sends `self.out` as the last bytes of a connection, so that the peer can read them.
    pub(super) fn last_words(&mut self, id: ConnId, mut slot: Slot, now: Instant64) {
        match self.send(id, &mut slot, Push::BeforeClose) {
            Ok(()) => self.linger(id, slot, now),
            Err(_) => self.close(id, slot, Close::Abort),
        }
    }

    /// Sends FIN once all is out, then reads and drops until the peer closes or the limit is met: closing at once
    /// would turn unread bytes into a reset that overtakes our last ones.
    pub(super) fn linger(&mut self, id: ConnId, mut slot: Slot, now: Instant64) {
        let fin_sent = slot.unsent.len() == 0;
        if fin_sent && slot.ended {
            return self.close(id, slot, Close::Graceful);
        }
        if fin_sent {
            self.transport.shutdown(id);
        }
        slot.conn = Conn::Lingering { fin_sent };
        let wait = if fin_sent { self.limits.linger } else { self.limits.unsent_wait };
        self.set_timer(id, &mut slot, now + wait);
        self.slots.put(id, slot);
        // It may have said goodbye with bytes still unread, and those give no further event.
        self.look_again(id);
    }

    /// Sends `self.out`; what the transport does not take is kept in order. Either way `self.out` is empty then, as
    /// the next connection writes into it.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn send(&mut self, id: ConnId, slot: &mut Slot, push: Push) -> io::Result<()> {
        send(&mut self.transport, &mut self.out, id, slot, push)
    }

    /// The transport takes bytes again.
    pub(super) fn writable(&mut self, id: ConnId, now: Instant64) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.unsent.len() == 0 {
            return;
        }
        let result = self.transport.send(id, &[IoSlice::new(slot.unsent.front())], Push::Now);
        match result {
            Ok(n) => {
                slot.sent(n);
                if let Conn::Streaming(streaming) = &mut slot.conn {
                    streaming.active_at = now;
                }
            }
            Err(_) => {
                if let Some(slot) = self.slots.take(id) {
                    self.broken(id, slot);
                }
                return;
            }
        }
        match &slot.conn {
            // It moves: the limit counts from here.
            Conn::Lingering { fin_sent: false } => {
                if let Some(slot) = self.slots.take(id) {
                    self.linger(id, slot, now);
                }
            }
            Conn::Streaming(_) if slot.unsent.len() == 0 => self.serve_posted(&[id], now),
            Conn::Streaming(Streaming { left: true, .. }) => {
                if let Some(mut slot) = self.slots.take(id) {
                    self.set_timer(id, &mut slot, now + self.limits.unsent_wait);
                    self.slots.put(id, slot);
                }
            }
            _ => {}
        }
    }
}

/// [`Shard::send`] for a slot that stays where it is.
pub(super) fn send<T: Transport>(
    transport: &mut T,
    out: &mut Vec<u8>,
    id: ConnId,
    slot: &mut Slot,
    push: Push,
) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let waits = slot.unsent.len() > 0;
    let sent = if waits { Ok(0) } else { transport.send(id, &[IoSlice::new(out)], push) };
    if let Ok(sent) = sent {
        slot.unsent.back().extend_from_slice(&out[sent..]);
    }
    out.clear();
    sent.map(drop)
}
