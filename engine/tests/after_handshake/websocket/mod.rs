//! WebSocket over both versions of HTTP, against our own client, by hand-written frames, and against another library.

mod endings;
mod exchanges;
mod memory;
mod opening;
pub(crate) mod tungstenite;

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use handfast::websocket::client::{OpenError, open_http1, open_http2};
use handfast::websocket::{Options, Timer, WebSocket, WebSocketError};
use handfast::{HandshakeFacts, Placement, Protocol, worker};
use http_body_util::Empty;
use hyper::header::{HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::http::response;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use crate::harness::{PLACEMENTS, Server};

/// By their ALPN protocol IDs.
const VERSIONS: [&str; 2] = ["http/1.1", "h2"];

fn timer() -> Timer {
    Arc::new(TokioTimer::new())
}

/// Both versions of HTTP on one server.
fn both<H, R>(options: &Options, handler: H) -> [Protocol; 2]
where
    H: Fn(WebSocket, Arc<HandshakeFacts>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    VERSIONS.map(|id| Protocol::alpn(id).worker(worker::websocket::serve(options.clone(), handler.clone())))
}

async fn echo(mut socket: WebSocket, _: Arc<HandshakeFacts>) {
    while let Ok(Some(message)) = socket.receive().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Runs `test` in each placement and over each version of HTTP, on a runtime of the client's own.
fn everywhere<F: Future<Output = ()>>(test: impl Fn(Placement, &'static str) -> F) {
    for placement in PLACEMENTS {
        for version in VERSIONS {
            run(test(placement, version));
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test stands still") });
}

/// What a handler saw, for the test to look at; waits for it.
async fn seen<T: Send + 'static>(told: mpsc::Receiver<T>) -> T {
    tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(30)).unwrap()).await.unwrap()
}

/// Drains `server`, while the client's side goes on.
async fn shutdown(server: Server) {
    tokio::task::spawn_blocking(move || server.shutdown()).await.unwrap();
}

async fn tls(server: &Server, version: &str) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.certificate.der.clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(handfast::crypto::provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![version.into()];
    let socket = TcpStream::connect(server.addr()).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(version.as_bytes()));
    stream
}

async fn open_with(
    server: &Server,
    version: &str,
    options: &Options,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocket, response::Parts), OpenError> {
    let stream = tls(server, version).await;
    let mut request = Request::builder().uri("wss://localhost/chat");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    match version {
        "h2" => open_http2(stream, request, options, timer(), TokioExecutor::new()).await,
        _ => open_http1(stream, request, options, timer()).await,
    }
}

async fn open(server: &Server, version: &str, options: &Options) -> WebSocket {
    open_with(server, version, options, &[]).await.unwrap().0
}

/// A connection or stream after the opening, for frames by hand.
struct Tunnel {
    io: TokioIo<Upgraded>,
    headers: HeaderMap,
}

/// A frame as it came: its first byte, its payload.
type Frame = (u8, Vec<u8>);

impl Tunnel {
    async fn open(server: &Server, version: &str, headers: &[(&'static str, &str)]) -> Self {
        let io = TokioIo::new(tls(server, version).await);
        let mut request = Request::builder().uri("https://localhost/").header(SEC_WEBSOCKET_VERSION, "13");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = if version == "h2" {
            let request = request
                .method(Method::CONNECT)
                .version(Version::HTTP_2)
                .extension(hyper::ext::Protocol::from_static("websocket"));
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
        } else {
            let request = request
                .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
                .header(UPGRADE, "websocket")
                .header("connection", "upgrade");
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
        };
        let headers = response.headers().clone();
        Self { io: TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap()), headers }
    }

    /// A frame of less than 126 bytes, masked with zeros.
    async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        frame.extend(payload);
        self.io.write_all(&frame).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        self.io.read_exact(&mut head).await.ok()?;
        let mut extended = vec![0; [0, 2, 8][usize::from(head[1]).saturating_sub(125).min(2)]];
        self.io.read_exact(&mut extended).await.unwrap();
        let long = extended.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        let mut payload = vec![0; if extended.is_empty() { usize::from(head[1]) } else { long }];
        self.io.read_exact(&mut payload).await.unwrap();
        Some((head[0], payload))
    }

    /// The code of the Close frame, which must be the next and the last.
    async fn closed(&mut self) -> u16 {
        let (first, payload) = self.next().await.unwrap();
        assert_eq!(first, 0x88);
        assert_eq!(self.next().await, None);
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

/// What `receive` said when it was not a message.
type End = Result<(), WebSocketError>;
