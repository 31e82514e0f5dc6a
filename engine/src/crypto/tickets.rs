//! Stateless session tickets (RFC 8446 section 4.6.1, RFC 5077), sealed with AES-256-GCM.
//!
//! A ticket is the name of an epoch's key (8 bytes), a random salt (24), the sealed state, and the tag (16). The keys
//! of an epoch and their names follow from the secrets, the ticket domain, the lifetime and the epoch's number, so
//! shards and hosts with the same secrets need no common state: each derives the same keys. Shards whose secret is
//! their process's alone have its [`Ratchet`] in common, and ask it once in an epoch. What seals is a key of the
//! ticket's own, derived from the epoch's key and the salt, so that no key and no nonce is used twice however many
//! hosts seal, and the number of tickets has no bound that matters.
//!
//! Salts and secrets come from aws-lc's generator when they are needed, never out of what the provider of a
//! [`Batch`](super::batch::Batch) has drawn ahead.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign_to_buffer};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use zeroize::Zeroizing;

use super::ticket_ratchet::Ratchet;
use super::ticket_secrets::TicketSecrets;

const NAME_LEN: usize = 8;
const SALT_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// How session tickets are sealed, and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TicketOptions {
    /// What the keys follow from; `None` makes a secret at random, which nobody else knows and which is replaced in
    /// each epoch.
    pub secrets: Option<TicketSecrets>,
    /// How long clients are told to keep a ticket: 6 h. It is also how long one epoch is, and a ticket opens in its
    /// own and the next: for at least this long, and for less than twice as long.
    pub lifetime: Duration,
    /// Whether sessions of TLS 1.2 get tickets too; `None` means that they do while the secret is this process's own.
    ///
    /// Who has the secret can decrypt a recorded TLS 1.2 session that used a ticket, and a secret that is shared leaks
    /// more easily.
    pub tls12: Option<bool>,
}

impl TicketOptions {
    /// The shortest lifetime.
    pub const LIFETIME_MIN: Duration = Duration::from_secs(1);
    /// The longest lifetime that TLS 1.3 allows (RFC 8446 section 4.6.1).
    pub const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// The lifetime nearest to `asked` that tickets can have.
    #[must_use]
    pub fn nearest_lifetime(asked: Duration) -> Duration {
        asked.clamp(Self::LIFETIME_MIN, Self::LIFETIME_MAX)
    }
}

impl Default for TicketOptions {
    fn default() -> Self {
        Self { secrets: None, lifetime: Duration::from_secs(6 * 60 * 60), tls12: None }
    }
}

/// One secret in one epoch: what tickets say of it, and what their keys are derived with.
struct EpochKey {
    name: [u8; NAME_LEN],
    key: Key,
}

/// A stretch of wall clock as long as the lifetime of tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) lifetime_secs: u32,
    pub(super) number: u64,
}

impl Epoch {
    pub(super) const fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

/// What opens at a time.
#[derive(Default)]
pub(super) struct Keys {
    /// When the clock said this.
    epoch: Option<Epoch>,
    /// The first one seals.
    all: Vec<EpochKey>,
}

/// The keys of the present epoch, once they have been asked for.
pub(super) type Cache = RwLock<Option<Keys>>;

/// Seals and opens the tickets of one domain for one shard.
pub struct Ticketer {
    secrets: TicketSecrets,
    domain: [u8; 32],
    lifetime_secs: u32,
    time: Arc<dyn TimeProvider>,
    keys: Arc<Cache>,
}

impl Ticketer {
    /// For the tickets of `domain`, with the [nearest lifetime](TicketOptions::nearest_lifetime) that they can have.
    #[must_use]
    pub fn new(secrets: TicketSecrets, lifetime: Duration, domain: [u8; 32], time: Arc<dyn TimeProvider>) -> Self {
        let lifetime_secs = u32::try_from(TicketOptions::nearest_lifetime(lifetime).as_secs()).unwrap_or(u32::MAX);
        let keys = Arc::default();
        if let Some(ratchet) = secrets.ratchet() {
            ratchet.register(Arc::downgrade(&keys));
        }
        Self { secrets, domain, lifetime_secs, time, keys }
    }

    fn epoch(&self) -> Option<Epoch> {
        let lifetime_secs = self.lifetime_secs;
        Some(Epoch { lifetime_secs, number: self.time.current_time()?.as_secs() / u64::from(lifetime_secs) })
    }

    /// Calls `f` with the keys of the present epoch.
    fn with_keys<R>(&self, f: impl FnOnce(&Keys) -> Option<R>) -> Option<R> {
        let epoch = self.epoch();
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(keys) = keys.as_ref().filter(|keys| keys.epoch == epoch) {
                return f(keys);
            }
        }
        self.with_new_keys(f)
    }

