//! Which cryptography an engine uses.

use std::fmt;

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

/// What [`Crypto::Auto`] does without although the CPU has the instructions: somebody should look at this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortfall {
    /// All of it.
    Batch(Unavailable),
    /// Presigning.
    Presigning(Unavailable),
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(why) => write!(f, "{why}; aws-lc computes everything"),
            Self::Presigning(why) => write!(f, "{why}; nothing is signed ahead"),
        }
    }
}

impl Crypto {
    /// Finds out what this machine can do; `None` is aws-lc.
    ///
    /// [`Auto`](Self::Auto) takes aws-lc without a word, also when a self-test has failed: [`shortfall`](Self::shortfall)
    /// tells.
    ///
    /// # Errors
    /// [`Batch`](Self::Batch) was asked for and is not to be had.
    pub fn resolve(self) -> Result<Option<Batch>, Unavailable> {
        self.with(false).map(|(batch, _)| batch)
    }

    /// What [`Auto`](Self::Auto) does without although the CPU could; `None` where nothing is wrong, and for the others.
    #[must_use]
    pub fn shortfall(self) -> Option<Shortfall> {
        self.with(false).ok().and_then(|(_, shortfall)| shortfall)
    }

    /// What this machine has of it, with nonces drawn ahead or not, and what it should have.
    pub(crate) fn with(self, presign: bool) -> Result<(Option<Batch>, Option<Shortfall>), Unavailable> {
        if self == Self::AwsLc {
            return Ok((None, None));
        }
        let auto = self == Self::Auto;
        let batch = match Batch::detect() {
            Ok(batch) => batch,
            Err(Unavailable::NoIfma) if auto => return Ok((None, None)),
            Err(why) if auto => return Ok((None, Some(Shortfall::Batch(why)))),
            Err(why) => return Err(why),
        };
        if !presign {
            return Ok((Some(batch), None));
        }
        match batch.with_presigning() {
            Ok(batch) => Ok((Some(batch), None)),
            Err(why) if auto => Ok((Some(batch), Some(Shortfall::Presigning(why)))),
            Err(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::batch::pretend::{Kernel, Machine};
    use super::*;

    #[test]
    fn where_batches_are_not_to_be_had_only_batch_fails_and_auto_says_what_is_odd() {
        for (machine, why) in [
            (Machine::WithoutIfma, Unavailable::NoIfma),
            (Machine::WithMemory(0), Unavailable::Memory(io::ErrorKind::InvalidInput)),
            (Machine::Faulty(Kernel::Agree), Unavailable::SelfTest("X25519 key agreement")),
            (Machine::Faulty(Kernel::AgreeTwo), Unavailable::SelfTest("X25519 key agreement of two")),
            (Machine::Faulty(Kernel::Public), Unavailable::SelfTest("X25519 key generation")),
        ] {
            let _there = machine.pretend();
            for presign in [false, true] {
                assert!(matches!(Crypto::AwsLc.with(presign), Ok((None, None))));
                assert!(matches!(Crypto::Batch.with(presign), Err(e) if e == why), "{machine:?}");
                let odd = (why != Unavailable::NoIfma).then_some(Shortfall::Batch(why));
                assert!(matches!(Crypto::Auto.with(presign), Ok((None, found)) if found == odd), "{machine:?}");
            }
            assert_eq!(Crypto::Batch.resolve().unwrap_err(), why);
            assert_eq!(Crypto::Batch.shortfall(), None);
        }
    }

    #[test]
    fn a_comb_for_signatures_that_fails_costs_auto_only_presigning() {
        let _there = Machine::Faulty(Kernel::P256Multiples).pretend();
        let why = Unavailable::SelfTest("ECDSA nonces");
        assert!(matches!(Crypto::Batch.with(true), Err(e) if e == why));
        let (batch, shortfall) = Crypto::Auto.with(true).unwrap();
        assert_eq!((batch.map(|batch| batch.presigns()), shortfall), (Some(false), Some(Shortfall::Presigning(why))));
        for crypto in [Crypto::Batch, Crypto::Auto] {
            assert!(matches!(crypto.with(false), Ok((Some(_), None))), "{crypto:?}");
        }
        assert_eq!(
            Shortfall::Presigning(why).to_string(),
            "the self-test of batched ECDSA nonces failed: do not trust this CPU or this build; nothing is signed ahead"
        );
    }

    #[test]
    fn where_they_are_nothing_is_said() {
        let _there = Machine::Able.pretend();
        assert!(matches!(Crypto::AwsLc.with(true), Ok((None, None))));
        for crypto in [Crypto::Batch, Crypto::Auto] {
            for presign in [false, true] {
                let (batch, shortfall) = crypto.with(presign).unwrap();
                assert_eq!((batch.map(|batch| batch.presigns()), shortfall), (Some(presign), None));
            }
        }
    }
}
