//! Key exchanges of several connections together, where the client was told to.

use std::sync::LazyLock;
use std::time::Instant;

use crate::crypto::batch::{self, Batch, Met, x25519_answer};
use crate::handshake::hello::server_key_share;
use crate::time::Instant64;

/// What the ages of key shares are counted from.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Makes a connection, with a key share from this thread's pool where the client was told to.
pub(super) fn with_pool<T>(batch: Option<Batch>, make: impl FnOnce() -> T) -> (T, Exchange) {
    let Some(batch) = batch else { return (make(), Exchange(None)) };
    let now = u64::try_from(ZERO.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (made, met) = batch::with_pool(batch, Instant64::from_nanos(now), make);
    (made, Exchange(met))
}

/// Whose share is at the server, until that has answered.
pub(super) struct Exchange(Option<Met>);

impl Exchange {
    /// Given the server's first bytes, agrees with it together with the servers of other tasks that have answered, too.
    /// rustls reads the same bytes afterwards, and what is not found is computed then.
    pub(super) async fn answered(&mut self, records: &[u8]) {
        let Some(met) = self.0.take() else { return };
        let share = server_key_share(records).and_then(|(group, share)| x25519_answer(group, share));
        if let Some(theirs) = share {
            met.agree(*theirs).await;
        }
    }
}