    fn with_new_keys<R>(&self, f: impl FnOnce(&Keys) -> Option<R>) -> Option<R> {
        let mut ratchet = self.secrets.ratchet().map(Ratchet::hold);
        // Asked again, as another shard may have turned the ratchet while this one waited for it.
        let epoch = self.epoch()?;
        let secrets = match &mut ratchet {
            Some(ratchet) => ratchet.secrets_at(epoch, rand::fill)?,
            None => self.secrets.around(epoch.number),
        };
        let all = secrets.iter().map(|(secret, epoch)| self.epoch_key(secret, *epoch)).collect::<Option<_>>()?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.insert(Keys { epoch: Some(epoch), all });
        // Not before: who turns it next finds the keys where it empties them.
        drop(ratchet);
        f(keys)
    }

    /// Key and name are two outputs of one derivation, so the name says nothing about the key, nor, to others, which
    /// secret, domain or epoch it stands for.
    fn epoch_key(&self, secret: &Key, epoch: u64) -> Option<EpochKey> {
        let mut info = Vec::with_capacity(64);
        info.extend_from_slice(&self.domain);
        info.extend_from_slice(&self.lifetime_secs.to_be_bytes());
        info.extend_from_slice(&epoch.to_be_bytes());
        let name = derive(secret, &[&info[..], b"name"].concat())?;
        let key = derive(secret, &[&info[..], b"key"].concat())?;
        Some(EpochKey { name: *name.first_chunk()?, key: Key::new(HMAC_SHA256, &*key) })
    }
}

impl EpochKey {
    /// The key of the one ticket that has this salt.
    fn ticket_key(&self, salt: &[u8; SALT_LEN]) -> Option<LessSafeKey> {
        let key = derive(&self.key, salt)?;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?))
    }
}

/// One block of a key derivation in counter mode (NIST SP 800-108): HMAC with the state of its key at hand costs a
/// fraction of aws-lc's HKDF, and each ticket needs one.
fn derive(key: &Key, info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut okm = Zeroizing::new([0; 32]);
    sign_to_buffer(key, info, &mut *okm).ok()?;
    Some(okm)
}

