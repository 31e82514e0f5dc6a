//! The client's side: key shares from a pool, and agreements with the servers of a turn computed together.
//!
//! A client's share goes out in one turn and its server's comes back in a later one, so [`ClientKeys`] stays with its
//! thread for as long as that has connections.

use core::cell::RefCell;
use core::fmt;
use core::marker::PhantomData;
use std::collections::HashMap;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use rustls::crypto::{ActiveKeyExchange, SharedSecret};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

use super::lanes::LANES;
use super::turn::{BREAK_EVEN, BatchCounters, Turn};
use crate::time::Instant64;

/// Key shares under way at a time; what is beyond them is aws-lc's.
const WAITING_MAX: usize = 1 << 16;

/// A client's share under way: its secret, and what was agreed with which server.
struct Waiting {
    secret: Zeroizing<[u8; 32]>,
    agreed: Option<([u8; 32], Zeroizing<[u8; 32]>)>,
    /// Its server has answered, and nothing was agreed on because too few had.
    left: bool,
}

struct Client {
    turn: Turn,
    /// By our share. Boxed, so that secrets stay where they can be wiped.
    waiting: HashMap<[u8; 32], Box<Waiting>>,
    /// The share that was taken out last.
    latest: Option<[u8; 32]>,
    now: Instant64,
}

thread_local! {
    static CLIENT: RefCell<Option<Box<Client>>> = const { RefCell::new(None) };
}

/// Pooled X25519 key shares for the clients of this thread, whose configurations are made with
/// [`Batch::provider`](super::Batch::provider).
///
/// Without it, and for a group other than X25519, clients compute with aws-lc.
pub struct ClientKeys {
    /// It is this thread's.
    not_send: PhantomData<*const ()>,
}

impl ClientKeys {
    /// `None` when this thread has one already.
    pub(super) fn new(turn: Turn) -> Option<Self> {
        CLIENT.with_borrow_mut(|client| {
            if client.is_some() {
                return None;
            }
            let (waiting, latest, now) = (HashMap::new(), None, Instant64::ZERO);
            *client = Some(Box::new(Client { turn, waiting, latest, now }));
            Some(Self { not_send: PhantomData })
        })
    }

    /// The share of the connection that was made since the last call, if it is a pooled one.
    pub fn take_latest(&mut self) -> Option<[u8; 32]> {
        CLIENT.with_borrow_mut(|client| client.as_mut()?.latest.take())
    }

    /// Agrees on secrets: pairs of a share of ours and the share with which its server has answered. The connections
    /// find them when they are given the server's bytes. Does nothing for fewer than two.
    pub fn agree(&mut self, exchanges: &[([u8; 32], [u8; 32])]) {
        CLIENT.with_borrow_mut(|client| client.as_mut().map(|client| client.agree(exchanges)));
    }

