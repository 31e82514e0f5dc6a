//! The sessions that one shard can resume.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets kept for one name, at least and at most. Met: the oldest is forgotten.
const TICKETS_MIN: usize = 8;
const TICKETS_MAX: usize = 16 * 1024;

/// What can be resumed with one name.
#[derive(Default)]
struct Kept {
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// The sessions of one shard and one offer. rustls wants it to be shared, but only one thread ever uses it: neither
/// the lock nor the flag is ever contended.
pub(super) struct Sessions {
    names: Mutex<HashMap<ServerName<'static>, Kept>>,
    tickets_max: usize,
    withheld: AtomicBool,
}

impl Sessions {
    /// Room for the tickets of `slots` slots.
    pub(super) fn new(slots: u32) -> Self {
        let tickets_max = usize::try_from(slots).unwrap_or(TICKETS_MAX).clamp(TICKETS_MIN, TICKETS_MAX);
        Self { names: Mutex::default(), tickets_max, withheld: AtomicBool::new(false) }
    }

    /// Whether a session with `name` could be resumed now.
    pub(super) fn has(&self, name: &ServerName<'static>) -> bool {
        self.with(name, |kept| kept.tls12.is_some() || !kept.tickets.is_empty()).unwrap_or(false)
    }

    /// From now on connections find no session, and are full handshakes therefore; they still leave theirs here.
    pub(super) fn withhold(&self, withheld: bool) {
        self.withheld.store(withheld, Ordering::Relaxed);
    }

    fn with<R>(&self, name: &ServerName<'static>, f: impl FnOnce(&mut Kept) -> R) -> Option<R> {
        // Nothing panics while it holds the lock.
        let mut names = self.names.lock().ok()?;
        if let Some(kept) = names.get_mut(name) {
            return Some(f(kept));
        }
        Some(f(names.entry(name.clone()).or_default()))
    }

    fn offers(&self) -> bool {
        !self.withheld.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    /// None: the group that was asked for first gets the key share, resumed or not.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(&name, |kept| kept.tls12 = Some(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        if !self.offers() {
            return None;
        }
        self.with(&name.to_owned(), |kept| kept.tls12.clone())?
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.with(name, |kept| kept.tls12 = None);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(&name, |kept| {
            if kept.tickets.len() >= self.tickets_max {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.offers() {
            return None;
        }
        // The newest: the server may keep only so many, and they grow old.
        self.with(name, |kept| kept.tickets.pop_back())?
    }
}
