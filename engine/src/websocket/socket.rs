//! One WebSocket: what its two ends owe each other, over a library that does the frames.

use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream};
use hyper::rt::Sleep;
use yawc::{Frame, OpCode, Role};

use super::Timer;
use super::error::{Violation, WebSocketError};
use super::io::Io;
use super::keep_alive::{Pulse, Turn};
use super::message::{Close, CloseCode, Message, Text};
use super::options::Options;
use crate::shard::Draining;

/// Payload of a control frame (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// An open WebSocket (RFC 6455), a server's or a client's.
///
/// It lives while it is used: [`receive`](Self::receive) answers Pings and the peer's Close, sends Pings of its own,
/// and hears of a drain. So a task that only sends should receive as well, in a `select`; `receive` may be dropped and
/// called again without loss. As a [`Stream`] and a [`Sink`] it can be split, and takes several messages before a
/// flush.
///
/// A WebSocket that is dropped says goodbye with 1000 if there is room for it, and does not wait for an answer;
/// [`close`](Self::close) does.
///
/// ```
/// use handfast::websocket::{WebSocket, WebSocketError};
///
/// async fn echo(mut socket: WebSocket) -> Result<(), WebSocketError> {
///     while let Some(message) = socket.receive().await? {
///         socket.send(message).await?;
///     }
///     Ok(())
/// }
/// ```
pub struct WebSocket {
    /// Gone once the connection is done with, so that a handler that goes on holds none. Boxed, as a future has room for
    /// each place that a value in it moves through.
    frames: Option<Box<yawc::WebSocket<Io>>>,
    phase: Phase,
    timer: Timer,
    keep_alive: Option<Pulse>,
    draining: Option<Draining>,
    close_wait: Duration,
    send_timeout: Duration,
    /// Runs while the peer is waited for: to take what is sent, or to end.
    patience: Option<Pin<Box<dyn Sleep>>>,
    /// There is a Pong to be sent before anything is read again, so that Pings cannot pile Pongs up.
    pong_due: bool,
    /// There are frames that were not flushed.
    unflushed: bool,
    subprotocol: Option<Text>,
    peer_close: Option<Close>,
    failure: Option<WebSocketError>,
}

/// How far a WebSocket has come (RFC 6455 section 7).
enum Phase {
    Open,
    /// We close: our frame, until it is given to the library; then the peer's is awaited, and its messages discarded.
    Closing(Option<Frame>),
    /// The peer has closed, and the library has the answer ready.
    Answering,
    /// Both have said their last: what is written leaves, and the connection ends.
    Ending,
    Ended,
}

impl WebSocket {
    /// # Errors
    /// When the library does not know what was agreed on.
    pub(super) fn new(
        mut io: Io,
        role: Role,
        options: &Options,
        agreed: &Agreed,
        timer: Timer,
        draining: Option<Draining>,
    ) -> Result<Self, WebSocketError> {
        let extensions = agreed.extensions.as_deref();
        let keep_alive = options.keep_alive.map(|keep_alive| Pulse::new(keep_alive, io.heard(), &timer));
        let frames = yawc::WebSocket::from_stream_with_extensions(io, role, extensions, options.for_library())
            .map_err(|e| WebSocketError::of(&e))?;
        Ok(Self {
            frames: Some(Box::new(frames)),
            phase: Phase::Open,
            keep_alive,
            timer,
            draining,
            close_wait: options.close_wait,
            send_timeout: options.send_timeout,
            patience: None,
            pong_due: false,
            unflushed: false,
            subprotocol: agreed.subprotocol.clone(),
            peer_close: None,
            failure: None,
        })
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// What the peer's Close frame said, once it has come.
    #[must_use]
    pub const fn peer_close(&self) -> Option<&Close> {
        self.peer_close.as_ref()
    }

    /// The next message; `None` after the close handshake, whoever began it: the peer, [`close`](Self::close), or a
    /// drain of the engine, which closes with 1001.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// Once, when the WebSocket ended in any other way; `None` from then on.
    pub async fn receive(&mut self) -> Result<Option<Message>, WebSocketError> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Sends a message, and waits until the connection has taken it. Nothing is received meanwhile: two peers that
    /// only send until their buffers are full give each other up after
    /// [`Options::send_timeout`](super::Options::send_timeout).
    ///
    /// When the future is dropped the message is sent whole or not at all; [`receive`](Self::receive) goes on with it.
    ///
    /// # Errors
    /// [`WebSocketError::Closed`] after the close, and why the WebSocket ended otherwise.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), WebSocketError> {
        let message = message.into();
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.start(frame(message))?;
        poll_fn(|cx| self.poll_sent(cx)).await
    }