    /// Fills the pool up, when nothing else is to be done.
    pub fn refill(&mut self, now: Instant64) {
        CLIENT.with_borrow_mut(|client| {
            if let Some(client) = client {
                client.now = now;
                client.turn.refill(now);
            }
        });
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> BatchCounters {
        CLIENT.with_borrow(|client| client.as_ref().map(|client| client.turn.counters()).unwrap_or_default())
    }
}

impl Drop for ClientKeys {
    fn drop(&mut self) {
        drop(CLIENT.try_with(RefCell::take));
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKeys").finish_non_exhaustive()
    }
}

impl Client {
    fn agree(&mut self, exchanges: &[([u8; 32], [u8; 32])]) {
        for exchanges in exchanges.chunks(LANES) {
            if exchanges.len() < BREAK_EVEN {
                self.turn.count_scalar(exchanges.len());
                for (ours, _) in exchanges {
                    if let Some(waiting) = self.waiting.get_mut(ours) {
                        waiting.left = true;
                    }
                }
                continue;
            }
            let mut secrets = Zeroizing::new([[0; 32]; LANES]);
            let mut peers = [[0; 32]; LANES];
            for (lane, (ours, theirs)) in exchanges.iter().enumerate() {
                let Some(waiting) = self.waiting.get(ours) else { continue };
                (secrets[lane], peers[lane]) = (*waiting.secret, *theirs);
            }
            let agreed = self.turn.agree_now(&secrets, &peers, exchanges.len());
            for (agreed, (ours, theirs)) in agreed.iter().zip(exchanges) {
                if let Some(waiting) = self.waiting.get_mut(ours) {
                    waiting.agreed = Some((*theirs, Zeroizing::new(*agreed)));
                }
            }
        }
    }
}

/// A key share from the pool; `None` on a thread without one.
pub(super) fn start() -> Option<Box<dyn ActiveKeyExchange>> {
    CLIENT.with_borrow_mut(|client| {
        let client = client.as_mut()?;
        if client.waiting.len() >= WAITING_MAX {
            return None;
        }
        let (secret, public) = client.turn.take_pair(client.now)?;
        client.waiting.insert(public, Box::new(Waiting { secret: secret.clone(), agreed: None, left: false }));
        client.latest = Some(public);
        Some(Box::new(Pooled { secret, public }) as Box<dyn ActiveKeyExchange>)
    })
}

/// An exchange under way with a share from the pool.
struct Pooled {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

/// What was agreed on with this server, if anything was. Else it is a miss, unless it was left on purpose.
fn found(ours: &[u8; 32], theirs: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    CLIENT.with_borrow_mut(|client| {
        let client = client.as_mut()?;
        let waiting = client.waiting.get_mut(ours)?;
        let left = waiting.left;
        let agreed = waiting.agreed.take().filter(|(peer, _)| peer == theirs);
        if agreed.is_none() && !left {
            client.turn.count_miss();
        }
        agreed.map(|(_, secret)| secret)
    })
}

impl ActiveKeyExchange for Pooled {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = || Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = <&[u8; 32]>::try_from(peer).map_err(|_| refused())?;
        if let Some(secret) = found(&self.public, peer) {
            // "Implementations MUST check whether the computed Diffie-Hellman shared secret is the all-zero value and
            // abort if so" (RFC 8446 section 7.4.2).
            let zero = secret.iter().fold(0, |bits, byte| bits | byte) == 0;
            return if zero { Err(refused()) } else { Ok(SharedSecret::from(&secret[..])) };
        }
        let key = PrivateKey::from_private_key(&agreement::X25519, &*self.secret).map_err(|_| refused())?;
        let peer = UnparsedPublicKey::new(&agreement::X25519, peer);
        agreement::agree(&key, peer, refused(), |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // On another thread, or after the pool's end, there is nothing to forget.
        drop(CLIENT.try_with(|client| client.try_borrow_mut().ok()?.as_mut()?.waiting.remove(&self.public)));
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::kx_group;

    use super::super::groups::X25519;
    use super::super::kernels::Kernels;
    use super::*;

    #[test]
    fn servers_that_answer_together_are_agreed_with_together() {
        assert!(start().is_none());
        let mut keys = ClientKeys::new(Turn::new(Kernels::Portable, None).unwrap()).unwrap();
        assert!(ClientKeys::new(Turn::new(Kernels::Portable, None).unwrap()).is_none());
        keys.refill(Instant64::ZERO);
        let mut clients = Vec::new();
        let mut exchanges = Vec::new();
        for _ in 0..11 {
            let client = X25519.start().unwrap();
            let ours = keys.take_latest().unwrap();
            assert_eq!(client.pub_key(), ours);
            assert!(keys.take_latest().is_none());
            let server = kx_group::X25519.start_and_complete(client.pub_key()).unwrap();
            exchanges.push((ours, server.pub_key.as_slice().try_into().unwrap()));
            clients.push((client, server));
        }
        // Of one that is gone meanwhile nothing is left; another's server answers with a share of low order.
        drop(clients.remove(0));
        exchanges[1].1 = [0; 32];
        keys.agree(&exchanges);
        assert_eq!((keys.counters().batches, keys.counters().lanes), (2, 11));
        let (client, _) = clients.remove(0);
        assert!(client.complete(&[0; 32]).is_err());
        // A share that was not the one agreed with is computed with for itself.
        let (client, _) = clients.remove(0);
        let other = kx_group::X25519.start_and_complete(client.pub_key()).unwrap();
        assert_eq!(client.complete(&other.pub_key).unwrap().secret_bytes(), other.secret.secret_bytes());
        assert_eq!((keys.counters().misses, keys.counters().scalar), (1, 0));
        // One that comes alone is left to aws-lc.
        let alone = X25519.start().unwrap();
        let server = kx_group::X25519.start_and_complete(alone.pub_key()).unwrap();
        keys.agree(&[(alone.pub_key().try_into().unwrap(), server.pub_key.as_slice().try_into().unwrap())]);
        assert_eq!(alone.complete(&server.pub_key).unwrap().secret_bytes(), server.secret.secret_bytes());
        assert_eq!((keys.counters().misses, keys.counters().scalar), (1, 1));
        for (client, server) in clients {
            let agreed = client.complete(&server.pub_key).unwrap();
            assert_eq!(agreed.secret_bytes(), server.secret.secret_bytes());
        }
        CLIENT.with_borrow(|client| assert!(client.as_ref().unwrap().waiting.is_empty()));
        drop(keys);
        assert!(start().is_none());
    }
}
