//! Whether a peer that says nothing is still there (RFC 6455 section 5.5.2).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// It does not look at the clock for each frame: it sleeps, and looks when it wakes whether anything has come.
pub(super) struct Pulse {
    every: KeepAlive,
    sleep: Pin<Box<dyn Sleep>>,
    /// Something has come: a frame, or some of one, as a long one leaves no room for a Pong until it is through.
    heard: Arc<AtomicBool>,
    asked: bool,
}

impl Pulse {
    /// `heard` is set by whoever reads.
    pub(super) fn new(every: KeepAlive, heard: Arc<AtomicBool>, timer: &Timer) -> Self {
        Self { every, sleep: timer.sleep(every.ping_interval), heard, asked: false }
    }

    pub(super) fn poll(&mut self, timer: &Timer, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            // An answer is not waited for any longer once it is there; all else can wait until the sleep is over.
            if !self.asked {
                ready!(self.sleep.as_mut().poll(cx));
            }
            if self.heard.swap(false, Ordering::Relaxed) {
                self.asked = false;
                self.sleep_for(self.every.ping_interval, timer);
                continue;
            }
            if self.asked {
                ready!(self.sleep.as_mut().poll(cx));
                return Poll::Ready(Turn::Silent(self.every.pong_wait));
            }
            self.asked = true;
            self.sleep_for(self.every.pong_wait, timer);
            return Poll::Ready(Turn::Ping);
        }
    }

    fn sleep_for(&mut self, wait: Duration, timer: &Timer) {
        timer.reset(&mut self.sleep, timer.now() + wait);
    }
}
