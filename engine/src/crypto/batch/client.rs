//! The client's side: key shares from a pool, and agreements with servers that answer together computed together.
//!
//! A client's share goes out in one turn and its server's comes back in a later one, so what is here stays with its
//! thread: for as long as there is a [`ClientKeys`], which is for whoever drives many connections in turns of its own;
//! or, for [`handfast::client`](crate::client), until the thread ends. There the tasks that are ready together are a turn.

use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::marker::PhantomData;
use core::mem;
use core::task::Poll;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use rustls::crypto::{ActiveKeyExchange, SharedSecret};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

use super::Batch;
use super::ephemeral::{Ephemeral, Exchange, Outcome, Together};
use super::lanes::LANES;
use super::randomness::takes;
use super::turn::{BatchCounters, Turn};
use crate::time::Instant64;

/// Key shares under way at a time that can be named; what is beyond them is aws-lc's.
const WAITING_MAX: usize = 1 << 16;

struct Client {
    turn: Turn,
    /// What ages are judged by.
    now: Instant64,
    /// It is a [`ClientKeys`]'.
    owned: bool,
    /// The exchange that is begun next is that of a connection which is being made, and has its share from the pool.
    /// Others that begin on this thread have not: those of a server's TLS 1.2, and those of a HelloRetryRequest.
    armed: bool,
    /// Those of a [`ClientKeys`], by our share.
    waiting: HashMap<[u8; 32], Weak<Exchange>>,
    /// That of the connection which is being made.
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

    /// Makes a connection with a share from the pool: what `make` returned, and the share, if it is a pooled one.
    /// Exchanges that begin elsewhere on this thread are aws-lc's.
    pub fn begin<T>(&mut self, make: impl FnOnce() -> T) -> (T, Option<[u8; 32]>) {
        let (made, exchange) = armed(make);
        (made, exchange.map(|exchange| *exchange.public()))
    }

    /// Agrees on secrets: pairs of a share of ours and the share with which its server has answered. The connections
    /// find them when they are given the server's bytes. A share agrees once: with a server that has sent another share
    /// than the one here, its connection fails.
    pub fn agree(&mut self, exchanges: &[([u8; 32], [u8; 32])]) {
        CLIENT.with_borrow_mut(|client| {
            let Some(client) = client else { return };
            let known = |(ours, theirs): &([u8; 32], [u8; 32])| Some((client.waiting.get(ours)?.upgrade()?, *theirs));
            let exchanges: Vec<_> = exchanges.iter().filter_map(known).collect();
            client.agree(&exchanges);
        });
    }

