//! A run from its plan to its outcome.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use handfast::transport::Transport;
use handfast::transport::tcp::{self, Tcp};

use crate::client::{Client, Note, TlsSource};
use crate::cpu::ServerCpu;
use crate::error::RunError;
use crate::plan::{Plan, Target, Then};
use crate::progress::{Progress, Status, View};
use crate::record::Record;
use crate::series::{Point, Series};
use crate::server_side::{self, Used};
use crate::target::{self, Embedded};

/// How often the main thread looks whether the person has had enough.
const TICK: Duration = Duration::from_millis(100);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// A target that failed everything for this long before the end was lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How late this generator may be at its 99th percentile: this, or this share of the latency's if that is more.
const LATENESS_MAX: Duration = Duration::from_millis(1);
pub(crate) const LATENESS_SHARE_MAX: f64 = 0.1;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Its time, or its count, was reached.
    Planned,
    /// The person ended it.
    Interrupted,
    /// Nothing succeeded for as long as `--give-up` allows.
    GaveUp,
    /// It went to its planned end, but the target failed everything at last.
    TargetLost,
}

impl Ending {
    /// The word in a JSON report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Interrupted => "interrupted",
            Self::GaveUp => "gave_up",
            Self::TargetLost => "target_lost",
        }
    }
}

/// How late the generator of an open loop was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lateness {
    /// The 99th percentile of [`Record::lateness`].
    pub p99: Duration,
    /// What it may be.
    pub bound: Duration,
}

impl Lateness {
    /// Whether the generator, and not the server, was the limit.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.p99 > self.bound
    }

    fn of(plan: &Plan, record: &Record) -> Option<Self> {
        let p99 = record.lateness.quantile(0.99)?;
        let latency = record.total.quantile(0.99).unwrap_or_default();
        let tolerable = LATENESS_MAX.max(latency.mul_f64(LATENESS_SHARE_MAX));
        Some(Self { p99, bound: plan.open.as_ref()?.max_lateness.unwrap_or(tolerable) })
    }
}

/// What came of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What was measured.
    pub record: Record,
    /// Each second of it.
    pub series: Series,
    /// How late the generator was; `None` in a closed loop, or when nothing started.
    pub lateness: Option<Lateness>,
    /// CPU time of the server in the same time; `None` when nobody knows.
    pub server_cpu: Option<Duration>,
    /// What else the server used in the same time; `None` when nobody knows.
    pub server_used: Option<Used>,
    /// Where the client connected to.
    pub address: SocketAddr,
    /// Why it ended.
    pub ending: Ending,
    /// Complete handshakes, those of the warm-up and after the end included.
    pub handshakes_all: u64,
    /// Handshakes that were still under way when it ended.
    pub unfinished: u64,
}

impl Outcome {
    /// The exit status that tells a script what happened.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        let nothing = self.record.handshakes() == 0;
        match self.ending {
            Ending::Planned | Ending::Interrupted => u8::from(nothing || !self.is_valid()),
            Ending::GaveUp | Ending::TargetLost => 1,
        }
    }

    /// Whether the figures tell of the server: they do not when this machine ran out of ports or descriptors, nor, in an
    /// open loop, when the generator could not keep up.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.record.failures_of_ours() == 0 && !self.lateness.is_some_and(|l| l.is_too_much())
    }
}

/// Measures what `plan` says, over the kernel's TCP, with progress on stderr. `interrupted` ends it early, with the
/// figures so far.
///
/// # Errors
/// Nothing could be measured.
pub fn run(plan: &Plan, interrupted: &Arc<AtomicBool>) -> Result<Outcome, RunError> {
    run_with(plan, interrupted, &mut Progress::new(plan.quiet))
}

