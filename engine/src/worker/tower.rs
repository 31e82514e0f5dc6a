//! Any tower service, and so an `axum::Router`, as what answers requests.

use std::fmt;
use std::sync::Arc;

use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;

use super::Connection;
use crate::handshake::HandshakeFacts;

/// For [`http1::serve`](super::http1::serve), [`http2::serve`](super::http2::serve) and
/// [`Http`](crate::Http): each connection is answered by a clone of `service`.
///
/// Each request carries the [`HandshakeFacts`] of its connection, in an [`Arc`], among its extensions.
///
/// axum's handlers need a tokio runtime as soon as they sleep, spawn or upgrade: with the feature `tokio`,
/// `Builder::runtime` lends one to the threads of an engine.
pub fn tower<S>(service: S) -> impl Fn(&Connection) -> Tower<S> + Send + Sync + 'static
where
    S: Clone + Send + Sync + 'static,
{
    move |connection| Tower {
        service: TowerToHyperService::new(service.clone()),
        facts: Arc::clone(connection.facts()),
    }
}

/// A tower service as hyper sees it; made by [`tower`].
pub struct Tower<S> {
    service: TowerToHyperService<S>,
    facts: Arc<HandshakeFacts>,
}

impl<S, R, B> Service<Request<R>> for Tower<S>
where
    S: tower_service::Service<Request<R>, Response = Response<B>> + Clone,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = <TowerToHyperService<S> as Service<Request<R>>>::Future;

    fn call(&self, mut request: Request<R>) -> Self::Future {
        request.extensions_mut().insert(Arc::clone(&self.facts));
        self.service.call(request)
    }
}

impl<S> fmt::Debug for Tower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tower").field("facts", &self.facts).finish_non_exhaustive()
    }
}
