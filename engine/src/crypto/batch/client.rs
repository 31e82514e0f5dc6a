//! The client's side: key shares from a pool, and agreements with servers that answer together computed together.
//!
//! A client's share goes out in one turn and its server's comes back in a later one, so what is here stays with its
//! thread: for as long as there is a [`ClientKeys`], which is for whoever drives many connections in turns of its own;
//! or, for [`handfast::client`](crate::client), until the thread ends. There the tasks that are ready together are a turn.

use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::marker::PhantomData;
use core::task::Poll;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use rustls::crypto::{ActiveKeyExchange, SharedSecret};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

use super::Batch;
use super::lanes::LANES;
use super::turn::{BatchCounters, Turn};
use crate::time::Instant64;

/// Key shares under way at a time that can be named; what is beyond them is aws-lc's.
const WAITING_MAX: usize = 1 << 16;

/// A server's share, and what was agreed on with it.
type Agreed = ([u8; 32], Zeroizing<[u8; 32]>);

/// An exchange under way: rustls has it, and may complete it on another thread than that of its pool.
struct Exchange {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    agreed: Mutex<Option<Agreed>>,
}

impl Exchange {
    fn agreed(&self) -> MutexGuard<'_, Option<Agreed>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Client {
    turn: Turn,
    now: Instant64,
    /// It is a [`ClientKeys`]'.
    owned: bool,
    /// Those of a [`ClientKeys`], by our share.
    waiting: HashMap<[u8; 32], Weak<Exchange>>,
    /// That which was begun last.
    latest: Option<Weak<Exchange>>,
    /// Those whose server has answered while other tasks were ready.
    met: Vec<(Weak<Exchange>, [u8; 32])>,
}

thread_local! {
    static CLIENT: RefCell<Option<Box<Client>>> = const { RefCell::new(None) };
}

/// Pooled X25519 key shares for the clients of this thread, whose configurations are made with
/// [`Batch::provider`](super::Batch::provider).
///
/// Without it, and for groups other than X25519 and X25519MLKEM768, clients compute with aws-lc.
pub struct ClientKeys {
    /// It is this thread's.
    not_send: PhantomData<*const ()>,
}

impl ClientKeys {
    /// `None` when this thread has one already.
    pub(super) fn new(turn: Turn) -> Option<Self> {
        CLIENT.with_borrow_mut(|client| {
            if client.as_ref().is_some_and(|client| client.owned) {
                return None;
            }
            *client = Some(Box::new(Client::new(turn, true)));
            Some(Self { not_send: PhantomData })
        })
    }

    /// The share of the connection that was made since the last call, if it is a pooled one.
    pub fn take_latest(&mut self) -> Option<[u8; 32]> {
        latest().map(|exchange| exchange.public)
    }

    /// Agrees on secrets: pairs of a share of ours and the share with which its server has answered. The connections
    /// find them when they are given the server's bytes.
    pub fn agree(&mut self, exchanges: &[([u8; 32], [u8; 32])]) {
        CLIENT.with_borrow_mut(|client| {
            let Some(client) = client else { return };
            let known = |(ours, theirs): &([u8; 32], [u8; 32])| Some((client.waiting.get(ours)?.upgrade()?, *theirs));
            let exchanges: Vec<_> = exchanges.iter().filter_map(known).collect();
            client.agree(&exchanges);
        });
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
    fn new(turn: Turn, owned: bool) -> Self {
        Self { turn, now: Instant64::ZERO, owned, waiting: HashMap::new(), latest: None, met: Vec::new() }
    }

    fn agree(&mut self, exchanges: &[(Arc<Exchange>, [u8; 32])]) {
        for exchanges in exchanges.chunks(LANES) {
            let mut secrets = Zeroizing::new([[0; 32]; LANES]);
            let mut peers = [[0; 32]; LANES];
            for (lane, (ours, theirs)) in exchanges.iter().enumerate() {
                (secrets[lane], peers[lane]) = (*ours.secret, *theirs);
            }
            let agreed = self.turn.agree_now(&secrets, &peers, exchanges.len());
            for (agreed, (ours, theirs)) in agreed.iter().zip(exchanges) {
                *ours.agreed() = Some((*theirs, Zeroizing::new(*agreed)));
            }
        }
    }

    /// Agrees with all servers that have answered.
    fn meet(&mut self) {
        let met: Vec<_> = self.met.drain(..).filter_map(|(ours, theirs)| Some((ours.upgrade()?, theirs))).collect();
        self.agree(&met);
    }
}

/// The exchange that was begun on this thread since the last call.
fn latest() -> Option<Arc<Exchange>> {
    CLIENT.with_borrow_mut(|client| client.as_mut()?.latest.take()?.upgrade())
}

/// Gives the clients of this thread a pool until it ends, unless they have one. Without memory for it they have none.
pub(crate) fn pool(batch: Batch, now: Instant64) {
    CLIENT.with_borrow_mut(|client| match client {
        Some(client) if client.owned => {}
        Some(client) => client.now = now,
        None => {
            let turn = batch.turn().ok();
            *client = turn.map(|turn| Box::new(Client { now, ..Client::new(turn, false) }));
        }
    });
}

/// The exchange of a connection whose task may wait for other tasks.
pub(crate) struct Met(Arc<Exchange>);

impl Met {
    /// That of the connection that was made last on this thread, if it has a share from the pool.
    pub(crate) fn latest() -> Option<Self> {
        latest().map(Self)
    }

