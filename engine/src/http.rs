//! One service on both versions of HTTP.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, Response};

#[cfg(feature = "websocket")]
use crate::handshake::HandshakeFacts;
use crate::protocol::Protocol;
use crate::shard::Worker;
#[cfg(feature = "websocket")]
use crate::websocket::{self, WebSocket};
use crate::worker::{self, Connection, HttpService};
#[cfg(feature = "websocket")]
use routes::Routes;

#[cfg(feature = "websocket")]
mod routes;

/// What answers requests, whichever version of HTTP the client and the engine agree on.
///
/// ```
/// use axum::{Router, routing::get};
/// use handfast::{Engine, Http};
///
/// let router = Router::new().route("/", get(|| async { "hello" }));
/// let builder = Engine::builder().http(Http::tower(router));
/// # drop(builder);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Http {
    site: Arc<dyn Site>,
    #[cfg(feature = "h1")]
    http1: worker::http1::Options,
    #[cfg(feature = "h2")]
    http2: worker::http2::Options,
    #[cfg(feature = "websocket")]
    routes: Routes,
    /// Whether the service itself opens WebSockets, so that `h2` has to say that it takes them (RFC 8441 section 3).
    #[cfg(all(feature = "h2", feature = "websocket"))]
    opens_websockets: bool,
}

impl Http {
    /// Answers with the service that `make` makes for each connection. Its futures need not be [`Send`], and must not
    /// block.
    pub fn new<M, S>(make: M) -> Self
    where
        M: Fn(&Connection) -> S + Send + Sync + 'static,
        S: HttpService<Body: Body<Data = Bytes>>,
    {
        Self {
            site: Arc::new(Made(Arc::new(make))),
            #[cfg(feature = "h1")]
            http1: worker::http1::Options::default(),
            #[cfg(feature = "h2")]
            http2: worker::http2::Options::default(),
            #[cfg(feature = "websocket")]
            routes: Routes::default(),
            #[cfg(all(feature = "h2", feature = "websocket"))]
            opens_websockets: false,
        }
    }

    /// Answers `GET /` with what the handshake has settled, as JSON or as a page, and echoes to WebSockets on any path:
    /// what [`Protocol::http1`] and [`Protocol::h2`] do, for other options than theirs.
    #[cfg(feature = "websocket")]
    pub fn facts(options: websocket::Options) -> Self {
        let options = Arc::new(options);
        let http = Self::new(move |connection| worker::facts_service(connection, &options));
        #[cfg(feature = "h2")]
        let http = Self { opens_websockets: true, ..http };
        http
    }

    /// Answers with a tower service, such as an `axum::Router`; see [`worker::tower`].
    pub fn tower<S, B>(service: S) -> Self
    where
        S: tower_service::Service<Request<worker::Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::new(worker::tower(service))
    }

    /// Gives WebSockets that are opened at `path` to `handler`, over either version (RFC 6455, RFC 8441); see
    /// [`worker::websocket::upgrade`]. Requests there that open none go to the service.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use axum::{Router, routing::get};
    /// use handfast::websocket::{Options, WebSocket};
    /// use handfast::{HandshakeFacts, Http};
    ///
    /// async fn echo(mut socket: WebSocket, _: Arc<HandshakeFacts>) {
    ///     while let Ok(Some(message)) = socket.receive().await {
    ///         if socket.send(message).await.is_err() {
    ///             return;
    ///         }
    ///     }
    /// }
    ///
    /// let router = Router::new().route("/", get(|| async { "a page" }));
    /// let http = Http::tower(router).websocket("/echo", Options::default(), echo);
    /// # drop(http);
    /// ```
    #[cfg(feature = "websocket")]
    pub fn websocket<H, R>(mut self, path: impl Into<String>, options: websocket::Options, handler: H) -> Self
    where
        H: Fn(WebSocket, Arc<HandshakeFacts>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.routes.add(path.into(), options, handler);
        self
    }

    /// What its `http/1.1` connections are allowed.
    #[cfg(feature = "h1")]
    pub fn http1_options(self, options: worker::http1::Options) -> Self {
        Self { http1: options, ..self }
    }

    /// What its `h2` connections are allowed.
    #[cfg(feature = "h2")]
    pub fn http2_options(self, options: worker::http2::Options) -> Self {
        Self { http2: options, ..self }
    }

    /// The protocol `http/1.1` with this service: for a certificate set or TLS versions of its own.
    #[cfg(feature = "h1")]
    pub fn http1(&self) -> Protocol {
        Protocol::alpn("http/1.1").worker(self.site.http1(self))
    }

    /// The protocol `h2` with this service: for a certificate set or TLS versions of its own.
    #[cfg(feature = "h2")]
    pub fn h2(&self) -> Protocol {
        Protocol::alpn("h2").worker(self.site.http2(self))
    }

    #[cfg(feature = "h2")]
    fn options_of_h2(&self) -> worker::http2::Options {
        let options = self.http2.clone();
        #[cfg(feature = "websocket")]
        if self.opens_websockets {
            return worker::http2::Options { connect_protocol: true, ..options };
        }
        options
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// A service whose type is forgotten before there is a connection, so that no request pays for it.
trait Site: Send + Sync {
    #[cfg(feature = "h1")]
    fn http1(&self, http: &Http) -> Box<dyn Worker>;
    #[cfg(feature = "h2")]
    fn http2(&self, http: &Http) -> Box<dyn Worker>;
}

struct Made<M>(Arc<M>);

impl<M, S> Site for Made<M>
where
    M: Fn(&Connection) -> S + Send + Sync + 'static,
    S: HttpService<Body: Body<Data = Bytes>>,
{
    #[cfg(feature = "h1")]
    fn http1(&self, http: &Http) -> Box<dyn Worker> {
        let (make, options) = (Arc::clone(&self.0), http.http1.clone());
        #[cfg(feature = "websocket")]
        if let Some(routes) = http.routes.shared() {
            return Box::new(worker::http1::serve_with(options, routes.around(make)));
        }
        Box::new(worker::http1::serve_with(options, move |connection| make(connection)))
    }

    #[cfg(feature = "h2")]
    fn http2(&self, http: &Http) -> Box<dyn Worker> {
        let (make, options) = (Arc::clone(&self.0), http.options_of_h2());
        #[cfg(feature = "websocket")]
        if let Some(routes) = http.routes.shared() {
            let options = worker::http2::Options { connect_protocol: true, ..options };
            return Box::new(worker::http2::serve_with(options, routes.around(make)));
        }
        Box::new(worker::http2::serve_with(options, move |connection| make(connection)))
    }
}
