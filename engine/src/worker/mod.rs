//! What speaks a protocol after the handshake: [`http1`] by hyper, [`http2`] on the h2 crate, and [`websocket`] over
//! both.
//!
//! They run on a shard's or a worker thread's own executor: a [`Worker`] is given a [`Stream`] and starts a future.
//! Besides the stream they use what [`Stream::local`] gives to any worker.

mod body;
mod facts;
#[cfg(feature = "h1")]
pub mod http1;
#[cfg(feature = "h2")]
pub mod http2;
#[cfg(feature = "h1")]
mod hyper_io;
mod io;
mod service;
mod tower;
#[cfg(feature = "websocket")]
pub mod websocket;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pub use body::{Body, BodyError};
#[cfg(feature = "websocket")]
pub(crate) use facts::facts_service;
pub use service::HttpService;
pub use tower::{Tower, tower};

use crate::handshake::HandshakeFacts;
use crate::shard::{Draining, Local, Stream, Worker};

/// The connection that a service is made for: what its handshake has settled, and where its futures run.
#[derive(Clone)]
pub struct Connection {
    facts: Arc<HandshakeFacts>,
    local: Local,
}

impl Connection {
    fn of(stream: &Stream) -> Self {
        Self { facts: Arc::clone(stream.facts()), local: stream.local() }
    }

    /// What the handshake has settled.
    #[must_use]
    pub const fn facts(&self) -> &Arc<HandshakeFacts> {
        &self.facts
    }

    /// The connection's own thread: where to spawn what an HTTP upgrade leads to, for example.
    #[must_use]
    pub const fn local(&self) -> &Local {
        &self.local
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A worker that is a function.
struct Start<F>(F);

impl<F: Fn(Stream) + Send + Sync + 'static> Worker for Start<F> {
    fn start(&self, stream: Stream) {
        (self.0)(stream);
    }
}

/// Drives `connection` to its end. It is told with `drain` when the shard begins to drain, once.
fn until_done<C: Future>(connection: C, draining: Draining, drain: fn(Pin<&mut C>)) -> UntilDone<C> {
    UntilDone { connection, draining: Some(draining), drain }
}

pin_project! {
    /// An async function would hold the connection twice, as its argument and as what it awaits; and it is large.
    struct UntilDone<C> {
        #[pin]
        connection: C,
        #[pin]
        draining: Option<Draining>,
        drain: fn(Pin<&mut C>),
    }
}

impl<C: Future> Future for UntilDone<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.draining.as_mut().as_pin_mut().is_some_and(|draining| draining.poll(cx).is_ready()) {
            this.draining.set(None);
            (this.drain)(this.connection.as_mut());
        }
        // How it ended is between the library and the peer; the shard counts what concerns it.
        this.connection.poll(cx).map(drop)
    }
}