    /// Agrees with the server, whose share has come, and with those of all tasks of this thread that are ready now: they
    /// are polled once before. Nothing is waited for but them.
    pub(crate) async fn agree(&self, theirs: [u8; 32]) {
        CLIENT.with_borrow_mut(|client| {
            let Some(client) = client else { return };
            client.met.push((Arc::downgrade(&self.0), theirs));
            if client.met.len() == LANES {
                client.meet();
            }
        });
        let mut polled = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut polled, true) || self.0.agreed().is_some() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        if self.0.agreed().is_none() {
            // If it moved to another thread meanwhile, that computes for those that it has.
            CLIENT.with_borrow_mut(|client| client.as_mut().map(|client| client.meet()));
        }
    }
}

/// A key share from the pool; `None` on a thread without one.
pub(super) fn start() -> Option<Pooled> {
    CLIENT.with_borrow_mut(|client| {
        let client = client.as_mut()?;
        if client.waiting.len() >= WAITING_MAX {
            return None;
        }
        let (secret, public) = client.turn.take_pair(client.now)?;
        let exchange = Arc::new(Exchange { secret, public, agreed: Mutex::new(None) });
        if client.owned {
            client.waiting.insert(public, Arc::downgrade(&exchange));
        }
        client.latest = Some(Arc::downgrade(&exchange));
        Some(Pooled(exchange))
    })
}

/// An exchange under way with a share from the pool.
pub(super) struct Pooled(Arc<Exchange>);

