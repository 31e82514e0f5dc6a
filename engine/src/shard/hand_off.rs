//! The hand-off: connections leave through mailboxes, and wait, within bounds, for a full one.

use std::mem;
use std::sync::Arc;

use super::mailbox::{Mailbox, Negotiated, Undelivered};
use super::slots::{Conn, Slot};
use super::{Destination, Shard};
use crate::buffer::Buffer;
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
    /// This shard's own mailbox may hold more than one turn takes.
    mail_left: bool,
    /// Worker threads whose mailboxes got something in this turn.
    workers_touched: Vec<bool>,
    /// The program's mailboxes that did.
    touched: Vec<Mailbox>,
}

/// A negotiated connection on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) finished: Box<Finished>,
    /// Where to, by the table that its handshake began with.
    pub(super) destination: Destination,
    pub(super) since: Instant64,
}

impl HandOff {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            waiting: Vec::new(),
            paused: false,
            mail_left: false,
            workers_touched: vec![false; workers],
            touched: Vec::new(),
        }
    }

    pub(super) const fn has_mail_left(&self) -> bool {
        self.mail_left
    }

    pub(super) const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn touch(&mut self, worker: Option<usize>, mailbox: Mailbox) {
        match worker {
            Some(worker) => self.workers_touched[worker] = true,
            None if self.touched.iter().any(|m| m.same_as(&mailbox)) => {}
            None => self.touched.push(mailbox),
        }
    }
}

impl<T: Transport> Shard<T> {
    /// Puts a negotiated connection into a mailbox that has room, or lets it wait for one.
    pub(super) fn hand_off(&mut self, id: ConnId, mut slot: Slot, leaving: Leaving, now: Instant64) {
        let Some((worker, mailbox)) = self.mailbox_for(&leaving.destination) else {
            return self.wait_for_room(id, slot, leaving, now);
        };
        let Some(socket) = self.transport.release(id) else {
            // A transport that keeps its sockets serves them here.
            let Destination::Worker(worker) = &leaving.destination else {
                return self.refused(id, slot, &Refusal::WorkerGone, now);
            };
            self.start_worker(id, slot, *leaving.finished, &**worker, now);
            // While it waited for room nobody looked at what it received.
            return self.look_again(id);
        };
        self.cancel_timer(&mut slot);
        let Leaving { finished, destination, since } = leaving;
        let unsent = slot.unsent.front().to_vec();
        let speaker = match &destination {
            Destination::Worker(worker) => Some(Arc::clone(worker)),
            Destination::HandOff(_) | Destination::Close => None,
        };
        match mailbox.put(Negotiated { socket, finished: *finished, unsent, worker: speaker }) {
            Ok(()) => {
                self.counters.handed_off.add(1);
                self.hand_off.touch(worker, mailbox);
            }
            // Another shard was faster: the socket comes back under a new name.
            Err(Undelivered::Full(n)) => match self.transport.adopt(n.socket) {
                Ok(id) => {
                    slot.again = false;
                    let leaving = Leaving { finished: Box::new(n.finished), destination, since };
                    self.wait_for_room(id, slot, leaving, now);
                }
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

    /// The mailbox for a destination, if it or one of the workers has room: the next worker in turn comes first.
    fn mailbox_for(&mut self, destination: &Destination) -> Option<(Option<usize>, Mailbox)> {
        if let Destination::HandOff(mailbox) = destination {
            return (!mailbox.is_full()).then(|| (None, mailbox.clone()));
        }
        let n = self.workers.len();
        let index = (0..n).map(|i| (self.next_worker + i) % n).find(|i| !self.workers[*i].is_full())?;
        self.next_worker = (index + 1) % n;
        Some((Some(index), self.workers[index].clone()))
    }

    fn wait_for_room(&mut self, id: ConnId, mut slot: Slot, leaving: Leaving, now: Instant64) {
        let mailboxes = match &leaving.destination {
            Destination::HandOff(mailbox) => std::slice::from_ref(mailbox),
            Destination::Worker(_) | Destination::Close => &self.workers[..],
        };
        let overflowing = mailboxes.iter().all(Mailbox::is_overflowing);
        if overflowing || now.since(leaving.since) >= self.limits.hand_off_wait {
            mailboxes.iter().for_each(Mailbox::overflow);
            return self.refused(id, slot, &Refusal::MailboxFull, now);
        }
        slot.conn = Conn::HandingOff(leaving);
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
                Conn::HandingOff(leaving) => self.hand_off(id, slot, leaving, now),
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
        for (worker, touched) in self.workers.iter().zip(&mut self.hand_off.workers_touched) {
            if mem::take(touched) {
                worker.wake();
            }
        }
        for mailbox in self.hand_off.touched.drain(..) {
            mailbox.wake();
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
            let Negotiated { socket, finished, unsent, worker } = negotiated;
            let Ok(id) = self.transport.adopt(socket) else {
                self.lost(&Refusal::Reset);
                continue;
            };
            let Some(worker) = worker else {
                let slot = Slot::new(Conn::Lingering { fin_sent: false });
                self.refused(id, slot, &Refusal::WorkerGone, now);
                continue;
            };
            let mut slot = Slot::new(Conn::Lingering { fin_sent: false });
            slot.ended = finished.end;
            slot.unsent = Buffer::new(unsent);
            self.start_worker(id, slot, finished, &*worker, now);
        }
        // The rest is due at once, and no event will say so.
        self.hand_off.mail_left = true;
    }
}
