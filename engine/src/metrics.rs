//! Counters: one set per shard, written by its thread alone, read by anyone without a lock.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::crypto::SessionCounts;
use crate::crypto::batch::BatchCounters;
use crate::error::RefusalClass;
use crate::transport::TransportCounters;

/// A number that one thread changes and any thread reads.
///
/// Plain loads and stores: with one writer there is nothing to lock, and a reader sees a value that was true.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the owning thread may.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the value; only the owning thread may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one shard; see [`Metrics`] for what each counts.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(crate) $name: Counter,)*
            refused: [Counter; RefusalClass::ALL.len()],
        }

        /// What was counted since the start, by one shard or by all together.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            refused: [u64; RefusalClass::ALL.len()],
        }

        impl Counters {
            /// The values now.
            #[must_use]
            pub fn read(&self) -> Metrics {
                Metrics {
                    $($name: self.$name.read(),)*
                    refused: core::array::from_fn(|i| self.refused[i].read()),
                }
            }
        }

        impl Metrics {
            /// Adds another shard's numbers to these; of a maximum the greater one stays.
            pub fn add(&mut self, other: &Self) {
                let hellos_per_turn_max = self.hellos_per_turn_max.max(other.hellos_per_turn_max);
                $(self.$name = self.$name.wrapping_add(other.$name);)*
                self.hellos_per_turn_max = hellos_per_turn_max;
                for (mine, theirs) in self.refused.iter_mut().zip(other.refused) {
                    *mine = mine.wrapping_add(theirs);
                }
            }

            /// Every counter with its name, refusals by class included.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name),)*]
                    .into_iter()
                    .chain(RefusalClass::ALL.iter().map(|c| (c.name(), self.refused(*c))))
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// Connections accepted, or taken in from another thread.
    opened,
    /// Connections that ended here.
    closed,
    /// Connections that left for a worker thread or for the embedding program.
    handed_off,
    /// Handshakes that were completed in full, also of connections that were lost afterwards, before their worker had
    /// them, and are counted among the [refused](Metrics::refused) too.
    handshakes_full,
    /// Handshakes that resumed a session, with the same exception.
    handshakes_resumed,
    /// Connections whose early data was accepted.
    early_data_accepted,
    /// Sessions kept because they may bring early data.
    early_sessions_stored,
    /// Of those, sessions taken out to be resumed.
    early_sessions_taken,
    /// Such sessions that were presented and not there: used, evicted, expired, or of another process.
    early_sessions_missed,
    /// Such sessions forgotten because of [`Limits::early_sessions`](crate::Limits::early_sessions), its bytes, or age.
    early_sessions_evicted,
    /// ClientHellos that were complete.
    hellos,
    /// Batches in which at least one ClientHello was complete. A turn has one batch, of 256 connections or 1 MiB at most.
    hello_turns,
    /// The most ClientHellos that one batch saw together.
    hellos_per_turn_max,
    /// Times that a connection met [`Limits::read_bytes_per_turn`](crate::Limits::read_bytes_per_turn).
    read_budget_met,
    /// Polls after which connections were left waiting because of
    /// [`Limits::accepts_per_turn`](crate::Limits::accepts_per_turn).
    accept_budget_met,
    /// Times that connections were found waiting because of
    /// [`Limits::connections_per_shard`](crate::Limits::connections_per_shard).
    connections_full,
    /// Sources that were forgotten early because of
    /// [`SourceLimits::remembered`](crate::limits::SourceLimits::remembered).
    sources_forgotten,
    /// Times that a connection was not read because of [`Limits::stream_read_bytes`](crate::Limits::stream_read_bytes).
    stream_reads_paused,
    /// Times that a worker waited because of [`Limits::stream_write_bytes`](crate::Limits::stream_write_bytes).
    stream_writes_paused,
    /// Connections that met [`Limits::close_wait`](crate::Limits::close_wait).
    close_waited_out,
    /// Connections that met [`Limits::idle_deadline`](crate::Limits::idle_deadline).
    idled_out,
    /// Connections that met [`Limits::control_records`](crate::Limits::control_records), or sent more than 4 KiB of a
    /// handshake message after the handshake and not its end.
    control_floods,
    /// Times that accepting was stopped because no worker had room.
    accept_pauses,
    /// Negotiated connections that were reset because the drain's deadline passed.
    aborted,
    /// Finished connections that were given up because the peer met [`Limits::linger`](crate::Limits::linger) or
    /// [`Limits::unsent_wait`](crate::Limits::unsent_wait).
    lingered_out,
    /// Connections that broke TLS's rules after their handshake.
    faults_after_handshake,
    /// Handlers that panicked; each took its own connection down and nothing else.
    handler_panics,
    /// Connections closed at once because no file descriptor was left.
    accepts_shed_no_descriptor,
    /// Accepts that failed for another reason.
    accepts_failed,
    /// Times that key exchanges were computed together; see [`Crypto`](crate::crypto::Crypto).
    batch_agreements,
    /// Key exchanges that were computed together; [`Metrics::batch_lanes_mean`] is the mean of lanes filled.
    batch_lanes,
    /// Times that eight ephemeral keys were made together.
    batch_pool_refills,
    /// Key exchanges for X25519 that found nothing computed ahead.
    batch_misses,
    /// Key shares that were seen and left to aws-lc: too few came together, the pool of ephemeral keys was empty or too
    /// old, or more came together than are computed ahead.
    batch_scalar_fallbacks,
    /// ClientHellos that were held back for others; see [`Builder::batch_wait`](crate::Builder::batch_wait).
    batch_held,
    /// Times that the prepare phase panicked. It is a bug of ours, and the handshakes of that turn were computed one by
    /// one.
    batch_panics,
    /// ECDSA nonces drawn ahead; see [`Builder::presign`](crate::Builder::presign).
    batch_nonces,
    /// Signatures that were made with them. Those that were left over were wiped.
    batch_presigned,
}

