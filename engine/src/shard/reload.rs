//! What may change while a shard runs, and how another thread tells it so.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::services::lock;
use super::{Destination, Shard};
use crate::handshake::{Blueprint, Live};
use crate::limits::Limits;
use crate::transport::Transport;

/// What new handshakes are served with. Those under way keep the one that they started with.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) live: Live,
    /// In the order of the table's indices.
    pub(super) destinations: Vec<Destination>,
}

/// What may change while a shard runs; see [`Shard::reload`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reload {
    /// Table and configurations.
    pub blueprint: Blueprint,
    /// Where each protocol's connections go, in the table's order; `None` leaves it as it is.
    pub destinations: Option<Vec<Destination>>,
    /// The limits.
    pub limits: Limits,
}

impl Reload {
    /// All that can change.
    #[must_use]
    pub const fn new(blueprint: Blueprint, destinations: Option<Vec<Destination>>, limits: Limits) -> Self {
        Self { blueprint, destinations, limits }
    }
}

/// Tells a running shard from another thread what to do. Wake its transport afterwards.
#[derive(Debug, Default)]
pub struct Control {
    drain: AtomicBool,
    /// There is a reload: what a shard looks at in each turn, so that it takes the lock only for one.
    reloading: AtomicBool,
    pending: Mutex<Pending>,
}

/// What a thread has not come to yet.
#[derive(Debug, Default)]
struct Pending {
    reload: Option<Arc<Reload>>,
    /// It never will: it has ended.
    ended: bool,
}

/// Ends a [`Control`] when its thread ends, by a panic too: nobody will act on it any more, and whoever receives from
/// the mailboxes of a reload would wait for it.
pub(super) struct Ending<'a>(pub(super) &'a Control);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut pending = lock(&self.0.pending);
        *pending = Pending { reload: None, ended: true };
    }
}

impl Control {
    /// Asks for a drain.
    pub fn drain(&self) {
        self.drain.store(true, Ordering::Release);
    }

    /// Asks for a [reload](Shard::reload). One that the shard has not come to yet is superseded, but for its
    /// destinations when this one has none.
    pub fn reload(&self, reload: Arc<Reload>) {
        let mut pending = lock(&self.pending);
        if pending.ended {
            return;
        }
        pending.reload = Some(match pending.reload.take() {
            Some(earlier) if reload.destinations.is_none() && earlier.destinations.is_some() => {
                Arc::new(Reload { destinations: earlier.destinations.clone(), ..(*reload).clone() })
            }
            _ => reload,
        });
        self.reloading.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.load(Ordering::Acquire)
    }

    pub(super) fn take_reload(&self) -> Option<Arc<Reload>> {
        if !self.reloading.load(Ordering::Acquire) {
            return None;
        }
        let mut pending = lock(&self.pending);
        self.reloading.store(false, Ordering::Relaxed);
        pending.reload.take()
    }
}

impl<T: Transport> Shard<T> {
    /// Serves by other configurations from now on. Handshakes whose ClientHello was acted on keep their table, and go
    /// where it says; negotiated connections stay as they are. Deadlines that run are not moved.
    pub fn reload(&mut self, reload: &Reload) {
        let destinations = reload.destinations.clone().unwrap_or_else(|| self.serving.destinations.clone());
        self.serving = Rc::new(Serving { live: reload.blueprint.live(), destinations });
        self.limits = reload.limits.clone();
        self.prepare.forget();
        self.transport.set_limits(&self.limits);
    }
}
