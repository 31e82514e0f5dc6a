//! How long an `h2` connection may take to begin, may stay without streams or signs of life, and may take to leave.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::Options;
use super::io::Heard;
use crate::shard::Sleep;
use crate::time::Instant64;

/// The least between two looks at the deadlines.
const PAUSE: Duration = Duration::from_millis(1);

/// Which deadline runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preface,
    Serving,
    /// GOAWAY has been said because nothing was asked for.
    Leaving,
}

/// Whether the client is asked for a sign of life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// Until when it may answer.
    Until(Instant64),
    /// It has not answered.
    InVain,
}

/// What follows from a deadline that is met.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// The client is to be asked for a sign of life.
    Ping,
    /// It has not answered.
    Vanished,
    Goaway,
    Close,
}

/// The deadlines of one connection, on one timer, which is only moved when it fires.
pub(super) struct Deadlines {
    sleep: Sleep,
    phase: Phase,
    asked: Asked,
    busy: bool,
    /// When the last stream ended, or the preface was whole.
    quiet_since: Instant64,
}

impl Deadlines {
    pub(super) fn new(heard: &Heard, options: &Options) -> Self {
        let now = heard.services.now();
        Self {
            sleep: heard.services.sleep_until(now + options.preface_deadline),
            phase: Phase::Preface,
            asked: Asked::No,
            busy: false,
            quiet_since: now,
        }
    }

    /// Whether there are streams; to be told whenever that may have changed.
    pub(super) fn streams(&mut self, open: bool, heard: &Heard) {
        if open || self.busy {
            self.quiet_since = heard.services.now();
        }
        self.busy = open;
    }

    /// Whether an answer to a PING is awaited.
    pub(super) const fn is_pong_due(&self) -> bool {
        matches!(self.asked, Asked::Until(_))
    }

    /// The answer to the PING is there.
    pub(super) fn ponged(&mut self, heard: &Heard, options: &Options) {
        self.asked = Asked::No;
        self.sleep.reset(self.next(heard, options));
    }

    pub(super) fn poll(&mut self, heard: &Heard, options: &Options, cx: &mut Context<'_>) -> Poll<Met> {
        if self.phase == Phase::Preface && heard.is_preface_whole() {
            self.phase = Phase::Serving;
            self.quiet_since = heard.at();
            self.sleep.reset(self.next(heard, options));
        }
        loop {
            ready!(Pin::new(&mut self.sleep).poll(cx));
            let now = heard.services.now();
            let met = self.met(now, heard, options);
            // A deadline of nothing at all must not keep the shard busy.
            self.sleep.reset(self.next(heard, options).max(now + PAUSE));
            if let Some(met) = met {
                return Poll::Ready(met);
            }
        }
    }

    fn met(&mut self, now: Instant64, heard: &Heard, options: &Options) -> Option<Met> {
        match self.phase {
            Phase::Preface => return Some(Met::Close),
            Phase::Serving if !self.busy && self.quiet_since + options.idle_deadline <= now => {
                (self.phase, self.quiet_since) = (Phase::Leaving, now);
                return Some(Met::Goaway);
            }
            Phase::Leaving if !self.busy && self.quiet_since + options.goaway_wait <= now => return Some(Met::Close),
            Phase::Serving | Phase::Leaving => {}
        }
        match self.asked {
            Asked::No if heard.at() + options.keep_alive_interval <= now => {
                self.asked = Asked::Until(now + options.keep_alive_timeout);
                Some(Met::Ping)
            }
            Asked::Until(deadline) if deadline <= now => {
                self.asked = Asked::InVain;
                Some(Met::Vanished)
            }
            Asked::No | Asked::Until(_) | Asked::InVain => None,
        }
    }

    /// When to look again. What happens until then only moves deadlines away.
    fn next(&self, heard: &Heard, options: &Options) -> Instant64 {
        let wait = if self.phase == Phase::Leaving { options.goaway_wait } else { options.idle_deadline };
        let since = if self.busy { heard.services.now() } else { self.quiet_since };
        let alive = match self.asked {
            Asked::No => heard.at() + options.keep_alive_interval,
            Asked::Until(deadline) => deadline,
            Asked::InVain => heard.services.now() + Duration::MAX,
        };
        (since + wait).min(alive)
    }
}
