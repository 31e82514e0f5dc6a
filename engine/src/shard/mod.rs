//! One thread's share of the engine: a transport, its connections, their timers, and the turn that drives them.
//!
//! A turn has phases: *poll* the transport; *gather* what all ready connections received; *prepare* what can be
//! computed for all their ClientHellos together; *advance* each connection and send its answer; run the workers'
//! futures and send what they wrote; *flush* the transport. With one connection ready a batch is one, and nothing
//! waits for company, but for ClientHellos where the prepare phase was told to be patient.

mod admission;
mod advance;
mod departures;
mod gather;
mod hand_off;
mod held;
mod local;
mod mailbox;
mod queue;
mod reload;
#[cfg_attr(not(any(feature = "h1", feature = "h2")), allow(dead_code, reason = "the HTTP workers use the rest"))]
mod services;
mod slots;
mod stream;
mod streaming;
pub mod timers;

use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crossbeam::channel::Receiver;

pub use local::Local;
pub use mailbox::{Mailbox, Negotiated, Parts};
pub use reload::{Control, Reload};
pub(crate) use services::Services;
pub use services::{Draining, Sleep};
pub use stream::Stream;

use crate::error::Refusal;
use crate::handshake::{Live, Prepare, Unprepared};
use crate::limits::Limits;
use crate::metrics::Counters;
use crate::time::Instant64;
use crate::transport::{Close, ConnId, Transport, Wake};
use gather::Item;
use queue::Queue;
use reload::{Ending, Serving};
use slots::{Conn, Slot, Slots};
use timers::Wheel;

/// Futures polled in one turn before the sockets are looked at again.
const POLLS_PER_TURN: usize = 4096;

/// What speaks a protocol after the handshake, on a shard's or a worker thread's own executor.
pub trait Worker: Send + Sync + 'static {
    /// Takes the stream over. It is called on the thread of the connection and must not block; what it starts
    /// runs there.
    fn start(&self, stream: Stream);
}

impl<W: Worker + ?Sized> Worker for Box<W> {
    fn start(&self, stream: Stream) {
        (**self).start(stream);
    }
}

/// Where the connections of a protocol go.
#[derive(Clone)]
#[non_exhaustive]
pub enum Destination {
    /// Nowhere: once the handshake is over, the peer's close_notify is answered and the connection closed.
    Close,
    /// To a worker, on the shard or on worker threads.
    Worker(Arc<dyn Worker>),
    /// To the embedding program.
    HandOff(Mailbox),
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Close => "Close",
            Self::Worker(_) => "Worker",
            Self::HandOff(_) => "HandOff",
        })
    }
}

/// What a [`Shard`] is made of.
#[non_exhaustive]
pub struct ShardConfig {
    /// Table and configurations.
    pub live: Live,
    /// Where each protocol's connections go, in the table's order.
    pub destinations: Vec<Destination>,
    /// The limits.
    pub limits: Limits,
    /// Worker threads that take the connections of [`Destination::Worker`]; empty keeps them here.
    pub workers: Vec<Mailbox>,
    /// Where this shard itself takes connections in: it is a worker thread then.
    pub mail: Option<Receiver<Negotiated>>,
    /// The prepare phase.
    pub prepare: Box<dyn Prepare>,
    /// Where it counts.
    pub counters: Arc<Counters>,
}

impl ShardConfig {
    /// A shard that keeps its connections to itself and computes nothing ahead.
    #[must_use]
    pub fn new(live: Live, destinations: Vec<Destination>) -> Self {
        Self {
            live,
            destinations,
            limits: Limits::default(),
            workers: Vec::new(),
            mail: None,
            prepare: Box::new(Unprepared),
            counters: Arc::default(),
        }
    }
}

impl fmt::Debug for ShardConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardConfig").field("destinations", &self.destinations).finish_non_exhaustive()
    }
}

