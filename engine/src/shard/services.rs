//! What futures on a shard may call: run queue, sleeping, telling the shard that a stream has work, drain.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use async_task::{Runnable, Task};
use pin_project_lite::pin_project;

use super::timers::{TimerKey, Wheel};
use crate::chunks::Chunks;
use crate::time::Instant64;
use crate::transport::{ConnId, Wake};

/// Locks, whatever became of the last holder: each critical section here leaves its data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that this is called on. It is asked for with every wake-up, and the standard library answers with a
/// reference count.
fn here() -> ThreadId {
    thread_local!(static HERE: ThreadId = thread::current().id());
    HERE.with(|id| *id)
}

/// Futures that are to be polled, in their order.
pub(super) type Batch = VecDeque<Runnable>;

/// Shared by a shard and the futures that run on it.
///
/// The queues have locks because a waker may be called from any thread; only the shard's own takes them often, so
/// they are not contended.
pub(crate) struct Services {
    home: ThreadId,
    wake: Box<dyn Wake>,
    ready: Mutex<Batch>,
    tasks: Mutex<Places<Task<()>>>,
    outbox: Mutex<Vec<ConnId>>,
    sleeps: Mutex<Wheel<Waker>>,
    /// Nanoseconds at the start of the turn; changes under the lock of `sleeps`, before anyone is woken for it.
    now: AtomicU64,
    /// Set under the lock of `waiting`.
    draining: AtomicBool,
    waiting: Mutex<Places<Waker>>,
}

/// Values at stable indices.
struct Places<T> {
    values: Chunks<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { values: Chunks::new(), free: Vec::new() }
    }
}

impl<T> Places<T> {
    /// An index that nobody else has; its value may be set later.
    fn reserve(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            self.values.len() - 1
        })
    }

    fn release(&mut self, index: usize) -> Option<T> {
        self.free.push(index);
        self.values[index].take()
    }

    fn take_all(&mut self) -> Vec<T> {
        self.values.iter_mut().filter_map(Option::take).collect()
    }
}

/// What a run of the queue did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ran {
    pub(super) panics: u64,
    /// The budget ended before the queue did.
    pub(super) more: bool,
}

impl Services {
    pub(super) fn new(wake: impl Wake, now: Instant64) -> Arc<Self> {
        Arc::new(Self {
            home: here(),
            wake: Box::new(wake),
            ready: Mutex::default(),
            tasks: Mutex::default(),
            outbox: Mutex::default(),
            sleeps: Mutex::new(Wheel::new(now)),
            now: AtomicU64::new(now.as_nanos()),
            draining: AtomicBool::new(false),
            waiting: Mutex::default(),
        })
    }

    fn wake_from_abroad(&self) {
        if here() != self.home {
            self.wake.wake();
        }
    }

    /// # Panics
    /// On another thread than the shard's.
    pub(super) fn assert_home(&self) {
        assert_eq!(here(), self.home, "on another thread than the shard's own");
    }

