//! The ticket secret of one process, which forgets.
//!
//! Whoever reads the memory of a process finds what opens the tickets of the present epoch and of the one before, but
//! not those of earlier ones: each epoch's secret is made from the last one's, and that is overwritten as soon as no
//! ticket of it may open any more. All shards of a process and all its reloads have one ratchet in common.

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign_to_buffer};
use zeroize::Zeroizing;

use super::tickets::{Cache, Epoch};

/// Boxed, so that what moves is not the secret.
type Secret = Box<Zeroizing<[u8; 32]>>;

/// What fills bytes at random.
type Random = fn(&mut [u8]) -> Result<(), Unspecified>;

/// What [`TicketSecrets`](super::TicketSecrets) of one process alone are.
pub(super) struct Ratchet(Mutex<State>);

/// A [`Ratchet`] that nobody else turns meanwhile.
pub(super) struct Held<'a>(MutexGuard<'a, State>);

struct State {
    present: Secret,
    /// Of the epoch right before, unless the clock has left some out.
    previous: Option<Secret>,
    /// What the clock said when it last turned; `None` before it is asked.
    epoch: Option<Epoch>,
    /// How often it has turned: what its epochs are called.
    turns: u64,
    /// What was derived from it, in all shards: one that sleeps forgets with the others.
    derived: Vec<Weak<Cache>>,
}

impl Ratchet {
    pub(super) fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        let present = Box::new(secret);
        Self(Mutex::new(State { present, previous: None, epoch: None, turns: 0, derived: Vec::new() }))
    }

    /// Empties `cache` whenever what is in it has to be forgotten.
    pub(super) fn register(&self, cache: Weak<Cache>) {
        let mut state = self.hold().0;
        state.derived.retain(|known| known.strong_count() > 0);
        state.derived.push(cache);
    }

    /// For once in an epoch, not for each handshake.
    pub(super) fn hold(&self) -> Held<'_> {
        // A panic leaves secrets that are merely older than they should be.
        Held(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held<'_> {
    /// Turns it to the epoch that the clock says, and gives each secret that is left with what its own epoch is called,
    /// the one that seals first. It turns forward only.
    pub(super) fn secrets_at(&mut self, now: Epoch, random: Random) -> Option<Vec<(Key, u64)>> {
        let state = &mut *self.0;
        match state.epoch {
            None => state.epoch = Some(now),
            // A clock that was put back across the end of an epoch finds what is there, and waits until it is passed.
            Some(last) if last == now || last == now.next() => {}
            Some(last) => {
                state.turn(random)?;
                // Epochs went by unused, the clock was put back by some, or they have another length: it cannot be
                // told how old the tickets are.
                if last.next() != now {
                    state.previous = None;
                }
                state.epoch = Some(now);
            }
        }
        let key = |secret: &Secret| Key::new(HMAC_SHA256, &***secret);
        let previous = state.previous.as_ref().map(|secret| (key(secret), state.turns.wrapping_sub(1)));
        Some([(key(&state.present), state.turns)].into_iter().chain(previous).collect())
    }
}