/// One thread's share of the engine.
pub struct Shard<T: Transport> {
    transport: T,
    /// What handshakes are served with whose ClientHello has not come yet.
    serving: Rc<Serving>,
    limits: Limits,
    workers: Vec<Mailbox>,
    next_worker: usize,
    mail: Option<Receiver<Negotiated>>,
    prepare: Box<dyn Prepare>,
    counters: Arc<Counters>,
    services: Arc<Services>,
    admission: admission::Admission,
    slots: Slots,
    timers: Wheel<ConnId>,
    draining_until: Option<Instant64>,
    hand_off: hand_off::HandOff,
    held: held::Held,
    queue: Queue,
    /// Futures that the budget of a turn left over.
    batch: services::Batch,
    // What follows lends its memory from turn to turn.
    items: Vec<Item>,
    arena: Vec<u8>,
    out: Vec<u8>,
    departures: departures::Departures,
    ids: Vec<ConnId>,
    wakers: Vec<Waker>,
}

impl<T: Transport> fmt::Debug for Shard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("connections", &self.slots.len()).finish_non_exhaustive()
    }
}

impl<T: Transport> Shard<T>
where
    T::Waker: Wake,
{
    /// A shard on this thread: it must be driven where it was made.
    #[must_use]
    pub fn new(transport: T, mut config: ShardConfig) -> Self {
        let now = transport.now();
        config.prepare.replenish(now);
        let services = Services::new(transport.waker(), now);
        let workers = config.workers.len();
        Self {
            serving: Rc::new(Serving { live: config.live, destinations: config.destinations }),
            limits: config.limits,
            workers: config.workers,
            next_worker: 0,
            mail: config.mail,
            prepare: config.prepare,
            counters: config.counters,
            services,
            admission: admission::Admission::new(),
            slots: Slots::default(),
            timers: Wheel::new(now),
            draining_until: None,
            hand_off: hand_off::HandOff::new(workers),
            held: held::Held::default(),
            queue: Queue::default(),
            batch: services::Batch::new(),
            items: Vec::new(),
            arena: Vec::new(),
            out: Vec::new(),
            departures: departures::Departures::default(),
            ids: Vec::new(),
            wakers: Vec::new(),
            transport,
        }
    }

    /// Runs turns until `control` asks for a drain and the last connection has ended, or the drain's deadline has
    /// ended it. Between them it [reloads](Self::reload) what `control` says.
    ///
    /// # Errors
    /// The transport as a whole failed.
    pub fn run(&mut self, control: &Control) -> io::Result<()> {
        let _ending = Ending(control);
        loop {
            if control.is_draining() && self.draining_until.is_none() {
                self.start_drain();
                // Those who waited to be accepted are reported by the next poll, and are connections only then.
                self.turn_under(Some(control), Some(Instant64::ZERO))?;
            }
            if let Some(until) = self.draining_until {
                if self.slots.len() == 0 && self.queue.is_done() && self.mail.is_none() {
                    break;
                }
                if self.transport.now() >= until {
                    self.abort_all();
                }
            }
            self.turn_under(Some(control), self.draining_until)?;
        }
        self.services.cancel_all(&mut self.batch);
        Ok(())
    }

    /// One pass: waits until something is ready or `until` is reached, and deals with it; what is more than a batch of it
    /// is left for the next passes, which do not wait.
    ///
    /// # Errors
    /// The transport as a whole failed.
    pub fn turn(&mut self, until: Option<Instant64>) -> io::Result<()> {
        self.turn_under(None, until)
    }

    fn turn_under(&mut self, control: Option<&Control>, until: Option<Instant64>) -> io::Result<()> {
        let polled = if self.queue.is_done() {
            let deadline = self.next_deadline(until);
            self.transport.poll(deadline, self.queue.restart())
        } else {
            Ok(())
        };
        // After the poll: who connects once a reload was asked for is accepted later than that, and served by it.
        if let Some(reload) = control.and_then(Control::take_reload) {
            self.reload(&reload);
        }
        let now = self.transport.now();
        self.services.expire(now, &mut self.wakers);
        self.take_mail(now);
        self.gather(now);
        polled?;
        self.expire(now);
        self.retry_hand_offs(now);
        self.run_workers(now);
        self.wake_mailboxes();
        self.transport.flush()?;
        self.prepare.replenish(now);
        self.counters.batch(self.prepare.counters());
        self.counters.turns.add(1);
        self.counters.transport(self.transport.counters());
        self.counters.sources_forgotten.set(self.admission.forgotten());
        Ok(())
    }

    /// The transport, for tests that look at it.
    pub const fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Connections that it holds.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.slots.len()
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Stops listening, and lets the connections end; [`run`](Self::run) does it when asked to.
    pub fn start_drain(&mut self) {
        self.draining_until = Some(self.transport.now() + self.limits.drain_deadline);
        self.transport.stop_listening();
        self.services.start_drain();
    }

    fn next_deadline(&self, until: Option<Instant64>) -> Option<Instant64> {
        if self.queue.is_pressing()
            || !self.batch.is_empty()
            || !self.services.is_idle()
            || self.hand_off.has_mail_left()
        {
            return Some(Instant64::ZERO);
        }
        let retry = self.hand_off.is_waiting().then(|| self.transport.now() + mailbox::RETRY);
        let replenish = self.prepare.replenish_at();
        [until, retry, replenish, self.held.until(), self.timers.next_deadline(), self.services.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn expire(&mut self, now: Instant64) {
        let mut expired = mem::take(&mut self.ids);
        self.timers.expire(now, |id| expired.push(id));
        for id in expired.drain(..) {
            let Some(mut slot) = self.slots.take(id) else { continue };
            slot.timer = None;
            match slot.conn {
                Conn::Handshaking(ref handshake, _) => {
                    let refusal = if handshake.awaits_proxy() { Refusal::ProxyDeadline } else { Refusal::Deadline };
                    self.refused(id, slot, &refusal, now);
                }
                Conn::Closing(_) => {
                    self.counters.close_waited_out.add(1);
                    self.close(id, slot, Close::Graceful);
                }
                Conn::Lingering { fin_sent } => {
                    self.counters.lingered_out.add(1);
                    // After our FIN the transport may go on delivering without us.
                    self.close(id, slot, if fin_sent { Close::Graceful } else { Close::Abort });
                }
                Conn::Streaming(ref streaming) if streaming.early.is_some() => {
                    self.refused(id, slot, &Refusal::Deadline, now);
                }
                Conn::Streaming(ref streaming) if streaming.left => {
                    self.counters.lingered_out.add(1);
                    self.close(id, slot, Close::Abort);
                }
                Conn::Streaming(_) => self.idle(id, slot, now),
                Conn::HandingOff(_) => self.slots.put(id, slot),
            }
        }
        self.ids = expired;
    }

    /// Runs the workers' futures and does what they ask for, until nothing is left or the budget is used.
    fn run_workers(&mut self, now: Instant64) {
        let mut budget = POLLS_PER_TURN;
        loop {
            let ran = self.services.run(budget, &mut self.batch);
            self.counters.handler_panics.add(ran.panics);
            let mut posted = mem::take(&mut self.ids);
            self.services.take_posted(&mut posted);
            let idle = posted.is_empty();
            self.serve_posted(&posted, now);
            posted.clear();
            self.ids = posted;
            if idle || ran.more {
                return;
            }
            budget /= 2;
        }
    }

    fn set_timer(&mut self, id: ConnId, slot: &mut Slot, deadline: Instant64) {
        self.cancel_timer(slot);
        slot.timer = Some(self.timers.insert(deadline, id));
    }

    fn cancel_timer(&mut self, slot: &mut Slot) {
        if let Some(key) = slot.timer.take() {
            self.timers.cancel(key);
        }
    }

    /// Ends a connection and forgets it.
    fn close(&mut self, id: ConnId, mut slot: Slot, how: Close) {
        self.cancel_timer(&mut slot);
        self.transport.close(id, how);
        self.counters.closed.add(1);
    }

    fn abort_all(&mut self) {
        for id in self.slots.ids() {
            let Some(slot) = self.slots.take(id) else { continue };
            match &slot.conn {
                Conn::Handshaking(..) | Conn::HandingOff(_) => self.counters.refuse(Refusal::Draining.class()),
                Conn::Streaming(_) | Conn::Closing(_) | Conn::Lingering { .. } => self.counters.aborted.add(1),
            }
            self.close(id, slot, Close::Abort);
        }
        self.mail = None;
    }
}
