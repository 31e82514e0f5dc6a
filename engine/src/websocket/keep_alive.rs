//! Whether a peer that says nothing is still there (RFC 6455 section 5.5.2).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Sleep;

use super::Timer;
use super::options::KeepAlive;

/// What is to be done about a peer that says nothing.
pub(super) enum Turn {
    /// Ask it.
    Ping,
    /// Give it up: it has not answered for as long.
    Silent(Duration),
}

/// Counts a peer's silence.
///
/// It does not look at the clock for each frame: it sleeps, and asks when it wakes whether anything has come.
pub(super) struct Pulse {
    every: KeepAlive,
    sleep: Pin<Box<dyn Sleep>>,
    heard: bool,
    asked: bool,
}

impl Pulse {
    pub(super) fn new(every: KeepAlive, timer: &Timer) -> Self {
        Self { every, sleep: timer.sleep(every.ping_interval), heard: false, asked: false }
    }

    /// Something has come.
    pub(super) fn heard(&mut self, timer: &Timer) {
        self.heard = true;
        if self.asked {
            self.asked = false;
            self.sleep_for(self.every.ping_interval, timer);
        }
    }

    pub(super) fn poll(&mut self, timer: &Timer, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.asked {
                return Poll::Ready(Turn::Silent(self.every.pong_wait));
            }
            if !self.heard {
                self.asked = true;
                self.sleep_for(self.every.pong_wait, timer);
                return Poll::Ready(Turn::Ping);
            }
            self.heard = false;
            self.sleep_for(self.every.ping_interval, timer);
        }
    }

    fn sleep_for(&mut self, wait: Duration, timer: &Timer) {
        timer.reset(&mut self.sleep, timer.now() + wait);
    }
}
