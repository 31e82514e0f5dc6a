//! Waits of less than a millisecond.

#[cfg(target_os = "linux")]
use std::cell::Cell;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::time::Duration;

use mio::Registry;
#[cfg(target_os = "linux")]
use rustix::thread::set_current_timer_slack;

/// mio rounds up to whole milliseconds where it uses epoll. A wait that is shorter than one is waited for here, until
/// something is ready, and none is left for mio then.
#[cfg(target_os = "linux")]
pub(super) fn wait(registry: &Registry, timeout: Option<Duration>) -> Option<Duration> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let short = timeout.filter(|t| !t.is_zero() && *t < Duration::from_millis(1));
    let Some(short) = short.and_then(|t| Timespec::try_from(t).ok()) else { return timeout };
    exact();
    // Ready, over or interrupted: the poller says which.
    let _ = poll(&mut [PollFd::new(registry, PollFlags::IN)], Some(&short));
    Some(Duration::ZERO)
}

/// The kernel lets a thread's timers be 50 us late, to join them with others, unless the thread says that it minds.
#[cfg(target_os = "linux")]
fn exact() {
    thread_local! {
        static SAID: Cell<bool> = const { Cell::new(false) };
    }
    if !SAID.replace(true) {
        // Where it is refused, waits are that much longer.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
    }
}

/// Elsewhere mio does not round.
#[cfg(not(target_os = "linux"))]
pub(super) const fn wait(_: &Registry, timeout: Option<Duration>) -> Option<Duration> {
    timeout
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use mio::{Poll, Token, Waker};

    use super::*;

    #[test]
    fn only_what_is_shorter_than_a_millisecond_is_waited_for() {
        let poll = Poll::new().unwrap();
        for timeout in [None, Some(Duration::ZERO), Some(Duration::from_millis(1)), Some(Duration::MAX)] {
            assert_eq!(wait(poll.registry(), timeout), timeout);
        }
        let slack = || rustix::thread::current_timer_slack().unwrap();
        assert!(slack() > 1);
        assert_eq!(wait(poll.registry(), Some(Duration::from_micros(1))), Some(Duration::ZERO));
        assert_eq!(slack(), 1, "and it is not joined with other threads' timers");
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        waker.wake().unwrap();
        assert_eq!(wait(poll.registry(), Some(Duration::from_micros(999))), Some(Duration::ZERO));
    }
}