impl State {
    /// From the next secret this one does not follow, and with what is drawn at random the next does not follow from
    /// this one either.
    fn turn(&mut self, random: Random) -> Option<()> {
        // Shorter than what keys are derived with, so no key is a secret.
        let mut fresh = Zeroizing::new([0; 32]);
        // On failure the past is as safe, and the future no worse than it was.
        let _ = random(&mut *fresh);
        let mut next: Secret = Box::default();
        sign_to_buffer(&Key::new(HMAC_SHA256, &**self.present), &*fresh, &mut **next).ok()?;
        self.previous = Some(std::mem::replace(&mut self.present, next));
        self.turns = self.turns.wrapping_add(1);
        for cache in self.derived.iter().filter_map(Weak::upgrade) {
            *cache.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, RwLock};

    use aws_lc_rs::rand;

    use super::super::tickets::Keys;
    use super::*;

    fn ratchet() -> Ratchet {
        Ratchet::new(Zeroizing::new([7; 32]))
    }

    const fn epoch(number: u64) -> Epoch {
        Epoch { lifetime_secs: 90, number }
    }

    /// Turns it to `now`, and shows the secrets that are left.
    fn left(ratchet: &Ratchet, now: Epoch) -> (u64, [u8; 32], Option<[u8; 32]>) {
        let mut held = ratchet.hold();
        let secrets = held.secrets_at(now, |_| Err(Unspecified)).unwrap();
        let state = &*held.0;
        assert_eq!(secrets.len(), 1 + usize::from(state.previous.is_some()));
        (state.turns, **state.present, state.previous.as_ref().map(|secret| ***secret))
    }

    #[test]
    fn a_secret_is_gone_two_epochs_later() {
        let ratchet = ratchet();
        assert_eq!(left(&ratchet, epoch(100)), (0, [7; 32], None));
        let (_, second, previous) = left(&ratchet, epoch(101));
        assert_eq!(previous, Some([7; 32]));
        let (turns, third, previous) = left(&ratchet, epoch(102));
        assert_eq!((turns, previous), (2, Some(second)));
        assert!(second != [7; 32] && third != second && third != [7; 32]);
    }

    #[test]
    fn nothing_is_left_of_epochs_after_which_nobody_asked_for_long() {
        let ratchet = ratchet();
        left(&ratchet, epoch(100));
        let (turns, present, previous) = left(&ratchet, epoch(1_000_000_000));
        assert_eq!((turns, previous), (1, None));
        assert_ne!(present, [7; 32]);
    }

    #[test]
    fn a_clock_that_is_put_back_brings_nothing_back() {
        let ratchet = ratchet();
        left(&ratchet, epoch(100));
        let there = left(&ratchet, epoch(101));
        assert_eq!(left(&ratchet, epoch(100)), there, "it is waited for");
        assert_eq!(left(&ratchet, epoch(101)), there);
        // Far back it is not: the secrets would last until then.
        let (turns, present, previous) = left(&ratchet, epoch(0));
        assert_eq!((turns, previous), (2, None));
        assert_ne!(present, there.1);
        assert_eq!(left(&ratchet, epoch(1)).2, Some(present));
        for number in [u64::MAX, u64::MAX - 1, 0, u64::MAX] {
            left(&ratchet, epoch(number));
        }
    }

    #[test]
    fn epochs_of_another_length_begin_anew() {
        let ratchet = ratchet();
        left(&ratchet, epoch(100));
        let (turns, present, previous) = left(&ratchet, Epoch { lifetime_secs: 91, number: 100 });
        assert_eq!((turns, previous), (1, None));
        assert_ne!(present, [7; 32]);
    }

    #[test]
    fn what_is_drawn_at_random_changes_what_follows() {
        let [one, two, three] = [(); 3].map(|()| ratchet());
        for ratchet in [&one, &two] {
            let mut held = ratchet.hold();
            for number in [100, 101] {
                held.secrets_at(epoch(number), rand::fill).unwrap();
            }
        }
        left(&three, epoch(100));
        left(&three, epoch(101));
        let present = |ratchet: &Ratchet| **ratchet.hold().0.present;
        assert!(present(&one) != present(&two) && present(&one) != present(&three));
    }

    #[test]
    fn who_sleeps_forgets_with_the_others() {
        let ratchet = ratchet();
        let cache = Arc::new(RwLock::new(None));
        ratchet.register(Arc::downgrade(&cache));
        ratchet.register(Arc::downgrade(&Arc::default()));
        left(&ratchet, epoch(100));
        *cache.write().unwrap() = Some(Keys::default());
        left(&ratchet, epoch(100));
        assert!(cache.read().unwrap().is_some());
        left(&ratchet, epoch(101));
        assert!(cache.read().unwrap().is_none());
        ratchet.register(Arc::downgrade(&cache));
        assert_eq!(ratchet.hold().0.derived.len(), 2, "one is gone");
    }
}
