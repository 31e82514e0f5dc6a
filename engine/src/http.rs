//! One service on both versions of HTTP.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};

use crate::protocol::Protocol;
use crate::shard::Worker;
use crate::worker::{self, Connection};

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
}

impl Http {
    /// Answers with the service that `make` makes for each connection. Its futures need not be [`Send`], and must not
    /// block.
    pub fn new<M, S, B>(make: M) -> Self
    where
        M: Fn(&Connection) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Self {
            site: Arc::new(Made(Arc::new(make))),
            #[cfg(feature = "h1")]
            http1: worker::http1::Options::default(),
            #[cfg(feature = "h2")]
            http2: worker::http2::Options::default(),
        }
    }

    /// Answers with a tower service, such as an `axum::Router`; see [`worker::tower`].
    pub fn tower<S, B>(service: S) -> Self
    where
        S: tower_service::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::new(worker::tower(service))
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
        Protocol::alpn("http/1.1").worker(self.site.http1(self.http1.clone()))
    }

    /// The protocol `h2` with this service: for a certificate set or TLS versions of its own.
    #[cfg(feature = "h2")]
    pub fn h2(&self) -> Protocol {
        Protocol::alpn("h2").worker(self.site.http2(self.http2.clone()))
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
    fn http1(&self, options: worker::http1::Options) -> Box<dyn Worker>;
    #[cfg(feature = "h2")]
    fn http2(&self, options: worker::http2::Options) -> Box<dyn Worker>;
}

struct Made<M>(Arc<M>);

impl<M, S, B> Site for Made<M>
where
    M: Fn(&Connection) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    #[cfg(feature = "h1")]
    fn http1(&self, options: worker::http1::Options) -> Box<dyn Worker> {
        let make = Arc::clone(&self.0);
        Box::new(worker::http1::serve_with(options, move |connection| make(connection)))
    }

    #[cfg(feature = "h2")]
    fn http2(&self, options: worker::http2::Options) -> Box<dyn Worker> {
        let make = Arc::clone(&self.0);
        Box::new(worker::http2::serve_with(options, move |connection| make(connection)))
    }
}
