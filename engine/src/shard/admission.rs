//! Who may open a connection: handshakes under way on the shard, and what one source may have.
//!
//! Each connection holds a [`Seat`], which gives its place back when it is dropped, however the connection ends.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Refusal;
use crate::limits::{Limits, SourceLimits, SourceRate};
use crate::time::Instant64;

/// Sources looked at, for each new one, whether they can be forgotten.
const PRUNED_PER_ENTRY: usize = 2;

/// What a shard knows about its connections' sources.
pub(super) struct Admission {
    book: Rc<RefCell<Book>>,
    limiter: Option<Limiter>,
}

/// A connection's place among those of its shard and its source.
pub(super) struct Seat {
    book: Rc<RefCell<Book>>,
    source: Option<u32>,
    handshaking: bool,
}

#[derive(Default)]
struct Book {
    handshakes: usize,
    index: HashMap<IpNet, u32>,
    sources: Vec<Source>,
    free: Vec<u32>,
    /// Sources that had no connection when they were put here, the first to have been so in front.
    resting: VecDeque<u32>,
    remembered: usize,
    forgotten: u64,
}

struct Source {
    prefix: IpNet,
    connections: u32,
    handshakes: u32,
    /// What the rate limiter keeps: when the next connection is due, were they evenly spaced.
    due: Option<Nanos>,
    rests: bool,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self { book: Rc::default(), limiter: None }
    }

    /// A place for a new connection, whose source is not known yet or not limited.
    pub(super) fn seat(&self, limits: &Limits) -> Result<Seat, Refusal> {
        let mut book = self.book.borrow_mut();
        if book.handshakes >= limits.handshakes_per_shard {
            return Err(Refusal::HandshakesShed);
        }
        book.handshakes += 1;
        Ok(Seat { book: Rc::clone(&self.book), source: None, handshaking: true })
    }

    /// Counts the connection against its source.
    pub(super) fn place(
        &mut self,
        seat: &mut Seat,
        source: IpAddr,
        limits: &Limits,
        now: Instant64,
    ) -> Result<(), Refusal> {
        let index = {
            let mut book = self.book.borrow_mut();
            // Where nothing is limited, sources matter only once it is a question of who is shed.
            if !limits.source.any() && book.handshakes <= limits.handshakes_per_shard / 2 {
                return Ok(());
            }
            book.remembered = limits.source.remembered;
            book.prune(now);
            let index = book.find(prefix(source, &limits.source));
            let crowded = book.handshakes > limits.handshakes_per_shard - limits.handshakes_per_shard / 4;
            if let Some(refusal) = book.sources[index as usize].refusal(&limits.source, crowded) {
                return Err(refusal);
            }
            index
        };
        if let Some(rate) = limits.source.rate
            && !Limiter::with(&mut self.limiter, rate, &self.book).allows(index, now)
        {
            return Err(Refusal::SourceRate);
        }
        let source = &mut self.book.borrow_mut().sources[index as usize];
        source.connections += 1;
        source.handshakes += u32::from(seat.handshaking);
        seat.source = Some(index);
        Ok(())
    }

    /// Sources that had to be forgotten before their time.
    pub(super) fn forgotten(&self) -> u64 {
        self.book.borrow().forgotten
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.book.borrow().index.len()
    }
}

impl Seat {
    /// The handshake has ended, one way or the other; the connection may go on.
    pub(super) fn handshake_over(&mut self) {
        if !std::mem::take(&mut self.handshaking) {
            return;
        }
        let mut book = self.book.borrow_mut();
        book.handshakes -= 1;
        if let Some(source) = self.source {
            book.sources[source as usize].handshakes -= 1;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.handshake_over();
        if let Some(source) = self.source {
            self.book.borrow_mut().leave(source);
        }
    }
}

impl Source {
    fn refusal(&self, limits: &SourceLimits, crowded: bool) -> Option<Refusal> {
        let full = |now: u32, max: Option<NonZeroU32>| max.is_some_and(|max| now >= max.get());
        if full(self.connections, limits.connections) {
            Some(Refusal::SourceConnections)
        } else if full(self.handshakes, limits.handshakes) {
            Some(Refusal::SourceHandshakes)
        } else if crowded && self.handshakes > 0 {
            Some(Refusal::HandshakesShed)
        } else {
            None
        }
    }

