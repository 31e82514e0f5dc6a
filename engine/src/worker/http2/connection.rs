//! One `h2` connection as a future: takes up streams, and keeps the deadlines.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{self, Handshake};
use h2::{Ping, PingPong, Reason, RecvStream};
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use hyper::{Method, Request};

use super::Options;
use super::deadlines::{Deadlines, Met};
use super::exchange::{Connect, Exchange, Reply};
use super::io::{Heard, Watched};
use crate::tunnel::Promise;
use crate::worker::HttpService;
use crate::worker::body::{Body, Dialogue};

/// A client's connection to a service.
pub(super) struct Served<S> {
    stage: Stage,
    service: S,
    options: Arc<Options>,
    heard: Rc<Heard>,
    deadlines: Deadlines,
    /// Made when the client is asked for the first time.
    pings: Option<PingPong>,
    /// No new streams are to be taken.
    leaving: bool,
}

#[expect(clippy::large_enum_variant, reason = "nearly every connection is in the large one")]
enum Stage {
    /// The client's preface is awaited. Boxed, so that a connection does not keep room for it.
    Beginning(Box<Handshake<Watched, Bytes>>),
    Serving(server::Connection<Watched, Bytes>),
}

/// Services are called where they are; nothing here is pinned.
impl<S> Unpin for Served<S> {}

impl<S: HttpService> Served<S> {
    pub(super) fn new(
        handshake: Handshake<Watched, Bytes>,
        heard: Rc<Heard>,
        options: Arc<Options>,
        service: S,
    ) -> Self {
        let deadlines = Deadlines::new(&heard, &options);
        let stage = Stage::Beginning(Box::new(handshake));
        Self { stage, service, options, heard, deadlines, pings: None, leaving: false }
    }

    /// Lets the open streams end and takes no others (RFC 9113 section 6.8).
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        if let Stage::Serving(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
    }

    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Stage::Beginning(handshake) = &mut self.stage {
            let mut connection = ready!(Pin::new(&mut **handshake).poll(cx))?;
            if self.leaving {
                connection.graceful_shutdown();
            }
            self.stage = Stage::Serving(connection);
        }
        Poll::Ready(Ok(()))
    }

    /// Drives the connection; ends when it has.
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        ready!(self.poll_begin(cx))?;
        loop {
            let Stage::Serving(connection) = &mut self.stage else { return Poll::Ready(Ok(())) };
            let Poll::Ready(accepted) = connection.poll_accept(cx) else {
                let open = connection.has_streams();
                self.deadlines.streams(open, &self.heard);
                self.hear_pong(cx);
                return Poll::Pending;
            };
            let Some((request, response)) = accepted.transpose()? else { return Poll::Ready(Ok(())) };
            self.deadlines.streams(true, &self.heard);
            self.take_up(request, Reply::new(response));
        }
    }

    fn take_up(&self, request: Request<RecvStream>, mut reply: Reply) {
        let (head, content) = request.into_parts();
        let services = &self.heard.services;
        let length = content_length(&head.headers);
        let is_head = head.method == Method::HEAD;
        if head.method == Method::CONNECT {
            // RFC 9113 section 8.5; the content of a CONNECT means nothing (RFC 9110 section 9.3.6).
            if head.uri.authority().is_none() || length.is_some_and(|length| length > 0) {
                return reply.reset(Reason::PROTOCOL_ERROR);
            }
            let (promise, tunnel) = Promise::new();
            let mut request = Request::from_parts(head, Body::empty());
            request.extensions_mut().insert(tunnel);
            let connect = Connect::new(promise, content);
            let Some((answer, reply)) = self.call(request, reply) else { return };
            return services.spawn(Exchange::new(answer, reply, &self.options, services).connect(connect));
        }
        if content.is_end_stream() {
            let Some((answer, reply)) = self.call(Request::from_parts(head, Body::empty()), reply) else { return };
            return services.spawn(Exchange::new(answer, reply, &self.options, services).head(is_head));
        }
        let dialogue = Dialogue::new(expects_continue(&head.headers));
        let body = Body::http2(content, length, &dialogue, services, self.options.content_wait);
        let Some((answer, reply)) = self.call(Request::from_parts(head, body), reply) else { return };
        let exchange = Exchange::new(answer, reply, &self.options, services).head(is_head);
        services.spawn(exchange.dialogue(dialogue));
    }

    /// Calls the service; if it panics before there is a future, its stream ends and the others go on.
    fn call(&self, request: Request<Body>, reply: Reply) -> Option<(S::Future, Reply)> {
        // After a panic the service is called again: as with one whose futures panic, that is the embedder's to bear.
        match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
            Ok(answer) => Some((answer, reply)),
            Err(panic) => {
                // It goes on where all panics of handlers are counted, and resets the stream there.
                self.heard.services.spawn(async move {
                    let _reply = reply;
                    resume_unwind(panic);
                });
                None
            }
        }
    }

    /// Asks the client for a sign of life.
    fn ping(&mut self) {
        let Stage::Serving(connection) = &mut self.stage else { return };
        if self.pings.is_none() {
            self.pings = connection.ping_pong();
        }
        if let Some(pings) = &mut self.pings {
            // It fails on a connection that is at its end.
            let _ = pings.send_ping(Ping::opaque());
        }
    }

    fn hear_pong(&mut self, cx: &mut Context<'_>) {
        if self.deadlines.is_pong_due()
            && let Some(pings) = &mut self.pings
            && let Poll::Ready(Ok(_)) = pings.poll_pong(cx)
        {
            self.deadlines.ponged(&self.heard, &self.options);
        }
    }
}

impl<S: HttpService> Future for Served<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // How it ended is between the library and the peer; the shard counts what concerns it.
            if this.poll_connection(cx).is_ready() {
                return Poll::Ready(());
            }
            match ready!(this.deadlines.poll(&this.heard, &this.options, cx)) {
                Met::Ping => this.ping(),
                Met::Vanished => {
                    if let Stage::Serving(connection) = &mut this.stage {
                        connection.abrupt_shutdown(Reason::NO_ERROR);
                    }
                }
                Met::Goaway => this.leave(),
                Met::Close => return Poll::Ready(()),
            }
        }
    }
}

/// What a request says of its content's length; the library has seen to it that it is one number.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// RFC 9110 section 10.1.1.
fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