/// What this thread's kernels agree on with a server that nothing was computed with before; `None` on a thread without.
fn agree_alone(exchange: &Arc<Exchange>, theirs: [u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    CLIENT.with_borrow_mut(|client| {
        let client = client.as_mut()?;
        client.turn.count_miss();
        client.agree(&[(Arc::clone(exchange), theirs)]);
        exchange.agreed().take().map(|(_, secret)| secret)
    })
}

impl ActiveKeyExchange for Pooled {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = || Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = <&[u8; 32]>::try_from(peer).map_err(|_| refused())?;
        let agreed = self.0.agreed().take().filter(|(with, _)| with == peer).map(|(_, secret)| secret);
        // aws-lc would compute our share once more first.
        if let Some(secret) = agreed.or_else(|| agree_alone(&self.0, *peer)) {
            // "Implementations MUST check whether the computed Diffie-Hellman shared secret is the all-zero value and
            // abort if so" (RFC 8446 section 7.4.2).
            let zero = secret.iter().fold(0, |bits, byte| bits | byte) == 0;
            return if zero { Err(refused()) } else { Ok(SharedSecret::from(&secret[..])) };
        }
        let key = PrivateKey::from_private_key(&agreement::X25519, &*self.0.secret).map_err(|_| refused())?;
        let peer = UnparsedPublicKey::new(&agreement::X25519, peer);
        agreement::agree(&key, peer, refused(), |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0.public
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
        drop(CLIENT.try_with(|client| client.try_borrow_mut().ok()?.as_mut()?.waiting.remove(&self.0.public)));
    }
}

#[cfg(test)]
mod tests {
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Waker};

    use rustls::crypto::aws_lc_rs::kx_group;
    use rustls::crypto::{CompletedKeyExchange, SupportedKxGroup};

    use super::super::groups::{X25519, X25519MLKEM768, x25519_answer};
    use super::super::kernels::Kernels;
    use super::*;

    fn keys() -> Option<ClientKeys> {
        ClientKeys::new(Turn::new(Kernels::Portable, None).unwrap())
    }

    /// A server's answer, and the half of it that is for X25519.
    fn answer(client: &dyn ActiveKeyExchange) -> (CompletedKeyExchange, [u8; 32]) {
        let theirs: &dyn SupportedKxGroup =
            if client.group() == NamedGroup::X25519 { kx_group::X25519 } else { kx_group::X25519MLKEM768 };
        let server = theirs.start_and_complete(client.pub_key()).unwrap();
        let half = *x25519_answer(client.group(), &server.pub_key).unwrap();
        (server, half)
    }

    #[test]
    fn servers_that_answer_together_are_agreed_with_together() {
        assert!(start().is_none());
        let mut keys = keys().unwrap();
        assert!(self::keys().is_none());
        keys.refill(Instant64::ZERO);
        let mut clients = Vec::new();
        let mut exchanges = Vec::new();
        for _ in 0..11 {
            let client = X25519.start().unwrap();
            let ours = keys.take_latest().unwrap();
            assert_eq!(client.pub_key(), ours);
            assert!(keys.take_latest().is_none());
            assert!(exchanges.iter().all(|(other, _)| *other != ours), "a share of another connection");
            let (server, theirs) = answer(&*client);
            exchanges.push((ours, theirs));
            clients.push((client, server));
        }
        // Of one that is gone meanwhile nothing is left; another's server answers with a share of low order.
        drop(clients.remove(0));
        exchanges[1].1 = [0; 32];
        keys.agree(&exchanges);
        assert_eq!((keys.counters().batches, keys.counters().lanes), (2, 10));
        let (client, _) = clients.remove(0);
        assert!(client.complete(&[0; 32]).is_err());
        // A share that was not the one agreed with is computed with for itself, and so is one that nobody announced.
        let (client, _) = clients.remove(0);
        let (other, _) = answer(&*client);
        assert_eq!(client.complete(&other.pub_key).unwrap().secret_bytes(), other.secret.secret_bytes());
        let alone = X25519.start().unwrap();
        let (server, _) = answer(&*alone);
        assert_eq!(alone.complete(&server.pub_key).unwrap().secret_bytes(), server.secret.secret_bytes());
        assert!(X25519.start().unwrap().complete(&[0; 32]).is_err());
        assert_eq!((keys.counters().misses, keys.counters().lanes), (3, 13));
        for (client, server) in clients {
            let agreed = client.complete(&server.pub_key).unwrap();
            assert_eq!(agreed.secret_bytes(), server.secret.secret_bytes());
        }
        CLIENT.with_borrow(|client| assert!(client.as_ref().unwrap().waiting.is_empty()));
        drop(keys);
        assert!(start().is_none());
    }

    #[test]
    fn tasks_that_are_ready_together_are_a_turn() {
        let keys = keys().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let groups = [X25519, X25519MLKEM768];
        let begun: Vec<_> = (0..11).map(|i| (groups[i % 2].start().unwrap(), Met::latest().unwrap())).collect();
        assert!(Met::latest().is_none());
        let answers: Vec<_> = begun.iter().map(|(client, _)| answer(&**client)).collect();
        let mut waiting: Vec<_> =
            begun.iter().zip(&answers).map(|((_, met), (_, theirs))| Box::pin(met.agree(*theirs))).collect();
        // Eight are enough; the others wait until all have been polled.
        for (at, task) in waiting.iter_mut().enumerate() {
            assert_eq!(task.as_mut().poll(&mut cx).is_ready(), at == 7, "{at}");
        }
        assert_eq!((keys.counters().batches, keys.counters().lanes), (1, 8));
        for task in waiting.iter_mut().enumerate().filter(|(at, _)| *at != 7).map(|(_, task)| task) {
            assert!(task.as_mut().poll(&mut cx).is_ready());
        }
        assert_eq!((keys.counters().batches, keys.counters().lanes), (2, 11));
        drop(waiting);
        for ((client, _), (server, _)) in begun.into_iter().zip(&answers) {
            assert_eq!(client.complete(&server.pub_key).unwrap().secret_bytes(), server.secret.secret_bytes());
        }
        assert_eq!(keys.counters().misses, 0);
    }

    #[test]
    fn a_task_that_moves_or_ends_leaves_nothing_behind() {
        let keys = keys().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        for group in [X25519, X25519MLKEM768] {
            let client = group.start().unwrap();
            let met = Met::latest().unwrap();
            let (server, theirs) = answer(&*client);
            assert!(pin!(met.agree(theirs)).poll(&mut cx).is_pending());
            let secret = std::thread::spawn(move || {
                drop(met);
                client.complete(&server.pub_key).is_ok_and(|s| s.secret_bytes() == server.secret.secret_bytes())
            });
            assert!(secret.join().unwrap());
        }
        CLIENT.with_borrow_mut(|client| {
            let client = client.as_mut().unwrap();
            assert!(client.met.iter().all(|(ours, _)| ours.upgrade().is_none()), "its secret is gone");
            client.meet();
            assert!(client.met.is_empty());
        });
        assert_eq!(keys.counters().lanes, 0);
    }

    #[test]
    fn a_hybrid_share_serves_a_server_that_takes_its_half() {
        let _keys = keys().unwrap();
        let client = X25519MLKEM768.start().unwrap();
        let (group, half) = client.hybrid_component().unwrap();
        assert_eq!((group, half), (NamedGroup::X25519, &client.pub_key()[1184..]));
        let server = kx_group::X25519.start_and_complete(half).unwrap();
        let agreed = client.complete_hybrid_component(&server.pub_key).unwrap();
        assert_eq!(agreed.secret_bytes(), server.secret.secret_bytes());
        for len in [0, 32, 1088, 1119, 1121] {
            assert!(X25519MLKEM768.start().unwrap().complete(&vec![9; len]).is_err(), "{len}");
        }
    }
}
