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
    pub(super) const fn heard(&mut self) {
        self.heard = true;
    }

    pub(super) fn poll(&mut self, timer: &Timer, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let (heard, asked) = (self.heard, self.asked);
            self.heard = false;
            self.asked = !heard;
            let wait = if heard { self.every.ping_interval } else { self.every.pong_wait };
            timer.reset(&mut self.sleep, timer.now() + wait);
            match (heard, asked) {
                (true, _) => {}
                (false, false) => return Poll::Ready(Turn::Ping),
                (false, true) => return Poll::Ready(Turn::Silent(self.every.pong_wait)),
            }
        }
    }
}