    /// Fills the pool up, when nothing else is to be done, and wipes what was drawn ahead of randomness. It also tells the
    /// time by which the pool's age is judged until the next call: whoever calls it seldom has older key pairs used.
    pub fn refill(&mut self, now: Instant64) {
        CLIENT.with_borrow_mut(|client| {
            if let Some(client) = client {
                client.now = now;
                client.turn.wipe();
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
        Self { turn, now: Instant64::ZERO, owned, armed: false, waiting: HashMap::new(), latest: None, met: Vec::new() }
    }

    /// Those that have agreed already, or do so on another thread now, are left out.
    fn agree(&mut self, exchanges: &[(Arc<Exchange>, [u8; 32])]) {
        for exchanges in exchanges.chunks(LANES) {
            let mut together = Together::new();
            let mut claims = [const { None }; LANES];
            for (ours, theirs) in exchanges {
                if let Some(mut claim) = ours.claim() {
                    let lane = together.len();
                    together.add(claim.take_ours(), theirs);
                    claims[lane] = Some((claim, theirs));
                }
            }
            if together.len() > 0 {
                let agreed = self.turn.agree_now(together);
                for ((claim, theirs), secret) in claims.into_iter().flatten().zip(agreed.iter()) {
                    claim.shared(theirs, secret);
                }
            }
        }
    }

    /// Agrees with all servers that have answered.
    fn meet(&mut self) {
        let met: Vec<_> = self.met.drain(..).filter_map(|(ours, theirs)| Some((ours.upgrade()?, theirs))).collect();
        self.agree(&met);
    }
}

/// Disarms the thread's pool, however the making of a connection ends.
struct Armed;

impl Drop for Armed {
    fn drop(&mut self) {
        CLIENT.with_borrow_mut(|client| {
            if let Some(client) = client {
                client.armed = false;
            }
        });
    }
}

/// What `make` returned, and the exchange that began in it, if it has a share from the pool.
fn armed<T>(make: impl FnOnce() -> T) -> (T, Option<Arc<Exchange>>) {
    CLIENT.with_borrow_mut(|client| {
        if let Some(client) = client {
            (client.armed, client.latest) = (true, None);
        }
    });
    let _armed = Armed;
    let made = make();
    (made, CLIENT.with_borrow_mut(|client| client.as_mut()?.latest.take()?.upgrade()))
}

/// Makes a connection whose share is from this thread's pool, of which it has one until it ends: a [`ClientKeys`]' if
/// that is there. Without memory for a pool the share is aws-lc's.
pub(crate) fn with_pool<T>(batch: Batch, now: Instant64, make: impl FnOnce() -> T) -> (T, Option<Met>) {
    CLIENT.with_borrow_mut(|client| match client {
        Some(client) if client.owned => {}
        Some(client) => client.now = now,
        None => {
            let turn = batch.turn().ok();
            *client = turn.map(|turn| Box::new(Client { now, ..Client::new(turn, false) }));
        }
    });
    let (made, exchange) = armed(make);
    (made, exchange.map(Met))
}

/// The exchange of a connection whose task may wait for other tasks.
pub(crate) struct Met(Arc<Exchange>);

impl Met {
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
            if mem::replace(&mut polled, true) || self.0.is_agreed() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        if !self.0.is_agreed() {
            // If it moved to another thread meanwhile, that computes for those that it has.
            CLIENT.with_borrow_mut(|client| client.as_mut().map(|client| client.meet()));
        }
    }
}

/// A key share from the pool, for a connection that is being made on this thread; `None` for all others.
pub(super) fn start() -> Option<Pooled> {
    CLIENT.with_borrow_mut(|client| {
        let client = client.as_mut()?;
        if !mem::take(&mut client.armed) || client.waiting.len() >= WAITING_MAX {
            return None;
        }
        let exchange = Exchange::new(client.turn.take_pair(client.now)?);
        if client.owned {
            client.waiting.insert(*exchange.public(), Arc::downgrade(&exchange));
        }
        client.latest = Some(Arc::downgrade(&exchange));
        Some(Pooled(exchange))
    })
}

/// Fills `out` from what a [`ClientKeys`] of this thread has drawn; `false` where there is none, and where that cannot
/// be. Without one nothing would tell when a draw is old.
pub(super) fn take_random(out: &mut [u8]) -> bool {
    takes(&CLIENT, |client| client.owned && client.turn.take_random(out))
}

/// An exchange under way with a share from the pool.
pub(super) struct Pooled(Arc<Exchange>);

/// Agrees with a server that nothing was computed with before: by this thread's kernels if it has them, as aws-lc would
/// compute our share once more first. `None` for a share of low order.
fn agree_alone(ours: Ephemeral, theirs: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    CLIENT.with_borrow_mut(|client| {
        let Some(client) = client else { return ours.agree_by_aws_lc(theirs) };
        client.turn.count_miss();
        let mut together = Together::new();
        together.add(ours, theirs);
        Some(Zeroizing::new(client.turn.agree_now(together)[0]))
    })
}

impl ActiveKeyExchange for Pooled {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = || Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = <&[u8; 32]>::try_from(peer).map_err(|_| refused())?;
        let secret = match self.0.take(peer) {
            Outcome::Agreed(secret) => secret,
            Outcome::Unused(ours) => agree_alone(ours, peer).ok_or_else(refused)?,
            // One secret is not used with two shares, whoever was wrong about which is the server's.
            Outcome::Spent => return Err(Error::General("the key share has agreed with another one".into())),
        };
        // "Implementations MUST check whether the computed Diffie-Hellman shared secret is the all-zero value and abort
        // if so" (RFC 8446 section 7.4.2).
        if secret.iter().fold(0, |bits, byte| bits | byte) == 0 {
            return Err(refused());
        }
        Ok(SharedSecret::from(&secret[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.0.public()
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
        drop(CLIENT.try_with(|client| client.try_borrow_mut().ok()?.as_mut()?.waiting.remove(self.0.public())));
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
    use super::super::pretend::Machine;
    use super::super::randomness::RANDOM;
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

    /// An exchange of a connection that is being made.
    fn begin(group: &dyn SupportedKxGroup) -> (Box<dyn ActiveKeyExchange>, Option<Met>) {
        let (begun, exchange) = armed(|| group.start().unwrap());
        (begun, exchange.map(Met))
    }

    #[test]
    fn randomness_is_drawn_between_two_refills_where_there_are_any() {
        let drawn = || CLIENT.with_borrow(|client| client.as_ref().unwrap().turn.drawn());
        let ask = || RANDOM.fill(&mut [0; 32]).unwrap();
        let mut keys = keys().unwrap();
        ask();
        let first = drawn();
        ask();
        assert_eq!(first - drawn(), 32);
        assert!(take_random(&mut [0; 32]));
        keys.refill(Instant64::ZERO);
        assert_eq!(drawn(), 0);
        drop(keys);
        // A thread that drives tasks tells no time.
        let turn = Turn::new(Kernels::Portable, None).unwrap();
        CLIENT.with_borrow_mut(|client| *client = Some(Box::new(Client::new(turn, false))));
        ask();
        assert!(!take_random(&mut [0; 32]));
        assert_eq!(drawn(), 0);
    }

    #[test]
    fn only_a_connection_that_is_being_made_has_a_share_from_the_pool() {
        let mut keys = keys().unwrap();
        keys.refill(Instant64::ZERO);
        let pooled = || CLIENT.with_borrow(|client| client.as_ref().unwrap().turn.pooled());
        let all = pooled();
        // A server's exchange of TLS 1.2, or a client's after a HelloRetryRequest.
        let other = X25519.start().unwrap();
        assert_eq!(pooled(), all);
        let (_begun, met) = begin(X25519);
        assert_eq!(pooled(), all - 1);
        // One that begins while a connection is made, after its own.
        let ((first, second), ours) = keys.begin(|| (X25519.start().unwrap(), X25519.start().unwrap()));
        assert_eq!((pooled(), ours.as_ref().map(|ours| &ours[..])), (all - 2, Some(first.pub_key())));
        assert!(met.is_some_and(|met| met.0.public()[..] != *first.pub_key()));
        // A connection that begins with another group arms nothing that comes after it.
        assert_eq!(keys.begin(|| kx_group::SECP256R1.start().unwrap()).1, None);
        assert!(std::panic::catch_unwind(|| armed(|| panic!("no connection"))).is_err());
        let last = X25519.start().unwrap();
        assert_eq!((pooled(), keys.begin(|| ()).1), (all - 2, None));
        for client in [other, first, second, last] {
            let (server, _) = answer(&*client);
            assert_eq!(client.complete(&server.pub_key).unwrap().secret_bytes(), server.secret.secret_bytes());
        }
    }

    #[test]
    fn a_thread_s_pool_is_as_old_as_its_next_connection_says() {
        let _there = Machine::Able.pretend();
        let batch = Batch::detect().unwrap();
        let at = |seconds: u64| Instant64::from_nanos(seconds * 1_000_000_000);
        let refills = || CLIENT.with_borrow(|client| client.as_ref().unwrap().turn.counters().refills);
        let connect = |now| with_pool(batch, at(now), || X25519.start().unwrap()).1.unwrap();
        let (first, second) = (connect(10), connect(69));
        assert_eq!(refills(), 1);
        drop(X25519.start().unwrap());
        let third = connect(70);
        assert_eq!(refills(), 2);
        assert!(first.0.public() != second.0.public() && second.0.public() != third.0.public());
    }

    #[test]
    fn a_secret_is_gone_when_it_has_agreed_and_so_is_what_came_of_it_when_it_is_taken() {
        let mut keys = keys().unwrap();
        let (client, met) = begin(X25519);
        let (met, (server, theirs)) = (met.unwrap(), answer(&*client));
        let ours = *met.0.public();
        // Twice at once, and once more with another server's share: it agrees with the first.
        keys.agree(&[(ours, theirs), (ours, [9; 32])]);
        keys.agree(&[(ours, [9; 32])]);
        assert_eq!((keys.counters().batches, keys.counters().lanes, met.0.leftovers()), (1, 1, 1));
        assert_eq!(client.complete(&server.pub_key).unwrap().secret_bytes(), server.secret.secret_bytes());
        assert_eq!(met.0.leftovers(), 0);
        // Nothing was agreed on before: then what is left is nothing, either.
        for on_another_thread in [false, true] {
            let (client, met) = begin(X25519);
            let (met, (server, _)) = (met.unwrap(), answer(&*client));
            assert_eq!(met.0.leftovers(), 1);
            let complete = move || client.complete(&server.pub_key).is_ok();
            let completed = if on_another_thread { std::thread::spawn(complete).join().unwrap() } else { complete() };
            assert!(completed && met.0.is_agreed());
            assert_eq!(met.0.leftovers(), 0);
        }
    }

    #[test]
    fn an_exchange_ends_only_after_the_thread_that_agrees_for_it() {
        let _keys = keys().unwrap();
        let (client, met) = begin(X25519);
        let (met, (server, theirs)) = (met.unwrap(), answer(&*client));
        let mut claim = met.0.claim().unwrap();
        assert!(met.0.claim().is_none());
        let mut together = Together::new();
        together.add(claim.take_ours(), &theirs);
        let expected = server.secret.secret_bytes().to_vec();
        let ends = std::thread::spawn(move || client.complete(&server.pub_key).unwrap().secret_bytes().to_vec());
        claim.shared(&theirs, &together.agree(Kernels::Portable)[0]);
        assert_eq!(ends.join().unwrap(), expected);
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
            let (client, ours) = keys.begin(|| X25519.start().unwrap());
            let ours = ours.unwrap();
            assert_eq!(client.pub_key(), ours);
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
        // A secret that has agreed with one share agrees with no other; one whose share nobody announced does so now.
        let (client, _) = clients.remove(0);
        let (other, _) = answer(&*client);
        assert!(matches!(client.complete(&other.pub_key), Err(Error::General(_))));
        let (alone, _) = begin(X25519);
        let (server, _) = answer(&*alone);
        assert_eq!(alone.complete(&server.pub_key).unwrap().secret_bytes(), server.secret.secret_bytes());
        assert!(begin(X25519).0.complete(&[0; 32]).is_err());
        assert_eq!((keys.counters().misses, keys.counters().lanes), (2, 12));
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
        let begun: Vec<_> = (0..11).map(|i| begin(groups[i % 2])).map(|(client, met)| (client, met.unwrap())).collect();
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
            let (client, met) = begin(group);
            let met = met.unwrap();
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
        let client = begin(X25519MLKEM768).0;
        let (group, half) = client.hybrid_component().unwrap();
        assert_eq!((group, half), (NamedGroup::X25519, &client.pub_key()[1184..]));
        let server = kx_group::X25519.start_and_complete(half).unwrap();
        let agreed = client.complete_hybrid_component(&server.pub_key).unwrap();
        assert_eq!(agreed.secret_bytes(), server.secret.secret_bytes());
        for len in [0, 32, 1088, 1119, 1121] {
            assert!(begin(X25519MLKEM768).0.complete(&vec![9; len]).is_err(), "{len}");
        }
    }
}
