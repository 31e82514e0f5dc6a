//! Sessions that are kept here instead of in tickets: those that may bring early data.
//!
//! A ticket could be presented again and again, and its early data with it. A session that is kept is taken out by the
//! first who presents it, so its early data is accepted once at most (RFC 8446 section 8.1), whichever shard it meets.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;
use rustls::time_provider::TimeProvider;
use zeroize::Zeroizing;

/// Locks; each session belongs to one, by its ID, which is random.
const STRIPES: usize = 16;
/// As long as rustls makes the IDs of sessions of TLS 1.3.
const ID_LEN: usize = 32;
/// What a kept session costs beside its own bytes, about.
const OVERHEAD_BYTES: usize = 192;
/// How long rustls tells clients to keep such a session.
const LIFETIME_SECS: u64 = 24 * 60 * 60;

/// What an engine's shards share: bounded, and what is oldest goes first.
pub struct SessionStore {
    stripes: [Mutex<Stripe>; STRIPES],
    sessions_max: AtomicUsize,
    bytes_max: AtomicUsize,
    stored: AtomicU64,
    taken: AtomicU64,
    missed: AtomicU64,
    evicted: AtomicU64,
}

/// How often what has happened in a [`SessionStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounts {
    /// Sessions kept.
    pub stored: u64,
    /// Sessions taken out to be resumed.
    pub taken: u64,
    /// Sessions that were presented and not there: used, evicted, expired, or of another process.
    pub missed: u64,
    /// Sessions forgotten because the limits were met or their lifetime was over.
    pub evicted: u64,
}

#[derive(Default)]
struct Stripe {
    sessions: HashMap<[u8; ID_LEN], Kept>,
    /// By age.
    order: BTreeMap<u64, [u8; ID_LEN]>,
    next: u64,
    bytes: usize,
}

struct Kept {
    place: u64,
    domain: [u8; 32],
    since_secs: u64,
    state: Zeroizing<Vec<u8>>,
}

