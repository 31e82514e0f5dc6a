//! The prepare phase that computes key exchanges in batches.

use std::io;
use std::mem;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::{NamedGroup, ProtocolVersion, SignatureScheme};

use super::hello::ClientHelloView;
use super::prepare::Prepare;
use crate::crypto::batch::{Batch, BatchCounters, Installed, LANES, Turn, x25519_share};
use crate::time::Instant64;

/// Computes the X25519 shared secrets of all ClientHellos of a turn together, where the configurations were made with
/// [`Batch::provider`].
#[derive(Debug)]
pub struct Batched {
    state: State,
    /// The groups that a configuration may choose in TLS 1.3.
    groups: Box<[NamedGroup]>,
    /// The X25519 shares of the ClientHellos that were shown.
    shares: Vec<[u8; 32]>,
    /// How many of them will be answered with a signature that may be an ECDSA one.
    signatures: usize,
    counters: BatchCounters,
    /// How long a ClientHello may wait for others; zero is not at all.
    wait: Duration,
    /// The pool is to be wiped.
    forgetting: bool,
}

#[derive(Debug)]
enum State {
    /// Between batches.
    Idle(Box<Turn>),
    /// Where the key exchanges of this thread find it.
    Installed(Installed),
    /// Lost in a panic, and wiped with it. From then on aws-lc computes everything.
    Lost,
}

impl Batched {
    /// For one shard whose configurations use `provider`.
    ///
    /// # Errors
    /// The system gives no memory for the secrets.
    pub fn new(batch: Batch, provider: &CryptoProvider) -> io::Result<Self> {
        let usable = provider.kx_groups.iter().filter(|g| g.usable_for_version(ProtocolVersion::TLSv1_3));
        Ok(Self {
            state: State::Idle(Box::new(batch.turn()?)),
            groups: usable.map(|g| g.name()).collect(),
            shares: Vec::new(),
            signatures: 0,
            counters: BatchCounters::default(),
            wait: Duration::ZERO,
            forgetting: false,
        })
    }

    /// With ClientHellos held back for others for `wait` at most, while fewer than eight are there.
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// The share that rustls will answer, if it is one for X25519: it takes the client's first group that it knows,
    /// and asks again (HelloRetryRequest) when the client has sent no share of it.
    #[must_use]
    pub fn share(&self, hello: &ClientHelloView<'_>) -> Option<[u8; 32]> {
        if !hello.offers(ProtocolVersion::TLSv1_3) {
            return None;
        }
        let group = hello.groups().find(|group| self.groups.contains(group))?;
        x25519_share(group, hello.key_share(group)?).copied()
    }
}

