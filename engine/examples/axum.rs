//! An axum application behind the engine, on h2 and http/1.1: `cargo run --features tokio --example axum [ADDR]`.
//!
//! Handlers run on the shards, or with `Builder::workers` on threads of their own, and have tokio's timers, tasks and
//! sockets there. Try `curl -k https://127.0.0.1:8443/`; Enter ends it.

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use handfast::{Engine, HandshakeFacts, Http};

async fn hello(Extension(facts): Extension<Arc<HandshakeFacts>>) -> String {
    format!("hello over {} from {}\n", facts.protocol_name(), facts.peer)
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(50)).await;
    "this took a while, and delayed nobody\n"
}

fn main() -> Result<(), common::Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (certificates, _) = common::self_signed("default", "localhost")?;
    let router = Router::new().route("/", get(hello)).route("/slow", get(slow));
    let engine = Engine::builder()
        .listen(common::address("127.0.0.1:8443")?)
        .certificates(certificates)
        .http(Http::tower(router))
        .runtime(runtime.handle().clone())
        .start()?;
    println!("listening on {}", engine.handle().endpoints()[0]);
    common::until_enter();
    print!("{}", engine.shutdown()?);
    Ok(())
}
