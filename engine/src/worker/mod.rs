//! What speaks a protocol after the handshake: [`http1`] and [`http2`] by hyper, and [`websocket`] over both.
//!
//! They run on a shard's or a worker thread's own executor: a [`Worker`] is given a [`Stream`] and starts a future.
//! Besides the stream they use what [`Stream::local`] gives to any worker.

mod facts;
#[cfg(feature = "h1")]
pub mod http1;
#[cfg(feature = "h2")]
pub mod http2;
mod hyper_io;
mod tower;
#[cfg(feature = "websocket")]
pub mod websocket;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use tower::{Tower, tower};

use crate::handshake::HandshakeFacts;
use crate::shard::{Local, Stream, Worker};

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

/// Drives `connection` to its end. When the shard begins to drain it is told with `drain`, once.
fn until_done<C: Future + Unpin>(
    mut connection: C,
    local: &Local,
    drain: fn(&mut C),
) -> impl Future<Output = ()> + use<C> {
    let mut draining = local.draining();
    let mut told = false;
    std::future::poll_fn(move |cx| {
        if !told && Pin::new(&mut draining).poll(cx).is_ready() {
            told = true;
            drain(&mut connection);
        }
        // How it ended is between hyper and the peer; the shard counts what concerns it.
        Pin::new(&mut connection).poll(cx).map(drop)
    })
}
