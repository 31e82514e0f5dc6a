//! `h2` (RFC 9113) by hyper.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};

use super::hyper_io::{HyperIo, ShardTimer};
use super::{Connection, Start, facts, until_done};
use crate::shard::{Services, Stream, Worker};

/// Streams that a client may have open at a time (RFC 9113 section 5.1.2). Met: the stream is refused.
const CONCURRENT_STREAMS_MAX: u32 = 128;
/// Bytes of one header section, uncompressed (RFC 9113 section 6.5.2). Met: status 431.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that the client has reset before we took them up. Met: GOAWAY with `ENHANCE_YOUR_CALM`.
const PENDING_RESETS_MAX: usize = 20;
/// Streams that we had to reset for the client's faults. Met: the same.
const LOCAL_RESETS_MAX: usize = 256;
/// Response bytes that wait in one stream for the client's window. Met: the response's body waits.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A worker that speaks `h2` and answers with the service that `make` makes for each connection.
///
/// A drain sends GOAWAY (RFC 9113 section 6.8) and lets the open streams end. The future of a service need not be
/// [`Send`] and must not block; when it panics its stream is reset.
pub fn serve<M, S, B>(make: M) -> impl Worker
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
        connection.spawn(converse(stream, service));
    })
}

fn converse<S, B>(stream: Stream, service: S) -> impl Future<Output = ()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let services = Arc::clone(stream.services());
    let connection = http2::Builder::new(ShardExecutor(Arc::clone(&services)))
        .timer(ShardTimer(Arc::clone(&services)))
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .serve_connection(HyperIo(stream), service);
    until_done(connection, services, |connection| connection.graceful_shutdown())
}

/// Answers `GET /` with the facts of the handshake.
pub(crate) fn with_facts() -> impl Worker {
    serve(|connection| {
        let facts = Arc::clone(connection.facts());
        service_fn(move |request: Request<Incoming>| {
            let response = facts::respond(&facts, &request);
            async move {
                facts::discard(request.into_body()).await;
                Ok::<_, Infallible>(response)
            }
        })
    })
}

/// Runs hyper's futures on the shard.
#[derive(Clone)]
struct ShardExecutor(Arc<Services>);

impl<F: Future<Output = ()> + 'static> Executor<F> for ShardExecutor {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
