//! `http/1.1` (RFC 9112) by hyper.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use pin_project_lite::pin_project;

use super::body::{Body, Dialogue};
use super::hyper_io::{ShardTimer, bounded};
use super::io::Io;
use super::{Connection, HttpService, Start, facts, until_done};
use crate::shard::{Services, Stream, Worker};

/// hyper takes no less.
const BUFFER_BYTES_MIN: usize = 8 * 1024;
/// hyper's own limit, for which it needs no allocation.
const HEADERS_MAX: usize = 100;

/// What an `http/1.1` connection is allowed, and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// From the end of one request (or the handshake) to the end of the next one's header section, so that it holds for
    /// an idle connection as well as for one whose headers trickle in; 30 seconds. Met: close.
    pub header_read_timeout: Duration,
    /// Bytes of one request's header section with its request line, and of the trailers of a chunked one; 32 KiB. Met:
    /// status 431, close; 400 for trailers.
    pub header_bytes_max: usize,
    /// Header fields of one request; 100. Met: status 431, close.
    pub headers_max: usize,
    /// Bytes of requests that are read ahead, and of responses that wait for the socket; at least 8 KiB, 64 KiB unless
    /// said otherwise. Met: no more is read, and the response's body waits; status 431 and close when no header section
    /// ends within it.
    pub buffer_bytes_max: usize,
    /// How long a write may wait for the client to take what it was sent before, after an upgrade as well; 60 seconds.
    /// Met: close.
    pub write_wait: Duration,
    /// How long a service that reads a request's content may wait for more of it, until its answer begins; 60 seconds,
    /// [`Duration::MAX`] for ever. Met: reading fails with [`BodyError::Late`](super::BodyError::Late), and the
    /// connection is closed after the answer.
    pub content_wait: Duration,
    /// Whether a connection serves more than one request (RFC 9112 section 9.3); it does.
    pub keep_alive: bool,
    /// Whether the answers to pipelined requests (RFC 9112 section 9.3.2) leave together rather than each as soon as it
    /// is there; they do not, as what is written in one turn of the shard shares records anyway.
    pub pipeline_flush: bool,
    /// Whether a client that has ended its direction still gets the answer under way. Not unless asked for: then a
    /// client that is gone is not noticed before something is written to it.
    pub half_close: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(30),
            header_bytes_max: 32 * 1024,
            headers_max: HEADERS_MAX,
            buffer_bytes_max: 64 * 1024,
            write_wait: Duration::from_secs(60),
            content_wait: Duration::from_secs(60),
            keep_alive: true,
            pipeline_flush: false,
            half_close: false,
        }
    }
}

/// A worker that speaks `http/1.1` and answers with the service that `make` makes for each connection.
///
/// Connections are kept alive, their requests answered in order. A drain closes an idle connection at once, any
/// other after the response under way. The future of a service need not be [`Send`] and must not block; when it
/// panics its connection is reset. A client that expects 100 (Continue) gets it when the service begins to read the
/// content (RFC 9110 section 10.1.1). How much content a request may have is the service's to say, with
/// `http_body_util::Limited` for example.
///
/// For an upgrade (RFC 9110 section 7.8) give the future that awaits [`hyper::upgrade::on`] to
/// [`Connection::local`].
///
/// ```
/// use std::convert::Infallible;
///
/// use handfast::{Protocol, worker};
/// use hyper::{Request, Response, service::service_fn};
///
/// let protocol = Protocol::alpn("http/1.1").worker(worker::http1::serve(|_| {
///     service_fn(|_: Request<worker::Body>| async { Ok::<_, Infallible>(Response::new("hello".to_owned())) })
/// }));
/// # drop(protocol);
/// ```
pub fn serve<M, S>(make: M) -> impl Worker
where
    M: Fn(&Connection) -> S + Send + Sync + 'static,
    S: HttpService,
{
    serve_with(Options::default(), make)
}

/// As [`serve`], within other limits.
pub fn serve_with<M, S>(options: Options, make: M) -> impl Worker
where
    M: Fn(&Connection) -> S + Send + Sync + 'static,
    S: HttpService,
{
    Start(move |stream: Stream| {
        let connection = Connection::of(&stream);
        let service = make(&connection);
        connection.local().spawn(converse(&options, stream, service));
    })
}

fn converse<S: HttpService>(options: &Options, stream: Stream, service: S) -> impl Future<Output = ()> + use<S> {
    let draining = stream.local().draining();
    let mut builder = http1::Builder::new();
    builder
        .timer(ShardTimer(Arc::clone(stream.services())))
        .header_read_timeout(bounded(options.header_read_timeout))
        .max_header_size(options.header_bytes_max)
        .max_buf_size(options.buffer_bytes_max.max(BUFFER_BYTES_MIN))
        .keep_alive(options.keep_alive)
        .pipeline_flush(options.pipeline_flush)
        .half_close(options.half_close);
    if options.headers_max != HEADERS_MAX {
        builder.max_headers(options.headers_max);
    }
    let service = Bodied { service, services: Arc::clone(stream.services()), content_wait: options.content_wait };
    let connection = builder.serve_connection(Io::new(stream, options.write_wait), service).with_upgrades();
    until_done(connection, draining, |connection| connection.graceful_shutdown())
}

/// Gives a service the requests of hyper's connection.
struct Bodied<S> {
    service: S,
    services: Arc<Services>,
    content_wait: Duration,
}

impl<S: HttpService> Service<Request<Incoming>> for Bodied<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (head, content) = request.into_parts();
        let (body, dialogue) = Body::http1(content, &self.services, self.content_wait);
        Answer { answer: self.service.call(Request::from_parts(head, body)), dialogue }
    }
}

pin_project! {
    struct Answer<F> {
        #[pin]
        answer: F,
        dialogue: Option<Arc<Dialogue>>,
    }
}

impl<F: Future> Future for Answer<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answered = this.answer.poll(cx);
        if let (Poll::Ready(_), Some(dialogue)) = (&answered, this.dialogue) {
            dialogue.answered();
        }
        answered
    }
}

/// Answers `GET /` with the facts of the handshake, and, with the feature `websocket`, echoes on any path that is
/// asked for as a WebSocket.
pub(crate) fn with_facts() -> impl Worker {
    serve(|connection| {
        let connection = connection.clone();
        service_fn(move |mut request: Request<Body>| {
            let response = answer(&connection, &mut request);
            let discarded = facts::discard(&connection, request.into_body());
            async move {
                discarded.await;
                Ok::<_, Infallible>(response)
            }
        })
    })
}

#[cfg(feature = "websocket")]
fn answer(connection: &Connection, request: &mut Request<Body>) -> Response<Full<Bytes>> {
    super::websocket::echo(connection, request).unwrap_or_else(|| facts::respond(&connection.facts, request))
}

#[cfg(not(feature = "websocket"))]
fn answer(connection: &Connection, request: &mut Request<Body>) -> Response<Full<Bytes>> {
    facts::respond(&connection.facts, request)
}
