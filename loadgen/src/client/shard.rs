//! One shard of the client: its turn joins slots, pacer and transport.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handfast::crypto::batch::{ClientKeys, x25519_answer};
use handfast::handshake::hello::server_key_share;
use handfast::time::Instant64;
use handfast::transport::{Close, ConnId, Event, More, Push, Ready, Recv, Transport};

#[cfg(target_os = "linux")]
use super::alarm::Alarm;
use super::deadlines::Deadlines;
use super::hellos::Hellos;
use super::share::{Load, ShardPlan};
use super::slot::{Outcome, Scratch, Slot, Stage, Step, StreamEnd};
use super::tls::TlsSource;
use super::window::{Phase, Window};
use super::{Ended, Note, Tally};
use crate::failure::Failure;
use crate::pacer::Pacer;
use crate::record::Record;

/// Bytes read from one connection at a time, and in one turn.
const READ_BYTES: usize = 16 * 1024;
const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// Connections that are to stay come up so many at a time: what all need only until they are up would else be there for
/// all of them at once, and servers have no room for every backlog.
const COMING_UP_MAX: usize = 256;
/// How long a shard may go without looking whether it is to stop.
const TICK: Duration = Duration::from_millis(100);

/// How long a server may take to say something after the handshake, before its connection is reset all the same.
const RESET_WAIT: Duration = Duration::from_millis(50);

/// What one connection received in this turn.
#[derive(Debug)]
struct Gathered {
    conn: ConnId,
    bytes: Range<usize>,
    end: Option<StreamEnd>,
}

/// One thread's share of the load, over any transport.
pub struct Shard<T: Transport> {
    pub(super) transport: T,
    pub(super) plan: ShardPlan,
    pub(super) hellos: Hellos,
    pub(super) keys: Option<ClientKeys>,
    /// Key shares of this turn, ours first.
    exchanges: Vec<([u8; 32], [u8; 32])>,
    pub(super) slots: Vec<Slot>,
    /// The slot of each connection, by the transport's own index.
    pub(super) by_conn: Vec<u32>,
    pub(super) pacer: Pacer,
    pub(super) window: Window,
    pub(super) handshakes: Deadlines,
    pub(super) lingers: Deadlines,
    pub(super) resets: Deadlines,
    events: Vec<Event>,
    /// Connections that had more to read than one turn allows.
    again: Vec<ConnId>,
    gathered: Vec<Gathered>,
    arena: Vec<u8>,
    pub(super) scratch: Scratch,
    pub(super) record: Record,
    /// Failures of the warm-up. They count when nothing else does, because then they say why.
    pub(super) early: Record,
    pub(super) handshakes_all: u64,
    pub(super) failures_all: u64,
    /// The source address that is next.
    pub(super) source: usize,
    intervals_told: usize,
    cpu_opened: Duration,
    #[cfg(target_os = "linux")]
    alarm: Option<Alarm>,
}

impl<T: Transport> fmt::Debug for Shard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("slots", &self.slots.len())
            .field("busy", &self.pacer.busy())
            .finish_non_exhaustive()
    }
}

impl<T: Transport> Shard<T> {
    /// A shard that begins now.
    ///
    /// # Errors
    /// The system gives no memory for the secrets of [batched](TlsSource) key shares.
    pub fn new(transport: T, plan: ShardPlan, tls: &TlsSource) -> io::Result<Self> {
        let now = transport.now();
        let pacer = match plan.load.clone() {
            Load::Closed => Pacer::closed(plan.slots, plan.starts),
            Load::Keeping => Pacer::keeping(plan.slots, plan.starts, COMING_UP_MAX),
            Load::Rounds => Pacer::rounds(plan.slots, plan.starts),
            Load::Open(arrivals) => Pacer::open(plan.slots, plan.starts, arrivals, now),
        };
        Ok(Self {
            hellos: tls.hellos(plan.slots, plan.seed, plan.index),
            keys: tls.keys()?,
            exchanges: Vec::new(),
            slots: (0..plan.slots).map(|_| Slot::new()).collect(),
            by_conn: Vec::new(),
            pacer,
            window: Window::new(now, plan.warm_up, plan.duration),
            handshakes: Deadlines::new(plan.timeout),
            lingers: Deadlines::new(plan.linger),
            resets: Deadlines::new(RESET_WAIT),
            events: Vec::new(),
            again: Vec::new(),
            gathered: Vec::new(),
            arena: Vec::new(),
            scratch: Scratch::default(),
            record: Record::default(),
            early: Record::default(),
            handshakes_all: 0,
            failures_all: 0,
            source: 0,
            intervals_told: 0,
            cpu_opened: Duration::ZERO,
            #[cfg(target_os = "linux")]
            alarm: None,
            transport,
            plan,
        })
    }

