//! A run from its plan to its outcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use handfast::transport::Transport;
use handfast::transport::tcp::{self, Tcp};

use crate::client::{Client, Ended, Note, TlsSource};
use crate::cpu::ServerCpu;
use crate::error::RunError;
use crate::plan::{Plan, Target};
use crate::progress::{Progress, Status};
use crate::record::Record;
use crate::target::{self, Embedded};

/// How often the main thread looks whether the person has had enough.
const TICK: Duration = Duration::from_millis(100);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// A target that failed everything for this long before the end was lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

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

/// What came of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What was measured.
    pub record: Record,
    /// CPU time of the server in the same time; `None` when nobody knows.
    pub server_cpu: Option<Duration>,
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
    pub const fn exit_status(&self) -> u8 {
        let nothing = self.record.handshakes() == 0;
        match self.ending {
            Ending::Planned | Ending::Interrupted => nothing as u8,
            Ending::GaveUp | Ending::TargetLost => 1,
        }
    }
}

/// Measures what `plan` says, over the kernel's TCP. `interrupted` ends it early, with the figures so far.
///
/// # Errors
/// Nothing could be measured.
pub fn run(plan: &Plan, interrupted: &Arc<AtomicBool>) -> Result<Outcome, RunError> {
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
    run_over(plan, address, &tls, server_cpu, interrupted, || Tcp::new(tcp::Config::new(Vec::new())))
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
    transport: fn() -> std::io::Result<T>,
) -> Result<Outcome, RunError> {
    let mut progress = Progress::new(plan.quiet);
    progress.line(&plan.describe(address));
    let (tell, notes) = channel();
    let local = |doing| move |source| RunError::Local { doing, source };
    let client = Client::start(plan, address, tls, &tell, transport).map_err(local("start the client's threads"))?;
    drop(tell);
    let mut watch = Watch::new(plan, server_cpu, progress);
    watch.until_the_end(&client, &notes, interrupted);
    watch.progress.clear();
    let (handshakes_all, _) = client.counts();
    let (mut record, mut unfinished) = (Record::default(), 0);
    for shard in client.join() {
        let Ended { record: measured, unfinished: left, .. } =
            shard.ok_or(RunError::Panicked)?.map_err(local("use the network"))?;
        record.merge(&measured);
        unfinished += left;
    }
    let server_cpu = watch.server_used();
    Ok(Outcome { record, server_cpu, address, ending: watch.ending(), handshakes_all, unfinished })
}

/// What the main thread keeps an eye on.
struct Watch<'a> {
    plan: &'a Plan,
    progress: Progress,
    server_cpu: &'a ServerCpu,
    server_opened: Option<Duration>,
    server_closed: Option<Duration>,
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
    fn new(plan: &'a Plan, server_cpu: &'a ServerCpu, progress: Progress) -> Self {
        let now = Instant::now();
        Self {
            plan,
            progress,
            server_cpu,
            server_opened: None,
            server_closed: None,
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
                    self.server_opened = self.server_cpu.sample();
                }
            }
            Note::Closed => {
                self.shards_closed += 1;
                if self.shards_closed == self.plan.shards {
                    self.server_closed = self.server_cpu.sample();
                    self.closed_at = Some(Instant::now());
                }
            }
        }
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
            } else if now.duration_since(self.succeeded) >= self.plan.give_up {
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
            self.progress.show(&Status { elapsed, handshakes, failures, rate, warming_up });
            self.shown = (now, handshakes);
        }
    }

    fn server_used(&self) -> Option<Duration> {
        self.server_closed?.checked_sub(self.server_opened?)
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
