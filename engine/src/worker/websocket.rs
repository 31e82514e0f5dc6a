//! WebSocket (RFC 6455) for servers: inside a service over either version of HTTP, and as a protocol of its own.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, Version};

#[cfg(feature = "h2")]
use super::Start;
use super::hyper_io::ShardTimer;
use super::{Body, Connection, facts, http1};
use crate::handshake::HandshakeFacts;
#[cfg(feature = "h2")]
use crate::shard::Stream;
use crate::shard::Worker;
use crate::websocket::server::{self, OpeningRefusal};
use crate::websocket::{Options, Origins, WebSocket};

/// Makes a request's connection, or its `h2` stream, a WebSocket, and gives it to `handler`; the response must be
/// sent, whatever it is.
///
/// `handler` runs on the connection's own thread, beside the service. Its future need not be [`Send`] and must not
/// block; when it panics, that WebSocket ends and nothing else. A drain of the engine closes the WebSocket with 1001
/// while the handler receives or sends, which then hears of the end.
///
/// Over `h2` the server has to say that it takes such requests:
/// [`connect_protocol`](super::http2::Options::connect_protocol) (RFC 8441 section 3).
///
/// A request that is no right opening is refused with 426, 400, 403 or 501; see [`OpeningRefusal`].
///
/// ```
/// use std::convert::Infallible;
///
/// use handfast::websocket::{self, server};
/// use handfast::{Protocol, worker};
/// use hyper::{Request, Response, service::service_fn};
///
/// let options = websocket::Options::default();
/// let protocol = Protocol::alpn("http/1.1").worker(worker::http1::serve(move |connection| {
///     let (connection, options) = (connection.clone(), options.clone());
///     service_fn(move |mut request: Request<worker::Body>| {
///         let response = if request.uri().path() == "/echo" {
///             worker::websocket::upgrade(&connection, &mut request, &options, |mut socket, _| async move {
///                 while let Ok(Some(message)) = socket.receive().await {
///                     if socket.send(message).await.is_err() {
///                         return;
///                     }
///                 }
///             })
///         } else {
///             Response::new("a page".into())
///         };
///         async { Ok::<_, Infallible>(response) }
///     })
/// }));
/// # drop(protocol);
/// ```
pub fn upgrade<B, H, R>(
    connection: &Connection,
    request: &mut Request<B>,
    options: &Options,
    handler: H,
) -> Response<Full<Bytes>>
where
    H: FnOnce(WebSocket, Arc<HandshakeFacts>) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let (response, accepted) = match server::accept(request, options) {
        Ok(accepted) => accepted,
        Err(refusal) => return refused(refusal, request),
    };
    let (local, facts) = (connection.local(), Arc::clone(connection.facts()));
    let timer = Arc::new(ShardTimer(Arc::clone(local.services())));
    let open = accepted.open_until(timer, Some(local.draining()));
    local.spawn(async move {
        if let Some(socket) = open.await {
            handler(socket, facts).await;
        }
    });
    response.map(|()| Full::default())
}

/// A worker for `http/1.1`, and with the feature `h2` for `h2`, that answers openings of WebSockets on any path with
/// `handler`, and refuses other requests. See [`upgrade`].
///
/// ```
/// use std::sync::Arc;
///
/// use handfast::websocket::{Options, WebSocket};
/// use handfast::{HandshakeFacts, Protocol, worker};
///
/// async fn chat(mut socket: WebSocket, facts: Arc<HandshakeFacts>) {
///     let _ = socket.send(format!("hello, {}", facts.peer)).await;
/// }
///
/// let protocol = Protocol::alpn("http/1.1").worker(worker::websocket::serve(Options::default(), chat));
/// # drop(protocol);
/// ```
pub fn serve<H, R>(options: Options, handler: H) -> impl Worker
where
    H: Fn(WebSocket, Arc<HandshakeFacts>) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    let served = Arc::new((options, handler));
    let make = move |connection: &Connection| {
        let (connection, served) = (connection.clone(), Arc::clone(&served));
        service_fn(move |mut request: Request<Body>| {
            let handler = Arc::clone(&served);
            let response =
                upgrade(&connection, &mut request, &served.0, move |socket, facts| (handler.1)(socket, facts));
            let discarded = facts::discard(&connection, request.into_body());
            async move {
                discarded.await;
                Ok::<_, Infallible>(response)
            }
        })
    };
    either_version(make)
}

#[cfg(feature = "h2")]
fn either_version<M, S>(make: M) -> impl Worker
where
    M: Fn(&Connection) -> S + Clone + Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Full<Bytes>>, Error = Infallible> + 'static,
{
    let options = super::http2::Options { connect_protocol: true, ..Default::default() };
    let (http1, http2) = (http1::serve(make.clone()), super::http2::serve_with(options, make));
    Start(move |stream: Stream| {
        let worker: &dyn Worker = if *stream.facts().protocol == *b"h2" { &http2 } else { &http1 };
        worker.start(stream);
    })
}

#[cfg(not(feature = "h2"))]
fn either_version<M, S>(make: M) -> impl Worker
where
    M: Fn(&Connection) -> S + Clone + Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Full<Bytes>>, Error = Infallible> + 'static,
{
    http1::serve(make)
}

/// Answers a request for a WebSocket with an echo; `None` for any other request.
pub(super) fn echo(connection: &Connection, request: &mut Request<Body>) -> Option<Response<Full<Bytes>>> {
    // It says what it was told, to whomever.
    echo_with(connection, request, &Options { origins: Origins::Any, ..Options::default() })
}

/// As [`echo`], within other limits.
pub(super) fn echo_with(
    connection: &Connection,
    request: &mut Request<Body>,
    options: &Options,
) -> Option<Response<Full<Bytes>>> {
    // Who looks at the place of a WebSocket with a browser is told so; over HTTP/2 there is no status for it.
    let is_at_ws =
        request.version() != Version::HTTP_2 && *request.method() == Method::GET && request.uri().path() == "/ws";
    if !server::is_opening(request) && !is_at_ws {
        return None;
    }
    Some(upgrade(connection, request, options, |mut socket, _| async move {
        while let Ok(Some(message)) = socket.receive().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }))
}

fn refused<B>(refusal: OpeningRefusal, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = refusal.response(request.version());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // RFC 9110 section 9.3.2.
    let body = if *request.method() == Method::HEAD { Bytes::new() } else { format!("{refusal}\n").into() };
    response.map(|()| Full::new(body))
}
