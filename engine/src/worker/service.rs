//! What answers requests.

use std::error::Error;

use hyper::body::Body;
use hyper::service::Service;
use hyper::{Request, Response};

use super::body;

/// Anything that can be made an error of.
type BoxError = Box<dyn Error + Send + Sync>;

/// What answers HTTP requests here: every hyper [`Service`] of requests with a
/// [`worker::Body`](body::Body), whose responses have a [`Body`]. There is nothing to implement.
pub trait HttpService:
    Service<Request<body::Body>, Response = Response<<Self as HttpService>::Body>, Error: Into<BoxError>> + 'static
{
    /// The content of its responses.
    type Body: Body<Error: Into<BoxError>> + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<body::Body>, Response = Response<B>, Error: Into<BoxError>> + 'static,
    B: Body<Error: Into<BoxError>> + 'static,
{
    type Body = B;
}
