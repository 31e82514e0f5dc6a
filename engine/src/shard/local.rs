//! What a worker may do on the thread of its connection.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::services::{Draining, Services, Sleep};
use super::stream::Stream;

/// A connection's own thread: runs futures there, lets them sleep on its clock, and tells them of a drain.
///
/// It stays on that thread, because its futures need not be [`Send`].
#[derive(Clone)]
pub struct Local {
    services: Arc<Services>,
    here: PhantomData<Rc<()>>,
}

impl Local {
    /// Runs `future` beside the connections of this thread. It must not block; when it panics it ends, and nothing
    /// else.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.services.spawn(future);
    }

    /// Ends after `wait`, to the millisecond.
    #[must_use]
    pub fn sleep(&self, wait: Duration) -> Sleep {
        self.services.sleep_until(self.services.now() + wait)
    }

    /// Ends when the engine begins to drain, at once if it has: a worker that waits for its peer should then say
    /// goodbye, before [`Limits::drain_deadline`](crate::Limits::drain_deadline) resets the connection.
    #[must_use]
    pub fn draining(&self) -> Draining {
        self.services.draining()
    }

    #[cfg(feature = "websocket")]
    pub(crate) const fn services(&self) -> &Arc<Services> {
        &self.services
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Stream {
    /// The thread of this connection; for [`Worker::start`](super::Worker::start) and the futures that it starts.
    ///
    /// # Panics
    /// On another thread.
    #[must_use]
    pub fn local(&self) -> Local {
        self.services().assert_home();
        Local { services: Arc::clone(self.services()), here: PhantomData }
    }
}
