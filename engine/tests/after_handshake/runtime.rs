//! Handlers that use tokio's timers and tasks.

use std::time::Duration;

use handfast::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{PLACEMENTS, Server, exchange};

#[test]
fn handler_sleeps_and_spawns_on_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    for placement in PLACEMENTS {
        let protocol = Protocol::alpn("chat/1").serve(|mut stream| async move {
            let mut word = [0; 5];
            while stream.read_exact(&mut word).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let answer = tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    word
                });
                stream.write_all(&answer.await.unwrap()).await.unwrap();
            }
        });
        let server = Server::start_with(placement, [protocol], |b| b.runtime(runtime.handle().clone()));
        let mut c = server.connect("chat/1");
        (0..20).for_each(|_| assert_eq!(exchange(&mut c, b"tokio"), b"tokio"));
        drop(c);
        server.shutdown();
    }
}
