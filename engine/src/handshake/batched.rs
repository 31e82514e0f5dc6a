//! The prepare phase that computes key exchanges in batches.

use std::io;
use std::mem;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::{NamedGroup, ProtocolVersion, SignatureScheme};

use super::foreseen::{Foreseen, meets_in_tls13};
use super::hello::ClientHelloView;
use super::prepare::Prepare;
use crate::crypto::batch::{Batch, BatchCounters, Installed, LANES, Turn, x25519_share};
use crate::time::Instant64;

/// Computes the X25519 shared secrets of all ClientHellos of a turn together, where the configurations were made with
/// [`Batch::provider`].
#[derive(Debug)]
pub struct Batched {
    state: State,
    /// What [`gains`](Prepare::gains) is asked about before a protocol is chosen.
    provider: CryptoProvider,
    presigns: bool,
    /// The X25519 shares of the ClientHellos that were shown.
    shares: Vec<[u8; 32]>,
    /// How many ClientHellos will be answered with a signature that nonces are drawn for.
    signatures: usize,
    /// How many key exchanges may be asked for that nothing is computed for.
    retries: usize,
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
    /// For one shard, most of whose configurations use `provider`.
    ///
    /// # Errors
    /// The system gives no memory for the secrets.
    pub fn new(batch: Batch, provider: &CryptoProvider) -> io::Result<Self> {
        Ok(Self::of(batch.turn()?, provider))
    }

    /// As [`new`](Self::new), with memory that is there already.
    pub(crate) fn of(turn: Turn, provider: &CryptoProvider) -> Self {
        Self {
            presigns: turn.presigns(),
            state: State::Idle(Box::new(turn)),
            provider: provider.clone(),
            shares: Vec::new(),
            signatures: 0,
            retries: 0,
            counters: BatchCounters::default(),
            wait: Duration::ZERO,
            forgetting: false,
        }
    }

    /// With ClientHellos held back for others for `wait` at most, while fewer than eight are there.
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// The share that rustls will answer with `provider` in TLS 1.3, if it is one for X25519.
    #[must_use]
    pub fn share(hello: &ClientHelloView<'_>, provider: &CryptoProvider) -> Option<[u8; 32]> {
        if !meets_in_tls13(hello, provider) {
            return None;
        }
        let (group, share) = answered(hello, provider)?;
        x25519_share(group, share).copied()
    }
}

/// The key share that rustls will answer in TLS 1.3: it takes the client's first group that it knows, and asks again
/// (HelloRetryRequest) when the client has sent no share of it.
fn answered<'a>(hello: &ClientHelloView<'a>, provider: &CryptoProvider) -> Option<(NamedGroup, &'a [u8])> {
    let known = |group: &&NamedGroup| {
        let mut usable = provider.kx_groups.iter().filter(|g| g.usable_for_version(ProtocolVersion::TLSv1_3));
        usable.any(|g| g.name() == **group)
    };
    let group = hello.groups().find(|group| known(&group))?;
    Some((group, hello.key_share(group)?))
}

impl Prepare for Batched {
    fn see(&mut self, hello: &ClientHelloView<'_>, foreseen: &Foreseen<'_>) {
        if !foreseen.is_tls13(hello) {
            return;
        }
        // Without a share for it rustls asks for one, and signs later.
        let Some((group, share)) = answered(hello, foreseen.provider()) else { return };
        self.shares.extend(x25519_share(group, share).copied());
        let signs =
            self.presigns && !hello.has_psk() && foreseen.may_sign_with(hello, SignatureScheme::ECDSA_NISTP256_SHA256);
        self.signatures += usize::from(signs);
    }