impl SessionStore {
    /// Keeps so many sessions, rounded up to a multiple of 16, and about so many bytes at most.
    #[must_use]
    pub fn new(sessions_max: usize, bytes_max: usize) -> Self {
        Self {
            stripes: Default::default(),
            sessions_max: AtomicUsize::new(sessions_max),
            bytes_max: AtomicUsize::new(bytes_max),
            stored: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// Changes the limits, and forgets what is over them.
    pub fn limit(&self, sessions_max: usize, bytes_max: usize) {
        self.sessions_max.store(sessions_max, Ordering::Relaxed);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
        for stripe in &self.stripes {
            // One that is put meanwhile by the limits of before may stay until the next comes.
            let evicted = lock(stripe).evict_while(|stripe| {
                stripe.sessions.len() > share_of(sessions_max) || stripe.bytes > share_of(bytes_max)
            });
            self.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
    }

    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> SessionCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionCounts {
            stored: read(&self.stored),
            taken: read(&self.taken),
            missed: read(&self.missed),
            evicted: read(&self.evicted),
        }
    }

    fn put(&self, id: [u8; ID_LEN], domain: [u8; 32], state: Vec<u8>, now_secs: u64) -> bool {
        let share = |limit: &AtomicUsize| share_of(limit.load(Ordering::Relaxed));
        let (sessions_max, bytes_max) = (share(&self.sessions_max), share(&self.bytes_max));
        let cost = state.len() + OVERHEAD_BYTES;
        if sessions_max == 0 || cost > bytes_max {
            return false;
        }
        let mut stripe = self.stripe(&id);
        let evicted = stripe.evict_while(|stripe| {
            stripe.sessions.len() >= sessions_max
                || stripe.bytes + cost > bytes_max
                || stripe.oldest_since().is_some_and(|since| expired(since, now_secs))
        });
        // An ID is random; should it be there already, the earlier session goes.
        stripe.remove(&id);
        let place = stripe.next;
        stripe.next += 1;
        stripe.bytes += cost;
        stripe.order.insert(place, id);
        stripe.sessions.insert(id, Kept { place, domain, since_secs: now_secs, state: Zeroizing::new(state) });
        drop(stripe);
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
        self.stored.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn take(&self, id: &[u8], domain: &[u8; 32], now_secs: u64) -> Option<Vec<u8>> {
        let taken = id.try_into().ok().and_then(|id: [u8; ID_LEN]| {
            let mut stripe = self.stripe(&id);
            // Whoever presents it where it does not belong does not spend it.
            stripe.sessions.get(&id).filter(|kept| kept.domain == *domain)?;
            let mut kept = stripe.remove(&id)?;
            (!expired(kept.since_secs, now_secs)).then(|| mem::take(&mut *kept.state))
        });
        let counter = if taken.is_some() { &self.taken } else { &self.missed };
        counter.fetch_add(1, Ordering::Relaxed);
        taken
    }

    fn stripe(&self, id: &[u8; ID_LEN]) -> MutexGuard<'_, Stripe> {
        lock(&self.stripes[usize::from(id[0]) % STRIPES])
    }
}

/// A stripe's part of a limit: rounded down, a small limit would be none.
const fn share_of(limit: usize) -> usize {
    limit.div_ceil(STRIPES)
}

fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    // Each critical section leaves its stripe whole, whatever became of the last holder.
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Empty and without room; [`SessionStore::limit`] gives it some.
impl Default for SessionStore {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Stripe {
    fn oldest_since(&self) -> Option<u64> {
        let (_, id) = self.order.first_key_value()?;
        Some(self.sessions.get(id)?.since_secs)
    }

    /// Forgets the oldest while `over`, and says how many.
    fn evict_while(&mut self, over: impl Fn(&Self) -> bool) -> u64 {
        let mut evicted = 0;
        while over(self) {
            let Some((_, oldest)) = self.order.first_key_value().map(|(place, id)| (*place, *id)) else { break };
            self.remove(&oldest);
            evicted += 1;
        }
        evicted
    }

    fn remove(&mut self, id: &[u8; ID_LEN]) -> Option<Kept> {
        let kept = self.sessions.remove(id)?;
        self.order.remove(&kept.place);
        self.bytes -= kept.state.len() + OVERHEAD_BYTES;
        Some(kept)
    }
}

const fn expired(since_secs: u64, now_secs: u64) -> bool {
    now_secs.saturating_sub(since_secs) > LIFETIME_SECS
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// The sessions of one ticket domain.
pub(crate) struct SessionsOf {
    pub(crate) domain: [u8; 32],
    pub(crate) store: Arc<SessionStore>,
    pub(crate) time: Arc<dyn TimeProvider>,
}

impl StoresServerSessions for SessionsOf {
    fn put(&self, id: Vec<u8>, state: Vec<u8>) -> bool {
        let (Ok(id), Some(now)) = (id.try_into(), self.time.current_time()) else { return false };
        self.store.put(id, self.domain, state, now.as_secs())
    }

    /// Never: it would leave the session for the next one who presents it.
    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.store.take(id, &self.domain, self.time.current_time()?.as_secs())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for SessionsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsOf").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: [u8; 32] = [1; 32];

    /// All in one stripe.
    fn id(n: u8) -> [u8; ID_LEN] {
        let mut id = [n; ID_LEN];
        id[0] = 0;
        id
    }

    fn counts(store: &SessionStore) -> (u64, u64, u64, u64) {
        let SessionCounts { stored, taken, missed, evicted } = store.counts();
        (stored, taken, missed, evicted)
    }

    #[test]
    fn a_session_is_taken_once_and_in_its_domain_only() {
        let store = SessionStore::new(16 * 4, 1 << 20);
        assert!(store.put(id(1), DOMAIN, b"state".to_vec(), 0));
        assert_eq!(store.take(&id(1), &[2; 32], 0), None);
        assert_eq!(store.take(&id(1), &DOMAIN, 0).as_deref(), Some(&b"state"[..]));
        assert_eq!(store.take(&id(1), &DOMAIN, 0), None);
        assert_eq!(store.take(b"no ID of ours", &DOMAIN, 0), None);
        assert_eq!(counts(&store), (1, 1, 3, 0));
        assert_eq!(store.stripe(&id(1)).bytes, 0);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_too_large_ones() {
        let store = SessionStore::new(16 * 2, 1 << 20);
        for n in 1..=3 {
            assert!(store.put(id(n), DOMAIN, vec![n], 0));
        }
        assert_eq!([1, 2, 3].map(|n| store.take(&id(n), &DOMAIN, 0).is_some()), [false, true, true]);
        assert_eq!(counts(&store), (3, 2, 1, 1));

        let store = SessionStore::new(1 << 10, 16 * 1000);
        assert!(!store.put(id(1), DOMAIN, vec![1; 1000], 0), "larger than all there is room for");
        assert!(store.put(id(1), DOMAIN, vec![1; 300], 0) && store.put(id(2), DOMAIN, vec![1; 300], 0));
        assert!(store.put(id(3), DOMAIN, vec![1; 500], 0));
        assert_eq!([1, 2, 3].map(|n| store.take(&id(n), &DOMAIN, 0).is_some()), [false, false, true]);
        // Nothing is kept where nothing may be.
        assert!(!SessionStore::new(0, 0).put(id(1), DOMAIN, vec![], 0));
    }

    #[test]
    fn a_small_limit_keeps_some() {
        let store = SessionStore::new(1, 1 << 20);
        for n in 1..=2 {
            assert!(store.put(id(n), DOMAIN, vec![n], 0));
        }
        store.limit(15, 1 << 20);
        assert_eq!([1, 2].map(|n| store.take(&id(n), &DOMAIN, 0).is_some()), [false, true]);
    }

    #[test]
    fn a_session_expires_and_makes_room() {
        let store = SessionStore::new(1 << 10, 1 << 20);
        for n in 1..=2 {
            store.put(id(n), DOMAIN, vec![n], 0);
        }
        assert!(store.take(&id(1), &DOMAIN, LIFETIME_SECS).is_some());
        store.put(id(3), DOMAIN, vec![3], LIFETIME_SECS + 1);
        assert_eq!((store.stripe(&id(1)).sessions.len(), store.counts().evicted), (1, 1));
        assert_eq!(store.take(&id(3), &DOMAIN, 3 * LIFETIME_SECS), None);
    }

    #[test]
    fn lower_limits_make_it_forget_at_once() {
        let store = SessionStore::new(16 * 4, 1 << 20);
        for n in 1..=4 {
            store.put(id(n), DOMAIN, vec![n; 100], 0);
        }
        store.limit(16 * 2, 1 << 20);
        assert_eq!(
            [1, 2, 3, 4].map(|n| store.stripe(&id(n)).sessions.contains_key(&id(n))),
            [false, false, true, true]
        );
        store.limit(0, 0);
        assert_eq!((store.stripe(&id(4)).bytes, store.counts().evicted), (0, 4));
    }

    #[test]
    fn many_threads_take_each_session_once() {
        let store = SessionStore::new(1 << 16, 1 << 24);
        let ids: Vec<[u8; ID_LEN]> = (0..200_u8).map(|n| [n; ID_LEN]).collect();
        ids.iter().for_each(|id| assert!(store.put(*id, DOMAIN, vec![0; 100], 0)));
        let take_all = || ids.iter().filter(|id| store.take(&id[..], &DOMAIN, 0).is_some()).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(take_all));
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!((taken, store.counts().missed), (200, 600));
    }
}
