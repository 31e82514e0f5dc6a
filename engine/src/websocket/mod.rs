//! WebSocket (RFC 6455) over HTTP/1.1 and over HTTP/2 (RFC 8441), with permessage-deflate (RFC 7692): one
//! [`WebSocket`] for servers and clients.
//!
//! - A server: `worker::websocket`, inside a service or as a protocol of its own.
//! - A server on another runtime: [`server::accept`].
//! - A client: [`client`].
//!
//! Frames are a library's; what is here is what the two ends owe each other: the opening, the close handshake both
//! ways, keep-alive, and limits, each of which ends in a Close frame with its code. Nothing here needs a tokio
//! runtime: time is a [`Timer`] of whoever opens the WebSocket.

pub mod client;
mod deflate;
mod error;
mod io;
mod keep_alive;
mod message;
mod options;
pub mod server;
mod socket;

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{HeaderMap, HeaderName};

pub use error::{Violation, WebSocketError};
pub use message::{Close, CloseCode, Message, Text};
pub use options::{Deflate, KeepAlive, Options, Origins};
pub use socket::WebSocket;

/// What time is to a WebSocket: on a shard its own clock, on a tokio runtime hyper-util's `TokioTimer`.
pub type Timer = Arc<dyn hyper::rt::Timer + Send + Sync>;

/// The answer to a client's key (RFC 6455 section 4.2.2).
fn accept_key(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(context.finish())
}

/// The elements of a list-based field (RFC 9110 section 5.6.1), over all its lines.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_answered_as_in_the_rfc() {
        // RFC 6455 section 1.3.
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn sockets_may_move_to_another_thread() {
        fn check<T: Send + 'static>() {}
        check::<WebSocket>();
        check::<server::Accepted>();
    }
}
