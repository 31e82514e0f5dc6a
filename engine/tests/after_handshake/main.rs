//! What happens after the handshake, over real sockets: workers, hand-off, drain, and the client.

#[cfg(feature = "client-http")]
mod async_client;
#[cfg(feature = "tokio")]
mod axum;
#[cfg(feature = "axum")]
mod axum_serve;
mod builder;
mod client;
#[cfg(feature = "client-http")]
mod client_http;
#[cfg(feature = "client-http")]
mod client_websocket;
mod curl;
mod ending;
mod hand_off;
mod harness;
mod http1;
mod http1_content;
mod http1_limits;
mod http2;
#[cfg(feature = "tokio")]
mod interop;
mod limits;
mod own_protocol;
mod reload;
#[cfg(feature = "tokio")]
mod runtime;
mod tls_stream;
#[cfg(feature = "client-http")]
mod tonic;
mod websocket;