    fn see_retry(&mut self) {
        self.retries += 1;
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
        turn.leave(self.retries);
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
        (self.signatures, self.retries) = (0, 0);
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
        Self::share(hello, &self.provider).is_some()
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

    use std::sync::{Arc, LazyLock};

    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::super::hello::testing::{alpn, extension, message, records, vector};
    use super::super::{Blueprint, Handshake, ProtocolTls, Sources, TlsVersions};
    use super::*;
    use crate::crypto::batch::pretend::Machine;
    use crate::identity::{CertificateSet, Identity};
    use crate::limits::Limits;
    use crate::peer::PeerAddr;
    use crate::selection::{Table, WithoutAlpn};

    const SHARE: [u8; 32] = [9; 32];

    /// By the kernels' twin, which every machine has.
    fn batched() -> (Batch, Batched) {
        let _there = Machine::Able.pretend();
        let batch = Batch::detect().unwrap();
        let mut batched = Batched::new(batch, &batch.provider(crate::crypto::provider())).unwrap();
        batched.replenish(Instant64::ZERO);
        (batch, batched)
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

    /// What the tests' hellos are served with: no ALPN is P-256, `ed` is Ed25519, `old` is TLS 1.2.
    static LIVE: LazyLock<Blueprint> = LazyLock::new(|| {
        let provider = crate::crypto::provider();
        let set = |algorithm| {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
            let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
            let identity = Identity::from_der(vec![cert.der().clone()], key, &provider).unwrap();
            Arc::new(CertificateSet::new("tests", vec![identity]).unwrap())
        };
        let p256 = set(&rcgen::PKCS_ECDSA_P256_SHA256);
        let mut old = ProtocolTls::new(*b"old", Arc::clone(&p256));
        old.versions = TlsVersions::Tls12;
        let protocols = [ProtocolTls::new(*b"h2", p256), ProtocolTls::new(*b"ed", set(&rcgen::PKCS_ED25519)), old];
        let table = Table::builder().protocol("h2").protocol("ed").protocol("old");
        let table = table.without_alpn(WithoutAlpn::Protocol(0)).build().unwrap();
        Blueprint::new(table, &protocols, &Sources::default()).unwrap()
    });

    fn see(batched: &mut Batched, hello: &[u8]) {
        let (live, mut handshake) = (LIVE.live(), Handshake::new(Instant64::ZERO));
        handshake.offer(hello, &Limits::default()).unwrap();
        if let Some((hello, foreseen)) = handshake.foresee(hello, PeerAddr::Unix, &live) {
            batched.see(&hello, &foreseen);
        }
    }

    #[test]
    fn only_shares_that_rustls_will_answer_are_computed_with() {
        use NamedGroup::{X448, X25519, X25519MLKEM768, secp256r1, secp384r1};
        let (_, mut batched) = batched();
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
        let (_, mut batched) = batched();
        batched.presigns = true;
        let psk = extension(
            41,
            &[vector(2, &[vector(2, &[7]), vec![0; 4]].concat()), vector(2, &vector(1, &[7; 32]))].concat(),
        );
        let groups = |share: NamedGroup| {
            let offered = vector(2, &[group(NamedGroup::X25519), group(NamedGroup::secp256r1)].concat());
            let shares = vector(2, &[&group(share)[..], &vector(2, &SHARE)].concat());
            [extension(10, &offered), extension(51, &shares)].concat()
        };
        let x25519 = || groups(NamedGroup::X25519);
        let ecdsa = || schemes([4, 3]);
        for (extensions, signs, agrees) in [
            (vec![versions([3, 4]), ecdsa(), x25519()], true, true),
            (vec![versions([3, 4]), schemes([8, 7]), x25519()], false, true),
            (vec![versions([3, 3]), ecdsa(), x25519()], false, false),
            (vec![ecdsa(), x25519()], false, false),
            // rustls asks for a share of X25519 first.
            (vec![versions([3, 4]), ecdsa(), groups(NamedGroup::secp256r1)], false, false),
            // A key of another kind, an older version, and a protocol that there is not.
            (vec![versions([3, 4]), ecdsa(), x25519(), alpn(&["ed"])], false, true),
            (vec![versions([3, 4]), ecdsa(), x25519(), alpn(&["old"])], false, false),
            (vec![versions([3, 4]), ecdsa(), x25519(), alpn(&["new"])], false, false),
            // A ticket, from which the session will resume.
            (vec![versions([3, 4]), ecdsa(), x25519(), psk], false, true),
        ] {
            see(&mut batched, &records(&message(&extensions), 1 << 14));
            let seen = (batched.signatures, batched.shares.len());
            assert_eq!(seen, (usize::from(signs), usize::from(agrees)), "{extensions:?}");
            batched.finish();
            assert_eq!(batched.signatures, 0);
        }
    }

    #[test]
    fn of_two_shards_on_one_thread_the_second_keeps_nothing() {
        let ((batch, mut first), (_, mut second)) = (batched(), batched());
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
        let groups = batch.provider(crate::crypto::provider()).kx_groups;
        let x25519 = groups.iter().find(|group| group.name() == NamedGroup::X25519).unwrap();
        for client in &clients {
            x25519.start_and_complete(client.pub_key()).unwrap();
        }
        second.finish();
        assert_eq!((second.counters().lanes, second.counters().misses), (4, 2));
    }
}
