//! The hand-off: connections leave through mailboxes, and wait, within bounds, for a full one.

use std::mem;

use super::mailbox::{Mailbox, Negotiated, Undelivered};
use super::slots::{Conn, Slot};
use super::{Destination, Shard};
use crate::error::Refusal;
use crate::handshake::Finished;
use crate::time::Instant64;
use crate::transport::{ConnId, Transport};

/// Mail taken in one turn.
const MAIL_PER_TURN: usize = 256;

/// What a shard knows about its mailboxes.
#[derive(Debug)]
pub(super) struct HandOff {
    /// Connections that no mailbox had room for, the oldest first.
    waiting: Vec<ConnId>,
    /// Accepting is off because of them.
    paused: bool,
    /// One waited in vain: until there is room again, nothing waits any more.
    overflowing: bool,
    /// This shard's own mailbox may hold more than one turn takes.
    mail_left: bool,
    /// Mailboxes, workers' before protocols', that got something in this turn.
    touched: Vec<bool>,
}

impl HandOff {
    pub(super) fn new(mailboxes: usize) -> Self {
        Self {
            waiting: Vec::new(),
            paused: false,
            overflowing: false,
            mail_left: false,
            touched: vec![false; mailboxes],
        }
    }

    pub(super) const fn has_mail_left(&self) -> bool {
        self.mail_left
    }

    pub(super) const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<T: Transport> Shard<T> {
    /// Puts a negotiated connection into a mailbox that has room, or lets it wait for one.
    pub(super) fn hand_off(
        &mut self,
        id: ConnId,
        mut slot: Slot,
        finished: Box<Finished>,
        since: Instant64,
        now: Instant64,
    ) {
        let Some((index, mailbox)) = self.mailbox_for(finished.facts.index) else {
            return self.wait_for_room(id, slot, finished, since, now);
        };
        let mailbox = mailbox.clone();
        let Some(socket) = self.transport.release(id) else {
            // A transport that keeps its sockets serves them here.
            let worker = match self.destinations.get(finished.facts.index) {
                Some(Destination::Worker(worker)) => worker.clone(),
                _ => return self.refused(id, slot, &Refusal::WorkerGone, now),
            };
            return self.start_worker(id, slot, *finished, &*worker, now);
        };
        self.cancel_timer(&mut slot);
        let unsent = slot.unsent.front().to_vec();
        match mailbox.put(Negotiated { socket, finished: *finished, unsent }) {
            Ok(()) => {
                self.counters.handed_off.add(1);
                self.hand_off.touched[index] = true;
                self.hand_off.overflowing = false;
            }
            // Another shard was faster: the socket comes back under a new name.
            Err(Undelivered::Full(n)) => match self.transport.adopt(n.socket) {
                Ok(id) => self.wait_for_room(id, slot, Box::new(n.finished), since, now),
                Err(_) => self.lost(&Refusal::Reset),
            },
            Err(Undelivered::Gone) => self.lost(&Refusal::WorkerGone),
        }
    }

    /// A connection whose socket is gone already.
    fn lost(&self, refusal: &Refusal) {
        self.counters.refuse(refusal.class());
        self.counters.closed.add(1);
    }

    /// The mailbox for a protocol, if it or one of the workers has room: the next worker in turn comes first.
    fn mailbox_for(&mut self, protocol: usize) -> Option<(usize, &Mailbox)> {
        if let Some(Destination::HandOff(mailbox)) = self.destinations.get(protocol) {
            return (!mailbox.is_full()).then_some((self.workers.len() + protocol, mailbox));
        }
        let n = self.workers.len();
        let index = (0..n).map(|i| (self.next_worker + i) % n).find(|i| !self.workers[*i].is_full())?;
        self.next_worker = (index + 1) % n;
        Some((index, &self.workers[index]))
    }

    fn wait_for_room(&mut self, id: ConnId, mut slot: Slot, finished: Box<Finished>, since: Instant64, now: Instant64) {
        if self.hand_off.overflowing || now.since(since) >= self.limits.hand_off_wait {
            self.hand_off.overflowing = true;
            return self.refused(id, slot, &Refusal::MailboxFull, now);
        }
        slot.conn = Conn::HandingOff { finished, since };
        self.slots.put(id, slot);
        if !mem::replace(&mut self.hand_off.paused, true) {
            self.counters.accept_pauses.add(1);
            self.transport.accepting(false);
        }
        self.hand_off.waiting.push(id);
    }

    /// Looks again whether those that wait can go.
    pub(super) fn retry_hand_offs(&mut self, now: Instant64) {
        if self.hand_off.waiting.is_empty() {
            return;
        }
        for id in mem::take(&mut self.hand_off.waiting) {
            let Some(mut slot) = self.slots.take(id) else { continue };
            match mem::replace(&mut slot.conn, Conn::Lingering { fin_sent: false }) {
                Conn::HandingOff { finished, since } => self.hand_off(id, slot, finished, since, now),
                other => {
                    slot.conn = other;
                    self.slots.put(id, slot);
                }
            }
        }
        if self.hand_off.waiting.is_empty() {
            self.hand_off.paused = false;
            self.transport.accepting(true);
        }
    }

    /// Wakes the receivers of what this turn has put into mailboxes, once each.
    pub(super) fn wake_mailboxes(&mut self) {
        for (i, touched) in self.hand_off.touched.iter_mut().enumerate() {
            if !mem::take(touched) {
                continue;
            }
            if let Some(worker) = self.workers.get(i) {
                worker.wake();
            } else if let Some(Destination::HandOff(mailbox)) = self.destinations.get(i - self.workers.len()) {
                mailbox.wake();
            }
        }
    }

    /// Takes in what other shards have put into this one's mailbox.
    pub(super) fn take_mail(&mut self, now: Instant64) {
        self.hand_off.mail_left = false;
        for _ in 0..MAIL_PER_TURN {
            let Some(mail) = &self.mail else { return };
            let negotiated = match mail.try_recv() {
                Ok(negotiated) => negotiated,
                Err(crossbeam::channel::TryRecvError::Empty) => return,
                Err(crossbeam::channel::TryRecvError::Disconnected) => {
                    self.mail = None;
                    return;
                }
            };
            self.counters.opened.add(1);
            let Negotiated { socket, finished, unsent } = negotiated;
            let Ok(id) = self.transport.adopt(socket) else {
                self.lost(&Refusal::Reset);
                continue;
            };
            let Some(Destination::Worker(worker)) = self.destinations.get(finished.facts.index) else {
                let slot = Slot::new(Conn::Lingering { fin_sent: false });
                self.refused(id, slot, &Refusal::WorkerGone, now);
                continue;
            };
            let worker = worker.clone();
            let mut slot = Slot::new(Conn::Lingering { fin_sent: false });
            slot.ended = finished.end;
            slot.unsent.bytes = unsent;
            self.start_worker(id, slot, finished, &*worker, now);
        }
        // The rest is due at once, and no event will say so.
        self.hand_off.mail_left = true;
    }
}