/// A ticket's key seals once, so its nonce may be the same in all.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_secs
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut salt = [0; SALT_LEN];
        // The same salt twice is the same nonce twice.
        rand::fill(&mut salt).ok()?;
        self.with_keys(|keys| {
            let sealing = keys.all.first()?;
            let mut ticket = Vec::with_capacity(NAME_LEN + SALT_LEN + plain.len() + TAG_LEN);
            ticket.extend_from_slice(&sealing.name);
            ticket.extend_from_slice(&salt);
            ticket.extend_from_slice(plain);
            let sealed = &mut ticket[NAME_LEN + SALT_LEN..];
            // Name and salt are authentic, because another of either is another key.
            let tag = sealing.ticket_key(&salt)?.seal_in_place_separate_tag(nonce(), Aad::empty(), sealed).ok()?;
            ticket.extend_from_slice(tag.as_ref());
            Some(ticket)
        })
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (salt, sealed) = rest.split_first_chunk::<SALT_LEN>()?;
        self.with_keys(|keys| {
            let key = keys.all.iter().find(|key| key.name == *name)?.ticket_key(salt)?;
            let mut opened = sealed.to_vec();
            let len = key.open_in_place(nonce(), Aad::empty(), &mut opened).ok()?.len();
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
pub(super) mod testing {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustls::pki_types::UnixTime;

    use super::{Arc, Duration, TimeProvider};

    /// A wall clock that is set by hand.
    #[derive(Debug)]
    pub(crate) struct Clock(pub(crate) AtomicU64);

    impl Clock {
        pub(crate) fn at(seconds: u64) -> Arc<Self> {
            Arc::new(Self(AtomicU64::new(seconds)))
        }
    }

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::Ordering;

    use super::testing::Clock;
    use super::*;

    const EPOCH: u64 = 6 * 60 * 60;

    /// With these secrets, each by one byte, and the lifetime of an epoch.
    fn ticketer(secrets: &[u8], domain: u8, clock: &Arc<Clock>) -> Ticketer {
        let secrets = TicketSecrets::new(secrets.iter().map(|b| [*b; 32])).unwrap();
        let clock = Arc::clone(clock) as Arc<_>;
        Ticketer::new(secrets, Duration::from_secs(EPOCH), [domain; 32], clock)
    }

    #[test]
    fn a_ticket_opens_where_secret_domain_and_lifetime_are_the_same() {
        let clock = Clock::at(1_000_000);
        let (one, two) = (ticketer(&[1], 1, &clock), ticketer(&[1], 1, &clock));
        let ticket = one.encrypt(b"state").unwrap();
        assert_eq!(two.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(ticketer(&[2], 1, &clock).decrypt(&ticket), None);
        assert_eq!(ticketer(&[1], 2, &clock).decrypt(&ticket), None);
        let longer = Ticketer { lifetime_secs: 2 * one.lifetime_secs, ..ticketer(&[1], 1, &clock) };
        assert_eq!(longer.decrypt(&ticket), None);
    }

    #[test]
    fn the_first_secret_seals_and_all_open() {
        let clock = Clock::at(1_000_000);
        // A rotation from 1 to 2, host by host: at each step the hosts that have made it and those that have not.
        let steps = [&[1][..], &[1, 2], &[2, 1], &[2]].map(|secrets| ticketer(secrets, 1, &clock));
        for pair in steps.windows(2) {
            for (sealing, opening) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let ticket = sealing.encrypt(b"state").unwrap();
                assert!(opening.decrypt(&ticket).is_some());
            }
        }
        let old = steps[0].encrypt(b"state").unwrap();
        assert_eq!(steps.each_ref().map(|t| t.decrypt(&old).is_some()), [true, true, true, false]);
    }

    fn name(ticketer: &Ticketer) -> [u8; NAME_LEN] {
        *ticketer.encrypt(b"").unwrap().first_chunk().unwrap()
    }

    #[test]
    fn names_differ_by_secret_domain_and_epoch() {
        let mut names = HashSet::new();
        for epoch in [100, 101] {
            let clock = Clock::at(epoch * EPOCH);
            for (secret, domain) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
                let ticketer = ticketer(&[secret], domain, &clock);
                assert_eq!(name(&ticketer), name(&ticketer));
                assert!(names.insert(name(&ticketer)), "{secret} {domain} {epoch}");
            }
        }
    }

    #[test]
    fn no_two_tickets_have_the_same_salt_or_look_alike() {
        let ticketer = ticketer(&[1], 1, &Clock::at(1_000_000));
        let tickets: Vec<_> = (0..100).map(|_| ticketer.encrypt(&[0; 64]).unwrap()).collect();
        let part = |range: std::ops::Range<usize>| tickets.iter().map(|t| &t[range.clone()]).collect::<HashSet<_>>();
        assert_eq!(part(0..NAME_LEN).len(), 1);
        assert_eq!(part(NAME_LEN..NAME_LEN + SALT_LEN).len(), 100);
        assert_eq!(part(NAME_LEN + SALT_LEN..NAME_LEN + SALT_LEN + 64).len(), 100);
    }

    #[test]
    fn a_changed_or_cut_ticket_does_not_open() {
        let ticketer = ticketer(&[1], 1, &Clock::at(1_000_000));
        let ticket = ticketer.encrypt(b"state").unwrap();
        for i in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[i] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "byte {i}");
            assert_eq!(ticketer.decrypt(&ticket[..i]), None, "cut at {i}");
        }
    }

    #[test]
    fn a_ticket_outlives_its_epoch_by_one_and_opens_where_the_clock_is_one_behind() {
        let clock = Clock::at(100 * EPOCH);
        let ticketer = ticketer(&[1], 1, &clock);
        let ticket = ticketer.encrypt(b"state").unwrap();
        for (at, opens) in [(99, true), (101, true), (102, false), (98, false), (100, true), (0, false)] {
            clock.0.store(at * EPOCH, Ordering::Relaxed);
            assert_eq!(ticketer.decrypt(&ticket).is_some(), opens, "epoch {at}");
        }
    }

    /// With a secret of this process alone, and the lifetime of an epoch.
    fn own(secrets: &TicketSecrets, domain: u8, clock: &Arc<Clock>) -> Ticketer {
        Ticketer::new(secrets.clone(), Duration::from_secs(EPOCH), [domain; 32], Arc::clone(clock) as Arc<_>)
    }

    #[test]
    fn a_process_of_its_own_forgets_what_opened_the_tickets_of_epochs_before_the_last() {
        let secrets = TicketSecrets::random().unwrap();
        let clock = Clock::at(100 * EPOCH);
        let (one, two) = (own(&secrets, 1, &clock), own(&secrets, 1, &clock));
        let ticket = one.encrypt(b"state").unwrap();
        assert!(two.decrypt(&ticket).is_some());
        clock.0.store(101 * EPOCH, Ordering::Relaxed);
        for ticketer in [&one, &two, &own(&secrets, 1, &clock)] {
            assert!(ticketer.decrypt(&ticket).is_some(), "one epoch later");
        }
        clock.0.store(102 * EPOCH, Ordering::Relaxed);
        assert!(two.decrypt(&ticket).is_none(), "two epochs later");
        // Whoever reads all that the process has may set the clock as they like.
        for epoch in [101, 100] {
            clock.0.store(epoch * EPOCH, Ordering::Relaxed);
            for ticketer in [&one, &two, &own(&secrets, 1, &clock)] {
                assert!(ticketer.decrypt(&ticket).is_none(), "epoch {epoch}");
            }
        }
    }

    #[test]
    fn lifetimes_stay_within_what_tls_allows() {
        let clock = Clock::at(1_000_000);
        for (asked, told) in [(0, 1), (1, 1), (3600, 3600), (604_800, 604_800), (604_801, 604_800)] {
            let secrets = TicketSecrets::random().unwrap();
            let lifetime = Duration::from_secs(asked);
            let ticketer = Ticketer::new(secrets, lifetime, [0; 32], Arc::clone(&clock) as Arc<_>);
            assert_eq!(ticketer.lifetime(), told);
            let ticket = ticketer.encrypt(b"state").unwrap();
            assert!(ticketer.decrypt(&ticket).is_some());
        }
    }
}
