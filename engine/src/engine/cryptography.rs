//! Which cryptography an engine uses.

use std::time::Duration;

use super::{Builder, StartError};
use crate::crypto::batch::Batch;
use crate::crypto::{Crypto, Shortfall};

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

    /// What [`crypto`](Self::crypto) and [`presign`](Self::presign) come to on this machine; `None` is aws-lc. With
    /// [`Crypto::Auto`] it is what there is; [`shortfall`](Self::shortfall) tells what should be there.
    ///
    /// # Errors
    /// What was asked for is not to be had.
    pub fn batch(&self) -> Result<Option<Batch>, StartError> {
        self.found().map(|(batch, _)| batch)
    }

    /// What [`Crypto::Auto`] does without although the CPU has the instructions: a self-test has failed, or there is no
    /// memory for secrets. Nobody else says it.
    #[must_use]
    pub fn shortfall(&self) -> Option<Shortfall> {
        self.found().ok().and_then(|(_, shortfall)| shortfall)
    }

    fn found(&self) -> Result<(Option<Batch>, Option<Shortfall>), StartError> {
        if self.crypto == Crypto::AwsLc && self.presign == Some(true) {
            return Err(StartError::PresignWithoutBatch);
        }
        if self.crypto == Crypto::AwsLc && !self.batch_wait.is_zero() {
            return Err(StartError::WaitWithoutBatch);
        }
        if self.batch_wait > WAIT_MAX {
            return Err(StartError::BatchWait(self.batch_wait));
        }
        let presign = self.presign.unwrap_or(self.crypto == Crypto::Batch);
        self.crypto.with(presign).map_err(StartError::Crypto)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::crypto::batch::Unavailable;
    use crate::crypto::batch::pretend::{Kernel, Machine};
    use crate::error::Culprit;
    use crate::{Engine, Protocol};

    /// Two shards of it.
    fn builder(crypto: Crypto) -> Builder {
        testing::builder().protocol(Protocol::alpn("chat/1").close()).crypto(crypto)
    }

    #[test]
    fn a_cpu_without_the_instructions_stops_batch_and_not_auto() {
        let _there = Machine::WithoutIfma.pretend();
        let error = builder(Crypto::Batch).start().unwrap_err();
        assert!(matches!(error, StartError::Crypto(Unavailable::NoIfma)) && error.culprit() == Culprit::Config);
        assert_eq!(
            error.to_string(),
            "this CPU has no AVX-512 IFMA, which batched cryptography needs; `auto` or `aws-lc` do without"
        );
        for presign in [false, true] {
            let builder = builder(Crypto::Auto).presign(presign);
            assert!(matches!((builder.batch(), builder.shortfall()), (Ok(None), None)));
            builder.start().unwrap().shutdown().unwrap();
        }
    }

    #[test]
    fn auto_starts_without_what_failed_its_test() {
        for (kernel, all, name) in
            [(Kernel::Agree, true, "X25519 key agreement"), (Kernel::P256Multiples, false, "ECDSA nonces")]
        {
            let _there = Machine::Faulty(kernel).pretend();
            let why = Unavailable::SelfTest(name);
            let error = builder(Crypto::Batch).start().unwrap_err();
            assert!(matches!(error, StartError::Crypto(e) if e == why), "{error:?}");
            let builder = builder(Crypto::Auto).presign(true);
            let lost = if all { Shortfall::Batch(why) } else { Shortfall::Presigning(why) };
            assert_eq!((builder.batch().unwrap().is_some(), builder.shortfall()), (!all, Some(lost)));
            builder.start().unwrap().shutdown().unwrap();
        }
    }

    #[test]
    fn an_engine_starts_with_memory_for_the_secrets_of_all_shards_or_not_at_all() {
        let mut refused = 0;
        for pieces in 0.. {
            let _there = Machine::WithMemory(pieces).pretend();
            match builder(Crypto::Batch).start() {
                Ok(engine) => {
                    engine.shutdown().unwrap();
                    break;
                }
                Err(StartError::Crypto(Unavailable::Memory(_)) | StartError::System(_)) => refused += 1,
                Err(error) => panic!("{error:?} with {pieces}"),
            }
        }
        assert!(refused > 2, "{refused}");
        let _there = Machine::WithMemory(0).pretend();
        let builder = builder(Crypto::Auto);
        let said = builder.shortfall().map(|what| what.to_string()).unwrap_or_default();
        assert!(said.contains("Linux 4.14") && said.ends_with("aws-lc computes everything"), "{said}");
        builder.start().unwrap().shutdown().unwrap();
    }

    #[test]
    fn presigning_comes_with_batch_and_not_with_auto() {
        let presigns = |crypto, presign: Option<bool>| {
            let builder = Builder { presign, ..Engine::builder().crypto(crypto) };
            builder.batch().map(|batch| batch.map(|batch| batch.presigns()))
        };
        assert!(matches!(presigns(Crypto::AwsLc, None), Ok(None)));
        assert!(matches!(presigns(Crypto::AwsLc, Some(true)), Err(StartError::PresignWithoutBatch)));
        let _there = Machine::Able.pretend();
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
