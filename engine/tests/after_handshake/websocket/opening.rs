//! Openings, right and wrong (RFC 6455 section 4, RFC 8441 section 5).

use std::sync::Arc;

use bytes::Bytes;
use handfast::websocket::client::{AnswerFault, OpenError, open_http1, open_http2};
use handfast::websocket::{Deflate, Options, Origins, WebSocket};
use handfast::{HandshakeFacts, Placement, Protocol};
use http_body_util::Empty;
use hyper::ext::Protocol as ConnectProtocol;
use hyper::http::response;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{both, echo, everywhere, open_with, run, timer, tls};
use crate::harness::Server;

fn refused(result: Result<(WebSocket, response::Parts), OpenError>) -> StatusCode {
    match result {
        Err(OpenError::Refused(head)) => head.status,
        other => panic!("{other:?}"),
    }
}

/// Says which subprotocol it has.
async fn name(mut socket: WebSocket, _: Arc<HandshakeFacts>) {
    let chosen = socket.subprotocol().unwrap_or("none").to_owned();
    let _ = socket.send(chosen).await;
}

#[test]
fn servers_preference_decides_among_the_subprotocols_of_both() {
    everywhere(|placement, version| async move {
        let mut ours = Options::default();
        ours.subprotocols = vec!["chat.v2".into(), "chat.v1".into()];
        let server = Server::start(placement, both(&ours, name));
        for (offered, chosen) in [
            (&["chat.v1", "chat.v2"][..], Some("chat.v2")),
            (&["x", "chat.v1"], Some("chat.v1")),
            (&["x"], None),
            (&[], None),
        ] {
            let mut theirs = Options::default();
            theirs.subprotocols = offered.iter().map(|&name| name.into()).collect();
            let (mut socket, _) = open_with(&server, version, &theirs, &[]).await.unwrap();
            assert_eq!(socket.subprotocol(), chosen);
            assert_eq!(socket.receive().await.unwrap(), Some(chosen.unwrap_or("none").into()));
        }
    });
}

#[test]
fn pages_of_other_origins_are_refused() {
    everywhere(|placement, version| async move {
        let options = Options::default();
        let server = Server::start(placement, both(&options, echo));
        let origin = |origin| [("origin", origin)];
        assert!(open_with(&server, version, &options, &origin("https://localhost")).await.is_ok());
        for other in ["https://localhost.evil", "http://localhost", "null"] {
            assert_eq!(refused(open_with(&server, version, &options, &origin(other)).await), 403, "{other}");
        }
        let mut any = Options::default();
        any.origins = Origins::Any;
        let server = Server::start(placement, both(&any, echo));
        assert!(open_with(&server, version, &options, &origin("https://elsewhere")).await.is_ok());
    });
}

#[test]
fn other_requests_are_refused_over_h2() {
    run(async {
        let server = Server::start(Placement::SharedCore, both(&Options::default(), echo));
        let io = TokioIo::new(tls(&server, "h2").await);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let target = || Request::builder().uri("https://localhost/");
        let connect = |protocol| target().method(Method::CONNECT).extension(ConnectProtocol::from_static(protocol));
        for (request, status) in [
            (target(), 400),
            (connect("websocket"), 400),
            (connect("websocket").header("sec-websocket-version", "8"), 400),
            (connect("connect-udp").header("sec-websocket-version", "13"), 501),
            (connect("websocket").header("sec-websocket-version", "13"), 200),
        ] {
            let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            assert_eq!(response.status(), status);
        }
    });
}

#[test]
fn client_says_when_a_server_takes_no_websockets_over_h2() {
    run(async {
        let server = Server::start(
            Placement::SharedCore,
            [Protocol::alpn("h2").worker(handfast::worker::http2::serve(|_| {
                hyper::service::service_fn(|_| async {
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new()))
                })
            }))],
        );
        let request = Request::builder().uri("wss://localhost/").body(()).unwrap();
        let stream = tls(&server, "h2").await;
        let result = open_http2(stream, request, &Options::default(), timer(), TokioExecutor::new()).await;
        assert!(matches!(result, Err(OpenError::NoExtendedConnect)), "{result:?}");
    });
}