    /// In an open loop, keeps to the time at which handshakes are due better than its transport's poller could.
    ///
    /// # Errors
    /// The system gives no timer, or no thread.
    #[cfg(target_os = "linux")]
    pub(super) fn with_alarm(mut self) -> io::Result<Self> {
        if self.is_open() {
            self.alarm = Some(Alarm::new(self.transport.waker())?);
        }
        Ok(self)
    }

    /// CPU time used for this shard.
    fn cpu(&self) -> Duration {
        let own = (self.plan.cpu)();
        #[cfg(target_os = "linux")]
        let own = own + self.alarm.as_ref().map_or(Duration::ZERO, Alarm::cpu);
        own
    }

    /// The time that counts. In an open loop it ends when it was to end, late as we may be, because what is due then
    /// does not count any more.
    fn wall(&self) -> Duration {
        let length = self.window.length();
        if self.is_open() { self.plan.duration.map_or(length, |planned| length.min(planned)) } else { length }
    }

    /// Runs to the end of the plan, or until `stop`.
    ///
    /// # Errors
    /// The transport as a whole has failed.
    pub fn run(mut self, tally: &Tally, stop: &AtomicBool, tell: impl Fn(Note)) -> io::Result<Ended> {
        while self.goes_on(stop.load(Ordering::Relaxed), &tell) {
            self.turn()?;
            tally.publish(self.handshakes_all, self.failures_all);
        }
        Ok(self.end_all())
    }

    /// Moves on to what time it is, and says whether there is another [`turn`](Self::turn): after its plan, or
    /// `stop`, what is under way still ends.
    pub fn goes_on(&mut self, stop: bool, tell: &impl Fn(Note)) -> bool {
        let now = self.transport.now();
        let moved = self.window.advance(now);
        if moved && self.window.phase() == Phase::Counting {
            self.cpu_opened = self.cpu();
            tell(Note::Opened);
        }
        if self.window.phase() == Phase::Counting {
            self.tell_intervals(now, tell);
        }
        let ends = stop || (self.plan.duration.is_none() && self.pacer.is_over());
        if (moved && self.window.phase() == Phase::Draining) || (ends && self.window.close(now)) {
            self.record.wall = self.wall();
            self.record.client_cpu = self.cpu().saturating_sub(self.cpu_opened);
            self.stop_starting(now);
            tell(Note::Closed);
        }
        self.window.phase() != Phase::Draining
            || (self.pacer.busy() > 0 && now < self.window.closed() + self.plan.drain)
    }

    /// Poll, gather, (prepare), advance, flush.
    ///
    /// # Errors
    /// The transport as a whole has failed.
    pub fn turn(&mut self) -> io::Result<()> {
        let deadline = self.wakes_at();
        #[cfg(target_os = "linux")]
        if let (Some(alarm), Some(due)) = (&mut self.alarm, self.pacer.wakes_at()) {
            alarm.set(due, self.transport.now());
        }
        self.events.clear();
        self.transport.poll(Some(deadline), &mut self.events)?;
        self.gather();
        self.agree();
        self.advance();
        self.expire();
        self.start_due();
        self.open_gate();
        self.transport.flush()?;
        let now = self.transport.now();
        if let Some(keys) = &mut self.keys {
            keys.refill(now);
        }
        Ok(())
    }

    /// Ends what is left, and hands back what was measured.
    #[must_use]
    pub fn end_all(mut self) -> Ended {
        let unfinished = self.slots.iter().filter(|s| s.is_under_way()).count() as u64;
        for slot in 0..self.slots.len() {
            let Some(conn) = self.slots[slot].conn else { continue };
            let how = if let Stage::Held { tls } = &mut self.slots[slot].stage {
                self.record.held += 1;
                self.scratch.clear();
                let said = tls.close(&mut self.scratch.out).is_ok() && self.send(slot, conn, Push::BeforeClose).is_ok();
                if said { Close::Graceful } else { Close::Abort }
            } else {
                Close::Abort
            };
            self.transport.close(conn, how);
        }
        self.record.batch = self.keys.as_ref().map(ClientKeys::counters);
        if self.handshakes_all == 0 {
            self.record.merge(&self.early);
        }
        Ended { record: self.record, handshakes: self.handshakes_all, unfinished }
    }

    /// Tells of the intervals that are over.
    fn tell_intervals(&mut self, now: Instant64, tell: &impl Fn(Note)) {
        let series = &self.record.series;
        let over = now.since(self.window.opened()).as_secs() / series.interval().as_secs();
        let over = usize::try_from(over).unwrap_or(usize::MAX);
        // When intervals have become longer, there are fewer of them.
        self.intervals_told = self.intervals_told.min(over);
        for number in self.intervals_told..over {
            let point = series.points().get(number).cloned().unwrap_or_default();
            tell(Note::Interval { number, point: Box::new(point) });
        }
        self.intervals_told = over;
    }

