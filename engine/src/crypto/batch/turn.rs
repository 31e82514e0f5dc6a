//! What a shard has ready for the key exchanges of one turn.
//!
//! rustls' key-exchange groups are statics, so what was computed for them waits in a thread-local. It is there only
//! between [`Installed::new`] and the guard's end, so that shards which share a thread, as simulated ones do, never
//! find each other's.

use core::cell::RefCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::AddAssign;
use core::time::Duration;
use std::io;

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::ephemeral::{Ephemeral, Pool, Together};
use super::kernels::{Kernels, Presigning};
use super::lanes::LANES;
use super::locked::{Blank, Locked};
use super::p256::{Nonce, Nonces};
use super::randomness::{Draw, takes};
use super::signer::any_key;
use super::stash::{Found, Stash};
use super::x25519::Octets;
use crate::time::Instant64;

/// Agreements that one batch computes ahead; what is beyond them is left to aws-lc.
pub(super) const STASH: usize = 256;
/// Key pairs that wait for a handshake. A full pool, to which no eight can be added, has one for each agreement: none
/// is made while an answer waits.
const POOL: usize = STASH + LANES - 1;
/// One is left to aws-lc: within a handshake the kernel for two, with one of its places empty, takes as long.
const BREAK_EVEN: usize = 2;
/// Eight nonces cost what two signatures of aws-lc's do, whatever number of them is used.
const PRESIGN_MIN: usize = 3;
/// Random bytes drawn at a time: what some thirty handshakes ask for as their ClientHellos are answered.
const DRAW: usize = 1024;
/// How long a key pair may wait.
const AGE_MAX: Duration = Duration::from_secs(60);
/// When a pool is renewed, so that no turn finds one that is too old.
const RENEWAL: Duration = Duration::from_secs(50);

/// All that is secret. Zeros are an empty store.
struct Store {
    pool: Pool<POOL>,
    stash: Stash<STASH>,
    nonces: Nonces<STASH>,
    draw: Draw<DRAW>,
}

// SAFETY: each part of it is one.
unsafe impl Blank for Store {}

/// How often what happened, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchCounters {
    /// Times that a kernel for key agreement ran.
    pub batches: u64,
    /// Lanes of it that were used.
    pub lanes: u64,
    /// Times that eight key pairs were made.
    pub refills: u64,
    /// Key exchanges that found nothing ready.
    pub misses: u64,
    /// Key shares that were seen and left to aws-lc: too few came together, the pool was empty or too old, or there was
    /// no room for more.
    pub scalar: u64,
    /// Nonces drawn ahead.
    pub nonces: u64,
    /// Signatures made with them.
    pub presigned: u64,
}

impl AddAssign for BatchCounters {
    fn add_assign(&mut self, other: Self) {
        self.batches += other.batches;
        self.lanes += other.lanes;
        self.refills += other.refills;
        self.misses += other.misses;
        self.scalar += other.scalar;
        self.nonces += other.nonces;
        self.presigned += other.presigned;
    }
}

/// One shard's share of batched cryptography.
pub(crate) struct Turn {
    kernels: Kernels,
    presigning: Option<Presigning>,
    store: Locked<Store>,
    /// When the pool was empty last: nothing in it is older.
    pool_since: Instant64,
    counters: BatchCounters,
    /// Shares of this turn that nothing is computed for, and so are no misses.
    left: u64,
}

thread_local! {
    static INSTALLED: RefCell<Option<Box<Turn>>> = const { RefCell::new(None) };
}

impl Turn {
    pub(super) fn new(kernels: Kernels, presigning: Option<Presigning>) -> io::Result<Self> {
        let store = Locked::zeroed()?;
        Ok(Self {
            kernels,
            presigning,
            store,
            pool_since: Instant64::ZERO,
            counters: BatchCounters::default(),
            left: 0,
        })
    }

