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

/// What an `h2` connection is allowed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Streams that a client may have open at a time (RFC 9113 section 5.1.2). Met: the stream is refused.
    pub concurrent_streams_max: u32,
    /// Bytes of one header section, uncompressed (RFC 9113 section 6.5.2). Met: status 431.
    pub header_list_bytes_max: u32,
    /// Streams that the client has reset before they were taken up. Met: GOAWAY with `ENHANCE_YOUR_CALM`.
    pub pending_resets_max: usize,
    /// Streams that had to be reset for the client's faults. Met: the same.
    pub local_resets_max: usize,
    /// Response bytes of one stream that wait for the client's window. Met: the response's body waits.
    pub send_buffer_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrent_streams_max: 128,
            header_list_bytes_max: 16 * 1024,
            pending_resets_max: 20,
            local_resets_max: 256,
            send_buffer_bytes_max: 64 * 1024,
        }
    }
}

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
    let connection = http2::Builder::new(ShardExecutor(Arc::clone(&services)))
        .timer(ShardTimer(Arc::clone(&services)))
        .max_concurrent_streams(options.concurrent_streams_max)
        .max_header_list_size(options.header_list_bytes_max)
        .max_pending_accept_reset_streams(options.pending_resets_max)
        .max_local_error_reset_streams(options.local_resets_max)
        .max_send_buf_size(options.send_buffer_bytes_max)
        .serve_connection(HyperIo(stream), service);
    until_done(connection, draining, |connection| connection.graceful_shutdown())
}

/// Answers `GET /` with the facts of the handshake.
pub(crate) fn with_facts() -> impl Worker {
    serve(|connection| {
        let connection = connection.clone();
        service_fn(move |request: Request<Incoming>| {
            let response = facts::respond(&connection.facts, &request);
            let discarded = facts::discard(&connection, request.into_body());
            async move {
                discarded.await;
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
