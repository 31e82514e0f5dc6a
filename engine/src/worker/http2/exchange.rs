//! One request and its answer: a future beside its connection's.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame};
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use pin_project_lite::pin_project;

use super::Options;
use super::response::{self, Content};
use crate::shard::Services;
use crate::tunnel::{NotSent, Outbound, Promise, Tunnel};
use crate::worker::body::{BodyError, Dialogue};

type BoxError = Box<dyn Error + Send + Sync>;

/// The stream that an answer goes to; it is reset when whoever should answer panics.
pub(super) struct Reply(SendResponse<Bytes>);

impl Reply {
    pub(super) const fn new(reply: SendResponse<Bytes>) -> Self {
        Self(reply)
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.0.send_reset(reason);
    }

    /// RFC 9110 section 15.2.1. It fails on a stream that is over, as whoever answers will notice.
    fn say_continue(&mut self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        let _ = self.0.send_informational(response);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if thread::panicking() {
            self.reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// A CONNECT that is not answered yet.
pub(super) struct Connect {
    promise: Promise,
    inbound: RecvStream,
}

impl Connect {
    pub(super) const fn new(promise: Promise, inbound: RecvStream) -> Self {
        Self { promise, inbound }
    }
}

pin_project! {
    /// Awaits a service's answer and sends it.
    pub(super) struct Exchange<F, B> {
        #[pin]
        state: State<F, B>,
        reply: Reply,
        services: Arc<Services>,
        options: Arc<Options>,
        head: bool,
        // With a request that has content.
        dialogue: Option<Arc<Dialogue>>,
        connect: Option<Box<Connect>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B> {
        Answering { #[pin] answer: F },
        Sending { #[pin] sending: Sending<B> },
    }
}

impl<F, B> Exchange<F, B> {
    pub(super) fn new(answer: F, reply: Reply, options: &Arc<Options>, services: &Arc<Services>) -> Self {
        let (options, services) = (Arc::clone(options), Arc::clone(services));
        let state = State::Answering { answer };
        Self { state, reply, services, options, head: false, dialogue: None, connect: None }
    }

    /// Whether the answer is to a HEAD.
    pub(super) fn head(self, head: bool) -> Self {
        Self { head, ..self }
    }

    pub(super) fn dialogue(self, dialogue: Arc<Dialogue>) -> Self {
        Self { dialogue: Some(dialogue), ..self }
    }

    pub(super) fn connect(self, connect: Connect) -> Self {
        Self { connect: Some(Box::new(connect)), ..self }
    }
}

impl<F, B, E> Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body<Error: Into<BoxError>>,
{
    /// The service's answer, unless it fails or the client no longer wants it.
    fn poll_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Response<B>>> {
        let this = self.project();
        let StateProj::Answering { answer } = this.state.project() else { return Poll::Ready(None) };
        match answer.poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
            Poll::Ready(Err(error)) => {
                this.reply.reset(reason(&*error.into()));
                Poll::Ready(None)
            }
            Poll::Pending => {
                if this.reply.0.poll_reset(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if this.dialogue.as_ref().is_some_and(|dialogue| dialogue.is_continue_due(cx)) {
                    this.reply.say_continue();
                }
                Poll::Pending
            }
        }
    }

    /// Sends the head; there is content to be sent after it, or not.
    fn begin(self: Pin<&mut Self>, response: Response<B>) -> Option<Sending<B>> {
        let this = self.project();
        if let Some(dialogue) = this.dialogue {
            dialogue.answered();
        }
        // RFC 9110 section 15.2: those are not final, and not for a service to send; 101 is not for HTTP/2 at all.
        if response.status().is_informational() {
            this.reply.reset(Reason::INTERNAL_ERROR);
            return None;
        }
        let connect = this.connect.take().filter(|_| response.status().is_success());
        let content = if connect.is_some() { Content::Tunnel } else { Content::of(*this.head, response.status()) };
        let (head, body) = response::prepare(response, content);
        let ends = connect.is_none() && body.is_none();
        let Ok(stream) = this.reply.0.send_response(head, ends) else {
            this.reply.reset(Reason::INTERNAL_ERROR);
            return None;
        };
        if ends {
            return None;
        }
        let outbound = Outbound::new(stream, Arc::clone(this.services), this.options.window_wait);
        if let Some(connect) = connect {
            let Connect { promise, inbound } = *connect;
            promise.keep(Tunnel::new(outbound, inbound));
            return None;
        }
        body.map(|body| Sending { body, outbound, chunk: Bytes::new(), last: false })
    }
}

impl<F, B, E> Future for Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body<Error: Into<BoxError>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Answering { .. } = self.state {
            let Some(response) = ready!(self.as_mut().poll_answer(cx)) else { return Poll::Ready(()) };
            let Some(sending) = self.as_mut().begin(response) else { return Poll::Ready(()) };
            self.as_mut().project().state.set(State::Sending { sending });
        }
        let StateProj::Sending { sending } = self.project().state.project() else { return Poll::Ready(()) };
        sending.poll(cx)
    }
}

pin_project! {
    /// Content on its way to the client.
    struct Sending<B> {
        #[pin]
        body: B,
        outbound: Outbound,
        // What the body has given and the client's windows have not taken.
        chunk: Bytes,
        // Nothing comes after it.
        last: bool,
    }
}

impl<B: Body<Error: Into<BoxError>>> Sending<B> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.as_mut().poll_chunk(cx)) {
                return Poll::Ready(());
            }
            let mut this = self.as_mut().project();
            let stream = &mut this.outbound.stream;
            let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) else {
                // What the client has reset nobody need make.
                return stream.poll_reset(cx).map(drop);
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(mut data))) => {
                    *this.chunk = data.copy_to_bytes(data.remaining());
                    *this.last = this.body.is_end_stream();
                }
                Some(Ok(Err(frame))) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        end(stream, trailers);
                        return Poll::Ready(());
                    }
                }
                Some(Err(error)) => {
                    stream.send_reset(reason(&*error.into()));
                    return Poll::Ready(());
                }
                None => *this.last = true,
            }
        }
    }

    /// Sends what the body has given; says whether that was all. On a stream that is over there is nothing to be sent.
    fn poll_chunk(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = self.project();
        while !this.chunk.is_empty() {
            let room = match ready!(this.outbound.poll_room(this.chunk.len(), cx)) {
                Ok(room) => room,
                Err(NotSent::Gone) => return Poll::Ready(true),
                Err(NotSent::Stalled) => {
                    this.outbound.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(true);
                }
            };
            let some = this.chunk.split_to(room);
            let ends = *this.last && this.chunk.is_empty();
            if this.outbound.stream.send_data(some, ends).is_err() || ends {
                return Poll::Ready(true);
            }
        }
        if *this.last {
            // It fails on a stream that is over.
            let _ = this.outbound.stream.send_data(Bytes::new(), true);
        }
        Poll::Ready(*this.last)
    }
}

/// Ends a stream with trailers, after all of its content has been given to the library.
fn end(stream: &mut SendStream<Bytes>, trailers: HeaderMap) {
    stream.reserve_capacity(0);
    if stream.send_trailers(trailers).is_err() {
        stream.send_reset(Reason::INTERNAL_ERROR);
    }
}

/// With what a stream is reset whose answer failed (RFC 9113 section 7).
fn reason(error: &(dyn Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(BodyError::Late { .. }) = error.downcast_ref() {
            return Reason::CANCEL;
        }
        // An answer that failed is none, even if what it failed by was no error.
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason).filter(|&r| r != Reason::NO_ERROR) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
