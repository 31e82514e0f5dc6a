//! Which cryptography an engine uses.

use std::time::Duration;

use super::{Builder, StartError};
use crate::crypto::Crypto;
use crate::crypto::batch::Batch;

/// A longer wait is a slip, and would meet the deadlines of clients.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Builder {
    /// Whether the key exchanges of a turn are computed together; see [`Crypto`]. It changes the groups of the
    /// provider in the [`sources`](Self::sources), and not their order.
    pub fn crypto(self, crypto: Crypto) -> Self {
        Self { crypto, ..self }
    }

    /// Whether ECDSA nonces are drawn ahead in each turn. Unless said otherwise they are with [`Crypto::Batch`], and are
    /// not with [`Crypto::Auto`]. It helps identities whose keys were loaded with
    /// [`Batch::provider`]; see [`Batch::with_presigning`] for what it gives up.
    pub fn presign(self, presign: bool) -> Self {
        Self { presign: Some(presign), ..self }
    }

    /// How long a ClientHello may be held back for others, while fewer than eight are there whose key exchanges can be
    /// computed together; zero, the default, is not at all, and a second the most. Nothing else waits meanwhile.
    ///
    /// It saves CPU time on a server that is not full, where few ClientHellos come in one turn, and makes handshakes
    /// there take so much longer. A full server fills its batches by itself. Less than some 200 us saves nothing, as waiting
    /// has a price of its own; `docs/ARCHITECTURE.md` has figures.
    pub fn batch_wait(self, wait: Duration) -> Self {
        Self { batch_wait: wait, ..self }
    }

    /// What a reload cannot change of it.
    pub(super) const fn cryptography(&self) -> (Crypto, Option<bool>, Duration) {
        (self.crypto, self.presign, self.batch_wait)
    }

    /// What [`crypto`](Self::crypto) and [`presign`](Self::presign) come to on this machine; `None` is aws-lc.
    ///
    /// # Errors
    /// What was asked for is not to be had.
    pub fn batch(&self) -> Result<Option<Batch>, StartError> {
        if self.crypto == Crypto::AwsLc && self.presign == Some(true) {
            return Err(StartError::PresignWithoutBatch);
        }
        if self.crypto == Crypto::AwsLc && !self.batch_wait.is_zero() {
            return Err(StartError::WaitWithoutBatch);
        }
        if self.batch_wait > WAIT_MAX {
            return Err(StartError::BatchWait(self.batch_wait));
        }
        let batch = self.crypto.resolve().map_err(StartError::Crypto)?;
        let presign = self.presign.unwrap_or(self.crypto == Crypto::Batch);
        let batch = batch.map(|batch| if presign { batch.with_presigning() } else { Ok(batch) });
        batch.transpose().map_err(StartError::Crypto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    #[test]
    fn presigning_comes_with_batch_and_not_with_auto() {
        let presigns = |crypto, presign: Option<bool>| {
            let builder = Builder { presign, ..Engine::builder().crypto(crypto) };
            builder.batch().map(|batch| batch.map(|batch| batch.presigns()))
        };
        assert!(matches!(presigns(Crypto::AwsLc, None), Ok(None)));
        assert!(matches!(presigns(Crypto::AwsLc, Some(true)), Err(StartError::PresignWithoutBatch)));
        if Batch::detect().is_err() {
            return;
        }
        for (crypto, presign, expected) in [
            (Crypto::Batch, None, true),
            (Crypto::Batch, Some(false), false),
            (Crypto::Auto, None, false),
            (Crypto::Auto, Some(true), true),
        ] {
            assert!(matches!(presigns(crypto, presign), Ok(Some(is)) if is == expected), "{crypto:?} {presign:?}");
        }
    }
}