    /// Sends a Ping of at most 125 bytes. Its Pong is a sign of life and nothing else.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`WebSocketError::PingTooLong`].
    pub async fn ping(&mut self, payload: impl Into<Bytes>) -> Result<(), WebSocketError> {
        let payload = payload.into();
        if payload.len() > CONTROL_BYTES_MAX {
            return Err(WebSocketError::PingTooLong { len: payload.len() });
        }
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.start(Frame::ping(payload))?;
        poll_fn(|cx| self.poll_sent(cx)).await
    }

    /// Closes, and waits for the peer's Close frame for at most
    /// [`Options::close_wait`](super::Options::close_wait); messages that come before it are discarded.
    ///
    /// # Errors
    /// [`WebSocketError::ReasonTooLong`] over 123 bytes; otherwise why it did not end with both Close frames.
    pub async fn close(&mut self, code: CloseCode, reason: impl Into<Text>) -> Result<(), WebSocketError> {
        let close = Close::new(code, reason)?;
        if matches!(self.phase, Phase::Open) {
            self.start_close(&close);
        }
        poll_fn(|cx| self.poll_end(cx)).await
    }

    /// For [`receive`](Self::receive), and whatever else waits for the peer.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, WebSocketError>> {
        loop {
            let Phase::Open = self.phase else {
                ready!(self.poll_end(cx))?;
                return Poll::Ready(Ok(None));
            };
            if self.hears_of_a_drain(cx) {
                continue;
            }
            match self.poll_open(cx) {
                Poll::Ready(Ok(Some(message))) => return Poll::Ready(Ok(Some(message))),
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(error)) => self.fail(error),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// One step of an open WebSocket: a message, or `None` when something else has happened.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, WebSocketError>> {
        if self.pong_due {
            ready!(self.poll_output(cx, |frames, cx| frames.poll_ready_unpin(cx)))?;
            self.pong_due = false;
        }
        if self.unflushed
            && let Poll::Ready(flushed) = self.poll_sent_frames(cx)
        {
            flushed?;
        }
        let Some(frames) = &mut self.frames else { return Poll::Ready(Err(WebSocketError::Closed)) };
        let Poll::Ready(frame) = frames.poll_next_frame(cx) else { return self.poll_keep_alive(cx) };
        let frame = frame.map_err(|e| WebSocketError::of(&e))?;
        if frame.opcode().is_control() && frame.payload().len() > CONTROL_BYTES_MAX {
            return Poll::Ready(Err(WebSocketError::Peer(Violation::Frame)));
        }
        Poll::Ready(match frame.opcode() {
            OpCode::Text => match Text::from_utf8(frame.into_payload()) {
                Some(text) => Ok(Some(Message::Text(text))),
                None => Err(WebSocketError::Peer(Violation::NotUtf8)),
            },
            OpCode::Binary => Ok(Some(Message::Binary(frame.into_payload()))),
            OpCode::Ping => {
                self.pong_due = true;
                Ok(None)
            }
            OpCode::Close => {
                self.peer_close = Some(Close::from_payload(frame.payload()));
                self.enter(Phase::Answering);
                Ok(None)
            }
            OpCode::Pong | OpCode::Continuation => Ok(None),
        })
    }

    /// While nothing comes: whether the peer is still there.
    fn poll_keep_alive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, WebSocketError>> {
        let (Some(keep_alive), Some(frames)) = (&mut self.keep_alive, &mut self.frames) else { return Poll::Pending };
        match ready!(keep_alive.poll(&self.timer, cx)) {
            Turn::Ping => {
                // A peer that does not even take what was sent before is not asked; it has as long to recover.
                if let Poll::Ready(Ok(())) = frames.poll_ready_unpin(cx) {
                    self.start(Frame::ping(Bytes::new()))?;
                }
                Poll::Ready(Ok(None))
            }
            Turn::Silent(after) => Poll::Ready(Err(WebSocketError::Silent { after })),
        }
    }

