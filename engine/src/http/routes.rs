//! WebSockets at some paths of a site, and its service at all others.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::{self, MapOk, Ready};
use http_body_util::{Either, Full};
use hyper::body::Body;
use hyper::service::Service;
use hyper::{Request, Response};

use crate::handshake::HandshakeFacts;
use crate::websocket::{Options, WebSocket, server};
use crate::worker::{self, Connection};

type Handler = dyn Fn(WebSocket, Arc<HandshakeFacts>) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

#[derive(Clone)]
struct Route {
    path: String,
    options: Options,
    handler: Arc<Handler>,
}

/// The paths of a site's WebSockets.
#[derive(Clone, Default)]
pub(super) struct Routes(Vec<Route>);

impl Routes {
    pub(super) fn add<H, R>(&mut self, path: String, options: Options, handler: H)
    where
        H: Fn(WebSocket, Arc<HandshakeFacts>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.0.retain(|route| route.path != path);
        self.0.push(Route { path, options, handler: Arc::new(move |socket, facts| Box::pin(handler(socket, facts))) });
    }

    /// For the connections of a worker; `None` when there are no routes, and nothing has to be looked for.
    pub(super) fn shared(&self) -> Option<SharedRoutes> {
        (!self.0.is_empty()).then(|| SharedRoutes(Arc::from(&*self.0)))
    }
}

#[derive(Clone)]
pub(super) struct SharedRoutes(Arc<[Route]>);

impl SharedRoutes {
    /// Makes the services that answer before those of `make` are asked.
    pub(super) fn around<M, S>(self, make: Arc<M>) -> impl Fn(&Connection) -> Routed<S> + Send + Sync + 'static
    where
        M: Fn(&Connection) -> S + Send + Sync + 'static,
    {
        move |connection| Routed { service: make(connection), connection: connection.clone(), routes: self.clone() }
    }

    fn find(&self, request: &Request<worker::Body>) -> Option<&Route> {
        let route = self.0.iter().find(|route| route.path == request.uri().path())?;
        server::is_opening(request).then_some(route)
    }
}

/// A service with WebSockets before it.
pub(super) struct Routed<S> {
    service: S,
    connection: Connection,
    routes: SharedRoutes,
}

type Answer<B> = Response<Either<Full<Bytes>, B>>;

impl<S, B> Service<Request<worker::Body>> for Routed<S>
where
    S: Service<Request<worker::Body>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Answer<B>;
    type Error = S::Error;
    type Future = future::Either<Ready<Result<Answer<B>, S::Error>>, MapOk<S::Future, fn(Response<B>) -> Answer<B>>>;

    fn call(&self, mut request: Request<worker::Body>) -> Self::Future {
        let Some(route) = self.routes.find(&request) else {
            let as_answer: fn(Response<B>) -> Answer<B> = |response| response.map(Either::Right);
            return future::Either::Right(self.service.call(request).map_ok(as_answer));
        };
        let handler = Arc::clone(&route.handler);
        let upgrade =
            worker::websocket::upgrade(&self.connection, &mut request, &route.options, move |s, f| handler(s, f));
        future::Either::Left(future::ready(Ok(upgrade.map(Either::Left))))
    }
}