#[test]
fn echo_is_there_over_both_versions() {
    everywhere(|placement, version| async move {
        let server = Server::start(placement, [Protocol::http1(), Protocol::h2()]);
        let (mut socket, _) =
            open_with(&server, version, &Options::default(), &[("origin", "https://anywhere")]).await.unwrap();
        socket.send("up").await.unwrap();
        assert_eq!(socket.receive().await, Ok(Some("up".into())));
    });
}

/// What the client makes of this answer to its opening; `{accept}` stands for the right one to its key.
async fn answered(answer: &str, options: &Options) -> Result<(), OpenError> {
    let (near, mut far) = duplex(4096);
    let server = async {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(far.read_u8().await.unwrap());
        }
        let asked = String::from_utf8(asked).unwrap();
        let key = asked.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        far.write_all(answer.replace("{accept}", &accept).as_bytes()).await.unwrap();
        asked
    };
    let request = Request::builder().uri("wss://localhost:8443/chat?a=b").body(()).unwrap();
    let (result, asked) = tokio::join!(open_http1(near, request, options, timer()), server);
    assert!(asked.starts_with("GET /chat?a=b HTTP/1.1\r\n") && asked.contains("host: localhost:8443\r\n"), "{asked}");
    result.map(drop)
}

#[test]
fn client_takes_only_what_it_asked_for() {
    run(async {
        let mut options = Options::default();
        options.subprotocols = vec!["chat".into()];
        options.deflate = Some(Deflate::default());
        let head = "HTTP/1.1 101 Yes\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\n";
        let accept = "sec-websocket-accept: {accept}\r\n";
        answered(&format!("{head}{accept}\r\n"), &options).await.unwrap();
        answered(&format!("{head}{accept}sec-websocket-protocol: chat\r\n\r\n"), &options).await.unwrap();
        let fault = |result| match result {
            Err(OpenError::Answer(fault)) => fault,
            other => panic!("{other:?}"),
        };
        for (answer, expected) in [
            (format!("{head}\r\n"), AnswerFault::Accept),
            (format!("{head}sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"), AnswerFault::Accept),
            (format!("{head}{accept}{accept}\r\n"), AnswerFault::Accept),
            (format!("HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: h2c\r\n{accept}\r\n"), AnswerFault::Upgrade),
            (format!("{head}{accept}sec-websocket-protocol: other\r\n\r\n"), AnswerFault::Subprotocol),
            (format!("{head}{accept}sec-websocket-extensions: x-other\r\n\r\n"), AnswerFault::Extension),
            (
                format!("{head}{accept}sec-websocket-extensions: permessage-deflate; client_max_window_bits=8\r\n\r\n"),
                AnswerFault::Extension,
            ),
        ] {
            assert_eq!(fault(answered(&answer, &options).await), expected, "{answer}");
        }
        let deflate = format!("{head}{accept}sec-websocket-extensions: permessage-deflate\r\n\r\n");
        answered(&deflate, &options).await.unwrap();
        assert_eq!(fault(answered(&deflate, &Options::default()).await), AnswerFault::Extension);
        let away = answered("HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n", &options).await;
        assert!(matches!(away, Err(OpenError::Refused(head)) if head.headers["location"] == "/there"));
    });
}

#[test]
fn client_refuses_a_request_that_cannot_be_an_opening() {
    run(async {
        let (near, _far) = duplex(64);
        let no_host = Request::builder().uri("/chat").body(()).unwrap();
        assert!(matches!(open_http1(near, no_host, &Options::default(), timer()).await, Err(OpenError::NoHost)));
        let (near, _far) = duplex(64);
        let mut options = Options::default();
        options.subprotocols = vec!["a b".into()];
        let request = Request::builder().uri("wss://localhost/").body(()).unwrap();
        let result = open_http1(near, request, &options, timer()).await;
        assert!(matches!(result, Err(OpenError::Subprotocol { .. })), "{result:?}");
    });
}