    /// Nothing about it differs from a source that was never seen.
    fn is_fresh(&self, now: Instant64) -> bool {
        self.due.is_none_or(|due| due.as_u64() <= now.as_nanos())
    }
}

impl Book {
    fn find(&mut self, prefix: IpNet) -> u32 {
        if let Some(index) = self.index.get(&prefix) {
            return *index;
        }
        let source = Source { prefix, connections: 0, handshakes: 0, due: None, rests: false };
        let index = if let Some(index) = self.free.pop() {
            self.sources[index as usize] = source;
            index
        } else {
            self.sources.push(source);
            // One entry for each connection and each remembered source: their number is far from 2^32.
            u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX)
        };
        self.index.insert(prefix, index);
        self.rest(index);
        index
    }

    fn leave(&mut self, index: u32) {
        let source = &mut self.sources[index as usize];
        source.connections -= 1;
        if source.connections == 0 {
            self.rest(index);
        }
    }

    /// Notes that a source may be forgotten some day, and forgets the first of those that are too many.
    fn rest(&mut self, index: u32) {
        if !std::mem::replace(&mut self.sources[index as usize].rests, true) {
            self.resting.push_back(index);
        }
        while self.resting.len() > self.remembered.max(1) {
            let Some(first) = self.resting.pop_front() else { return };
            self.sources[first as usize].rests = false;
            if self.sources[first as usize].connections == 0 {
                self.forget(first);
                self.forgotten += 1;
            }
        }
    }

    /// Forgets sources about which there is nothing left to know.
    fn prune(&mut self, now: Instant64) {
        for _ in 0..PRUNED_PER_ENTRY {
            let Some(first) = self.resting.front().copied() else { return };
            let source = &mut self.sources[first as usize];
            let busy = source.connections > 0;
            if !busy && !source.is_fresh(now) {
                return;
            }
            source.rests = false;
            self.resting.pop_front();
            if !busy {
                self.forget(first);
            }
        }
    }

    fn forget(&mut self, index: u32) {
        self.index.remove(&self.sources[index as usize].prefix);
        self.free.push(index);
    }
}

/// The prefix that stands for an address.
fn prefix(source: IpAddr, limits: &SourceLimits) -> IpNet {
    // A listener of both families sees IPv4 as IPv6.
    match source.to_canonical() {
        IpAddr::V4(addr) => IpNet::V4(Ipv4Net::new_assert(addr, limits.prefix_v4.min(32)).trunc()),
        IpAddr::V6(addr) => IpNet::V6(Ipv6Net::new_assert(addr, limits.prefix_v6.min(128)).trunc()),
    }
}

/// governor's algorithm over the book's entries and the transport's clock.
struct Limiter {
    rate: SourceRate,
    limiter: RateLimiter<u32, Dues, Now, NoOpMiddleware<Duration>>,
}

struct Now(Cell<Instant64>);

struct Dues(Rc<RefCell<Book>>);

impl Limiter {
    /// The limiter for `rate`, made anew when that has changed; what is due stays with the sources.
    fn with<'a>(current: &'a mut Option<Self>, rate: SourceRate, book: &Rc<RefCell<Book>>) -> &'a Self {
        if current.as_ref().is_some_and(|limiter| limiter.rate != rate) {
            *current = None;
        }
        current.get_or_insert_with(|| {
            let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
            // It counts from the clock's first answer, so that stays the zero for all limiters to come.
            let limiter = RateLimiter::new(quota, Dues(Rc::clone(book)), Now(Cell::new(Instant64::ZERO)));
            Self { rate, limiter }
        })
    }

    fn allows(&self, source: u32, now: Instant64) -> bool {
        self.limiter.clock().0.set(now);
        self.limiter.check_key(&source).is_ok()
    }
}

impl Clock for Now {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.get().since(Instant64::ZERO)
    }
}

impl StateStore for Dues {
    type Key = u32;

