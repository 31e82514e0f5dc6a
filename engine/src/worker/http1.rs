//! `http/1.1` (RFC 9112) by hyper.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};

use super::hyper_io::{HyperIo, ShardTimer};
use super::{Connection, Start, facts, until_done};
use crate::shard::{Stream, Worker};

/// hyper takes no less.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// What an `http/1.1` connection is allowed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// From the end of one request (or the handshake) to the end of the next one's header section. Met: close.
    pub header_read_timeout: Duration,
    /// Bytes of one request's header section, and of output that waits; at least 8 KiB. Met: status 431, close.
    pub buffer_bytes_max: usize,
    /// Header fields of one request. Met: status 431, close.
    pub headers_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { header_read_timeout: Duration::from_secs(10), buffer_bytes_max: 64 * 1024, headers_max: 100 }
    }
}

/// A worker that speaks `http/1.1` and answers with the service that `make` makes for each connection.
///
/// Connections are kept alive, their requests answered in order. A drain closes an idle connection at once, any
/// other after the response under way. The future of a service need not be [`Send`] and must not block; when it
/// panics its connection is reset.
///
/// For an upgrade (RFC 9110 section 7.8) give the future that awaits [`hyper::upgrade::on`] to
/// [`Connection::local`].
///
/// ```
/// use std::convert::Infallible;
///
/// use handfast::{Protocol, worker};
/// use hyper::{Request, Response, body::Incoming, service::service_fn};
///
/// let protocol = Protocol::alpn("http/1.1").worker(worker::http1::serve(|_| {
///     service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new("hello".to_owned())) })
/// }));
/// # drop(protocol);
/// ```
pub fn serve<M, S, B>(make: M) -> impl Worker
where
    M: Fn(&Connection) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    serve_with(Options::default(), make)
}

/// As [`serve`], within other limits.
pub fn serve_with<M, S, B>(options: Options, make: M) -> impl Worker
where
    M: Fn(&Connection) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Start(move |stream: Stream| {
        let connection = Connection::of(&stream);
        let service = make(&connection);
        connection.local().spawn(converse(&options, stream, service));
    })
}

fn converse<S, B>(options: &Options, stream: Stream, service: S) -> impl Future<Output = ()> + use<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (services, draining) = (Arc::clone(stream.services()), stream.local().draining());
    let connection = http1::Builder::new()
        .timer(ShardTimer(Arc::clone(&services)))
        .header_read_timeout(options.header_read_timeout)
        .max_buf_size(options.buffer_bytes_max.max(BUFFER_BYTES_MIN))
        .max_headers(options.headers_max)
        .serve_connection(HyperIo(stream), service)
        .with_upgrades();
    until_done(connection, draining, |connection| connection.graceful_shutdown())
}

/// Answers `GET /` with the facts of the handshake, and, with the feature `websocket`, echoes on any path that is
/// asked for as a WebSocket.
pub(crate) fn with_facts() -> impl Worker {
    serve(|connection| {
        let connection = connection.clone();
        service_fn(move |mut request: Request<Incoming>| {
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
fn answer(connection: &Connection, request: &mut Request<Incoming>) -> Response<Full<Bytes>> {
    super::websocket::answer(connection, request).unwrap_or_else(|| facts::respond(&connection.facts, request))
}

#[cfg(not(feature = "websocket"))]
fn answer(connection: &Connection, request: &mut Request<Incoming>) -> Response<Full<Bytes>> {
    facts::respond(&connection.facts, request)
}
