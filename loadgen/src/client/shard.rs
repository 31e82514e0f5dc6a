//! One shard of the client: its turn joins slots, pacer and transport.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handfast::time::Instant64;
use handfast::transport::{Close, ConnId, Event, More, Push, Ready, Recv, Transport};
use rustls::ClientConfig;

use super::deadlines::Deadlines;
use super::slot::{Outcome, Slot, Stage, Step, StreamEnd};
use super::tls::{Output, TlsSource, begin};
use super::window::{Phase, Window};
use super::{Ended, Note, Tally};
use crate::failure::Failure;
use crate::pacer::Pacer;
use crate::record::Record;

/// Connections started in one turn: those under way are not kept waiting for longer.
const STARTS_PER_TURN: usize = 64;
/// Bytes read from one connection at a time, and in one turn.
const READ_BYTES: usize = 16 * 1024;
const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// How long a shard may go without looking whether it is to stop.
const TICK: Duration = Duration::from_millis(100);

/// What one shard has to do.
#[derive(Clone, Debug)]
pub(super) struct ShardPlan {
    pub(super) target: SocketAddr,
    pub(super) slots: u32,
    pub(super) starts: Option<u64>,
    pub(super) warm_up: Duration,
    pub(super) duration: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) linger: Duration,
    pub(super) burst: bool,
    /// CPU time that this thread has used.
    pub(super) cpu: fn() -> Duration,
}

/// What one connection received in this turn.
#[derive(Debug)]
struct Gathered {
    conn: ConnId,
    bytes: Range<usize>,
    end: Option<StreamEnd>,
}

pub(super) struct Shard<T: Transport> {
    transport: T,
    plan: ShardPlan,
    tls: TlsSource,
    /// One for all slots, or one each.
    configs: Vec<Arc<ClientConfig>>,
    slots: Vec<Slot>,
    /// The slot of each connection, by the transport's own index.
    by_conn: Vec<u32>,
    pacer: Pacer,
    window: Window,
    handshakes: Deadlines,
    lingers: Deadlines,
    events: Vec<Event>,
    /// Connections that had more to read than one turn allows.
    again: Vec<ConnId>,
    gathered: Vec<Gathered>,
    arena: Vec<u8>,
    out: Output,
    record: Record,
    /// Failures of the warm-up. They count when nothing else does, because then they say why.
    early: Record,
    handshakes_all: u64,
    failures_all: u64,
    cpu_opened: Duration,
}

impl<T: Transport> Shard<T> {
    pub(super) fn new(transport: T, plan: ShardPlan, tls: &TlsSource) -> Self {
        let model = if plan.burst { Pacer::rounds } else { Pacer::closed };
        Self {
            configs: tls.configs(plan.slots),
            tls: tls.clone(),
            slots: (0..plan.slots).map(|_| Slot::new()).collect(),
            by_conn: Vec::new(),
            pacer: model(plan.slots, plan.starts),
            window: Window::new(transport.now(), plan.warm_up, plan.duration),
            handshakes: Deadlines::new(plan.timeout),
            lingers: Deadlines::new(plan.linger),
            events: Vec::new(),
            again: Vec::new(),
            gathered: Vec::new(),
            arena: Vec::new(),
            out: Output::new(),
            record: Record::default(),
            early: Record::default(),
            handshakes_all: 0,
            failures_all: 0,
            cpu_opened: Duration::ZERO,
            transport,
            plan,
        }
    }

    /// Runs to the end of the plan, or until `stop`.
    pub(super) fn run(mut self, tally: &Tally, stop: &AtomicBool, tell: impl Fn(Note)) -> io::Result<Ended> {
        while self.goes_on(stop, &tell) {
            self.turn()?;
            tally.publish(self.handshakes_all, self.failures_all);
        }
        let unfinished = self.slots.iter().filter(|s| s.is_under_way()).count();
        for conn in self.slots.iter().filter_map(|s| s.conn) {
            self.transport.close(conn, Close::Abort);
        }
        if self.handshakes_all == 0 {
            self.record.merge(&self.early);
        }
        Ok(Ended { record: self.record, unfinished: unfinished as u64 })
    }