    fn measure_and_replace<T, F, E>(&self, source: &u32, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let due = &mut self.0.borrow_mut().sources[*source as usize].due;
        let (answer, next) = f(*due)?;
        *due = Some(next);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(source: SourceLimits) -> Limits {
        Limits { source, ..Limits::default() }
    }

    fn at(millis: u64) -> Instant64 {
        Instant64::from_nanos(millis * 1_000_000)
    }

    fn enter(admission: &mut Admission, source: &str, limits: &Limits, now: Instant64) -> Result<Seat, Refusal> {
        let mut seat = admission.seat(limits)?;
        admission.place(&mut seat, source.parse().unwrap(), limits, now).map(|()| seat)
    }

    fn rate(per_second: u32, burst: u32) -> SourceLimits {
        let (per_second, burst) = (per_second.try_into().unwrap(), burst.try_into().unwrap());
        SourceLimits { rate: Some(SourceRate { per_second, burst }), ..SourceLimits::default() }
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let (mut admission, limits) = (Admission::new(), limits(rate(10, 3)));
        let mut let_in = |source: &str, millis| enter(&mut admission, source, &limits, at(millis)).is_ok();
        assert_eq!(
            [0, 0, 0, 0, 50, 100, 100].map(|t| let_in("192.0.2.1", t)),
            [true, true, true, false, false, true, false]
        );
        assert!(let_in("192.0.2.2", 100), "another source has its own");
        assert!(let_in("::ffff:192.0.2.3", 100) && let_in("192.0.2.3", 100) && let_in("192.0.2.3", 100));
        assert!(!let_in("192.0.2.3", 100), "either notation is one source");
    }

    #[test]
    fn sources_are_prefixes() {
        let (mut admission, limits) = (Admission::new(), limits(rate(1, 1)));
        let mut let_in = |source: &str| enter(&mut admission, source, &limits, at(0)).is_ok();
        assert!(let_in("2001:db8::1") && !let_in("2001:db8::ffff:2") && let_in("2001:db8:0:1::1"));
        let mut limits = limits;
        limits.source.prefix_v4 = 24;
        let mut let_in = |source: &str| enter(&mut admission, source, &limits, at(0)).is_ok();
        assert!(let_in("198.51.100.1") && !let_in("198.51.100.200") && let_in("198.51.101.1"));
    }

    #[test]
    fn places_come_back_when_handshakes_and_connections_end() {
        let two = NonZeroU32::new(2);
        let source = SourceLimits { handshakes: two, connections: NonZeroU32::new(3), ..SourceLimits::default() };
        let (mut admission, limits) = (Admission::new(), limits(source));
        let mut enter = |_| enter(&mut admission, "192.0.2.1", &limits, at(0));
        let (mut a, b) = (enter(1).unwrap(), enter(2).unwrap());
        assert_eq!(enter(3).err(), Some(Refusal::SourceHandshakes));
        a.handshake_over();
        a.handshake_over();
        let c = enter(4).unwrap();
        assert_eq!(enter(5).err(), Some(Refusal::SourceConnections));
        drop((b, c));
        assert!(enter(6).is_ok());
        drop(a);
        assert_eq!(admission.book.borrow().handshakes, 0);
    }

    #[test]
    fn the_last_quarter_is_for_sources_with_no_handshake() {
        let source = SourceLimits { handshakes: NonZeroU32::new(100), ..SourceLimits::default() };
        let (mut admission, mut limits) = (Admission::new(), limits(source));
        limits.handshakes_per_shard = 8;
        let mut enter = |source| enter(&mut admission, source, &limits, at(0));
        let mut held: Vec<_> = (0..6).map(|_| enter("192.0.2.1").unwrap()).collect();
        assert_eq!(enter("192.0.2.1").err(), Some(Refusal::HandshakesShed));
        held.push(enter("192.0.2.2").unwrap());
        held.push(enter("192.0.2.3").unwrap());
        assert_eq!(enter("192.0.2.4").err(), Some(Refusal::HandshakesShed));
    }

    #[test]
    fn half_a_shard_full_of_handshakes_is_enough_to_tell_sources_apart() {
        let (mut admission, mut limits) = (Admission::new(), Limits::default());
        limits.handshakes_per_shard = 8;
        let mut enter = |source| enter(&mut admission, source, &limits, at(0));
        let mut held: Vec<_> = (0..6).map(|_| enter("192.0.2.1").unwrap()).collect();
        assert_eq!(enter("192.0.2.1").err(), Some(Refusal::HandshakesShed));
        held.push(enter("192.0.2.2").unwrap());
        assert_eq!(enter("192.0.2.2").err(), Some(Refusal::HandshakesShed));
        // What was noted goes with the handshakes.
        drop(held);
        let held: Vec<_> = (0..6).map(|_| enter("192.0.2.3").unwrap()).collect();
        assert_eq!(held.iter().filter(|seat| seat.source.is_some()).count(), 2);
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_limited() {
        let (mut admission, limits) = (Admission::new(), Limits::default());
        let seat = enter(&mut admission, "192.0.2.1", &limits, at(0)).unwrap();
        assert_eq!((admission.known(), seat.source), (0, None));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut admission, mut limits) = (Admission::new(), limits(rate(1, 1)));
        limits.source.remembered = 100;
        let held: Vec<_> = (0..50).map(|i| enter(&mut admission, &format!("10.0.0.{i}"), &limits, at(0))).collect();
        for i in 0..5000 {
            let source = format!("192.{}.{}.1", i / 250, i % 250);
            drop(enter(&mut admission, &source, &limits, at(0)).unwrap());
        }
        assert!(admission.known() <= 151, "{} sources", admission.known());
        assert!(admission.forgotten() >= 4900, "{}", admission.forgotten());
        // Those with a connection are not forgotten.
        assert!(enter(&mut admission, "10.0.0.7", &limits, at(0)).is_err());
        drop(held);
        // In time all are fresh, and make room by themselves.
        for i in 0..200 {
            drop(enter(&mut admission, &format!("172.16.0.{i}"), &limits, at(10_000 + 2000 * i)).unwrap());
        }
        assert!(admission.known() <= 3, "{} sources", admission.known());
    }

    #[test]
    fn a_changed_rate_holds_at_once() {
        let mut admission = Admission::new();
        let (slow, fast) = (limits(rate(1, 1)), limits(rate(1000, 1)));
        let mut let_in = |limits, millis| enter(&mut admission, "192.0.2.1", limits, at(millis)).is_ok();
        assert!(let_in(&slow, 0) && !let_in(&slow, 1));
        assert!(let_in(&fast, 1000) && let_in(&fast, 1001) && let_in(&fast, 1002));
    }

    proptest! {
        #[test]
        fn counts_return_to_zero(steps in proptest::collection::vec((0u8..20, 0u8..4, 0u64..50), 1..300)) {
            let source = SourceLimits {
                handshakes: NonZeroU32::new(3), connections: NonZeroU32::new(5), remembered: 4, ..rate(50, 4)
            };
            let (mut admission, mut limits) = (Admission::new(), limits(source));
            limits.handshakes_per_shard = 10;
            let (mut held, mut now): (Vec<Seat>, u64) = (Vec::new(), 0);
            for (source, what, passed) in steps {
                now += passed;
                match what {
                    0 | 1 => held.extend(enter(&mut admission, &format!("10.0.0.{source}"), &limits, at(now))),
                    2 => held.iter_mut().take(usize::from(source)).for_each(Seat::handshake_over),
                    _ => drop(held.drain(..held.len().min(usize::from(source)))),
                }
                let book = admission.book.borrow();
                prop_assert!(book.handshakes <= 10);
                prop_assert!(book.sources.iter().all(|s| s.handshakes <= 3 && s.connections <= 5));
                prop_assert!(book.index.len() <= 4 + held.len() + 1);
            }
            drop(held);
            let book = admission.book.borrow();
            prop_assert_eq!(book.handshakes, 0);
            prop_assert!(book.sources.iter().all(|s| s.handshakes == 0 && s.connections == 0));
        }
    }
}
