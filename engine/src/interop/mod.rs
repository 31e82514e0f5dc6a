//! Negotiated connections in a tokio runtime: handshakes on the engine's shards, the application on its own runtime.
//!
//! [`Incoming`] is the receiving end of a [`Mailbox`]. Each [`Accepted`] connection is a stream with tokio's I/O
//! traits, so whatever speaks to a `TcpStream` speaks to it; what was negotiated is in its
//! [facts](Accepted::facts). `Incoming` is a [`Stream`] of connections as well, for tonic's
//! `serve_with_incoming` and the like, and with the feature `axum` an `axum::serve::Listener`.
//!
//! ```no_run
//! use handfast::interop::Incoming;
//! use handfast::{Engine, Protocol};
//! use tokio::io::AsyncWriteExt;
//! # fn builder() -> handfast::Builder { Engine::builder() }
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let (mailbox, mut incoming) = Incoming::bounded(1024);
//! let engine = builder().protocol(Protocol::alpn("hello/1").hand_off(mailbox)).start()?;
//! while let Some(accepted) = incoming.accept().await {
//!     let Ok(mut stream) = accepted else { continue };
//!     tokio::spawn(async move {
//!         let greeting = format!("hello over {}", stream.facts().protocol_name());
//!         stream.write_all(greeting.as_bytes()).await?;
//!         stream.shutdown().await
//!     });
//! }
//! # drop(engine);
//! # Ok(())
//! # }
//! ```

mod accepted;
#[cfg(feature = "axum")]
mod axum;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crossbeam::channel::{Receiver, TryRecvError};
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use tokio::sync::watch;
use tokio::task::coop;

pub use accepted::{Accepted, TokioSocket};

use crate::shard::{Mailbox, Negotiated};
use crate::transport::Wake;

/// Negotiated connections as they arrive in a tokio runtime.
///
/// They are the application's from here on: the engine counts them as handed off, and its drain does not wait for them.
///
/// When the application takes them more slowly than they come, its mailbox fills up, and the shards do what they do
/// then: see [`Mailbox`]. Dropping it resets the connections that nobody has taken, and those that still come.
pub struct Incoming {
    receiver: Receiver<Negotiated>,
    waiting: Arc<AtomicWaker>,
    /// Gone with the last connection; see [`ended`](Self::ended).
    open: Option<watch::Sender<()>>,
}

impl Incoming {
    /// A mailbox for `depth` connections, and the end from which a task takes them. Give the mailbox, or clones of
    /// it, to as many protocols as the application speaks.
    #[must_use]
    pub fn bounded(depth: usize) -> (Mailbox, Self) {
        let (mailbox, receiver) = Mailbox::bounded(depth);
        let waiting = Arc::new(AtomicWaker::new());
        let mailbox = mailbox.with_wake(WakeTask(Arc::clone(&waiting)));
        (mailbox, Self { receiver, waiting, open: Some(watch::Sender::new(())) })
    }

    /// The next connection; `None` once the engine has ended and all have been taken. It may be dropped while it
    /// waits, and loses nothing.
    ///
    /// # Errors
    /// The runtime cannot watch this connection's socket: the system is short of something. The connection is reset,
    /// and the next one may do.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub async fn accept(&mut self) -> Option<io::Result<Accepted>> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`accept`](Self::accept), for a task that is polled by hand.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    ///
    /// # Panics
    /// As for [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Accepted>>> {
        // However much mail there is, the runtime's other tasks get their turn.
        let turn = ready!(coop::poll_proceed(cx));
        // A shard wakes after it has put mail in. What it puts in before the second look is found there; what it puts
        // in later is followed by a wake-up that finds this task registered. So nothing is left lying, though a shard
        // wakes only once for all that it puts in during a turn: a task that is woken comes here until nothing is left.
        let mut next = self.receiver.try_recv();
        if matches!(next, Err(TryRecvError::Empty)) {
            self.waiting.register(cx.waker());
            next = self.receiver.try_recv();
        }
        match next {
            Ok(negotiated) => {
                turn.made_progress();
                Poll::Ready(Some(Accepted::register(negotiated)))
            }
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => {
                self.open = None;
                Poll::Ready(None)
            }
        }
    }

    /// Waits until the engine has ended and every connection has been taken, or `Incoming` is gone: for a server that
    /// has no other way to hear of it, such as `axum::serve(..).with_graceful_shutdown(incoming.ended())`.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let open = self.open.as_ref().map(watch::Sender::subscribe);
        async move {
            if let Some(mut open) = open {
                // Nothing is ever sent: this ends when the sender is dropped.
                while open.changed().await.is_ok() {}
            }
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Accepted>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_accept(cx)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("len", &self.receiver.len()).finish_non_exhaustive()
    }
}

/// What the mailbox and its clones wake.
struct WakeTask(Arc<AtomicWaker>);

impl Wake for WakeTask {
    fn wake(&self) {
        self.0.wake();
    }
}

impl Drop for WakeTask {
    /// The last mailbox is gone, and with it, before this, the last sender: the task must see the end.
    fn drop(&mut self) {
        self.0.wake();
    }
}