/// As [`run`], shown by `view`.
///
/// # Errors
/// As for [`run`].
pub fn run_with(plan: &Plan, interrupted: &Arc<AtomicBool>, view: &mut dyn View) -> Result<Outcome, RunError> {
    let (address, embedded) = match &plan.target {
        Target::Server(server) => (target::resolve(server, plan.quiet)?, None),
        Target::Embedded { shards } => {
            let embedded = Embedded::start(plan, *shards)?;
            (embedded.addr, Some(embedded))
        }
    };
    let own = embedded.as_ref().map_or(&[][..], |e| &e.certificates);
    let tls = TlsSource::new(&plan.tls, own)?;
    let server_cpu = embedded.as_ref().map_or(&plan.server_cpu, |e| &e.cpu);
    let ack_with_data = plan.tricks.ack_with_hello;
    run_over(plan, address, &tls, server_cpu, interrupted, view, move || {
        let mut config = tcp::Config::new(Vec::new());
        config.ack_with_data = ack_with_data;
        Tcp::new(config)
    })
}

/// As [`run`], over any transport and against an address.
///
/// # Errors
/// As for [`run`].
pub fn run_over<T: Transport + 'static>(
    plan: &Plan,
    address: SocketAddr,
    tls: &TlsSource,
    server_cpu: &ServerCpu,
    interrupted: &Arc<AtomicBool>,
    view: &mut dyn View,
    transport: impl Fn() -> std::io::Result<T> + Clone + Send + 'static,
) -> Result<Outcome, RunError> {
    view.begins(&plan.describe(address));
    let (tell, notes) = channel();
    let local = |doing| move |source| RunError::Local { doing, source };
    let client = Client::start(plan, address, tls, &tell, transport).map_err(local("start the client's threads"))?;
    drop(tell);
    let mut watch = Watch::new(plan, server_cpu, view);
    watch.until_the_end(&client, &notes, interrupted);
    watch.view.ends();
    let (mut record, mut handshakes_all, mut unfinished) = (Record::default(), 0, 0);
    for shard in client.join() {
        let shard = shard.ok_or(RunError::Panicked)?.map_err(local("use the network"))?;
        record.merge(&shard.record);
        handshakes_all += shard.handshakes;
        unfinished += shard.unfinished;
    }
    let (server_cpu, server_used) = (watch.server_cpu_used(), watch.server_used());
    let (series, lateness) = (std::mem::take(&mut record.series), Lateness::of(plan, &record));
    let ending = watch.ending();
    Ok(Outcome { record, series, lateness, server_cpu, server_used, address, ending, handshakes_all, unfinished })
}

/// The server at the begin or the end of what counts.
#[derive(Clone, Copy, Debug, Default)]
struct ServerSeen {
    /// In nanoseconds where the kernel keeps them, which the ticks in the sample are not.
    cpu: Option<Duration>,
    sample: Option<server_side::Sample>,
}

impl ServerSeen {
    fn now(server: &ServerCpu) -> Self {
        Self { cpu: server.sample(), sample: server_side::sample(server) }
    }
}

