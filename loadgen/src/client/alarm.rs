//! Wakes a shard at the moment at which a handshake is due.
//!
//! The kernel's pollers wait in whole milliseconds, rounded up: an open loop that relied on them would be late by half
//! of one on average. Its timers are exact, so a thread of its own waits for one and wakes the shard's transport.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use handfast::time::Instant64;
use handfast::transport::Wake;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::cpu;

/// An alarm clock for one shard.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: Arc<OwnedFd>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// What it is set to.
    at: Option<Instant64>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    cpu_ns: AtomicU64,
}

impl Alarm {
    /// One that calls `waker`. Its thread runs on the CPUs of the calling one.
    pub(super) fn new(waker: impl Wake) -> io::Result<Self> {
        let timer = Arc::new(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?);
        let shared = Arc::new(Shared::default());
        let (theirs, told) = (Arc::clone(&timer), Arc::clone(&shared));
        let body = move || {
            // It blocks until the alarm goes off, and says how often it did.
            while let Ok(8) | Err(Errno::INTR) = rustix::io::read(&*theirs, &mut [0; 8]) {
                if told.over.load(Ordering::Acquire) {
                    return;
                }
                waker.wake();
                let nanos = u64::try_from(cpu::of_this_thread().as_nanos()).unwrap_or(u64::MAX);
                told.cpu_ns.store(nanos, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("alarm".to_owned()).spawn(body)?;
        Ok(Self { timer, shared, thread: Some(thread), at: None })
    }

    /// Sets it to `at`, and no longer to what it was set to before.
    pub(super) fn set(&mut self, at: Instant64, now: Instant64) {
        if self.at != Some(at) && at > now {
            self.at = Some(at);
            self.ring_in(at.since(now));
        }
    }

    /// CPU time that it has used.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu_ns.load(Ordering::Relaxed))
    }

    fn ring_in(&self, time: Duration) {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok(it_value) = Timespec::try_from(time) else { return };
        let once = Itimerspec { it_interval: never, it_value };
        // If it fails the poller's own deadline wakes the shard, up to a millisecond late, which is measured.
        let _ = timerfd_settime(&*self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.ring_in(Duration::from_nanos(1));
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, not even when it panicked.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Bell(Sender<()>);

    impl Wake for Bell {
        fn wake(&self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn it_rings_once_for_each_setting_and_not_for_what_it_was_set_to_before() {
        let (bell, rings) = channel();
        let mut alarm = Alarm::new(Bell(bell)).unwrap();
        let at = |ms: u64| Instant64::from_nanos(ms * 1_000_000);
        alarm.set(at(3_600_000), at(0));
        alarm.set(at(5), at(0));
        rings.recv().unwrap();
        alarm.set(at(5), at(0));
        alarm.set(at(4), at(4));
        assert!(rings.try_recv().is_err());
        alarm.set(at(7), at(6));
        rings.recv().unwrap();
        drop(alarm);
        assert!(rings.recv().is_err(), "its thread is gone");
    }
}
