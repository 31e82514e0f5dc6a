//! Stateless session tickets (RFC 8446 section 4.6.1, RFC 5077), sealed with AES-256-GCM.
//!
//! A ticket is its epoch (4 bytes), a random nonce (12), the sealed state, and the tag (16). The key of an epoch
//! follows from a secret, the ticket domain and the epoch's number, so shards that share the secret need no common
//! state: each derives the same keys, and none waits for a lock of another's.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use rustls::crypto::{CryptoProvider, GetRandomFailed};
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;

/// How long one key seals, in seconds. A ticket opens in its own epoch and in the next.
const EPOCH_SECONDS: u32 = 6 * 60 * 60;
const EPOCH_LEN: usize = 4;
const TAG_LEN: usize = 16;

/// What all ticket keys follow from.
#[derive(Clone)]
pub struct TicketSecret(Prk);

impl TicketSecret {
    /// A secret of this process: its tickets open until it ends.
    ///
    /// # Errors
    /// The provider has no randomness.
    pub fn random(provider: &CryptoProvider) -> Result<Self, GetRandomFailed> {
        let mut bytes = [0; 32];
        provider.secure_random.fill(&mut bytes)?;
        Ok(Self::new(&bytes))
    }

    /// A given secret, of full entropy.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(Salt::new(HKDF_SHA256, b"handfast ticket secret 1").extract(bytes))
    }

    /// The key of one epoch in one domain.
    fn key(&self, domain: &[u8; 32], epoch: u32) -> Option<LessSafeKey> {
        let info = [&b"key"[..], domain, &epoch.to_be_bytes()];
        let okm = self.0.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret(..)")
    }
}

/// Keys of three epochs in a row: clocks of hosts that share a secret may differ by one.
struct Keys {
    epoch: u32,
    previous: Option<LessSafeKey>,
    current: Option<LessSafeKey>,
    next: Option<LessSafeKey>,
}

/// Seals and opens the tickets of one domain for one shard.
pub struct Ticketer {
    secret: TicketSecret,
    domain: [u8; 32],
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
    keys: RwLock<Keys>,
}

impl Ticketer {
    /// For the tickets of `domain`.
    #[must_use]
    pub fn new(
        secret: TicketSecret,
        domain: [u8; 32],
        provider: Arc<CryptoProvider>,
        time: Arc<dyn TimeProvider>,
    ) -> Self {
        let epoch = epoch(&*time).unwrap_or(0);
        let keys = RwLock::new(Keys::of(&secret, &domain, epoch));
        Self { secret, domain, provider, time, keys }
    }

    /// Calls `f` with the keys of the present epoch.
    fn with_keys<R>(&self, f: impl FnOnce(&Keys) -> Option<R>) -> Option<R> {
        let epoch = epoch(&*self.time)?;
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            if keys.epoch == epoch {
                return f(&keys);
            }
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.epoch != epoch {
            *keys = Keys::of(&self.secret, &self.domain, epoch);
        }
        f(&keys)
    }
}

/// The number of the present epoch.
fn epoch(time: &dyn TimeProvider) -> Option<u32> {
    u32::try_from(time.current_time()?.as_secs() / u64::from(EPOCH_SECONDS)).ok()
}

impl Keys {
    fn of(secret: &TicketSecret, domain: &[u8; 32], epoch: u32) -> Self {
        let key = |epoch: Option<u32>| secret.key(domain, epoch?);
        Self { epoch, previous: key(epoch.checked_sub(1)), current: key(Some(epoch)), next: key(epoch.checked_add(1)) }
    }

    fn get(&self, epoch: u32) -> Option<&LessSafeKey> {
        match epoch.wrapping_sub(self.epoch) {
            0 => self.current.as_ref(),
            1 => self.next.as_ref(),
            u32::MAX => self.previous.as_ref(),
            _ => None,
        }
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        EPOCH_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.provider.secure_random.fill(&mut nonce).ok()?;
        self.with_keys(|keys| {
            let epoch = keys.epoch.to_be_bytes();
            let mut ticket = Vec::with_capacity(EPOCH_LEN + NONCE_LEN + plain.len() + TAG_LEN);
            ticket.extend_from_slice(&epoch);
            ticket.extend_from_slice(&nonce);
            ticket.extend_from_slice(plain);
            let sealed = &mut ticket[EPOCH_LEN + NONCE_LEN..];
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = keys.current.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(epoch), sealed).ok()?;
            ticket.extend_from_slice(tag.as_ref());
            Some(ticket)
        })
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (epoch, rest) = ticket.split_first_chunk::<EPOCH_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        self.with_keys(|keys| {
            let key = keys.get(u32::from_be_bytes(*epoch))?;
            let mut opened = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let len = key.open_in_place(nonce, Aad::from(*epoch), &mut opened).ok()?.len();
            opened.truncate(len);
            Some(opened)
        })
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustls::pki_types::UnixTime;

    use super::*;

    #[derive(Debug, Default)]
    struct Clock(AtomicU64);

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }

    fn ticketer(secret: u8, domain: u8, clock: &Arc<Clock>) -> Ticketer {
        let provider = Arc::new(crate::crypto::provider());
        Ticketer::new(TicketSecret::new(&[secret; 32]), [domain; 32], provider, Arc::clone(clock) as Arc<_>)
    }

    #[test]
    fn a_ticket_opens_where_secret_and_domain_are_the_same() {
        let clock = Arc::new(Clock(AtomicU64::new(1_000_000)));
        let (one, two) = (ticketer(1, 1, &clock), ticketer(1, 1, &clock));
        let ticket = one.encrypt(b"state").unwrap();
        assert_eq!(two.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(ticketer(2, 1, &clock).decrypt(&ticket), None);
        assert_eq!(ticketer(1, 2, &clock).decrypt(&ticket), None);
        assert_ne!(one.encrypt(b"state").unwrap(), ticket);
    }

    #[test]
    fn a_changed_or_cut_ticket_does_not_open() {
        let clock = Arc::new(Clock(AtomicU64::new(1_000_000)));
        let ticketer = ticketer(1, 1, &clock);
        let ticket = ticketer.encrypt(b"state").unwrap();
        for i in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[i] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "byte {i}");
            assert_eq!(ticketer.decrypt(&ticket[..i]), None, "cut at {i}");
        }
    }

    #[test]
    fn a_ticket_outlives_its_epoch_by_one() {
        let epoch = u64::from(EPOCH_SECONDS);
        let clock = Arc::new(Clock(AtomicU64::new(100 * epoch)));
        let ticketer = ticketer(1, 1, &clock);
        let ticket = ticketer.encrypt(b"state").unwrap();
        for (at, opens) in [(99, true), (101, true), (102, false), (98, false), (100, true)] {
            clock.0.store(at * epoch, Ordering::Relaxed);
            assert_eq!(ticketer.decrypt(&ticket).is_some(), opens, "epoch {at}");
        }
    }
}
