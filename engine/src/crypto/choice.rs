//! Which cryptography an engine uses.

use super::batch::{Batch, Unavailable};

/// Which cryptography an engine uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crypto {
    /// aws-lc for everything, one handshake after the other.
    #[default]
    AwsLc,
    /// The key exchanges of a turn together ([`batch`](super::batch)); an engine does not start where the CPU cannot.
    Batch,
    /// [`Batch`](Self::Batch) where the CPU can, [`AwsLc`](Self::AwsLc) elsewhere.
    Auto,
}

impl Crypto {
    /// Finds out what this machine can do; `None` is aws-lc.
    ///
    /// [`Auto`](Self::Auto) takes aws-lc without a word, also when a self-test has failed: [`Batch::detect`] tells.
    ///
    /// # Errors
    /// [`Batch`](Self::Batch) was asked for and is not to be had.
    pub fn resolve(self) -> Result<Option<Batch>, Unavailable> {
        self.of(Batch::detect)
    }

    fn of(self, detect: impl FnOnce() -> Result<Batch, Unavailable>) -> Result<Option<Batch>, Unavailable> {
        match self {
            Self::AwsLc => Ok(None),
            Self::Batch => detect().map(Some),
            Self::Auto => Ok(detect().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_batches_are_not_to_be_had_only_batch_fails() {
        for why in [Unavailable::NoIfma, Unavailable::SelfTest("X25519 key agreement")] {
            assert!(matches!(Crypto::AwsLc.of(|| Err(why)), Ok(None)));
            assert!(matches!(Crypto::Auto.of(|| Err(why)), Ok(None)));
            assert!(matches!(Crypto::Batch.of(|| Err(why)), Err(e) if e == why));
        }
        if let Ok(batch) = Batch::detect() {
            assert!(matches!(Crypto::AwsLc.of(|| Ok(batch)), Ok(None)));
            assert!(matches!(Crypto::Auto.of(|| Ok(batch)), Ok(Some(_))));
            assert!(matches!(Crypto::Batch.of(|| Ok(batch)), Ok(Some(_))));
        }
    }
}