    /// Whether the engine drains; then the WebSocket is closing.
    fn hears_of_a_drain(&mut self, cx: &mut Context<'_>) -> bool {
        let heard = self.draining.as_mut().is_some_and(|draining| Pin::new(draining).poll(cx).is_ready());
        if heard {
            self.draining = None;
            self.start_close(&Close { code: Some(CloseCode::GOING_AWAY), reason: Text::default() });
        }
        heard
    }

    /// Room for one more message.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        if matches!(self.phase, Phase::Open) && !self.hears_of_a_drain(cx) {
            match ready!(self.poll_output(cx, |frames, cx| frames.poll_ready_unpin(cx))) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) => self.fail(error),
            }
        }
        ready!(self.poll_end(cx))?;
        Poll::Ready(Err(WebSocketError::Closed))
    }

    /// All that was given to it has been taken by the connection.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        if matches!(self.phase, Phase::Open) {
            match ready!(self.poll_sent_frames(cx)) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) => self.fail(error),
            }
        }
        ready!(self.poll_end(cx))?;
        Poll::Ready(Err(WebSocketError::Closed))
    }

    fn poll_sent_frames(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        ready!(self.poll_output(cx, |frames, cx| frames.poll_flush_unpin(cx)))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Something of the library's that waits for the peer to take bytes; not for longer than `send_timeout`.
    fn poll_output(&mut self, cx: &mut Context<'_>, poll: OutputStep) -> Poll<Result<(), WebSocketError>> {
        let Some(frames) = &mut self.frames else { return Poll::Ready(Err(WebSocketError::Closed)) };
        if let Poll::Ready(result) = poll(frames, cx) {
            self.patience = None;
            return Poll::Ready(result.map_err(|e| WebSocketError::of(&e)));
        }
        let patience = self.patience.get_or_insert_with(|| self.timer.sleep(self.send_timeout));
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Err(WebSocketError::Stalled { after: self.send_timeout }))
    }

    fn start(&mut self, frame: Frame) -> Result<(), WebSocketError> {
        let (Phase::Open, Some(frames)) = (&self.phase, &mut self.frames) else { return Err(WebSocketError::Closed) };
        self.unflushed = true;
        frames.start_send_unpin(frame).map_err(|e| WebSocketError::of(&e))
    }

    fn start_close(&mut self, close: &Close) {
        self.enter(Phase::Closing(Some(close_frame(close))));
    }

    /// What `error` makes of an open WebSocket.
    fn fail(&mut self, error: WebSocketError) {
        self.failure = Some(error);
        let told = match error {
            WebSocketError::Peer(violation) => self.last_words(violation.code(), violation.to_string()),
            WebSocketError::Silent { .. } => self.last_words(CloseCode::INTERNAL_ERROR, "no answer to a ping"),
            _ => Err(WebSocketError::Closed),
        };
        match told {
            Ok(()) => self.enter(Phase::Ending),
            Err(_) => self.end(),
        }
    }

    /// A Close frame without an answer to wait for (RFC 6455 section 7.1.7).
    ///
    /// The library may have one ready, too, whose code is not always the RFC's; it leaves only where it is asked
    /// whether there is room, which nobody does from here on.
    fn last_words(&mut self, code: CloseCode, reason: impl Into<Text>) -> Result<(), WebSocketError> {
        let close = Close { code: Some(code), reason: reason.into() };
        self.start(close_frame(&close))
    }

    /// A phase in which the peer is waited for, for at most `close_wait` from here.
    fn enter(&mut self, phase: Phase) {
        self.patience = Some(self.timer.sleep(self.close_wait));
        self.phase = phase;
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.frames = None;
        self.patience = None;
        self.keep_alive = None;
        self.draining = None;
    }

    /// Goes on to the end, for at most `close_wait`. An error is told once.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        if !matches!(self.phase, Phase::Ended) {
            let step = self.poll_ending(cx);
            let late = self.patience.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready());
            match step {
                Poll::Ready(Ok(())) => {}
                // Before the peer's Close frame it is news; afterwards there is nothing left to lose.
                Poll::Ready(Err(error)) if matches!(self.phase, Phase::Closing(_)) => {
                    self.failure = Some(error);
                }
                Poll::Ready(Err(_)) => {}
                Poll::Pending if late => {
                    if matches!(self.phase, Phase::Closing(_)) {
                        self.failure = Some(WebSocketError::NotClosed { after: self.close_wait });
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
            self.end();
        }
        Poll::Ready(self.failure.take().map_or(Ok(()), Err))
    }

    /// The steps of the close handshake (RFC 6455 sections 7.1.1 to 7.1.7).
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        let broken = |e: yawc::WebSocketError| WebSocketError::of(&e);
        loop {
            let Some(frames) = &mut self.frames else { return Poll::Ready(Ok(())) };
            match &mut self.phase {
                Phase::Closing(close) => {
                    // Reading goes on while our frame waits, as the peer may be stuck with sending, too, unless a Pong
                    // waits with it; and when it cannot leave, as the peer's may have come just before the end.
                    if close.is_some()
                        && let Poll::Ready(Ok(())) = frames.poll_ready_unpin(cx)
                        && let Some(close) = close.take()
                    {
                        frames.start_send_unpin(close).map_err(broken)?;
                    }
                    if close.is_none() {
                        let _ = frames.poll_flush_unpin(cx);
                    }
                    if mem::take(&mut self.pong_due) && frames.poll_ready_unpin(cx).is_pending() {
                        self.pong_due = true;
                        return Poll::Pending;
                    }
                    let frame = ready!(frames.poll_next_frame(cx)).map_err(broken)?;
                    self.pong_due = frame.opcode() == OpCode::Ping;
                    if frame.opcode() == OpCode::Close {
                        self.peer_close = Some(Close::from_payload(frame.payload()));
                        // When ours has not left, the library's answer takes its place.
                        self.phase = if close.is_none() { Phase::Ending } else { Phase::Answering };
                    }
                }
                Phase::Answering => {
                    ready!(frames.poll_ready_unpin(cx)).map_err(broken)?;
                    self.phase = Phase::Ending;
                }
                Phase::Ending => return frames.poll_close_unpin(cx).map_err(broken),
                Phase::Open | Phase::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// What was settled by the opening.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    pub(super) subprotocol: Option<Text>,
    /// As the header field says it.
    pub(super) extensions: Option<String>,
}

/// One of the library's ways to make room.
type OutputStep = fn(&mut yawc::WebSocket<Io>, &mut Context<'_>) -> Poll<yawc::Result<()>>;

fn frame(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::text(text.into_bytes()),
        Message::Binary(bytes) => Frame::binary(bytes),
    }
}

fn close_frame(close: &Close) -> Frame {
    let code = close.code.unwrap_or(CloseCode::NORMAL);
    Frame::close(code.get().into(), close.reason.as_bytes())
}

impl Stream for WebSocket {
    type Item = Result<Message, WebSocketError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_receive(cx).map(Result::transpose)
    }
}

/// Closing it closes with 1000, and what still comes is discarded as by [`close`](WebSocket::close).
impl Sink<Message> for WebSocket {
    type Error = WebSocketError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        self.get_mut().poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), WebSocketError> {
        self.get_mut().start(frame(message))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        self.get_mut().poll_sent(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        let this = self.get_mut();
        if matches!(this.phase, Phase::Open) {
            this.start_close(&Close { code: Some(CloseCode::NORMAL), reason: Text::default() });
        }
        this.poll_end(cx)
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        // Whoever panics has not come to its end, and its peer must not think so.
        if std::thread::panicking() {
            return;
        }
        let Some(frames) = &mut self.frames else { return };
        let cx = &mut Context::from_waker(Waker::noop());
        let last = match mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Open => Some(close_frame(&Close { code: Some(CloseCode::NORMAL), reason: Text::default() })),
            Phase::Closing(close) => close,
            Phase::Ended => return,
            Phase::Answering | Phase::Ending => None,
        };
        let ready = matches!(frames.poll_ready_unpin(cx), Poll::Ready(Ok(())));
        let said = last.is_none_or(|frame| ready && frames.start_send_unpin(frame).is_ok());
        if said {
            // What does not leave now does not leave.
            let _ = frames.poll_flush_unpin(cx);
            let _ = frames.poll_close_unpin(cx);
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("subprotocol", &self.subprotocol)
            .field("open", &matches!(self.phase, Phase::Open))
            .finish_non_exhaustive()
    }
}
