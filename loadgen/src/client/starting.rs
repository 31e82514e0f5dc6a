//! How a shard starts handshakes.

use std::net::SocketAddr;

use handfast::time::Instant64;
use handfast::transport::{ConnId, Push, Transport};

use super::hellos::Begun;
use super::shard::Shard;
use super::share::Load;
use super::slot::{Stage, StreamEnd};
use crate::failure::Failure;
use crate::pacer::Due;

/// Connections started in one turn: those under way are not kept waiting for longer.
const STARTS_PER_TURN: usize = 64;

impl<T: Transport> Shard<T> {
    pub(super) fn start_due(&mut self) {
        for _ in 0..STARTS_PER_TURN {
            let Some(start) = self.pacer.start(self.transport.now()) else { return };
            self.connect(start.slot as usize, start.due);
        }
    }

    /// Nothing starts any more; what was due and never started is counted.
    pub(super) fn stop_starting(&mut self, now: Instant64) {
        for at in self.pacer.stop(now) {
            if self.window.covers(at) {
                self.record.due += 1;
                self.record.unstarted += 1;
                self.record.series.started(at.since(self.window.opened()));
            }
        }
    }

    /// The ClientHello is made first, so that making it is no part of the time that TCP takes.
    fn connect(&mut self, slot: usize, due: Option<Due>) {
        self.scratch.clear();
        let mut begin = || self.hellos.begin(&self.plan.after, &mut self.scratch);
        let (begun, share) = match &mut self.keys {
            Some(keys) => keys.begin(begin),
            None => (begin(), None),
        };
        let started = self.transport.now();
        self.note_start(slot, due, started);
        let Begun { tls, name, early } = match begun {
            Ok(begun) => begun,
            Err(error) => return self.fail(slot, Failure::tls(&error, false)),
        };
        (self.slots[slot].name, self.slots[slot].early) = (name, early);
        self.slots[slot].share = share;
        let from = self.next_source();
        let conn = match self.transport.connect(self.plan.target, from) {
            Ok(conn) => conn,
            Err(error) => return self.fail(slot, Failure::connecting(&error)),
        };
        if self.by_conn.len() <= conn.slot() {
            self.by_conn.resize(conn.slot() + 1, 0);
        }
        self.by_conn[conn.slot()] = u32::try_from(slot).unwrap_or(u32::MAX);
        self.slots[slot].connecting(conn, tls, started);
        self.slots[slot].output.extend_from_slice(&self.scratch.out);
        self.handshakes.add(started, conn);
        if self.plan.tricks.hello_at_once {
            // On the loopback interface the connection is mostly up by now.
            let now = self.transport.now();
            self.send_hello(slot, conn, now);
        }
    }

    /// Counts a start. In an open loop it counts in the second in which it was due, and with it how late it is.
    fn note_start(&mut self, slot: usize, due: Option<Due>, now: Instant64) {
        let opened = self.window.opened();
        let Some(due) = due else {
            if self.is_counting() {
                self.record.series.started(now.since(opened));
            }
            return;
        };
        let counts = self.window.covers(due.at);
        self.slots[slot].delay = now.since(due.at);
        self.slots[slot].counts = counts;
        if counts {
            self.record.due += 1;
            self.record.series.started(due.at.since(opened));
            self.record.lateness.add(now.since(due.free));
            if due.free > due.at {
                self.record.waited.add(due.free.since(due.at));
            }
        }
    }

    /// The next address to connect from, with any port.
    fn next_source(&mut self) -> Option<SocketAddr> {
        let source = *self.plan.sources.get(self.source)?;
        self.source = (self.source + 1) % self.plan.sources.len();
        Some(SocketAddr::new(source, 0))
    }

    /// Tries to send the ClientHello; `now` is when the connection came up, should it be up.
    pub(super) fn send_hello(&mut self, slot: usize, conn: ConnId, now: Instant64) {
        let whole = self.slots[slot].output.len();
        match self.send_waiting(slot, conn, Push::Now) {
            Ok(_) if self.slots[slot].output.len() == whole => {}
            Ok(_) => {
                self.slots[slot].connected(now);
                self.slots[slot].hello_sent(now);
            }
            Err(error) => self.on_stream_end(slot, &StreamEnd::Broken(error)),
        }
    }

    /// In rounds: when no connection is still coming up, all ClientHellos go out.
    pub(super) fn open_gate(&mut self) {
        if !matches!(self.plan.load, Load::Rounds) || self.pacer.wakes_at().is_some() {
            return;
        }
        if self.slots.iter().any(|s| matches!(s.stage, Stage::Connecting { .. })) {
            return;
        }
        for slot in 0..self.slots.len() {
            if let (Stage::Gated { .. }, Some(conn)) = (&self.slots[slot].stage, self.slots[slot].conn) {
                let now = self.transport.now();
                self.send_hello(slot, conn, now);
            }
        }
    }
}
