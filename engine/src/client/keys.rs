//! Key exchanges of several connections together, where the client was told to.

use std::sync::LazyLock;
use std::time::Instant;

use crate::crypto::batch::{self, Batch, Met, x25519_answer};
use crate::handshake::hello::server_key_share;
use crate::time::Instant64;

/// What the ages of key shares are counted from.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Key shares that are made in this thread from now on come from its pool.
pub(super) fn pool(batch: Option<Batch>) {
    if let Some(batch) = batch {
        let now = u64::try_from(ZERO.elapsed().as_nanos()).unwrap_or(u64::MAX);
        batch::pool(batch, Instant64::from_nanos(now));
    }
}

/// Whose share is at the server, until that has answered.
pub(super) struct Exchange(Option<Met>);

impl Exchange {
    /// That of the connection that was just made, if it has a share from the pool.
    pub(super) fn of_latest(batch: Option<Batch>) -> Self {
        Self(batch.and_then(|_| Met::latest()))
    }

    /// Given the server's first bytes, agrees with it together with the servers of other tasks that have answered, too.
    /// rustls reads the same bytes afterwards, and computes for itself what is not found then.
    pub(super) async fn answered(&mut self, records: &[u8]) {
        let Some(met) = self.0.take() else { return };
        let share = server_key_share(records).and_then(|(group, share)| x25519_answer(group, share));
        if let Some(theirs) = share {
            met.agree(*theirs).await;
        }
    }
}
