//! The tonic example, asked by our own client.

#[allow(dead_code, reason = "its `main` is for the example alone")]
#[path = "../../examples/tonic.rs"]
mod example;

use handfast::interop::Incoming;
use handfast::{Placement, Protocol};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;

use crate::harness::{Server, runtime};

#[test]
fn health_is_told_by_grpc_until_the_engine_ends() {
    let (mailbox, incoming) = Incoming::bounded(16);
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("h2").hand_off(mailbox)]);
    let runtime = runtime();
    let serving = runtime.spawn(example::serve(incoming, std::future::pending()));
    runtime.block_on(async {
        let http = server.client("h2").http_to(server.addr(), "localhost").await.unwrap();
        // A frame with an empty message: the health of the server as a whole.
        let request = Request::post("/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(Full::new(Bytes::from_static(&[0; 5]))).unwrap();
        let answer = http.send(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(answer.to_bytes(), &[0, 0, 0, 0, 2, 8, 1][..], "SERVING");
        http.close().await.unwrap();
    });
    server.shutdown();
    runtime.block_on(serving).unwrap().unwrap();
}
