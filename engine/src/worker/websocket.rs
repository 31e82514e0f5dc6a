//! WebSocket echo (RFC 6455) over the upgrade of HTTP/1.1.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use yawc::close::CloseCode;
use yawc::{Frame, HttpWebSocket, OpCode, Options, WebSocket, WebSocketError};

use super::{Connection, facts};
use crate::shard::{Local, Sleep};

/// Payload of one frame. Met: close with 1009 (RFC 6455 section 7.4.1).
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Payload of a message of several frames. Met: the same.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// From our Close frame to the peer's. Met: the connection is closed without it.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Answers a request for a WebSocket, and echoes on it once the upgrade is through; `None` for any other request.
pub(super) fn answer(connection: &Connection, request: &mut Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    match opening(request) {
        Opening::Other if request.uri().path() == "/ws" && *request.method() == Method::GET => {
            return Some(upgrade_required(request));
        }
        Opening::Other => return None,
        Opening::WrongVersion => return Some(upgrade_required(request)),
        Opening::Malformed => return Some(bad_request(request)),
        Opening::WebSocket => {}
    }
    // Both limits are exclusive in the library.
    let options = Options::default().with_limits(FRAME_BYTES_MAX + 1, MESSAGE_BYTES_MAX + 1).with_utf8();
    let Ok((response, upgrade)) = WebSocket::upgrade_with_options(&mut *request, options) else {
        return Some(bad_request(request));
    };
    let local = connection.local().clone();
    connection.local().spawn(async move {
        if let Ok(socket) = upgrade.await {
            echo(socket, local).await;
        }
    });
    Some(response.map(|_| Full::default()))
}

/// What a request is as an opening handshake.
enum Opening {
    /// Something else.
    Other,
    /// Of another version of the protocol than 13.
    WrongVersion,
    /// One that breaks the rules.
    Malformed,
    /// A right one.
    WebSocket,
}

/// RFC 6455 section 4.2.1.
fn opening<B>(request: &Request<B>) -> Opening {
    let headers = request.headers();
    if !has_token(headers, UPGRADE, "websocket") {
        return Opening::Other;
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Opening::WrongVersion;
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|_| keys.next().is_none());
    // Sixteen bytes in base64.
    let key_fits = key.is_some_and(|k| k.len() == 24 && k.as_bytes().ends_with(b"=="));
    let right = *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, CONNECTION, "upgrade")
        && key_fits;
    if right { Opening::WebSocket } else { Opening::Malformed }
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// RFC 6455 section 4.4, RFC 9110 section 15.5.22.
fn upgrade_required<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = facts::text(StatusCode::UPGRADE_REQUIRED, request.method(), "this is a WebSocket\n");
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn bad_request<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    facts::text(StatusCode::BAD_REQUEST, request.method(), "no WebSocket handshake\n")
}

/// What an echoing socket has to do next.
enum Next {
    Frame(Result<Frame, WebSocketError>),
    Drain,
    GiveUp,
}

/// Sends every message back until either side closes. A drain closes with 1001 (RFC 6455 section 7.4.1).
async fn echo(mut socket: HttpWebSocket, local: Local) {
    let mut draining = pin!(local.draining());
    let mut close_wait: Option<Sleep> = None;
    loop {
        let next = poll_fn(|cx| {
            if let Some(wait) = &mut close_wait {
                if Pin::new(wait).poll(cx).is_ready() {
                    return Poll::Ready(Next::GiveUp);
                }
            } else if draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Drain);
            }
            socket.poll_next_frame(cx).map(Next::Frame)
        });
        let sent = match next.await {
            Next::GiveUp => return,
            Next::Drain => {
                close_wait = Some(local.sleep(CLOSE_WAIT));
                socket.send(Frame::close(CloseCode::Away, "")).await
            }
            Next::Frame(Ok(frame)) => match frame.opcode() {
                // RFC 6455 section 5.5.1: nothing follows our Close frame.
                _ if close_wait.is_some() && frame.opcode() != OpCode::Close => Ok(()),
                OpCode::Text | OpCode::Binary => socket.send(frame).await,
                // Its Pong leaves before the next frame is read, so that Pings cannot pile Pongs up.
                OpCode::Ping => poll_fn(|cx| socket.poll_ready_unpin(cx)).await,
                OpCode::Close if close_wait.is_some() => return,
                OpCode::Close => return answer_close(&mut socket).await,
                _ => Ok(()),
            },
            Next::Frame(Err(error)) => return fail(&mut socket, &error).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Sends the answer to the peer's Close frame, which the library has ready.
async fn answer_close(socket: &mut HttpWebSocket) {
    let _ = socket.next_frame().await;
}

/// Tells the peer what it did wrong (RFC 6455 section 7.1.7).
async fn fail(socket: &mut HttpWebSocket, error: &WebSocketError) {
    // For a bad frame the library has its Close frame ready and goes out with it; for a bad message it has none.
    if poll_fn(|cx| socket.poll_ready_unpin(cx)).await.is_err() || socket.flush().await.is_err() {
        return;
    }
    let next = poll_fn(|cx| Poll::Ready(socket.poll_next_frame(cx))).await;
    if matches!(next, Poll::Ready(Err(WebSocketError::ConnectionClosed))) {
        return;
    }
    let code = match error {
        WebSocketError::FrameTooLarge => CloseCode::Size,
        WebSocketError::InvalidUTF8 => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    };
    let _ = socket.send(Frame::close(code, "")).await;
}
