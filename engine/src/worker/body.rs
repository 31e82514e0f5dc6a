//! The content of a request, over either version of HTTP.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "h2")]
use std::sync::{Mutex, PoisonError};
#[cfg(feature = "h2")]
use std::task::Waker;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "h2")]
use h2::RecvStream;
#[cfg(feature = "h1")]
use hyper::body::Incoming;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::error::Culprit;
use crate::shard::{Services, Sleep};

/// The content of a request as a service gets it, in pieces as they come, with trailers.
///
/// A client that expects 100 (Continue) gets it when this is read for the first time and nothing has come (RFC 9110
/// section 10.1.1); one that is answered without does not send its content. Over `h2` the client gets room for more
/// as it is read (RFC 9113 section 6.9).
pub struct Body {
    kind: Kind,
    /// What is to happen while more is waited for; none for content that is known to be empty.
    patience: Option<Box<Patience>>,
}

enum Kind {
    Empty,
    #[cfg(feature = "h1")]
    Http1(Incoming),
    #[cfg(feature = "h2")]
    Http2 {
        content: RecvStream,
        length: Option<u64>,
        in_trailers: bool,
    },
}

/// Why the content of a request is not whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The connection broke, or the content breaks the rules of HTTP/1.1.
    #[cfg(feature = "h1")]
    Http1(hyper::Error),
    /// The stream was reset (RFC 9113 section 6.4), or the connection broke.
    #[cfg(feature = "h2")]
    Http2(h2::Error),
    /// Nothing more of it came in time; 408 is for that (RFC 9110 section 15.5.9).
    Late {
        /// How long it was waited for.
        after: Duration,
    },
}

/// How long a service waits for content, until its answer begins.
struct Patience {
    dialogue: Arc<Dialogue>,
    services: Arc<Services>,
    wait: Duration,
    /// Runs while nothing comes.
    sleep: Option<Sleep>,
}

/// What a request's content and its answer know of each other.
#[derive(Default)]
pub(super) struct Dialogue {
    answered: AtomicBool,
    #[cfg(feature = "h2")]
    expectation: Mutex<Expectation>,
}

#[cfg(feature = "h2")]
#[derive(Default)]
enum Expectation {
    #[default]
    None,
    /// The client waits for 100 (Continue).
    Stated(Option<Waker>),
    /// The service waits for the content.
    Due,
}

impl Dialogue {
    #[cfg(feature = "h2")]
    pub(super) fn new(expects_continue: bool) -> Arc<Self> {
        let expectation = if expects_continue { Expectation::Stated(None) } else { Expectation::None };
        Arc::new(Self { answered: AtomicBool::new(false), expectation: Mutex::new(expectation) })
    }

    /// The head of the answer is there.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether 100 (Continue) is to be sent now; says so once, and wakes whoever asked before.
    #[cfg(feature = "h2")]
    pub(super) fn is_continue_due(&self, cx: &Context<'_>) -> bool {
        let mut expectation = self.expectation.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *expectation {
            Expectation::None => false,
            Expectation::Stated(waker) => {
                *waker = Some(cx.waker().clone());
                false
            }
            Expectation::Due => {
                *expectation = Expectation::None;
                true
            }
        }
    }