/// What the main thread keeps an eye on.
struct Watch<'a> {
    plan: &'a Plan,
    view: &'a mut dyn View,
    /// Intervals that not all shards have told of, and how many have; the first has this number.
    intervals: VecDeque<(u32, Point)>,
    intervals_shown: usize,
    server_cpu: &'a ServerCpu,
    server_opened: ServerSeen,
    server_closed: ServerSeen,
    shards_open: u32,
    shards_closed: u32,
    started: Instant,
    shown: (Instant, u64),
    succeeded: Instant,
    handshakes: u64,
    failures: u64,
    failures_at_success: u64,
    forced: Option<Ending>,
    closed_at: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, server_cpu: &'a ServerCpu, view: &'a mut dyn View) -> Self {
        let now = Instant::now();
        Self {
            plan,
            view,
            intervals: VecDeque::new(),
            intervals_shown: 0,
            server_cpu,
            server_opened: ServerSeen::default(),
            server_closed: ServerSeen::default(),
            shards_open: 0,
            shards_closed: 0,
            started: now,
            shown: (now, 0),
            succeeded: now,
            handshakes: 0,
            failures: 0,
            failures_at_success: 0,
            forced: None,
            closed_at: None,
        }
    }

    /// Returns when every shard has ended.
    fn until_the_end(&mut self, client: &Client, notes: &Receiver<Note>, interrupted: &AtomicBool) {
        loop {
            let next = (self.shown.0 + PROGRESS_EVERY).saturating_duration_since(Instant::now());
            match notes.recv_timeout(next.min(TICK)) {
                Ok(note) => self.on_note(note),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look(client, interrupted);
        }
    }

    fn on_note(&mut self, note: Note) {
        match note {
            Note::Opened => {
                self.shards_open += 1;
                if self.shards_open == self.plan.shards {
                    self.server_opened = ServerSeen::now(self.server_cpu);
                }
            }
            Note::Interval { number, point } => self.on_interval(number, &point),
            Note::Closed => {
                self.shards_closed += 1;
                if self.shards_closed == self.plan.shards {
                    self.server_closed = ServerSeen::now(self.server_cpu);
                    self.closed_at = Some(Instant::now());
                }
            }
        }
    }

    /// Shows an interval once all shards have told of it.
    fn on_interval(&mut self, number: usize, point: &Point) {
        if number < self.intervals_shown {
            // Intervals have become longer, so they are numbered anew.
            self.intervals.clear();
            self.intervals_shown = number;
        }
        let at = number - self.intervals_shown;
        while self.intervals.len() <= at {
            self.intervals.push_back((0, Point::default()));
        }
        let (shards, all) = &mut self.intervals[at];
        *shards += 1;
        all.merge(point);
        while let Some((shards, point)) = self.intervals.front()
            && *shards == self.plan.shards
        {
            self.view.interval(self.intervals_shown, point);
            self.intervals_shown += 1;
            self.intervals.pop_front();
        }
    }

    /// Whether the person has waited for long enough.
    fn gives_up(&self, now: Instant) -> bool {
        let patient = now.duration_since(self.succeeded) < self.plan.give_up;
        // Nothing has to happen while connections are held, or while nothing is due.
        let may_rest = self.plan.then == Then::Hold || self.plan.open.is_some();
        let rests = may_rest && self.handshakes > 0 && self.failures == self.failures_at_success;
        !patient && !rests
    }

    fn look(&mut self, client: &Client, interrupted: &AtomicBool) {
        let now = Instant::now();
        let (handshakes, failures) = client.counts();
        if handshakes > self.handshakes {
            (self.succeeded, self.failures_at_success) = (now, failures);
        }
        (self.handshakes, self.failures) = (handshakes, failures);
        if self.forced.is_none() && self.closed_at.is_none() {
            if interrupted.load(Ordering::Relaxed) {
                self.forced = Some(Ending::Interrupted);
            } else if self.gives_up(now) {
                self.forced = Some(Ending::GaveUp);
            }
            if self.forced.is_some() {
                client.stop();
            }
        }
        let since = now.duration_since(self.shown.0);
        if since >= PROGRESS_EVERY && self.closed_at.is_none() {
            let rate = (handshakes - self.shown.1) as f64 / since.as_secs_f64();
            let elapsed = now.duration_since(self.started);
            let warming_up = self.shards_open < self.plan.shards;
            self.view.shows(&Status { elapsed, handshakes, failures, rate, warming_up });
            self.shown = (now, handshakes);
        }
    }

    fn server_cpu_used(&self) -> Option<Duration> {
        self.server_closed.cpu?.checked_sub(self.server_opened.cpu?)
    }

    fn server_used(&self) -> Option<Used> {
        Used::between(&self.server_opened.sample?, &self.server_closed.sample?)
    }

    fn ending(&self) -> Ending {
        if let Some(forced) = self.forced {
            return forced;
        }
        let silent = self.closed_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(self.succeeded));
        let failed_since = self.failures - self.failures_at_success;
        if silent >= LOST_AFTER && failed_since >= u64::from(self.plan.connections) {
            Ending::TargetLost
        } else {
            Ending::Planned
        }
    }
}
