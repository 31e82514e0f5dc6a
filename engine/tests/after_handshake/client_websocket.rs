//! The client's WebSockets against our own server: which version was accepted, and what happens where h2 takes none.

use handfast::client::{Client, ClientError, Roots};
use handfast::websocket::client::OpenError;
use handfast::websocket::{Message, Options};
use handfast::{Placement, Protocol, worker};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};

use crate::harness::{PLACEMENTS, Server, pattern, runtime};

fn client(server: &Server, alpn: &[&str]) -> Client {
    let roots = Roots::certificates([server.certificate.der.clone()]);
    Client::builder().alpn(alpn.iter().copied()).roots(roots).build().unwrap()
}

fn opening() -> Request<()> {
    Request::get("wss://localhost/echo").body(()).unwrap()
}

#[test]
fn websocket_opens_in_the_version_that_the_server_accepts() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::h2(), Protocol::http1()]);
        let expected: [(&[&str], Version); 3] =
            [(&[], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11), (&["http/1.1", "h2"], Version::HTTP_2)];
        runtime().block_on(async {
            for (alpn, version) in expected {
                let client = client(&server, alpn);
                let opened = client.websocket_to(server.addr(), opening(), &Options::default()).await;
                let (mut socket, head) = opened.unwrap();
                assert_eq!(head.version, version);
                for message in [Message::text("h\u{e4}ndfast"), Message::binary(pattern(1 << 20))] {
                    socket.send(message.clone()).await.unwrap();
                    assert_eq!(socket.receive().await.unwrap(), Some(message));
                }
                socket.close(handfast::websocket::CloseCode::NORMAL, "done").await.unwrap();
            }
            let url = format!("wss://localhost:{}/echo", server.addr().port());
            let mut socket = client(&server, &[]).websocket(&url, &Options::default()).await.unwrap();
            socket.send("by its URL").await.unwrap();
            assert_eq!(socket.receive().await.unwrap(), Some(Message::text("by its URL")));
        });
        server.shutdown();
    }
}

#[test]
fn server_whose_h2_takes_no_websockets_is_asked_over_http_1_1() {
    let plain = worker::http2::serve(|_| {
        service_fn(async |_: Request<_>| Ok::<_, std::convert::Infallible>(Response::new("a page".to_owned())))
    });
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("h2").worker(plain), Protocol::http1()]);
    runtime().block_on(async {
        let open = async |alpn| client(&server, alpn).websocket_to(server.addr(), opening(), &Options::default()).await;
        assert_eq!(open(&[]).await.unwrap().1.version, Version::HTTP_11);
        let refused = open(&["h2", "http/1.1"]).await.unwrap_err();
        assert!(matches!(refused, ClientError::WebSocket(OpenError::NoExtendedConnect)), "{refused}");
    });
    server.shutdown();
}

#[test]
fn refused_opening_says_why() {
    let page = worker::http1::serve(|_| {
        service_fn(async |_: Request<_>| Ok::<_, std::convert::Infallible>(Response::new("a page".to_owned())))
    });
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("http/1.1").worker(page)]);
    runtime().block_on(async {
        let client = client(&server, &[]);
        let refused = client.websocket_to(server.addr(), opening(), &Options::default()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the server refused the WebSocket with status 200 OK");
        let no_tls = client.websocket("ws://localhost/", &Options::default()).await.unwrap_err();
        assert_eq!(no_tls.to_string(), "`ws://localhost/` is no URL of a WebSocket: write `wss://host/path`");
    });
    server.shutdown();
}