    /// Moves the window on, and says whether there is another turn.
    fn goes_on(&mut self, stop: &AtomicBool, tell: &impl Fn(Note)) -> bool {
        let now = self.transport.now();
        let moved = self.window.advance(now);
        if moved && self.window.phase() == Phase::Counting {
            self.cpu_opened = (self.plan.cpu)();
            tell(Note::Opened);
        }
        let ends = self.pacer.is_over() || stop.load(Ordering::Relaxed);
        if (moved && self.window.phase() == Phase::Draining) || (ends && self.window.close(now)) {
            self.record.wall = self.window.length();
            self.record.client_cpu = (self.plan.cpu)().saturating_sub(self.cpu_opened);
            self.pacer.stop();
            tell(Note::Closed);
        }
        self.window.phase() != Phase::Draining
            || (self.pacer.busy() > 0 && now < self.window.closed() + self.plan.linger)
    }

    /// Poll, gather, (prepare), advance, flush.
    fn turn(&mut self) -> io::Result<()> {
        let deadline = self.wakes_at();
        self.events.clear();
        self.transport.poll(Some(deadline), &mut self.events)?;
        self.gather();
        // What all these flights need computed could be computed together here.
        self.advance();
        self.expire();
        self.start_due();
        self.open_gate();
        self.transport.flush()
    }

    fn wakes_at(&mut self) -> Instant64 {
        let now = self.transport.now();
        if !self.again.is_empty() {
            return now;
        }
        let (by_conn, slots) = (&self.by_conn, &self.slots);
        let under_way = |c| find(by_conn, slots, c).is_some_and(|i| slots[i].is_under_way());
        let alive = |c| find(by_conn, slots, c).is_some();
        let times = [
            self.pacer.wakes_at(),
            self.window.next(),
            self.handshakes.next(under_way),
            self.lingers.next(alive),
            Some(now + TICK),
        ];
        times.into_iter().flatten().min().unwrap_or(now)
    }

    /// Collects what all connections have received; connections that came up send their ClientHello.
    fn gather(&mut self) {
        self.arena.clear();
        for conn in std::mem::take(&mut self.again) {
            self.read(conn);
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            self.on_event(event.conn, event.ready);
        }
        self.events = events;
    }

    fn on_event(&mut self, conn: ConnId, ready: Ready) {
        let Some(slot) = self.find(conn) else { return };
        match self.slots[slot].stage {
            Stage::Connecting { .. } => {
                let now = self.transport.now();
                if self.plan.burst && !ready.read_closed {
                    self.slots[slot].connected(now);
                } else {
                    self.send_hello(slot, conn, now);
                }
            }
            _ if ready.writable && !self.slots[slot].output.is_empty() => self.send_rest(slot, conn),
            _ => {}
        }
        if ready.readable || ready.read_closed {
            self.read(conn);
        }
    }

    fn read(&mut self, conn: ConnId) {
        if self.find(conn).is_none() {
            return;
        }
        let start = self.arena.len();
        let end = loop {
            if self.arena.len() - start >= READ_BYTES_PER_TURN {
                self.again.push(conn);
                break None;
            }
            let arena = &mut self.arena;
            match self.transport.recv(conn, READ_BYTES, |bytes| arena.extend_from_slice(bytes)) {
                Ok(Recv::Data((), More::Maybe)) => {}
                Ok(Recv::Data((), More::No) | Recv::WouldBlock) => break None,
                Ok(Recv::Data((), More::End) | Recv::Eof) => break Some(StreamEnd::Fin),
                Err(error) => break Some(StreamEnd::Broken(error)),
            }
        };
        if self.arena.len() > start || end.is_some() {
            self.gathered.push(Gathered { conn, bytes: start..self.arena.len(), end });
        }
    }

