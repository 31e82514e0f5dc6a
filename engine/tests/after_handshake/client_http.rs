//! HTTP requests of our client to our own workers; nginx and others are in the end-to-end tests.

use std::convert::Infallible;
use std::sync::Arc;

use handfast::client::ClientError;
use handfast::client::http::{HttpConnection, HttpError};
use handfast::{Placement, Protocol, worker};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Server, pattern, runtime};

/// Says how it was asked, then what it was sent.
async fn answer(request: Request<worker::Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request.headers().get("host").map(|h| h.to_str().unwrap().to_owned());
    let head = format!("{} {} {host:?}\n", request.method(), request.uri());
    let mut all = head.into_bytes();
    all.extend(request.into_body().collect().await.unwrap().to_bytes());
    Ok(Response::new(all.into()))
}

fn server() -> Server {
    let h2 = Protocol::alpn("h2").worker(worker::http2::serve(|_| service_fn(answer)));
    let http1 = Protocol::alpn("http/1.1").worker(worker::http1::serve(|_| service_fn(answer)));
    Server::start_with(Placement::SharedCore, [h2, http1, Protocol::alpn("chat/1").close()], |builder| {
        builder.without_alpn("http/1.1")
    })
}

async fn send(http: &HttpConnection, path: &str, content: Bytes) -> Result<Bytes, HttpError> {
    let response = http.send(Request::post(path).body(Full::new(content)).unwrap()).await?;
    assert_eq!((response.status(), response.version()), (200.try_into().unwrap(), http.version()));
    Ok(response.into_body().collect().await.map_err(HttpError::Interrupted)?.to_bytes())
}

#[test]
fn both_versions_are_offered_and_h2_goes_first() {
    let server = server();
    let target = format!("localhost:{}", server.addr().port());
    runtime().block_on(async {
        let http = server.trusting().build().unwrap().http(&target).await.unwrap();
        assert_eq!(http.version(), Version::HTTP_2);
        let said = send(&http, "/a?b=c", Bytes::new()).await.unwrap();
        assert_eq!(said, format!("POST https://{target}/a?b=c None\n"));
        let http = server.client("http/1.1").http(&target).await.unwrap();
        assert_eq!(http.version(), Version::HTTP_11);
        let said = send(&http, "/a?b=c", Bytes::new()).await.unwrap();
        assert_eq!(said, format!("POST /a?b=c Some(\"{target}\")\n"));
    });
    server.shutdown();
}

#[test]
fn requests_go_concurrently_and_in_turn() {
    let server = server();
    runtime().block_on(async {
        for alpn in ["h2", "http/1.1"] {
            let http = Arc::new(server.client(alpn).http_to(server.addr(), "localhost").await.unwrap());
            let mut tasks = Vec::new();
            for i in 0..40_usize {
                let http = Arc::clone(&http);
                tasks.push(tokio::spawn(async move {
                    let content = pattern(i * 3000);
                    let said = send(&http, "/", content.clone().into()).await.unwrap();
                    assert!(said.ends_with(&content), "{i}");
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            Arc::into_inner(http).unwrap().close().await.unwrap();
        }
    });
    server.shutdown();
}

#[test]
fn protocol_that_is_not_http_is_named() {
    let server = server();
    let error = runtime().block_on(server.client("chat/1").http_to(server.addr(), "localhost")).unwrap_err();
    assert!(matches!(&error, ClientError::NotHttp { protocol } if protocol == "chat/1"), "{error:?}");
    server.shutdown();
}

#[test]
fn drained_server_closes_and_later_requests_say_so() {
    let server = server();
    runtime().block_on(async {
        for alpn in ["h2", "http/1.1"] {
            let http = server.client(alpn).http_to(server.addr(), "localhost").await.unwrap();
            send(&http, "/", Bytes::new()).await.unwrap();
            drop(http);
        }
        let client = server.trusting().build().unwrap();
        let http = client.http_to(server.addr(), "localhost").await.unwrap();
        send(&http, "/", Bytes::new()).await.unwrap();
        server.handle().drain();
        // It is over when the server's GOAWAY and close_notify have come.
        while !http.is_closed() {
            tokio::task::yield_now().await;
        }
        let error = http.send(Request::get("/").body(Empty::new()).unwrap()).await.unwrap_err();
        assert!(matches!(error, HttpError::Closed), "{error:?}");
    });
    server.join();
}

#[test]
fn dropped_connection_closes_without_leaving_anything_open() {
    let server = server();
    let runtime = runtime();
    runtime.block_on(async {
        for alpn in ["h2", "http/1.1"] {
            let http = server.client(alpn).http_to(server.addr(), "localhost").await.unwrap();
            let response =
                http.send(Request::post("/").body(Full::new(pattern(100_000).into())).unwrap()).await.unwrap();
            drop(http);
            // What is under way ends first.
            assert!(response.into_body().collect().await.unwrap().to_bytes().len() > 100_000, "{alpn}");
        }
    });
    let metrics = server.shutdown();
    assert_eq!(metrics.lingered_out, 0, "{metrics}");
}

#[test]
fn connection_that_ends_before_the_response_is_not_taken_for_one_that_never_had_the_request() {
    // It ends in good order, or breaks.
    for panics in [false, true] {
        let protocol = Protocol::alpn("http/1.1").serve(move |mut stream| async move {
            stream.read_exact(&mut [0; 4]).await.unwrap();
            if panics {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        });
        let server = Server::start(Placement::SharedCore, [protocol]);
        runtime().block_on(async {
            let http = server.client("http/1.1").http_to(server.addr(), "localhost").await.unwrap();
            let error = send(&http, "/", Bytes::new()).await.unwrap_err();
            assert!(matches!(error, HttpError::Interrupted(_)), "{error:?}");
            let error = send(&http, "/", Bytes::new()).await.unwrap_err();
            assert!(matches!(error, HttpError::Closed), "{error:?}");
        });
        server.shutdown();
    }
}

#[test]
fn connection_is_taken_over_by_the_protocol_that_it_was_upgraded_to() {
    let server = Server::start(Placement::SharedCore, [Protocol::http1()]);
    runtime().block_on(async {
        let http = server.client("http/1.1").http_to(server.addr(), "localhost").await.unwrap();
        let request = Request::get("/").header("connection", "upgrade").header("upgrade", "websocket");
        let request =
            request.header("sec-websocket-version", "13").header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
        let response = http.send(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 101);
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        // A text message (RFC 6455 section 5.2) with a mask of zeros, which comes back without one.
        io.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
        let mut echo = [0; 4];
        io.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"\x81\x02hi");
    });
    server.shutdown();
}
