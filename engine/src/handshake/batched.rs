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
            Err(turn) => State::Idle(turn),
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
            turn.refill(now);
            self.counters = turn.counters();
        }
    }

    fn forget(&mut self) {
        if let State::Idle(turn) = &mut self.state {
            turn.forget();
        }
    }

    fn counters(&self) -> BatchCounters {
        self.counters
    }
}