    fn advance(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        for item in gathered.drain(..) {
            let Some(slot) = self.find(item.conn) else { continue };
            let bytes = &mut self.arena[item.bytes];
            if !bytes.is_empty() {
                self.out.clear();
                let wants_tickets = self.tls.resumes();
                let step = self.slots[slot].received(bytes, &mut self.out, &mut self.record, wants_tickets);
                self.take(slot, item.conn, step);
            }
            if let (Some(end), true) = (item.end, self.slots[slot].conn == Some(item.conn)) {
                let outcome = self.slots[slot].outcome_at(&end);
                if matches!((&outcome, &end), (Outcome::Complete(..), StreamEnd::Broken(_))) {
                    self.record.resets_after += self.counts_one();
                }
                self.end(slot, outcome, Close::Graceful);
            }
        }
        self.gathered = gathered;
    }

    fn take(&mut self, slot: usize, conn: ConnId, step: Step) {
        match step {
            Step::Wait if self.out.filled().is_empty() => {}
            Step::Wait => {
                if let Err(error) = self.send(slot, conn, Push::Now) {
                    self.fail(slot, Failure::shaking(&error));
                }
            }
            Step::Complete(facts) => match self.send(slot, conn, Push::BeforeClose) {
                Ok(all) => {
                    if all {
                        self.transport.shutdown(conn);
                    }
                    let now = self.transport.now();
                    self.slots[slot].complete(facts, now, self.tls.resumes());
                    self.lingers.add(now, conn);
                }
                Err(error) => self.fail(slot, Failure::shaking(&error)),
            },
            Step::Failed(failure) => {
                let has_alert = !self.out.filled().is_empty();
                if has_alert && self.send(slot, conn, Push::BeforeClose).is_ok_and(|all| all) {
                    self.transport.shutdown(conn);
                    self.lingers.add(self.transport.now(), conn);
                    self.slots[slot].stage =
                        Stage::Ending { outcome: Outcome::Failed(failure), tls: None, heard: false };
                } else {
                    self.fail(slot, failure);
                }
            }
        }
    }

    /// Sends the output of this step, behind what waits already. True when all of it went out.
    fn send(&mut self, slot: usize, conn: ConnId, push: Push) -> io::Result<bool> {
        let waiting = &mut self.slots[slot].output;
        if !waiting.is_empty() {
            waiting.extend_from_slice(self.out.filled());
            return self.send_waiting(slot, conn, push);
        }
        let bytes = self.out.filled();
        let sent = self.transport.send(conn, &[IoSlice::new(bytes)], push)?;
        waiting.extend_from_slice(&bytes[sent..]);
        Ok(sent == bytes.len())
    }

    fn send_waiting(&mut self, slot: usize, conn: ConnId, push: Push) -> io::Result<bool> {
        let waiting = &mut self.slots[slot].output;
        let sent = self.transport.send(conn, &[IoSlice::new(waiting)], push)?;
        waiting.drain(..sent);
        Ok(waiting.is_empty())
    }

    fn send_rest(&mut self, slot: usize, conn: ConnId) {
        let ends = matches!(self.slots[slot].stage, Stage::Ending { .. });
        match self.send_waiting(slot, conn, if ends { Push::BeforeClose } else { Push::Now }) {
            Ok(true) if ends => self.transport.shutdown(conn),
            Ok(_) => {}
            Err(error) => {
                let outcome = self.slots[slot].outcome_at(&StreamEnd::Broken(error));
                self.end(slot, outcome, Close::Abort);
            }
        }
    }

    fn start_due(&mut self) {
        for _ in 0..STARTS_PER_TURN {
            let Some(start) = self.pacer.start(self.transport.now()) else { return };
            self.connect(start.slot as usize);
        }
    }