impl Prepare for Batched {
    fn see(&mut self, hello: &ClientHelloView<'_>) {
        self.shares.extend(self.share(hello));
        let signs = hello.offers(ProtocolVersion::TLSv1_3)
            && !hello.has_psk()
            && hello.signature_schemes().any(|scheme| scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
        self.signatures += usize::from(signs);
    }

    fn prepare(&mut self, now: Instant64) {
        let mut turn = match mem::replace(&mut self.state, State::Lost) {
            State::Idle(turn) => turn,
            state => {
                self.state = state;
                return;
            }
        };
        turn.agree(&self.shares, now);
        turn.presign(self.signatures);
        self.counters = turn.counters();
        self.state = match Installed::new(turn) {
            Ok(installed) => State::Installed(installed),
            // Another shard on this thread is between its phases: what was computed here would never be asked for.
            Err(mut turn) => {
                turn.wipe();
                State::Idle(turn)
            }
        };
    }

    fn finish(&mut self) {
        self.shares.clear();
        self.signatures = 0;
        self.state = match mem::replace(&mut self.state, State::Lost) {
            State::Installed(installed) => match installed.take_back() {
                Some(turn) => {
                    self.counters = turn.counters();
                    State::Idle(turn)
                }
                None => State::Lost,
            },
            state => state,
        };
    }

    fn patience(&self, hellos: usize) -> Option<Duration> {
        let waits = !self.wait.is_zero() && matches!(self.state, State::Idle(_)) && (1..LANES).contains(&hellos);
        waits.then_some(self.wait)
    }

    fn gains(&self, hello: &ClientHelloView<'_>) -> bool {
        self.share(hello).is_some()
    }

    fn replenish(&mut self, now: Instant64) {
        if let State::Idle(turn) = &mut self.state {
            if mem::take(&mut self.forgetting) {
                turn.forget();
            }
            turn.refill(now);
            self.counters = turn.counters();
        }
    }

    fn replenish_at(&self) -> Option<Instant64> {
        match &self.state {
            State::Idle(turn) => turn.renews_at(),
            State::Installed(_) | State::Lost => None,
        }
    }

    fn forget(&mut self) {
        // The hellos of this turn are still answered from it: a pool is filled up only after answers have left.
        self.forgetting = true;
    }

    fn counters(&self) -> BatchCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::kx_group;

    use super::super::hello::HelloReader;
    use super::super::hello::testing::{extension, message, records, vector};
    use super::*;

    const SHARE: [u8; 32] = [9; 32];

    fn batched() -> Option<Batched> {
        let batch = Batch::detect().ok()?;
        let mut batched = Batched::new(batch, &batch.provider(crate::crypto::provider())).unwrap();
        batched.replenish(Instant64::ZERO);
        Some(batched)
    }

    fn group(group: NamedGroup) -> [u8; 2] {
        u16::from(group).to_be_bytes()
    }

    fn versions(version: [u8; 2]) -> Vec<u8> {
        extension(43, &vector(1, &version))
    }

    fn schemes(scheme: [u8; 2]) -> Vec<u8> {
        extension(13, &vector(2, &scheme))
    }

    /// A ClientHello with these groups, the preferred first, and key shares.
    fn hello(groups: &[NamedGroup], shares: &[(NamedGroup, Vec<u8>)]) -> Vec<u8> {
        let groups: Vec<u8> = groups.iter().flat_map(|g| group(*g)).collect();
        let shares: Vec<u8> =
            shares.iter().flat_map(|(g, share)| [&group(*g)[..], &vector(2, share)].concat()).collect();
        let (versions, schemes) = (versions([3, 4]), schemes([4, 3]));
        let groups = extension(10, &vector(2, &groups));
        records(&message(&[versions, schemes, groups, extension(51, &vector(2, &shares))]), 1 << 14)
    }

    fn see(batched: &mut Batched, hello: &[u8]) {
        let read = HelloReader::new().read(hello, 1 << 16).unwrap().unwrap();
        batched.see(&read.view(hello, None));
    }

    #[test]
    fn only_shares_that_rustls_will_answer_are_computed_with() {
        use NamedGroup::{X448, X25519, X25519MLKEM768, secp256r1, secp384r1};
        let Some(mut batched) = batched() else { return };
        let ours = || (X25519, SHARE.to_vec());
        let hybrid = || (X25519MLKEM768, [&[1; 1184][..], &SHARE].concat());
        for (groups, shares, answered) in [
            (&[X25519][..], vec![ours()], true),
            (&[X25519MLKEM768, X25519], vec![hybrid(), ours()], true),
            // The first group is not one of ours.
            (&[X448, X25519], vec![ours()], true),
            // The first group of ours has no share: rustls asks for it (HelloRetryRequest), whatever else there is.
            (&[secp256r1, X25519], vec![ours()], false),
            (&[secp384r1, X25519MLKEM768, X25519], vec![hybrid(), ours()], false),
            (&[X25519MLKEM768, X25519], vec![ours()], false),
            // It has one, and is not for us.
            (&[secp256r1, X25519], vec![ours(), (secp256r1, vec![4; 65])], false),
            (&[X25519], vec![(X25519, vec![9; 31])], false),
            (&[X25519], vec![], false),
        ] {
            see(&mut batched, &hello(groups, &shares));
            let seen: &[[u8; 32]] = if answered { &[SHARE] } else { &[] };
            assert_eq!(batched.shares, seen, "{groups:?}");
            batched.finish();
        }
    }

    #[test]
    fn nonces_are_for_hellos_that_an_ecdsa_signature_answers() {
        let Some(mut batched) = batched() else { return };
        let psk = extension(
            41,
            &[vector(2, &[vector(2, &[7]), vec![0; 4]].concat()), vector(2, &vector(1, &[7; 32]))].concat(),
        );
        for (extensions, signs) in [
            (vec![versions([3, 4]), schemes([4, 3])], true),
            (vec![versions([3, 4]), schemes([8, 7])], false),
            (vec![versions([3, 3]), schemes([4, 3])], false),
            (vec![schemes([4, 3])], false),
            // A ticket, from which the session will resume.
            (vec![versions([3, 4]), schemes([4, 3]), psk], false),
        ] {
            see(&mut batched, &records(&message(&extensions), 1 << 14));
            assert_eq!(batched.signatures, usize::from(signs), "{extensions:?}");
            batched.finish();
            assert_eq!(batched.signatures, 0);
        }
    }

    #[test]
    fn of_two_shards_on_one_thread_the_second_keeps_nothing() {
        let (Some(mut first), Some(mut second)) = (batched(), batched()) else { return };
        let clients: [_; 4] = core::array::from_fn(|_| kx_group::X25519.start().unwrap());
        let shares = clients
            .each_ref()
            .map(|client| hello(&[NamedGroup::X25519], &[(NamedGroup::X25519, client.pub_key().to_vec())]));
        shares[..2].iter().for_each(|hello| see(&mut first, hello));
        first.prepare(Instant64::ZERO);
        shares[..2].iter().for_each(|hello| see(&mut second, hello));
        second.prepare(Instant64::ZERO);
        second.finish();
        first.finish();
        // In its next turn the second has nothing left of the one before, and so answers with what is new.
        shares[2..].iter().for_each(|hello| see(&mut second, hello));
        second.prepare(Instant64::ZERO);
        let batch = Batch::detect().unwrap();
        let groups = batch.provider(crate::crypto::provider()).kx_groups;
        let x25519 = groups.iter().find(|group| group.name() == NamedGroup::X25519).unwrap();
        for client in &clients {
            x25519.start_and_complete(client.pub_key()).unwrap();
        }
        second.finish();
        assert_eq!((second.counters().lanes, second.counters().misses), (4, 2));
    }
}
