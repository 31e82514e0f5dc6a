//! Shared secrets that were computed ahead for the key exchanges of one turn.
//!
//! Its records can be copied, as memory that begins as zeros wants it, and are nobody's but this module's: a secret
//! leaves by value, once, and is wiped here.

use zeroize::{Zeroize, Zeroizing};

use super::locked::Blank;

/// What came of one peer's key share.
#[derive(Clone, Copy)]
struct Agreement {
    peer: [u8; 32],
    public: [u8; 32],
    secret: [u8; 32],
    taken: bool,
}

/// What a key exchange found.
pub(super) struct Found {
    pub(super) public: [u8; 32],
    pub(super) secret: Zeroizing<[u8; 32]>,
}

/// Agreements that wait for their key exchanges, `N` at most.
pub(super) struct Stash<const N: usize> {
    agreements: [Agreement; N],
    len: usize,
    /// Where the next one is expected: connections advance in the order in which their hellos were seen.
    at: usize,
}

// SAFETY: arrays of bytes, integers and a `bool`, for all of which zero bytes are a value; nothing has a destructor.
unsafe impl<const N: usize> Blank for Stash<N> {}

impl<const N: usize> Stash<N> {
    /// How many more can be added.
    pub(super) const fn room(&self) -> usize {
        N - self.len
    }

    /// Adds one, for which there is room.
    pub(super) fn add(&mut self, peer: &[u8; 32], public: &[u8; 32], secret: &[u8; 32]) {
        self.agreements[self.len] = Agreement { peer: *peer, public: *public, secret: *secret, taken: false };
        self.len += 1;
    }

    /// Takes what was computed for a peer's share: each result once.
    pub(super) fn take(&mut self, peer: &[u8]) -> Option<Found> {
        let (before, from) = (0..self.at, self.at..self.len);
        let at = from.chain(before).find(|at| !self.agreements[*at].taken && self.agreements[*at].peer == peer)?;
        self.at = at + 1;
        let agreement = &mut self.agreements[at];
        agreement.taken = true;
        let found = Found { public: agreement.public, secret: Zeroizing::new(agreement.secret) };
        agreement.secret.zeroize();
        Some(found)
    }

    /// Wipes what was not taken.
    pub(super) fn wipe(&mut self) {
        self.agreements[..self.len].iter_mut().for_each(|agreement| agreement.secret.zeroize());
        (self.len, self.at) = (0, 0);
    }

    /// Secrets that are there although nobody may use them any more.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        let over = self.agreements.iter().enumerate().filter(|(at, a)| *at >= self.len || a.taken);
        over.filter(|(_, a)| a.secret != [0; 32]).count()
    }
}