    /// The ClientHello is made first, so that making it is no part of the time that TCP takes.
    fn connect(&mut self, slot: usize) {
        let config = &self.configs[slot % self.configs.len()];
        self.out.clear();
        let tls = match begin(config, self.tls.server_name(), &mut self.out) {
            Ok(tls) => Box::new(tls),
            Err(error) => return self.fail(slot, Failure::tls(&error, false)),
        };
        let started = self.transport.now();
        let conn = match self.transport.connect(self.plan.target, None) {
            Ok(conn) => conn,
            Err(error) => return self.fail(slot, Failure::connecting(&error)),
        };
        if self.by_conn.len() <= conn.slot() {
            self.by_conn.resize(conn.slot() + 1, 0);
        }
        self.by_conn[conn.slot()] = u32::try_from(slot).unwrap_or(u32::MAX);
        self.slots[slot].connecting(conn, tls, started);
        self.slots[slot].output.extend_from_slice(self.out.filled());
        self.handshakes.add(started, conn);
        if !self.plan.burst {
            // On the loopback interface the connection is mostly up by now.
            let now = self.transport.now();
            self.send_hello(slot, conn, now);
        }
    }

    /// Tries to send the ClientHello; `now` is when the connection came up, should it be up.
    fn send_hello(&mut self, slot: usize, conn: ConnId, now: Instant64) {
        let whole = self.slots[slot].output.len();
        match self.send_waiting(slot, conn, Push::Now) {
            Ok(_) if self.slots[slot].output.len() == whole => {}
            Ok(_) => {
                self.slots[slot].connected(now);
                self.slots[slot].hello_sent(now);
            }
            Err(error) => {
                let outcome = self.slots[slot].outcome_at(&StreamEnd::Broken(error));
                self.end(slot, outcome, Close::Abort);
            }
        }
    }

    /// In rounds: when no connection is still coming up, all ClientHellos go out.
    fn open_gate(&mut self) {
        if !self.plan.burst || self.pacer.wakes_at().is_some() {
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

    fn expire(&mut self) {
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
            let Some(conn) = self.lingers.expired(now, |c| find(by_conn, slots, c).is_some()) else { break };
            let Some(slot) = self.find(conn) else { continue };
            if let Stage::Ending { outcome, .. } = &self.slots[slot].stage {
                let outcome = outcome.clone();
                if matches!(outcome, Outcome::Complete(..)) {
                    self.record.left_open += self.counts_one();
                }
                self.end(slot, outcome, Close::Abort);
            }
        }
    }

    /// One while what ends counts, else nothing.
    fn counts_one(&self) -> u64 {
        u64::from(self.window.phase() == Phase::Counting)
    }

    fn fail(&mut self, slot: usize, failure: Failure) {
        self.end(slot, Outcome::Failed(failure), Close::Abort);
    }

    /// Counts the outcome and frees the slot.
    fn end(&mut self, slot: usize, outcome: Outcome, how: Close) {
        if let Some(conn) = self.slots[slot].conn {
            self.transport.close(conn, how);
        }
        self.slots[slot].reset();
        let counts = self.window.phase() == Phase::Counting;
        let succeeded = matches!(outcome, Outcome::Complete(..));
        match outcome {
            Outcome::Complete(phases, facts) => {
                self.handshakes_all += 1;
                if counts {
                    self.record.succeeded(phases, &facts);
                }
            }
            Outcome::Failed(failure) => {
                self.failures_all += 1;
                match self.window.phase() {
                    Phase::WarmUp => self.early.failed(failure),
                    Phase::Counting => self.record.failed(failure),
                    Phase::Draining => {}
                }
            }
        }
        let id = u32::try_from(slot).unwrap_or(u32::MAX);
        self.pacer.ended(id, self.transport.now(), succeeded);
    }

    fn find(&self, conn: ConnId) -> Option<usize> {
        find(&self.by_conn, &self.slots, conn)
    }
}

/// The slot that `conn` sits in; none when it has ended.
fn find(by_conn: &[u32], slots: &[Slot], conn: ConnId) -> Option<usize> {
    let slot = *by_conn.get(conn.slot())? as usize;
    (slots.get(slot)?.conn == Some(conn)).then_some(slot)
}