    /// Computes the shared secrets with `peers`, each with a key pair of its own out of the pool. What there is none for
    /// is left to aws-lc: no pair is made while answers wait.
    pub(crate) fn agree(&mut self, peers: &[[u8; 32]], now: Instant64) {
        self.drop_older(AGE_MAX, now);
        let most = self.store.pool.len().min(self.store.stash.room());
        let (ahead, beyond) = peers.split_at(peers.len().min(most));
        self.left = beyond.len() as u64;
        for peers in ahead.chunks(LANES) {
            if peers.len() < BREAK_EVEN {
                self.left += peers.len() as u64;
            } else {
                self.agree_chunk(peers);
            }
        }
        self.counters.scalar += self.left;
    }

    /// Leaves further key exchanges to aws-lc, of which nobody knows whether they will be asked for in this turn.
    pub(crate) const fn leave(&mut self, exchanges: usize) {
        self.left += exchanges as u64;
    }

    /// At most eight of them, for which the pool has key pairs.
    fn agree_chunk(&mut self, peers: &[[u8; 32]]) {
        let mut together = Together::new();
        let mut public = [[0; 32]; LANES];
        for (public, peer) in public.iter_mut().zip(peers) {
            let Some(ours) = self.store.pool.pop() else { break };
            *public = *ours.public();
            together.add(ours, peer);
        }
        let used = together.len();
        let agreed = self.agree_now(together);
        for ((peer, public), secret) in peers.iter().zip(&public).zip(agreed.iter()).take(used) {
            self.store.stash.add(peer, public, secret);
        }
    }

    /// Takes a key pair out of the pool. It is for clients, whom nobody waits for: where the pool is empty, eight are
    /// made.
    pub(super) fn take_pair(&mut self, now: Instant64) -> Option<Ephemeral> {
        self.drop_older(AGE_MAX, now);
        if self.store.pool.len() == 0 {
            self.refill_once(now);
        }
        self.store.pool.pop()
    }

    /// Computes shared secrets, in the order in which the pairs were added.
    pub(super) fn agree_now(&mut self, together: Together) -> Zeroizing<Octets> {
        self.counters.batches += 1;
        self.counters.lanes += together.len() as u64;
        together.agree(self.kernels)
    }

    /// Counts a key exchange that found nothing ready.
    pub(super) const fn count_miss(&mut self) {
        self.counters.misses += 1;
    }

    /// Draws nonces for so many signatures, as far as that pays.
    pub(crate) fn presign(&mut self, mut signatures: usize) {
        let Some(presigning) = self.presigning.filter(|_| any_key()) else { return };
        while signatures >= PRESIGN_MIN && self.store.nonces.has_room() {
            let wanted = signatures.min(LANES);
            if self.store.nonces.draw(self.kernels, presigning.table, wanted).is_none() {
                return;
            }
            self.counters.nonces += wanted as u64;
            signatures -= wanted;
        }
    }

    /// Takes a nonce out.
    fn take_nonce(&mut self) -> Option<Nonce> {
        let nonce = self.store.nonces.pop()?;
        self.counters.presigned += 1;
        Some(nonce)
    }

    /// Fills `out` from what is drawn ahead; `false` where that cannot be.
    pub(super) fn take_random(&mut self, out: &mut [u8]) -> bool {
        self.store.draw.take(out)
    }

    /// Fills the pool up, and renews one that would soon be too old. It is not to be done while an answer waits.
    pub(crate) fn refill(&mut self, now: Instant64) {
        self.drop_older(RENEWAL, now);
        while self.store.pool.has_room() && self.refill_once(now) {}
    }

    /// Makes eight key pairs; `false` when there is no randomness.
    fn refill_once(&mut self, now: Instant64) -> bool {
        let mut secrets = Zeroizing::new([[0; 32]; LANES]);
        if rand::fill(secrets.as_flattened_mut()).is_err() {
            return false;
        }
        let public = self.kernels.public(&secrets);
        if self.store.pool.len() == 0 {
            self.pool_since = now;
        }
        self.store.pool.add(&secrets, &public);
        self.counters.refills += 1;
        true
    }