    #[cfg(feature = "h2")]
    fn content_is_wanted(&self) {
        let mut expectation = self.expectation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Expectation::Stated(waker) = &mut *expectation {
            let waker = waker.take();
            *expectation = Expectation::Due;
            drop(expectation);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Body {
    /// No content.
    #[must_use]
    pub const fn empty() -> Self {
        Self { kind: Kind::Empty, patience: None }
    }

    #[cfg(feature = "h1")]
    pub(super) fn http1(content: Incoming, services: &Arc<Services>, wait: Duration) -> (Self, Option<Arc<Dialogue>>) {
        if content.is_end_stream() {
            return (Self::empty(), None);
        }
        // hyper sends 100 itself.
        let dialogue = Arc::<Dialogue>::default();
        let patience = Patience::new(&dialogue, services, wait);
        (Self { kind: Kind::Http1(content), patience: Some(patience) }, Some(dialogue))
    }

    #[cfg(feature = "h2")]
    pub(super) fn http2(
        content: RecvStream,
        length: Option<u64>,
        dialogue: &Arc<Dialogue>,
        services: &Arc<Services>,
        wait: Duration,
    ) -> Self {
        let patience = Patience::new(dialogue, services, wait);
        Self { kind: Kind::Http2 { content, length, in_trailers: false }, patience: Some(patience) }
    }
}

impl Patience {
    fn new(dialogue: &Arc<Dialogue>, services: &Arc<Services>, wait: Duration) -> Box<Self> {
        Box::new(Self { dialogue: Arc::clone(dialogue), services: Arc::clone(services), wait, sleep: None })
    }

    /// While nothing comes: ends when that has lasted too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        #[cfg(feature = "h2")]
        self.dialogue.content_is_wanted();
        // Once both talk at a time, as in a stream of messages, either may be silent as long as it likes.
        if self.wait == Duration::MAX || self.dialogue.answered.load(Ordering::Relaxed) {
            self.sleep = None;
            return Poll::Pending;
        }
        let services = &self.services;
        let sleep = self.sleep.get_or_insert_with(|| services.sleep_until(services.now() + self.wait));
        ready!(Pin::new(sleep).poll(cx));
        Poll::Ready(BodyError::Late { after: self.wait })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(patience) = &mut this.patience else { return Poll::Ready(None) };
        let polled = match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            #[cfg(feature = "h1")]
            Kind::Http1(content) => Pin::new(content).poll_frame(cx).map_err(BodyError::Http1),
            #[cfg(feature = "h2")]
            Kind::Http2 { content, length, in_trailers } => poll_stream(content, length, in_trailers, cx),
        };
        if polled.is_ready() {
            patience.sleep = None;
            return polled;
        }
        let late = ready!(patience.poll(cx));
        // What comes from here on comes too late.
        (this.kind, this.patience) = (Kind::Empty, None);
        Poll::Ready(Some(Err(late)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            #[cfg(feature = "h1")]
            Kind::Http1(content) => content.is_end_stream(),
            #[cfg(feature = "h2")]
            Kind::Http2 { content, .. } => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            #[cfg(feature = "h1")]
            Kind::Http1(content) => content.size_hint(),
            #[cfg(feature = "h2")]
            Kind::Http2 { length, .. } => length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(feature = "h2")]
fn poll_stream(
    content: &mut RecvStream,
    length: &mut Option<u64>,
    in_trailers: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    // NO_ERROR as well: only a server may end a stream early with it (RFC 9113 section 8.1), and content that has no
    // END_STREAM is not whole.
    if !*in_trailers {
        match ready!(content.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // It fails on a stream that is over, which has no window.
                let _ = content.flow_control().release_capacity(bytes.len());
                *length = length.map(|left| left.saturating_sub(bytes.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Http2(error)))),
            None => *in_trailers = true,
        }
    }
    Poll::Ready(match ready!(content.poll_trailers(cx)) {
        Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
        Err(error) => Some(Err(BodyError::Http2(error))),
    })
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl BodyError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        Culprit::Peer
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "h1")]
            Self::Http1(error) => write!(f, "the request's content is not whole: {error}"),
            #[cfg(feature = "h2")]
            Self::Http2(error) => write!(f, "the request's content is not whole: {error}"),
            Self::Late { after } => write!(f, "nothing more of the request's content came for {after:?}"),
        }
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            #[cfg(feature = "h1")]
            Self::Http1(error) => Some(error),
            #[cfg(feature = "h2")]
            Self::Http2(error) => Some(error),
            Self::Late { .. } => None,
        }
    }
}
