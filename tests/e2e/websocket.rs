//! A WebSocket client of another library, through our TLS client, against `handfast serve`.

use handfast::client::{Client, Connection, Roots};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

use crate::server::Localhost;

fn connect(server: &Localhost) -> WebSocket<Connection> {
    let client = Client::builder().alpn(["http/1.1"]).roots(Roots::file(server.ca())).build().expect("a client");
    let connection = client.connect_to(server.addr(), "localhost").expect("a connection");
    assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (socket, response) = tungstenite::client("wss://localhost/ws", connection).expect("an upgrade");
    assert_eq!(response.status().as_u16(), 101);
    socket
}

#[test]
fn messages_of_each_kind_and_size_come_back() {
    for args in [&[][..], &["--workers", "2"]] {
        let server = Localhost::start(args);
        let mut socket = connect(&server);
        for size in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
            for message in [Message::text("ä".repeat(size)), Message::binary(vec![0xff; size])] {
                socket.send(message.clone()).expect("sent");
                assert_eq!(socket.read().expect("an echo"), message);
            }
        }
        let ping = Message::Ping(vec![1, 2, 3].into());
        socket.send(ping).expect("sent");
        assert_eq!(socket.read().expect("a pong"), Message::Pong(vec![1, 2, 3].into()));
        goodbye(socket);
        server.server.stop();
    }
}

/// Closes in the orderly way of RFC 6455 section 7.
fn goodbye(mut socket: WebSocket<Connection>) {
    let close = CloseFrame { code: CloseCode::Normal, reason: "enough".into() };
    socket.close(Some(close)).expect("sent");
    match socket.read().expect("a close frame") {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("{other}"),
    }
    match socket.read() {
        Err(Error::ConnectionClosed) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_drain_ends_an_idle_websocket() {
    let mut server = Localhost::start(&["--drain-timeout", "500ms"]);
    let mut socket = connect(&server);
    socket.send(Message::text("are you there?")).expect("sent");
    socket.read().expect("an echo");
    server.server.signal(handfast_tests::process::Signal::TERM);
    let ended = server.server.end();
    assert_eq!(ended.code(), 0, "{ended}");
    // Closed by its server, or cut off at the deadline: it must not go on.
    let end = loop {
        match socket.read() {
            Ok(Message::Close(_)) => {}
            other => break other,
        }
    };
    assert!(end.is_err(), "{end:?}");
}
