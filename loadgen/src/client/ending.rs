//! What follows a complete handshake, how handshakes end, and what is counted of them.

use handfast::time::Instant64;
use handfast::transport::{Close, ConnId, Push, Transport};
use rustls::ProtocolVersion;

use super::hellos::Tls;
use super::shard::{Shard, find};
use super::slot::{Outcome, Stage, StreamEnd};
use super::talk::{Heard, Talk};
use super::window::Phase;
use crate::failure::Failure;
use crate::plan::Then;
use crate::record::{EarlyData, Facts, Phases};

impl<T: Transport> Shard<T> {
    /// The handshake is complete for us: its last flight is in the output, close_notify behind it if that is next.
    pub(super) fn completed(&mut self, slot: usize, conn: ConnId, facts: Facts) {
        let closes = self.plan.after.then == Then::Close;
        if let Err(error) = self.send(slot, conn, if closes { Push::BeforeClose } else { Push::Now }) {
            return self.fail(slot, Failure::shaking(&error));
        }
        let now = self.transport.now();
        let Some((tls, phases)) = self.slots[slot].complete(now) else { return };
        match self.plan.after.then {
            Then::Close => {
                self.slots[slot].ending(tls, phases, facts, self.hellos.resumes());
                self.finish(slot, conn);
            }
            // In a full handshake of TLS 1.2 the server has the last word, so it has read all of ours.
            Then::Reset if facts.version == Some(ProtocolVersion::TLSv1_2) && !facts.resumed => {
                self.end(slot, Outcome::Complete(phases, facts), Close::Abort);
            }
            Then::Reset => {
                // RST would throw away a Finished that the server has not read, and with it the handshake.
                self.slots[slot].ending(tls, phases, facts, true);
                self.resets.add(now, conn);
            }
            Then::Hold => {
                self.slots[slot].stage = Stage::Held { tls };
                // It may be held for long, with many others.
                self.slots[slot].output.shrink_to_fit();
                self.count(slot, Outcome::Complete(phases, facts), now);
                self.pacer.kept();
            }
            Then::Http | Then::Websocket => self.talk(slot, conn, tls, phases, facts),
        }
    }

    /// Says what is to be said, or what of it has not been taken as early data.
    fn talk(&mut self, slot: usize, conn: ConnId, mut tls: Tls, phases: Phases, facts: Facts) {
        let now = self.transport.now();
        let said = match (facts.early_data, self.slots[slot].early) {
            (Some(EarlyData::Accepted), Some(said)) => said,
            _ => 0,
        };
        if said == 0 {
            // An answer before the question is none.
            self.scratch.plain.clear();
        }
        self.scratch.out.clear();
        self.scratch.reply.clear();
        let (alpn, name) = (tls.common().alpn_protocol(), self.slots[slot].name);
        let talk = match Talk::begin(&self.plan.after, alpn, name, &mut self.scratch.reply) {
            Ok(talk) => Box::new(talk),
            Err(class) => return self.fail(slot, class.into()),
        };
        let rest = self.scratch.reply.get(said..).unwrap_or_default();
        if !rest.is_empty()
            && let Err(error) = tls.send(rest, &mut self.scratch.out)
        {
            return self.fail(slot, Failure::tls(&error, false));
        }
        self.slots[slot].stage = Stage::Talking { tls, phases, facts, talk, said: now };
        if !self.scratch.out.is_empty()
            && let Err(error) = self.send(slot, conn, Push::Now)
        {
            return self.fail(slot, Failure::talking(&error));
        }
        if !self.scratch.plain.is_empty() {
            // The answer to early data came with the end of the handshake.
            self.scratch.out.clear();
            self.scratch.reply.clear();
            let (hellos, after) = (&self.hellos, &self.plan.after);
            let step = self.slots[slot].received(&mut [], &mut self.scratch, &mut self.record, hellos, after);
            self.take(slot, conn, step);
        }
    }

    /// The peer has answered what was said.
    pub(super) fn heard(&mut self, slot: usize, conn: ConnId, heard: Heard) {
        let now = self.transport.now();
        let counts = self.counts(slot);
        let Stage::Talking { phases, said, .. } = &mut self.slots[slot].stage else { return };
        if heard.first_byte {
            phases.first_byte = Some(now.since(*said));
        }
        if heard.echoed && counts {
            self.record.echo.add(now.since(*said));
        }
        if heard.echoed || heard.status.is_some() {
            *said = now;
        }
        if let Some(status) = heard.status.filter(|_| counts) {
            self.record.responded(status);
        }
        let push = if heard.over { Push::BeforeClose } else { Push::Now };
        let sent = if self.scratch.out.is_empty() { Ok(true) } else { self.send(slot, conn, push) };
        if !heard.over {
            if let Err(error) = sent {
                self.fail(slot, Failure::talking(&error));
            }
        } else if let Stage::Talking { tls, phases, facts, .. } = self.slots[slot].take_stage() {
            self.slots[slot].ending(tls, phases, facts, self.hellos.resumes());
            match sent {
                Ok(_) => self.finish(slot, conn),
                // It has said everything, and was gone before our close_notify.
                Err(error) => self.on_stream_end(slot, &StreamEnd::Broken(error)),
            }
        }
    }

