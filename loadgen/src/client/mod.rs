//! The client: shards that make handshakes, each on a thread of its own.

#[cfg(target_os = "linux")]
mod alarm;
mod deadlines;
mod ending;
mod hellos;
mod sessions;
mod shard;
mod share;
mod slot;
mod starting;
mod talk;
mod tls;
mod window;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use handfast::transport::Transport;

pub use shard::Shard;
pub use share::ShardPlan;
pub use tls::TlsSource;
pub(crate) use tls::{schemes, suites};

use crate::cpu;
use crate::plan::Plan;
use crate::record::Record;
use crate::series::Point;

/// What a shard tells while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Note {
    /// The warm-up is over: what counts begins.
    Opened,
    /// An interval of the time that counts is over.
    Interval {
        /// Its number, from 0 on.
        number: usize,
        /// What this shard has seen in it.
        point: Box<Point>,
    },
    /// Counting is over; what is under way still ends.
    Closed,
}

/// Running counts of one shard, on a cache line of its own: only that shard writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    handshakes: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    /// Complete handshakes since the start, warm-up included.
    #[must_use]
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// Failed ones.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn publish(&self, handshakes: u64, failures: u64) {
        self.handshakes.store(handshakes, Ordering::Relaxed);
        self.failures.store(failures, Ordering::Relaxed);
    }
}

/// What a shard hands back when it has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// What it has measured.
    pub record: Record,
    /// Complete handshakes, counted or not.
    pub handshakes: u64,
    /// Handshakes that were still under way when it gave up waiting for them.
    pub unfinished: u64,
}

/// The client's threads.
#[derive(Debug)]
pub struct Client {
    threads: Vec<JoinHandle<io::Result<Ended>>>,
    tallies: Vec<Arc<Tally>>,
    stop: Arc<AtomicBool>,
}

impl Client {
    /// Starts the shards of `plan` against `target`, each on a transport that `transport` makes on the shard's own
    /// thread. They begin together, and tell `notes` what becomes of them.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start<T: Transport + 'static>(
        plan: &Plan,
        target: SocketAddr,
        tls: &TlsSource,
        notes: &Sender<Note>,
        transport: impl Fn() -> io::Result<T> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let shards = plan.shards.max(1);
        let barrier = Arc::new(Barrier::new(shards as usize));
        let mut client = Self { threads: Vec::new(), tallies: Vec::new(), stop: Arc::new(AtomicBool::new(false)) };
        for index in 0..shards {
            let tally = Arc::new(Tally::default());
            let shard_plan = ShardPlan::new(plan, target, index);
            let cpu = plan.cpus.get(index as usize).copied();
            let (tls, notes, transport) = (tls.clone(), notes.clone(), transport.clone());
            let (barrier, stop, published) = (Arc::clone(&barrier), Arc::clone(&client.stop), Arc::clone(&tally));
            let body = move || {
                if let Some(cpu) = cpu {
                    cpu::pin_this_thread(cpu);
                }
                let made = transport();
                barrier.wait();
                let shard = Shard::new(made?, shard_plan, &tls)?;
                #[cfg(target_os = "linux")]
                let shard = shard.with_alarm()?;
                shard.run(&published, &stop, |note| {
                    // When the main thread is gone there is nobody to tell.
                    let _ = notes.send(note);
                })
            };
            let thread = std::thread::Builder::new().name(format!("load-{index}")).spawn(body)?;
            client.threads.push(thread);
            client.tallies.push(tally);
        }
        Ok(client)
    }

    /// Ends counting now; what is under way still ends.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Complete and failed handshakes since the start, warm-up included.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.tallies.iter().fold((0, 0), |(h, f), t| (h + t.handshakes(), f + t.failures()))
    }

    /// Waits for all shards and hands back what each has measured; the outer `None` stands for a panic.
    pub fn join(self) -> Vec<Option<io::Result<Ended>>> {
        self.threads.into_iter().map(|t| t.join().ok()).collect()
    }
}
