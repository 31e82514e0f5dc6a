//! WebSockets over a connection of their own, `h2` or `http/1.1` as ALPN settles it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::response::Parts;
use http::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::http::{H2, HTTP1, offering_http};
use super::target::{Target, server_name};
use super::tokio::{open, resolve};
use super::{Client, ClientError, Phase};
use crate::websocket::client::{OpenError, open_http1, open_http2};
use crate::websocket::{Options, WebSocket};

const WSS_PORT: u16 = 443;

/// In a tokio runtime with I/O and time enabled; outside of one they panic.
impl Client {
    /// Opens a WebSocket at `url`, as in `wss://example.org/chat`.
    ///
    /// It offers `h2` and `http/1.1`, or what [`ClientBuilder::alpn`](super::ClientBuilder::alpn) says, and opens the
    /// WebSocket in the version that the server accepts. A server of `h2` that takes no WebSockets there (RFC 8441
    /// section 3) is asked again over `http/1.1`, unless the client's own list says otherwise. The opening has as long
    /// as the TLS handshake.
    ///
    /// # Errors
    /// See [`ClientError`]; [`WebSocket`](ClientError::WebSocket) when the opening itself failed.
    pub async fn websocket(&self, url: &str, options: &Options) -> Result<WebSocket, ClientError> {
        let request = Request::get(url).body(()).map_err(|_| bad_url(url))?;
        self.websocket_with(request, options).await.map(|(socket, _)| socket)
    }

    /// As [`websocket`](Self::websocket), with headers of yours, and gives the head of the server's answer as well:
    /// its `version` says which one was accepted.
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    pub async fn websocket_with(
        &self,
        request: Request<()>,
        options: &Options,
    ) -> Result<(WebSocket, Parts), ClientError> {
        let target = target(request.uri())?;
        let addresses = resolve(&target).await?;
        self.open_websocket(&addresses, request, options).await
    }

    /// As [`websocket_with`](Self::websocket_with), at `addr` whatever the URL's host is.
    ///
    /// # Errors
    /// As for [`websocket`](Self::websocket).
    pub async fn websocket_to(
        &self,
        addr: SocketAddr,
        request: Request<()>,
        options: &Options,
    ) -> Result<(WebSocket, Parts), ClientError> {
        self.open_websocket(&[addr], request, options).await
    }

    async fn open_websocket(
        &self,
        addresses: &[SocketAddr],
        request: Request<()>,
        options: &Options,
    ) -> Result<(WebSocket, Parts), ClientError> {
        let tls = offering_http(&self.config);
        let opened = self.open_websocket_over(&tls, addresses, request.clone(), options).await;
        let try_http1 = self.config.tls.alpn_protocols.is_empty();
        match opened {
            Err(ClientError::WebSocket(OpenError::NoExtendedConnect)) if try_http1 => {
                let mut tls = ClientConfig::clone(&tls);
                tls.alpn_protocols = vec![HTTP1.to_vec()];
                self.open_websocket_over(&Arc::new(tls), addresses, request, options).await
            }
            opened => opened,
        }
    }

    async fn open_websocket_over(
        &self,
        tls: &Arc<ClientConfig>,
        addresses: &[SocketAddr],
        request: Request<()>,
        options: &Options,
    ) -> Result<(WebSocket, Parts), ClientError> {
        let name = server_name(target(request.uri())?.host)?;
        let stream = open(&self.config, tls, addresses, name).await?;
        let addr = stream.io().peer_addr().ok();
        let timer = Arc::new(TokioTimer::new());
        let after = self.config.handshake_timeout;
        let opened = match stream.alpn_protocol() {
            Some(H2) => timeout(after, open_http2(stream, request, options, timer, TokioExecutor::new())).await,
            Some(HTTP1) | None => timeout(after, open_http1(stream, request, options, timer)).await,
            Some(other) => return Err(ClientError::NotHttp { protocol: other.escape_ascii().to_string() }),
        };
        let opened = opened.map_err(|_| ClientError::TimedOut { addr, phase: Phase::Opening, after })?;
        opened.map_err(ClientError::WebSocket)
    }
}

/// Host and port of a WebSocket's URL (RFC 6455 section 3). There is no `ws`: this client speaks TLS.
fn target(url: &Uri) -> Result<Target<'_>, ClientError> {
    let host = url.host().filter(|_| matches!(url.scheme_str(), Some("wss" | "https")));
    let host = host.ok_or_else(|| bad_url(&url.to_string()))?;
    // An IPv6 address stands in brackets there.
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    Ok(Target { host: bare, port: url.port_u16().unwrap_or(WSS_PORT) })
}

fn bad_url(url: &str) -> ClientError {
    ClientError::Url { text: url.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_tls_and_a_host_and_perhaps_a_port() {
        let parsed = |url: &str| {
            let url = url.parse().unwrap();
            target(&url).map(|t| (t.host.to_owned(), t.port)).ok()
        };
        assert_eq!(parsed("wss://example.org/chat"), Some(("example.org".to_owned(), 443)));
        assert_eq!(parsed("https://[::1]:8443/"), Some(("::1".to_owned(), 8443)));
        for bad in ["ws://example.org/", "/chat", "example.org:443"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
