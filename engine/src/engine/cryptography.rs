//! Which cryptography an engine uses.

use super::{Builder, StartError};
use crate::crypto::Crypto;
use crate::crypto::batch::Batch;

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

    /// What [`crypto`](Self::crypto) and [`presign`](Self::presign) come to on this machine; `None` is aws-lc.
    ///
    /// # Errors
    /// What was asked for is not to be had.
    pub fn batch(&self) -> Result<Option<Batch>, StartError> {
        if self.crypto == Crypto::AwsLc && self.presign == Some(true) {
            return Err(StartError::PresignWithoutBatch);
        }
        let batch = self.crypto.resolve().map_err(StartError::Crypto)?;
        let presign = self.presign.unwrap_or(self.crypto == Crypto::Batch);
        let batch = batch.map(|batch| if presign { batch.with_presigning() } else { Ok(batch) });
        batch.transpose().map_err(StartError::Crypto)
    }
}
