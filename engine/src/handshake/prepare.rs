//! What can be computed for all handshakes of a turn together.

use std::time::Duration;

use super::foreseen::Foreseen;
use super::hello::ClientHelloView;
use crate::crypto::batch::BatchCounters;
use crate::time::Instant64;

/// The prepare phase of a turn.
///
/// rustls calls key exchange and signer synchronously, so whatever is to be computed in a batch must be ready
/// before the first call. The shard shows every complete ClientHello of a batch that will not be refused, then advances
/// its connections. A turn has one batch, of 256 connections or 1 MiB at most.
pub trait Prepare {
    /// Shows one complete ClientHello of this batch, and how it will be answered.
    fn see(&mut self, hello: &ClientHelloView<'_>, foreseen: &Foreseen<'_>);

    /// A connection of this batch [was asked for another key share](super::Handshake::is_retrying), which may be in it: its
    /// key exchange finds nothing computed.
    fn see_retry(&mut self) {}

    /// All were shown, if there were any: compute. What is computed must be found by the provider's own operations, those
    /// of handshakes that end in this batch among them.
    fn prepare(&mut self, now: Instant64);

    /// All connections of the batch have advanced: what was not used is wiped.
    fn finish(&mut self);

    /// How long ClientHellos may be held back for others, when so many are there that [gain](Self::gains) by company;
    /// `None` advances them at once. Nothing else waits meanwhile. It is asked with 1 to learn whether any ever is.
    fn patience(&self, hellos: usize) -> Option<Duration> {
        let _ = hellos;
        None
    }

    /// Whether this ClientHello costs less together with others. Asked only where there is [`patience`](Self::patience).
    fn gains(&self, hello: &ClientHelloView<'_>) -> bool {
        let _ = hello;
        false
    }

    /// The turn's answers have left: what will be of use later can be computed now, and delays none of them. It comes at
    /// the end of each turn, and before the first.
    fn replenish(&mut self, now: Instant64) {
        let _ = now;
    }

    /// When [`replenish`](Self::replenish) is to be called at the latest: an idle shard wakes for it.
    fn replenish_at(&self) -> Option<Instant64> {
        None
    }

    /// The configurations of the shard are replaced: secrets that wait are wiped at the end of the turn.
    fn forget(&mut self) {}

    /// What was counted since the start.
    fn counters(&self) -> BatchCounters {
        BatchCounters::default()
    }
}

/// Computes nothing ahead: each handshake calls the provider as it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unprepared;

impl Prepare for Unprepared {
    fn see(&mut self, _: &ClientHelloView<'_>, _: &Foreseen<'_>) {}
    fn prepare(&mut self, _: Instant64) {}
    fn finish(&mut self) {}
}
