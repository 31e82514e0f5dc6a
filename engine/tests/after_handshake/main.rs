//! What happens after the handshake, over real sockets: workers, hand-off, drain, and the client.

#[cfg(feature = "tokio")]
mod axum;
mod client;
mod curl;
mod hand_off;
mod harness;
mod http1;
mod http1_content;
mod http1_limits;
mod http2;
mod own_protocol;
#[cfg(feature = "tokio")]
mod runtime;
mod websocket;
