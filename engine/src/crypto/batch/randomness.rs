//! Randomness for the handshakes of a turn, drawn at once: aws-lc's generator takes half a microsecond for a call, hardly
//! more for many bytes than for a few. A server's handshake of TLS 1.3 with two tickets asks it five times, a client's
//! twice.

use core::cell::RefCell;
use std::thread::LocalKey;

use aws_lc_rs::rand;
use rustls::crypto::{GetRandomFailed, SecureRandom};
use zeroize::Zeroize;

use super::locked::Blank;
use super::{client, turn};

/// The most that is handed out of a draw: randoms, session IDs and the nonces of tickets have this length.
const TAKE_MAX: usize = 32;

/// Random bytes that wait to be asked for, `N` at a draw. Each is handed out once, and wiped here.
pub(super) struct Draw<const N: usize> {
    bytes: [u8; N],
    left: usize,
}

// SAFETY: an array of bytes and an integer, for which zero bytes are a value; nothing has a destructor.
unsafe impl<const N: usize> Blank for Draw<N> {}

impl<const N: usize> Draw<N> {
    /// Fills `out`, after another draw if there is too little left; `false` when it is too long for that, or the
    /// generator has failed.
    pub(super) fn take(&mut self, out: &mut [u8]) -> bool {
        if out.len() > TAKE_MAX.min(N) {
            return false;
        }
        if self.left < out.len() {
            self.left = 0;
            if rand::fill(&mut self.bytes).is_err() {
                return false;
            }
            self.left = N;
        }
        let taken = self.left - out.len()..self.left;
        self.left = taken.start;
        out.copy_from_slice(&self.bytes[taken.clone()]);
        self.bytes[taken].zeroize();
        true
    }

    /// Wipes what was not asked for.
    pub(super) fn wipe(&mut self) {
        self.bytes[..self.left].zeroize();
        self.left = 0;
    }

    #[cfg(test)]
    pub(super) const fn left(&self) -> usize {
        self.left
    }

    /// Bytes that are there although nobody may use them any more.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> usize {
        self.bytes[self.left..].iter().filter(|byte| **byte != 0).count()
    }
}

/// Whether `take` succeeds with what this thread has at `place`; not where there is nothing, nor while it is in use:
/// anybody may ask for randomness, from wherever they are.
pub(super) fn takes<T>(place: &'static LocalKey<RefCell<Option<Box<T>>>>, take: impl FnOnce(&mut T) -> bool) -> bool {
    place.try_with(|it| it.try_borrow_mut().is_ok_and(|mut it| it.as_deref_mut().is_some_and(take))).unwrap_or(false)
}

/// What is asked for inside a turn, or between those of a thread with [`ClientKeys`](super::ClientKeys), comes out of a
/// draw, all else from aws-lc's generator at once.
pub(super) static RANDOM: &dyn SecureRandom = &OfTurn;

#[derive(Debug)]
struct OfTurn;

impl SecureRandom for OfTurn {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        if turn::take_random(out) || client::take_random(out) {
            return Ok(());
        }
        rand::fill(out).map_err(|_| GetRandomFailed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use rustls::server::ProducesTickets;

    use super::super::kernels::Kernels;
    use super::super::turn::{Installed, Turn};
    use super::*;
    use crate::crypto::tickets::testing::Clock;
    use crate::crypto::{TicketSecrets, Ticketer};

    fn turn() -> Box<Turn> {
        Box::new(Turn::new(Kernels::Portable, None).unwrap())
    }

    fn random<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        RANDOM.fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_turn_draws_once_and_hands_out_each_byte_once() {
        let installed = Installed::new(turn()).unwrap();
        assert_eq!(installed.drawn(), 0);
        let mut seen: Vec<[u8; 32]> = (0..31).map(|_| random()).collect();
        assert_eq!((installed.drawn(), installed.leftovers()), (32, 0));
        assert_ne!(random::<4>(), [0; 4]);
        // There are 28 left, which are too few.
        seen.push(random());
        assert_eq!((installed.drawn(), installed.leftovers()), (1024 - 32, 0));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 32);
        assert!(seen.iter().all(|bytes| *bytes != [0; 32]));
        let turn = installed.take_back().unwrap();
        assert_eq!((turn.drawn(), turn.leftovers()), (0, 0));
    }

    #[test]
    fn neither_salts_nor_secrets_of_tickets_are_of_a_draw() {
        let installed = Installed::new(turn()).unwrap();
        let secrets = TicketSecrets::random().unwrap();
        let clock = Clock::at(0);
        let tickets = Ticketer::new(secrets, Duration::from_secs(1), [0; 32], Arc::clone(&clock) as Arc<_>);
        // Each in the next epoch, which has a secret of its own.
        for epoch in 0..3 {
            clock.0.store(epoch, Ordering::Relaxed);
            let ticket = tickets.encrypt(b"state").unwrap();
            assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        }
        assert_eq!(installed.drawn(), 0);
        random::<32>();
        assert_ne!(installed.drawn(), 0);
    }

    #[test]
    fn what_is_longer_and_what_is_outside_of_a_turn_is_of_no_draw() {
        assert_ne!(random::<32>(), random::<32>());
        assert!(!turn::take_random(&mut [0; 32]) && !client::take_random(&mut [0; 32]));
        let installed = Installed::new(turn()).unwrap();
        assert_ne!(random::<33>(), [0; 33]);
        assert!(!turn::take_random(&mut [0; 33]));
        assert_eq!(installed.drawn(), 0);
        assert!(turn::take_random(&mut [0; 32]));
    }
}
