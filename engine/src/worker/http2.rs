//! `h2` (RFC 9113) on the `h2` crate.

mod connection;
mod deadlines;
mod exchange;
mod io;
mod response;

use std::convert::Infallible;
use std::future::Future;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};

pub use crate::tunnel::{OnTunnel, Tunnel};

use connection::Served;
use io::{Heard, Watched};

use super::body::Body;
use super::io::Io;
use super::{Connection, HttpService, Start, facts, until_done};
use crate::shard::{Stream, Worker};

/// RFC 9113 section 6.5.2 (SETTINGS_MAX_FRAME_SIZE).
const FRAME_BYTES: RangeInclusive<u32> = 1 << 14..=(1 << 24) - 1;
/// RFC 9113 section 6.9.1.
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;
/// Nothing but WINDOW_UPDATE changes a connection's window, so it cannot be made smaller (RFC 9113 section 6.9.2).
const CONNECTION_WINDOW_BYTES_MIN: u32 = (1 << 16) - 1;

/// What an `h2` connection is allowed.
///
/// Beyond these the library has limits of its own: CONTINUATION frames of one header section go by
/// `header_list_bytes_max`, small DATA frames that a service leaves unread by `connection_window_bytes`, and answers to
/// PING and SETTINGS do not pile up, as the next frame is not read before they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Streams that a client may have open at a time (RFC 9113 section 5.1.2); 128, more than a browser asks for. Met:
    /// the stream is refused with `REFUSED_STREAM`, which lets the client ask again.
    pub concurrent_streams_max: u32,
    /// Bytes of one header section, uncompressed (RFC 9113 section 6.5.2); 16 KiB, as much as large cookies take. Met:
    /// status 431; far beyond it, GOAWAY.
    pub header_list_bytes_max: u32,
    /// Streams that the client has reset before they were taken up (CVE-2023-44487); 20, as taking them up never waits
    /// for anything. Met: GOAWAY with `ENHANCE_YOUR_CALM`.
    pub pending_resets_max: usize,
    /// Streams that had to be reset for the client's faults; 256. Met: the same.
    pub local_resets_max: usize,
    /// Content of one stream that the service has not read (RFC 9113 section 6.9.2), at most 2^31 - 1; 256 KiB, so that
    /// one stream that is not read leaves room for others. Met: the client has to wait with this stream;
    /// `FLOW_CONTROL_ERROR` resets it if it does not.
    pub stream_window_bytes: u32,
    /// The same for all streams together, from 65,535 to 2^31 - 1; 1 MiB, which is 80 Mbit/s at 100 ms. Met: the
    /// client has to wait; GOAWAY with `FLOW_CONTROL_ERROR` if it does not.
    pub connection_window_bytes: u32,
    /// Payload of one frame (RFC 9113 section 4.2), from 16 KiB to 16 MiB - 1; 16 KiB, which is one TLS record and
    /// keeps the read buffer small. Met: GOAWAY with `FRAME_SIZE_ERROR`.
    pub frame_bytes_max: u32,
    /// Response bytes of one stream that wait for the client's window, from 1 to 4 GiB - 1; 64 KiB. Met: the response's
    /// body waits.
    pub send_buffer_bytes_max: usize,
    /// From the handshake to the client's preface with its SETTINGS (RFC 9113 section 3.4); 10 seconds, as for the
    /// handshake. Met: close.
    pub preface_deadline: Duration,
    /// How long a connection may be without a stream to answer; 3 minutes, as clients keep connections for about as
    /// long. Met: GOAWAY with `NO_ERROR`.
    pub idle_deadline: Duration,
    /// How long the client of an idle connection may take after that GOAWAY to confirm it and to take what is left for
    /// it; 5 seconds. Met: close.
    pub goaway_wait: Duration,
    /// After how long without a frame from the client it is asked for a sign of life with a PING (RFC 9113 section
    /// 6.7), [`Duration::MAX`] for never; 2 minutes, so that a client that has vanished does not keep its streams. Met:
    /// see `keep_alive_timeout`.
    pub keep_alive_interval: Duration,
    /// How long the client may take to answer that PING; 20 seconds. Met: GOAWAY, close.
    pub keep_alive_timeout: Duration,
    /// How long a write may wait for the client to take what it was sent before, whatever its windows allow; 60
    /// seconds. Met: close.
    pub write_wait: Duration,
    /// How long content of one stream may wait for the client to open its windows (RFC 9113 section 6.9), and for its
    /// turn among the other streams of a slow client; 5 minutes from the last time that some of it could go. Met: the
    /// stream is reset with `CANCEL`.
    pub window_wait: Duration,
    /// How long a service that reads a request's content may wait for more of it, until its answer begins; 60 seconds,
    /// [`Duration::MAX`] for ever. Met: reading fails with [`BodyError::Late`](super::BodyError::Late); a service that
    /// then fails with it, rather than to answer, has its stream reset with `CANCEL`.
    pub content_wait: Duration,
    /// Tells clients that extended CONNECT is understood (RFC 8441 section 3), and lets such requests reach the service:
    /// for [`websocket::upgrade`](super::websocket::upgrade). Off by default.
    pub connect_protocol: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrent_streams_max: 128,
            header_list_bytes_max: 16 * 1024,
            pending_resets_max: 20,
            local_resets_max: 256,
            stream_window_bytes: 256 * 1024,
            connection_window_bytes: 1024 * 1024,
            frame_bytes_max: *FRAME_BYTES.start(),
            send_buffer_bytes_max: 64 * 1024,
            preface_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(180),
            goaway_wait: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(120),
            keep_alive_timeout: Duration::from_secs(20),
            write_wait: Duration::from_secs(60),
            window_wait: Duration::from_secs(300),
            content_wait: Duration::from_secs(60),
            connect_protocol: false,
        }
    }
}

