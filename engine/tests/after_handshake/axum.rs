//! An axum application on the shards and on worker threads, whose handlers need a tokio runtime.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Extension;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::{any, get, post};
use handfast::{HandshakeFacts, Http, Placement};

use crate::curl::curl;
use crate::harness::{PLACEMENTS, Server, TempFile, pattern};

fn application() -> Router {
    Router::new()
        .route("/slow", get(slow))
        .route("/facts", get(facts))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
        .route("/ws", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
}

/// Sleeps, spawns, and answers with what the task says.
async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(2)).await;
    let spawned = tokio::spawn(async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        "slept and spawned"
    });
    spawned.await.unwrap()
}

async fn facts(Extension(facts): Extension<Arc<HandshakeFacts>>) -> String {
    facts.protocol_name()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

fn serve(placement: Placement, runtime: &tokio::runtime::Runtime) -> Server {
    let handle = runtime.handle().clone();
    Server::start_with(placement, [], |builder| builder.http(Http::tower(application())).runtime(handle))
}

#[test]
fn handlers_sleep_spawn_and_see_the_facts_over_both_versions() {
    let runtime = runtime();
    for placement in PLACEMENTS {
        let server = serve(placement, &runtime);
        for (flag, version, alpn) in [("--http2", "2", "h2"), ("--http1.1", "1.1", "http/1.1")] {
            let Some(slow) = curl(&server, &[flag], "/slow") else { return };
            assert_eq!(slow, format!("slept and spawned|{version} 200 text/plain; charset=utf-8"));
            let facts = curl(&server, &[flag], "/facts").unwrap();
            assert!(facts.starts_with(&format!("{alpn}|")), "{facts}");
            let upload = TempFile::new(pattern(1_000_000));
            let data = format!("@{}", upload.path().display());
            let length = curl(&server, &[flag, "--data-binary", &data], "/length").unwrap();
            assert!(length.starts_with("1000000|"), "{length}");
        }
        let no_alpn = curl(&server, &["--no-alpn"], "/facts").unwrap();
        assert!(no_alpn.starts_with("http/1.1|1.1 200"), "{no_alpn}");
        server.shutdown();
    }
}

#[test]
fn handler_upgrades_to_a_websocket() {
    let runtime = runtime();
    for placement in PLACEMENTS {
        let server = serve(placement, &runtime);
        let mut socket = tungstenite::client("wss://localhost/ws", server.connect("http/1.1")).unwrap().0;
        for message in [tungstenite::Message::text("up"), tungstenite::Message::binary(pattern(100_000))] {
            socket.send(message.clone()).unwrap();
            assert_eq!(socket.read().unwrap(), message);
        }
        socket.close(None).unwrap();
        assert!(socket.read().is_ok_and(|m| m.is_close()));
        drop(socket);
        server.shutdown();
    }
}
