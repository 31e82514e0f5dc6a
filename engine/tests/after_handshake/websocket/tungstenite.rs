//! WebSocket echo against another implementation.

use std::io::Write;

use handfast::client::Connection;
use handfast::{Placement, Protocol};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::harness::{PLACEMENTS, Server, pattern, read_rest};
use crate::http1::{ask, read_answer};

pub(crate) fn open(server: &Server) -> WebSocket<Connection> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = None;
    config.max_frame_size = None;
    let connection = server.connect("http/1.1");
    let url = "wss://localhost/ws";
    tungstenite::client::client_with_config(url, connection, Some(config)).unwrap().0
}

/// Reads until the connection ends; gives the Close frame that came.
fn closed(socket: &mut WebSocket<Connection>) -> Option<CloseFrame> {
    let mut frame = None;
    loop {
        match socket.read() {
            Ok(Message::Close(close)) => frame = close,
            Ok(other) => panic!("{other:?}"),
            Err(Error::ConnectionClosed) => return frame,
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn messages_come_back_and_the_close_is_answered() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::http1()]);
        let mut socket = open(&server);
        let messages = [
            Message::text(""),
            Message::text("h\u{e4}ndfast"),
            Message::binary(pattern(100_000)),
            Message::binary(pattern(1 << 20)),
        ];
        for message in messages {
            socket.send(message.clone()).unwrap();
            assert_eq!(socket.read().unwrap(), message);
        }
        socket.send(Message::Ping("are you there".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
        let close = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
        socket.close(Some(close.clone())).unwrap();
        assert_eq!(closed(&mut socket), Some(close));
        drop(socket);
        server.shutdown();
    }
}

#[test]
fn drain_closes_with_going_away() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::http1()]);
        let mut socket = open(&server);
        socket.send(Message::text("up")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("up"));
        server.handle().drain();
        assert_eq!(closed(&mut socket).unwrap().code, CloseCode::Away);
        drop(socket);
        let metrics = server.join();
        assert_eq!((metrics.aborted, metrics.lingered_out), (0, 0), "{metrics}");
    }
}

#[test]
fn oversized_frame_and_wrong_text_are_refused_with_their_codes() {
    let server = Server::start(Placement::SharedCore, [Protocol::http1()]);
    for (message, code) in [
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0][..], CloseCode::Size),
        (&[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28][..], CloseCode::Invalid),
        (&[0xf2, 0x80, 0, 0, 0, 0][..], CloseCode::Protocol),
        (&[0x80, 0x80, 0, 0, 0, 0][..], CloseCode::Protocol),
        (&[0x02, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0][..], CloseCode::Protocol),
    ] {
        let mut socket = open(&server);
        socket.get_mut().write_all(message).unwrap();
        assert_eq!(closed(&mut socket).unwrap().code, code);
    }
    server.shutdown();
}

#[test]
fn message_of_many_frames_is_bounded() {
    let server = Server::start(Placement::SharedCore, [Protocol::http1()]);
    let mut socket = open(&server);
    for i in 0..17 {
        // A megabyte each, masked with zeros; the last is one too many.
        let head = [if i == 0 { 0x02 } else { 0x00 }, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
        if socket.get_mut().write_all(&head).and_then(|()| socket.get_mut().write_all(&vec![0; 1 << 20])).is_err() {
            break;
        }
    }
    assert_eq!(closed(&mut socket).unwrap().code, CloseCode::Size);
    drop(socket);
    server.shutdown();
}

#[test]
fn bad_opening_handshakes_are_refused_and_the_connection_goes_on() {
    let server = Server::start(Placement::SharedCore, [Protocol::http1()]);
    let mut c = server.connect("http/1.1");
    let up = "connection: Upgrade\r\nupgrade: websocket\r\n";
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "sec-websocket-version: 13\r\n";
    assert_eq!(ask(&mut c, "GET /ws HTTP/1.1\r\n").status, 426);
    assert_eq!(ask(&mut c, &format!("GET /ws HTTP/1.1\r\n{up}{key}sec-websocket-version: 8\r\n")).status, 426);
    assert_eq!(ask(&mut c, &format!("GET /ws HTTP/1.1\r\n{up}{version}")).status, 400);
    assert_eq!(ask(&mut c, &format!("GET /ws HTTP/1.1\r\n{up}{version}{key}{key}")).status, 400);
    assert_eq!(ask(&mut c, &format!("GET /ws HTTP/1.1\r\nupgrade: websocket\r\n{version}{key}")).status, 400);
    assert_eq!(ask(&mut c, "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n").status, 200);
    write!(c, "GET /any HTTP/1.1\r\nhost: a\r\n{up}{version}{key}\r\n").unwrap();
    let switched = read_answer(&mut c, false);
    assert_eq!(switched.status, 101);
    // The example of RFC 6455 section 1.3.
    assert!(switched.head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{}", switched.head);
    c.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(read_rest(&mut c), [0x88, 0]);
    c.close().unwrap();
    server.shutdown();
}