/// A worker that speaks `h2` and answers with the service that `make` makes for each connection.
///
/// A drain sends GOAWAY (RFC 9113 section 6.8) and lets the open streams end. The future of a service need not be
/// [`Send`] and must not block; when it panics its stream is reset.
///
/// A client that expects 100 (Continue) gets it when the service begins to read the content (RFC 9110 section
/// 10.1.1). How much content a request may have is the service's to say, with `http_body_util::Limited` for example.
///
/// For CONNECT (RFC 9113 section 8.5) there is [`tunnel`].
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
    let options = Arc::new(options);
    Start(move |stream: Stream| {
        let connection = Connection::of(&stream);
        let service = make(&connection);
        connection.local().spawn(converse(&options, stream, service));
    })
}

/// What a CONNECT becomes when it is answered with success (RFC 9113 section 8.5), extended or not (RFC 8441); `None`
/// for any other request. Give the future that awaits it to [`Connection::local`]:
///
/// ```
/// use std::convert::Infallible;
///
/// use handfast::{Protocol, worker};
/// use hyper::{Request, Response, service::service_fn};
/// use tokio::io::{copy, split};
///
/// let protocol = Protocol::alpn("h2").worker(worker::http2::serve(|connection| {
///     let connection = connection.clone();
///     service_fn(move |mut request: Request<worker::Body>| {
///         if let Some(tunnel) = worker::http2::tunnel(&mut request) {
///             connection.local().spawn(async {
///                 if let Some(tunnel) = tunnel.await {
///                     let (mut from, mut to) = split(tunnel);
///                     let _ = copy(&mut from, &mut to).await;
///                 }
///             });
///         }
///         async { Ok::<_, Infallible>(Response::new(String::new())) }
///     })
/// }));
/// # drop(protocol);
/// ```
pub fn tunnel<B>(request: &mut Request<B>) -> Option<OnTunnel> {
    OnTunnel::of(request)
}

fn converse<S: HttpService>(options: &Arc<Options>, stream: Stream, service: S) -> impl Future<Output = ()> + use<S> {
    let (draining, heard) = (stream.local().draining(), Heard::new(stream.services()));
    let mut builder = Builder::new();
    if options.connect_protocol {
        builder.enable_connect_protocol();
    }
    // The library panics beyond the bounds of windows, frames and the send buffer.
    builder
        .max_concurrent_streams(options.concurrent_streams_max)
        .max_header_list_size(options.header_list_bytes_max)
        .max_pending_accept_reset_streams(options.pending_resets_max)
        .max_local_error_reset_streams(Some(options.local_resets_max))
        .initial_window_size(options.stream_window_bytes.min(WINDOW_BYTES_MAX))
        .initial_connection_window_size(
            options.connection_window_bytes.clamp(CONNECTION_WINDOW_BYTES_MIN, WINDOW_BYTES_MAX),
        )
        .max_frame_size(options.frame_bytes_max.clamp(*FRAME_BYTES.start(), *FRAME_BYTES.end()))
        .max_send_buffer_size(options.send_buffer_bytes_max.clamp(1, u32::MAX as usize));
    let io = Watched { io: Io::new(stream, options.write_wait), heard: Rc::clone(&heard) };
    let served = Served::new(builder.handshake(io), heard, Arc::clone(options), service);
    until_done(served, draining, |served| served.get_mut().leave())
}

/// Answers `GET /` with the facts of the handshake, and, with the feature `websocket`, echoes on any path that is
/// asked for as a WebSocket.
pub(crate) fn with_facts() -> impl Worker {
    let options = Options { connect_protocol: cfg!(feature = "websocket"), ..Options::default() };
    serve_with(options, |connection| {
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
