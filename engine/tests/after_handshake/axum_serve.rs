//! axum, and hyper's own server, over connections from the engine.

use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Version;
use axum::routing::{get, post};
use handfast::interop::Incoming;
use handfast::peer::PeerAddr;
use handfast::{HandshakeFacts, Placement, Protocol};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;

use crate::harness::{Server, pattern, runtime};

async fn content(response: Response<hyper::body::Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn start() -> (Server, Incoming) {
    let (mailbox, incoming) = Incoming::bounded(64);
    let protocols = ["h2", "http/1.1"].map(|id| Protocol::alpn(id).hand_off(mailbox.clone()));
    (Server::start(Placement::SharedCore, protocols), incoming)
}

#[test]
fn router_serves_both_versions_and_handlers_sleep_and_spawn() {
    async fn who(ConnectInfo(peer): ConnectInfo<PeerAddr>, version: Version) -> String {
        tokio::time::sleep(Duration::from_millis(1)).await;
        tokio::spawn(async move { format!("{} {version:?}", peer.ip().unwrap().ip()) }).await.unwrap()
    }
    let (server, incoming) = start();
    let runtime = runtime();
    let app = Router::new().route("/who", get(who)).route("/echo", post(|body: Bytes| async { body }));
    let app = app.into_make_service_with_connect_info::<PeerAddr>();
    let ended = incoming.ended();
    let serving = runtime.spawn(async { axum::serve(incoming, app).with_graceful_shutdown(ended).await });
    runtime.block_on(async {
        for (alpn, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
            let http = server.client(alpn).http_to(server.addr(), "localhost").await.unwrap();
            let response = http.send(Request::get("/who").body(Empty::new()).unwrap()).await.unwrap();
            assert_eq!(content(response).await, format!("127.0.0.1 {version}"));
            let large = Bytes::from(pattern(1 << 20));
            let response = http.send(Request::post("/echo").body(Full::new(large.clone())).unwrap()).await.unwrap();
            assert!(content(response).await == large, "{alpn}");
            http.close().await.unwrap();
        }
    });
    server.shutdown();
    // The end of the engine is the end of the server.
    runtime.block_on(serving).unwrap().unwrap();
}

#[test]
fn handler_sees_what_was_negotiated() {
    let (server, incoming) = start();
    let runtime = runtime();
    let facts = |ConnectInfo(facts): ConnectInfo<HandshakeFacts>| async move {
        format!("{} {:?} {}", facts.protocol_name(), facts.server_name, facts.resumed)
    };
    let app = Router::new().route("/", get(facts)).into_make_service_with_connect_info::<HandshakeFacts>();
    let serving = runtime.spawn(async { axum::serve(incoming, app).await });
    runtime.block_on(async {
        let client = server.trusting().build().unwrap();
        for resumed in [false, true] {
            let http = client.http_to(server.addr(), "localhost").await.unwrap();
            let response = http.send(Request::get("/").body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            assert_eq!(content(response).await, format!("h2 Some(\"localhost\") {resumed}"));
            http.close().await.unwrap();
        }
    });
    serving.abort();
    server.shutdown();
}

#[test]
fn hyper_serves_the_stream() {
    let (server, mut incoming) = start();
    let runtime = runtime();
    runtime.spawn(async move {
        while let Some(Ok(accepted)) = incoming.accept().await {
            let name = accepted.facts().protocol_name();
            let service = hyper::service::service_fn(move |_| {
                let name = name.clone();
                async move { Ok::<_, std::convert::Infallible>(Response::new(name)) }
            });
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                builder.serve_connection(TokioIo::new(accepted), service).await.unwrap();
            });
        }
    });
    runtime.block_on(async {
        for alpn in ["h2", "http/1.1"] {
            let http = server.client(alpn).http_to(server.addr(), "localhost").await.unwrap();
            let response = http.send(Request::get("/").body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            assert_eq!(content(response).await, alpn);
            http.close().await.unwrap();
        }
    });
    server.shutdown();
}