    fn wakes_at(&mut self) -> Instant64 {
        let now = self.transport.now();
        if !self.again.is_empty() {
            return now;
        }
        let (by_conn, slots) = (&self.by_conn, &self.slots);
        let under_way = |c| find(by_conn, slots, c).is_some_and(|i| slots[i].is_under_way());
        let ends = |c| find(by_conn, slots, c).is_some_and(|i| matches!(slots[i].stage, Stage::Ending { .. }));
        let times = [
            self.pacer.wakes_at(),
            self.window.next(),
            self.handshakes.next(under_way),
            self.lingers.next(ends),
            self.resets.next(ends),
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
                if matches!(self.plan.load, Load::Rounds) && !ready.read_closed {
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

    /// Computes the agreements with all servers that have answered in this turn.
    fn agree(&mut self) {
        let Some(keys) = &mut self.keys else { return };
        self.exchanges.clear();
        for item in &self.gathered {
            let Some(slot) = find(&self.by_conn, &self.slots, item.conn) else { continue };
            let Some(ours) = self.slots[slot].waits_with() else { continue };
            let answer = server_key_share(&self.arena[item.bytes.clone()]);
            let theirs = answer.and_then(|(group, share)| x25519_answer(group, share));
            self.exchanges.extend(theirs.map(|theirs| (ours, *theirs)));
        }
        keys.agree(&self.exchanges);
    }

    fn advance(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        for item in gathered.drain(..) {
            let Some(slot) = self.find(item.conn) else { continue };
            let bytes = &mut self.arena[item.bytes];
            if !bytes.is_empty() {
                self.scratch.clear();
                let step = self.slots[slot].received(
                    bytes,
                    &mut self.scratch,
                    &mut self.record,
                    &self.hellos,
                    &self.plan.after,
                );
                self.take(slot, item.conn, step);
            }
            if let (Some(end), true) = (item.end, self.slots[slot].conn == Some(item.conn)) {
                self.on_stream_end(slot, &end);
            }
        }
        self.gathered = gathered;
    }

    pub(super) fn take(&mut self, slot: usize, conn: ConnId, step: Step) {
        match step {
            Step::Wait if self.scratch.out.is_empty() => self.reset(slot),
            Step::Wait => {
                if let Err(error) = self.send(slot, conn, Push::Now) {
                    self.on_stream_end(slot, &StreamEnd::Broken(error));
                }
            }
            Step::Complete(facts) => self.completed(slot, conn, facts),
            Step::Heard(heard) => self.heard(slot, conn, heard),
            Step::Lost => self.lost(slot, conn),
            Step::Failed(failure) => {
                let has_alert = !self.scratch.out.is_empty();
                if has_alert && self.send(slot, conn, Push::BeforeClose).is_ok_and(|all| all) {
                    self.finish(slot, conn);
                    self.slots[slot].stage =
                        Stage::Ending { outcome: Outcome::Failed(failure), tls: None, heard: false };
                } else {
                    self.fail(slot, failure);
                }
            }
        }
    }

    /// Sends the output of this step, behind what waits already. True when all of it went out.
    pub(super) fn send(&mut self, slot: usize, conn: ConnId, push: Push) -> io::Result<bool> {
        let push = self.pushed(push);
        let waiting = &mut self.slots[slot].output;
        if !waiting.is_empty() {
            waiting.extend_from_slice(&self.scratch.out);
            return self.send_waiting(slot, conn, push);
        }
        let bytes = &self.scratch.out;
        let sent = self.transport.send(conn, &[IoSlice::new(bytes)], push)?;
        waiting.extend_from_slice(&bytes[sent..]);
        Ok(sent == bytes.len())
    }

    /// A FIN that follows has a segment of its own where none is to be spared.
    const fn pushed(&self, push: Push) -> Push {
        if self.plan.tricks.fin_with_last { push } else { Push::Now }
    }

    pub(super) fn send_waiting(&mut self, slot: usize, conn: ConnId, push: Push) -> io::Result<bool> {
        let push = self.pushed(push);
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
            Err(error) => self.on_stream_end(slot, &StreamEnd::Broken(error)),
        }
    }

    /// Ends our direction; the peer has a while to end its own.
    pub(super) fn finish(&mut self, slot: usize, conn: ConnId) {
        if self.slots[slot].output.is_empty() {
            self.transport.shutdown(conn);
        }
        self.lingers.add(self.transport.now(), conn);
    }

    pub(super) fn fail(&mut self, slot: usize, failure: Failure) {
        self.end(slot, Outcome::Failed(failure), Close::Abort);
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.plan.load, Load::Open(_))
    }

    pub(super) fn find(&self, conn: ConnId) -> Option<usize> {
        find(&self.by_conn, &self.slots, conn)
    }
}

/// The slot that `conn` sits in; none when it has ended.
pub(super) fn find(by_conn: &[u32], slots: &[Slot], conn: ConnId) -> Option<usize> {
    let slot = *by_conn.get(conn.slot())? as usize;
    (slots.get(slot)?.conn == Some(conn)).then_some(slot)
}
