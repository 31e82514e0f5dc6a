//! No content in answers to HEAD (RFC 9110 section 9.3.2): over `h2` hyper sends what the service gives.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response};
use pin_project_lite::pin_project;

/// A service whose answers to HEAD have no content.
pub(super) struct Heads<S>(pub(super) S);

impl<S, R, B> Service<Request<R>> for Heads<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<Content<B>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<R>) -> Self::Future {
        let head = *request.method() == Method::HEAD;
        Answer { answer: self.0.call(request), head }
    }
}

pin_project! {
    pub(super) struct Answer<F> {
        #[pin]
        answer: F,
        head: bool,
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Content<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        if !*this.head {
            return Poll::Ready(Ok(response.map(|body| Content { body: Some(body) })));
        }
        let (mut head, body) = response.into_parts();
        // As hyper says of a GET.
        if let Some(length) = body.size_hint().exact().filter(|&length| length > 0) {
            head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        Poll::Ready(Ok(Response::from_parts(head, Content { body: None })))
    }
}

pin_project! {
    /// A response's content, or none.
    pub(super) struct Content<B> {
        #[pin]
        body: Option<B>,
    }
}

impl<B: Body> Body for Content<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.as_pin_mut().map_or(Poll::Ready(None), |body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