    /// Runs `future` on this shard; it need not be [`Send`].
    ///
    /// # Panics
    /// On another thread than the shard's: a future that is not `Send` would have to cross over.
    pub(crate) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + 'static) {
        self.assert_home();
        let index = lock(&self.tasks).reserve();
        let ended = Ended { services: Arc::clone(self), index };
        let services = Arc::clone(self);
        let schedule = move |runnable| {
            lock(&services.ready).push_back(runnable);
            services.wake_from_abroad();
        };
        let (runnable, task) = async_task::spawn_local(Running { future, ended }, schedule);
        lock(&self.tasks).values[index] = Some(task);
        runnable.schedule();
    }

    /// Polls what is ready, at most `budget` times. What it takes and does not poll stays in `batch`.
    pub(super) fn run(&self, budget: usize, batch: &mut Batch) -> Ran {
        let mut ran = Ran::default();
        for _ in 0..budget {
            if batch.is_empty() {
                mem::swap(&mut *lock(&self.ready), batch);
            }
            let Some(runnable) = batch.pop_front() else { return ran };
            // The handler's panic ends its own connection: unwinding drops its stream.
            if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
                ran.panics += 1;
            }
        }
        ran.more = !batch.is_empty() || !lock(&self.ready).is_empty();
        ran
    }

    /// Cancels every task, and drops what they hold on this thread.
    pub(super) fn cancel_all(&self, batch: &mut Batch) {
        loop {
            let tasks = lock(&self.tasks).take_all();
            let idle = tasks.is_empty();
            drop(tasks);
            while let Some(runnable) = batch.pop_front().or_else(|| lock(&self.ready).pop_front()) {
                let _ = catch_unwind(AssertUnwindSafe(|| runnable.run()));
            }
            if idle {
                return;
            }
        }
    }

    /// Marks a connection whose stream has something for the shard to do.
    pub(super) fn post(&self, conn: ConnId) {
        lock(&self.outbox).push(conn);
        self.wake_from_abroad();
    }

    /// Takes all marked connections; `into` must be empty and lends its memory.
    pub(super) fn take_posted(&self, into: &mut Vec<ConnId>) {
        mem::swap(&mut *lock(&self.outbox), into);
    }

    pub(super) fn is_idle(&self) -> bool {
        lock(&self.ready).is_empty() && lock(&self.outbox).is_empty()
    }

    /// When the earliest sleeping future must be woken.
    pub(super) fn next_deadline(&self) -> Option<Instant64> {
        lock(&self.sleeps).next_deadline()
    }

    /// Wakes the futures that have slept long enough.
    pub(super) fn expire(&self, now: Instant64, woken: &mut Vec<Waker>) {
        {
            let mut sleeps = lock(&self.sleeps);
            self.now.store(now.as_nanos(), Ordering::Release);
            sleeps.expire(now, |w| woken.push(w));
        }
        // Outside the lock: a waker may run anything.
        woken.drain(..).for_each(Waker::wake);
    }

    /// The time at the start of the shard's turn.
    pub(crate) fn now(&self) -> Instant64 {
        Instant64::from_nanos(self.now.load(Ordering::Acquire))
    }

    /// A future that ends at `deadline`.
    pub(crate) fn sleep_until(self: &Arc<Self>, deadline: Instant64) -> Sleep {
        Sleep { services: Arc::clone(self), deadline, key: None, waker: None, done: false }
    }

    pub(super) fn start_drain(&self) {
        let waiting = {
            let mut waiting = lock(&self.waiting);
            self.draining.store(true, Ordering::Release);
            waiting.take_all()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A future that ends when the shard begins to drain.
    pub(crate) fn draining(self: &Arc<Self>) -> Draining {
        Draining { services: Arc::clone(self), registered: None }
    }
}

pin_project! {
    /// A future with what is to happen when it ends. An async block that awaits it would hold it twice: where it was
    /// moved in and where it is awaited.
    struct Running<F> {
        #[pin]
        future: F,
        ended: Ended,
    }
}

impl<F: Future<Output = ()>> Future for Running<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().future.poll(cx)
    }
}

/// Forgets a task's handle when its future ends, however it ends.
struct Ended {
    services: Arc<Services>,
    index: usize,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let task = lock(&self.services.tasks).release(self.index);
        if let Some(task) = task {
            task.detach();
        }
    }
}

/// A future that ends at a point of the shard's clock; see [`Local::sleep`](super::Local::sleep).
pub struct Sleep {
    services: Arc<Services>,
    deadline: Instant64,
    key: Option<TimerKey>,
    /// Whom the timer of `key` wakes.
    waker: Option<Waker>,
    done: bool,
}

impl Sleep {
    fn cancel(&mut self) {
        self.waker = None;
        if let Some(key) = self.key.take() {
            drop(lock(&self.services.sleeps).cancel(key));
        }
    }

    /// Makes it end at `deadline` instead.
    pub(crate) fn reset(&mut self, deadline: Instant64) {
        self.cancel();
        self.deadline = deadline;
        self.done = false;
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.done {
            return Poll::Ready(());
        }
        // A connection polls its deadlines whenever anything happens to it, and mostly nothing is to be done. A timer
        // that has fired is not taken for one that runs: it never fires before its deadline.
        let waits = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if waits && self.services.now() < self.deadline {
            return Poll::Pending;
        }
        let services = Arc::clone(&self.services);
        let mut sleeps = lock(&services.sleeps);
        drop(self.key.take().and_then(|key| sleeps.cancel(key)));
        if services.now() >= self.deadline {
            self.done = true;
            return Poll::Ready(());
        }
        self.key = Some(sleeps.insert(self.deadline, cx.waker().clone()));
        drop(sleeps);
        self.waker = Some(cx.waker().clone());
        // The shard may be waiting for something later.
        services.wake_from_abroad();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A future that ends when the engine begins to drain; see [`Local::draining`](super::Local::draining).
pub struct Draining {
    services: Arc<Services>,
    /// Where it waits, and with what waker.
    registered: Option<(usize, Waker)>,
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining").finish_non_exhaustive()
    }
}

impl Future for Draining {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { services, registered } = self.get_mut();
        if services.draining.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        // A connection asks each time it is polled, and its waker seldom changes. Whoever sets the flag wakes it.
        if registered.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let mut waiting = lock(&services.waiting);
        if services.draining.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let index = registered.as_ref().map_or_else(|| waiting.reserve(), |(index, _)| *index);
        waiting.values[index] = Some(cx.waker().clone());
        *registered = Some((index, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        if let Some((index, _)) = self.registered {
            drop(lock(&self.services.waiting).release(index));
        }
    }
}