    /// When the pool is to be renewed by [`refill`](Self::refill).
    pub(crate) fn renews_at(&self) -> Option<Instant64> {
        (self.store.pool.len() > 0).then(|| self.pool_since + RENEWAL)
    }

    fn drop_older(&mut self, age: Duration, now: Instant64) {
        if now.since(self.pool_since) >= age {
            self.forget();
        }
    }

    /// Wipes the pool.
    pub(crate) fn forget(&mut self) {
        self.store.pool.wipe();
    }

    /// Wipes what was not taken.
    pub(crate) fn wipe(&mut self) {
        self.store.stash.wipe();
        self.store.nonces.wipe();
        self.store.draw.wipe();
    }

    #[cfg(test)]
    pub(super) fn pooled(&self) -> usize {
        self.store.pool.len()
    }

    /// Random bytes that wait to be asked for.
    #[cfg(test)]
    pub(super) fn drawn(&self) -> usize {
        self.store.draw.left()
    }

    /// Secrets that are there although nobody may use them any more, or yet.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        let Store { pool, stash, nonces, draw } = &*self.store;
        pool.leftovers() + stash.leftovers() + nonces.leftovers() + draw.leftovers()
    }

    /// Where the secrets are.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(&*self.store).addr()
    }

    /// Whether nonces are drawn ahead.
    pub(crate) const fn presigns(&self) -> bool {
        self.presigning.is_some()
    }

    pub(crate) const fn counters(&self) -> BatchCounters {
        self.counters
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("kernels", &self.kernels).finish_non_exhaustive()
    }
}

/// Keeps a [`Turn`] where this thread's key exchanges find it.
#[derive(Debug)]
pub(crate) struct Installed {
    /// It is this thread's.
    not_send: PhantomData<*const ()>,
}

impl Installed {
    /// Installs it; gives it back when another one is there.
    pub(crate) fn new(turn: Box<Turn>) -> Result<Self, Box<Turn>> {
        INSTALLED.with_borrow_mut(|installed| match installed {
            Some(_) => Err(turn),
            None => {
                *installed = Some(turn);
                Ok(Self { not_send: PhantomData })
            }
        })
    }

    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        INSTALLED.with_borrow(|turn| turn.as_ref().map_or(0, |turn| turn.leftovers()))
    }

    #[cfg(test)]
    pub(super) fn drawn(&self) -> usize {
        INSTALLED.with_borrow(|turn| turn.as_ref().map_or(0, |turn| turn.drawn()))
    }

    /// Takes it back, with what was not used wiped.
    pub(crate) fn take_back(self) -> Option<Box<Turn>> {
        let mut turn = INSTALLED.take()?;
        turn.wipe();
        Some(turn)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // It is not there after `take_back`; and where it is, its store wipes itself.
        drop(INSTALLED.try_with(RefCell::take));
    }
}

/// What the installed turn has for a peer's share, if there is one. A turn without it counts a miss.
pub(super) fn take(peer: &[u8]) -> Option<Found> {
    INSTALLED.with_borrow_mut(|installed| {
        let turn = installed.as_mut()?;
        let found = turn.store.stash.take(peer);
        if found.is_none() {
            match turn.left.checked_sub(1) {
                Some(left) => turn.left = left,
                None => turn.counters.misses += 1,
            }
        }
        found
    })
}

/// A nonce of the installed turn, if there is one left.
pub(super) fn take_nonce() -> Option<Nonce> {
    INSTALLED.with_borrow_mut(|installed| installed.as_mut()?.take_nonce())
}

/// Fills `out` from what the installed turn has drawn; `false` where there is none, and where that cannot be.
pub(super) fn take_random(out: &mut [u8]) -> bool {
    takes(&INSTALLED, |turn| turn.take_random(out))
}
