//! Waits of less than a millisecond.

use std::time::Duration;

use mio::Registry;

/// mio rounds up to whole milliseconds where it uses epoll. A wait that is shorter than one is waited for here, until
/// something is ready, and none is left for mio then.
#[cfg(target_os = "linux")]
pub(super) fn wait(registry: &Registry, timeout: Option<Duration>) -> Option<Duration> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let short = timeout.filter(|t| !t.is_zero() && *t < Duration::from_millis(1));
    let Some(short) = short.and_then(|t| Timespec::try_from(t).ok()) else { return timeout };
    // Ready, over or interrupted: the poller says which.
    let _ = poll(&mut [PollFd::new(registry, PollFlags::IN)], Some(&short));
    Some(Duration::ZERO)
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
        assert_eq!(wait(poll.registry(), Some(Duration::from_micros(1))), Some(Duration::ZERO));
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        waker.wake().unwrap();
        assert_eq!(wait(poll.registry(), Some(Duration::from_micros(999))), Some(Duration::ZERO));
    }
}
