//! Ephemeral X25519 key pairs, each of which agrees with one peer.
//!
//! A secret leaves where it is kept by value, as an [`Ephemeral`], and that is wiped there; agreeing consumes it. The
//! records of what is kept can be copied, as memory that begins as zeros wants it, and are nobody's but this module's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use zeroize::{Zeroize, Zeroizing};

use super::kernels::Kernels;
use super::lanes::LANES;
use super::locked::Blank;
use super::x25519::Octets;

/// So many take the kernel for two. That for eight takes 37 us, whatever number of its lanes is used.
const TWO: usize = 2;

/// A key pair that was not used yet (RFC 8446 section 7.4.2). Whatever agrees takes it by value.
pub(super) struct Ephemeral {
    secret: [u8; 32],
    public: [u8; 32],
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Ephemeral {
    pub(super) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Agrees by aws-lc, which computes our public half once more first; `None` for a share of low order.
    pub(super) fn agree_by_aws_lc(self, theirs: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let key = PrivateKey::from_private_key(&agreement::X25519, &self.secret).ok()?;
        let theirs = UnparsedPublicKey::new(&agreement::X25519, theirs);
        agreement::agree(&key, theirs, (), |secret| Ok(Zeroizing::new(secret.try_into().map_err(|_| ())?))).ok()
    }
}

/// A key pair in the pool.
#[derive(Clone, Copy)]
struct KeyPair {
    secret: [u8; 32],
    public: [u8; 32],
}

/// Key pairs that wait for a handshake, `N` at most.
pub(super) struct Pool<const N: usize> {
    pairs: [KeyPair; N],
    len: usize,
}

// SAFETY: an array of bytes and an integer, for which zero bytes are a value; nothing has a destructor.
unsafe impl<const N: usize> Blank for Pool<N> {}

impl<const N: usize> Pool<N> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether eight more can be added.
    pub(super) const fn has_room(&self) -> bool {
        self.len + LANES <= N
    }

    /// Adds eight, for which there is room.
    pub(super) fn add(&mut self, secrets: &Octets, public: &Octets) {
        for (pair, (secret, public)) in self.pairs[self.len..][..LANES].iter_mut().zip(secrets.iter().zip(public)) {
            (pair.secret, pair.public) = (*secret, *public);
        }
        self.len += LANES;
    }

    pub(super) fn pop(&mut self) -> Option<Ephemeral> {
        self.len = self.len.checked_sub(1)?;
        let pair = &mut self.pairs[self.len];
        let ephemeral = Ephemeral { secret: pair.secret, public: pair.public };
        pair.secret.zeroize();
        Some(ephemeral)
    }

    pub(super) fn wipe(&mut self) {
        self.pairs[..self.len].iter_mut().for_each(|pair| pair.secret.zeroize());
        self.len = 0;
    }

    /// Secrets that are there although nobody may use them any more.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        self.pairs[self.len..].iter().filter(|pair| pair.secret != [0; 32]).count()
    }
}

/// Key pairs that are about to agree together, each with its peer: eight at most.
pub(super) struct Together {
    secrets: Zeroizing<Octets>,
    peers: Octets,
    len: usize,
}

impl Together {
    pub(super) fn new() -> Self {
        Self { secrets: Zeroizing::new([[0; 32]; LANES]), peers: [[0; 32]; LANES], len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds one to at most seven.
    pub(super) fn add(&mut self, ours: Ephemeral, theirs: &[u8; 32]) {
        (self.secrets[self.len], self.peers[self.len]) = (ours.secret, *theirs);
        self.len += 1;
    }

    /// The shared secrets in the order in which the pairs were added; zeros for a share of low order.
    pub(super) fn agree(self, kernels: Kernels) -> Zeroizing<Octets> {
        if self.len > TWO {
            return kernels.agree(&self.secrets, &self.peers);
        }
        let mut agreed = Zeroizing::new([[0; 32]; LANES]);
        let (secrets, peers) = (&self.secrets.as_chunks().0[0], &self.peers.as_chunks().0[0]);
        agreed[..TWO].copy_from_slice(&*kernels.agree_two(secrets, peers));
        agreed
    }
}

/// A client's exchange under way: rustls has it, and may complete it on another thread than that of its pool.
///
/// Our secret is in it until it has agreed with one peer, and in its place the shared one then, until that is taken.
pub(super) struct Exchange {
    public: [u8; 32],
    kept: Mutex<Kept>,
}

struct Kept {
    secret: [u8; 32],
    whose: Whose,
}

/// Whose secret it is.
#[derive(Clone, Copy)]
enum Whose {
    Nobodys,
    Ours,
    /// Shared with the peer that has sent this.
    Shared([u8; 32]),
}

/// What an exchange has for the peer with which it is to end.
pub(super) enum Outcome {
    /// It was agreed on with that peer.
    Agreed(Zeroizing<[u8; 32]>),
    /// Nothing was computed yet.
    Unused(Ephemeral),
    /// Our secret was used with another peer's share, and is gone.
    Spent,
}

impl Exchange {
    pub(super) fn new(ours: Ephemeral) -> Arc<Self> {
        let kept = Mutex::new(Kept { secret: [0; 32], whose: Whose::Nobodys });
        let exchange = Arc::new(Self { public: ours.public, kept });
        // Where it is to stay, as what was moved would leave a copy behind.
        exchange.kept().put(&ours.secret, Whose::Ours);
        exchange
    }

    pub(super) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody needs to agree any more.
    pub(super) fn is_agreed(&self) -> bool {
        !matches!(self.kept().whose, Whose::Ours)
    }

    /// For whoever agrees together with others; `None` where that is done, or being done.
    pub(super) fn claim(&self) -> Option<Claim<'_>> {
        let kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        matches!(kept.whose, Whose::Ours).then_some(Claim { exchange: self, kept })
    }

    /// Takes out what there is for the exchange's end. If another thread is agreeing now, it is waited for.
    pub(super) fn take(&self, theirs: &[u8; 32]) -> Outcome {
        let mut kept = self.kept();
        match kept.whose {
            Whose::Ours => Outcome::Unused(kept.take_ours(&self.public)),
            Whose::Shared(with) if with == *theirs => {
                let shared = Zeroizing::new(kept.secret);
                kept.clear();
                Outcome::Agreed(shared)
            }
            Whose::Shared(_) | Whose::Nobodys => Outcome::Spent,
        }
    }

    /// Secrets that are there.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        usize::from(self.kept().secret != [0; 32])
    }
}

impl Kept {
    fn put(&mut self, secret: &[u8; 32], whose: Whose) {
        (self.secret, self.whose) = (*secret, whose);
    }

    fn take_ours(&mut self, public: &[u8; 32]) -> Ephemeral {
        let ours = Ephemeral { secret: self.secret, public: *public };
        self.clear();
        ours
    }

    fn clear(&mut self) {
        self.secret.zeroize();
        self.whose = Whose::Nobodys;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// An exchange that nobody else may agree for, or end, meanwhile.
pub(super) struct Claim<'a> {
    exchange: &'a Exchange,
    kept: MutexGuard<'a, Kept>,
}

impl Claim<'_> {
    pub(super) fn take_ours(&mut self) -> Ephemeral {
        self.kept.take_ours(&self.exchange.public)
    }

    /// What came of it.
    pub(super) fn shared(mut self, theirs: &[u8; 32], secret: &[u8; 32]) {
        self.kept.put(secret, Whose::Shared(*theirs));
    }
}