    /// The peer ended a connection that was held. It was counted long ago; its slot stays empty.
    pub(super) fn lost(&mut self, slot: usize, conn: ConnId) {
        self.record.lost += 1;
        // Whether our answer still reaches the peer is up to the peer.
        let _ = self.send(slot, conn, Push::BeforeClose);
        self.transport.close(conn, Close::Graceful);
        self.slots[slot].reset();
    }

    /// The peer's stream has ended, or is broken.
    pub(super) fn on_stream_end(&mut self, slot: usize, end: &StreamEnd) {
        if let (Stage::Held { .. }, Some(conn)) = (&self.slots[slot].stage, self.slots[slot].conn) {
            self.scratch.clear();
            return self.lost(slot, conn);
        }
        let outcome = self.slots[slot].outcome_at(end);
        let broken = matches!(end, StreamEnd::Broken(_));
        if broken && matches!(outcome, Outcome::Complete(..)) {
            self.record.resets_after += u64::from(self.counts(slot));
        }
        self.end(slot, outcome, if broken { Close::Abort } else { Close::Graceful });
    }

    /// Resets a connection that waited for its server's first word after the handshake, or for long enough.
    pub(super) fn reset(&mut self, slot: usize) {
        if let (Then::Reset, Stage::Ending { outcome, .. }) = (self.plan.after.then, &self.slots[slot].stage) {
            let outcome = outcome.clone();
            self.end(slot, outcome, Close::Abort);
        }
    }

    /// Ends what has taken too long.
    pub(super) fn expire(&mut self) {
        let now = self.transport.now();
        loop {
            let (by_conn, slots) = (&self.by_conn, &self.slots);
            let under_way = |c| find(by_conn, slots, c).is_some_and(|i| slots[i].is_under_way());
            let Some(conn) = self.handshakes.expired(now, under_way) else { break };
            if let Some(slot) = self.find(conn) {
                self.fail(slot, self.slots[slot].timeout_class().into());
            }
        }
        loop {
            let (by_conn, slots) = (&self.by_conn, &self.slots);
            let Some(conn) = self.resets.expired(now, |c| find(by_conn, slots, c).is_some()) else { break };
            if let Some(slot) = self.find(conn) {
                self.reset(slot);
            }
        }
        loop {
            let (by_conn, slots) = (&self.by_conn, &self.slots);
            let Some(conn) = self.lingers.expired(now, |c| find(by_conn, slots, c).is_some()) else { break };
            let Some(slot) = self.find(conn) else { continue };
            if let Stage::Ending { outcome, .. } = &self.slots[slot].stage {
                let outcome = outcome.clone();
                if matches!(outcome, Outcome::Complete(..)) {
                    self.record.left_open += u64::from(self.counts(slot));
                }
                self.end(slot, outcome, Close::Abort);
            }
        }
    }

    /// Counts the outcome and frees the slot.
    pub(super) fn end(&mut self, slot: usize, outcome: Outcome, how: Close) {
        if let Some(conn) = self.slots[slot].conn {
            self.transport.close(conn, how);
        }
        let now = self.transport.now();
        let succeeded = matches!(outcome, Outcome::Complete(..));
        self.count(slot, outcome, now);
        self.slots[slot].reset();
        let id = u32::try_from(slot).unwrap_or(u32::MAX);
        self.pacer.ended(id, now, succeeded);
    }

    fn count(&mut self, slot: usize, outcome: Outcome, now: Instant64) {
        let counts = self.counts(slot);
        match outcome {
            Outcome::Complete(phases, facts) => self.count_success(counts, phases, &facts, now),
            Outcome::Failed(failure) => {
                self.failures_all += 1;
                self.handshakes_all += u64::from(failure.class.is_after_handshake());
                if counts {
                    self.record.series.failed(now.since(self.window.opened()));
                    self.record.failed(failure);
                } else if self.window.phase() == Phase::WarmUp {
                    self.early.failed(failure);
                }
            }
        }
    }

    fn count_success(&mut self, counts: bool, phases: Phases, facts: &Facts, now: Instant64) {
        self.handshakes_all += 1;
        if counts {
            self.record.series.finished(now.since(self.window.opened()), phases.total());
            self.record.succeeded(phases, facts);
        }
    }

    /// Whether what becomes of the handshake in `slot` counts: in an open loop by when it was due, for else those
    /// that take longest would be missed; in a closed one by when it ends.
    fn counts(&self, slot: usize) -> bool {
        if self.is_open() { self.slots[slot].counts } else { self.is_counting() }
    }

    pub(super) fn is_counting(&self) -> bool {
        self.window.phase() == Phase::Counting
    }
}