impl Counters {
    /// Counts a refusal.
    pub fn refuse(&self, class: RefusalClass) {
        if let Some(counter) = self.refused.get(class as usize) {
            counter.add(1);
        }
    }

    /// Takes over what the transport counts.
    pub fn transport(&self, t: TransportCounters) {
        self.accepts_shed_no_descriptor.set(t.accepts_shed_no_descriptor);
        self.accepts_failed.set(t.accepts_failed);
        self.accept_budget_met.set(t.accept_budget_met);
        self.connections_full.set(t.connections_full);
    }

    /// Takes over what the prepare phase counts.
    pub fn batch(&self, b: BatchCounters) {
        self.batch_agreements.set(b.batches);
        self.batch_lanes.set(b.lanes);
        self.batch_pool_refills.set(b.refills);
        self.batch_misses.set(b.misses);
        self.batch_scalar_fallbacks.set(b.scalar);
        self.batch_nonces.set(b.nonces);
        self.batch_presigned.set(b.presigned);
    }
}

impl Metrics {
    /// Takes over what the store of sessions counts.
    pub(crate) const fn sessions(&mut self, counts: SessionCounts) {
        let SessionCounts { stored, taken, missed, evicted } = counts;
        self.early_sessions_stored = stored;
        self.early_sessions_taken = taken;
        self.early_sessions_missed = missed;
        self.early_sessions_evicted = evicted;
    }

    /// How many lanes of eight a key exchange that was computed together with others filled on average; `None` when
    /// nothing was.
    #[must_use]
    pub fn batch_lanes_mean(&self) -> Option<f64> {
        (self.batch_agreements > 0).then(|| self.batch_lanes as f64 / self.batch_agreements as f64)
    }

    /// Connections that no worker was given, by why. Their handshake may have been completed, and counted as such: one
    /// whose last flight could not be sent is `reset`, one that waited for a worker in vain `mailbox_full`,
    /// `worker_gone` or `draining`. So handshakes and refusals together may be more than the connections.
    #[must_use]
    pub const fn refused(&self, class: RefusalClass) -> u64 {
        self.refused[class as usize]
    }

    /// All refusals together.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// All completed handshakes together.
    #[must_use]
    pub const fn handshakes(&self) -> u64 {
        self.handshakes_full + self.handshakes_resumed
    }

    /// Connections open now.
    #[must_use]
    pub const fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed + self.handed_off)
    }
}

impl fmt::Display for Metrics {
    /// One `name value` line for each counter that is not zero, and the mean of lanes after its counters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, n) in self.iter().filter(|(_, n)| *n > 0) {
            writeln!(f, "{name} {n}")?;
            if let ("batch_lanes", Some(mean)) = (name, self.batch_lanes_mean()) {
                writeln!(f, "batch_lanes_mean {mean:.2}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_lanes_is_that_of_all_shards() {
        let mut all = Metrics { batch_agreements: 1, batch_lanes: 8, ..Metrics::default() };
        all.add(&Metrics { batch_agreements: 3, batch_lanes: 8, ..Metrics::default() });
        assert_eq!(all.batch_lanes_mean(), Some(4.0));
        assert_eq!(all.to_string(), "batch_agreements 4\nbatch_lanes 16\nbatch_lanes_mean 4.00\n");
        assert_eq!(Metrics::default().batch_lanes_mean(), None);
    }

    #[test]
    fn metrics_of_several_shards_add_up_and_name_their_refusals() {
        let counters = Counters::default();
        counters.opened.add(3);
        counters.refuse(RefusalClass::PlainHttp);
        let mut sum = counters.read();
        sum.add(&counters.read());
        assert_eq!((sum.opened, sum.refused(RefusalClass::PlainHttp), sum.refused_total()), (6, 2, 2));
        assert_eq!(sum.to_string(), "opened 6\nplain_http 2\n");
        assert!(RefusalClass::ALL.iter().enumerate().all(|(i, c)| *c as usize == i));
    }
}
