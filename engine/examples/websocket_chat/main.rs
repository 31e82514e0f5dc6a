//! A chat room across shards, with a web page: `cargo run --example websocket_chat [ADDR]`.
//!
//! Open <https://127.0.0.1:8443/> twice and accept the certificate. The browser's WebSockets come over h2 (RFC 8441) or
//! by an upgrade of HTTP/1.1, whichever it prefers; the handler sees no difference. Enter ends the server.

#[path = "../common/mod.rs"]
mod common;

use std::sync::Arc;

use handfast::websocket::{CloseCode, Message, Options, Text, WebSocket};
use handfast::worker::Connection;
use handfast::{Engine, HandshakeFacts, Http, worker};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

const PAGE: &str = include_str!("page.html");
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// Messages that a member may lag behind. Met: the oldest are lost to it, and it is told.
const BACKLOG: usize = 64;

/// What everybody hears. Its queue needs no runtime, and wakes members on whichever shard they are.
#[derive(Clone)]
struct Room(broadcast::Sender<Text>);

impl Room {
    fn say(&self, text: impl Into<Text>) {
        // An empty room hears nothing, which is no fault.
        let _ = self.0.send(text.into());
    }

    /// One member, from coming to leaving.
    async fn chat(self, mut socket: WebSocket, facts: Arc<HandshakeFacts>) {
        let mut heard = self.0.subscribe();
        let name = facts.peer.to_string();
        self.say(format!("{name} came over {}", facts.protocol_name()));
        loop {
            let sent = tokio::select! {
                received = socket.receive() => match received {
                    Ok(Some(Message::Text(text))) => {
                        self.say(format!("{name}: {text}"));
                        Ok(())
                    }
                    Ok(Some(_)) => socket.close(CloseCode::UNSUPPORTED, "text only").await,
                    Ok(None) | Err(_) => break,
                },
                said = heard.recv() => match said {
                    Ok(text) => socket.send(text).await,
                    Err(RecvError::Lagged(n)) => socket.send(format!("({n} messages were too fast for you)")).await,
                    Err(RecvError::Closed) => break,
                },
            };
            if sent.is_err() {
                break;
            }
        }
        self.say(format!("{name} left"));
    }
}

fn page(request: &Request<worker::Body>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/" {
        let mut response = Response::new(Full::from("not found\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(Full::from(PAGE));
    response.headers_mut().insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().expect("a header value"));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, PAGE_POLICY.parse().expect("a header value"));
    response
}

fn main() -> Result<(), common::Error> {
    let room = Room(broadcast::channel(BACKLOG).0);
    let mut options = Options::default();
    options.subprotocols = vec!["chat".into()];
    options.message_bytes_max = 2000;
    let pages = |_: &Connection| {
        service_fn(|request: Request<worker::Body>| async move { Ok::<_, std::convert::Infallible>(page(&request)) })
    };
    let http = Http::new(pages).websocket("/chat", options, move |socket, facts| room.clone().chat(socket, facts));
    let (certificates, _) = common::self_signed("default", "localhost")?;
    let engine =
        Engine::builder().listen(common::address("127.0.0.1:8443")?).certificates(certificates).http(http).start()?;
    println!("listening on {}", engine.handle().endpoints()[0]);
    common::until_enter();
    print!("{}", engine.shutdown()?);
    Ok(())
}
