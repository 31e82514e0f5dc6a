//! Messages: all kinds and sizes, fragments, compression, both halves.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use handfast::websocket::{CloseCode, Deflate, Message, Options};

use super::{Tunnel, both, echo, everywhere, open, open_with, shutdown};
use crate::harness::{Server, pattern};

#[test]
fn messages_of_each_kind_and_size_come_back() {
    everywhere(|placement, version| async move {
        let server = Server::start(placement, both(&Options::default(), echo));
        let mut socket = open(&server, version, &Options::default()).await;
        for message in [
            Message::text(""),
            Message::text("h\u{e4}ndfast"),
            Message::binary(Vec::new()),
            Message::binary(pattern(125)),
            Message::binary(pattern(126)),
            Message::binary(pattern(65_536)),
            Message::binary(pattern(1 << 20)),
        ] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.receive().await.unwrap(), Some(message));
        }
        socket.ping("are you there").await.unwrap();
        socket.close(CloseCode::NORMAL, "done").await.unwrap();
        let close = socket.peer_close().unwrap();
        assert_eq!((close.code, close.reason.as_str()), (Some(CloseCode::NORMAL), "done"));
        assert_eq!(socket.receive().await, Ok(None));
        drop(socket);
        shutdown(server).await;
    });
}

#[test]
fn fragments_are_joined_and_a_ping_between_them_is_answered() {
    everywhere(|placement, version| async move {
        let server = Server::start(placement, both(&Options::default(), echo));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        // Between the two bytes of a character.
        tunnel.send(0x01, b"h\xc3").await;
        tunnel.send(0x89, b"?").await;
        assert_eq!(tunnel.next().await, Some((0x8a, b"?".to_vec())));
        tunnel.send(0x00, b"\xa4nd").await;
        tunnel.send(0x80, b"fast").await;
        assert_eq!(tunnel.next().await, Some((0x81, "h\u{e4}ndfast".into())));
    });
}

#[test]
fn both_halves_work_at_once() {
    everywhere(|placement, version| async move {
        let server = Server::start(
            placement,
            both(&Options::default(), |socket, _| async move {
                let (sink, stream) = socket.split();
                let _ = stream.forward(sink).await;
            }),
        );
        let (mut sink, stream) = open(&server, version, &Options::default()).await.split();
        let sent: Vec<_> = (0..200).map(|i| Message::binary(pattern(i * 100))).collect();
        let mut all = futures_util::stream::iter(sent.clone()).map(Ok);
        let receiving = stream.take(sent.len()).map(Result::unwrap).collect::<Vec<_>>();
        let (end, received) = futures_util::join!(sink.send_all(&mut all), receiving);
        assert!(end.is_ok() && received == sent);
    });
}

#[test]
fn sending_and_receiving_may_be_dropped_halfway() {
    everywhere(|placement, version| async move {
        let server = Server::start(placement, both(&Options::default(), echo));
        let mut socket = open(&server, version, &Options::default()).await;
        let sent = Message::binary(pattern(1 << 20));
        // Where the kernel takes all of it, it is sent; where it does not, receiving goes on with it.
        let _ = socket.send(sent.clone()).now_or_never();
        let mut dropped = 0;
        let received = loop {
            match socket.receive().now_or_never() {
                Some(received) => break received,
                None => dropped += 1,
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
        };
        assert!(dropped > 0 && received == Ok(Some(sent)));
    });
}

#[test]
fn compression_is_agreed_on_and_used_both_ways() {
    everywhere(|placement, version| async move {
        let mut options = Options::default();
        for deflate in [Deflate::default(), Deflate::without_context_takeover()] {
            options.deflate = Some(deflate);
            let server = Server::start(placement, both(&options, echo));
            let (mut socket, head) = open_with(&server, version, &options, &[]).await.unwrap();
            assert!(head.headers["sec-websocket-extensions"].to_str().unwrap().starts_with("permessage-deflate"));
            for i in 0..5 {
                let message = Message::text(format!("{i}").repeat(20_000 * i));
                socket.send(message.clone()).await.unwrap();
                assert_eq!(socket.receive().await.unwrap(), Some(message));
            }
            socket.close(CloseCode::NORMAL, "").await.unwrap();
            drop(socket);
            shutdown(server).await;
        }
    });
}

#[test]
fn compressed_message_of_the_rfc_is_read_and_long_answers_are_compressed() {
    everywhere(|placement, version| async move {
        let mut options = Options::default();
        options.deflate = Some(Deflate::default());
        let server = Server::start(placement, both(&options, echo));
        let offer = ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits");
        let mut tunnel = Tunnel::open(&server, version, &[offer]).await;
        assert_eq!(tunnel.headers["sec-websocket-extensions"], "permessage-deflate");
        // RFC 7692 section 7.2.3.1, whole and in two fragments.
        tunnel.send(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).await;
        assert_eq!(tunnel.next().await, Some((0x81, b"Hello".to_vec())), "too short to compress");
        tunnel.send(0x41, &[0xf2, 0x48, 0xcd]).await;
        tunnel.send(0x80, &[0xc9, 0xc9, 0x07, 0x00]).await;
        assert_eq!(tunnel.next().await, Some((0x81, b"Hello".to_vec())));
        tunnel.send(0x81, &[b'a'; 100]).await;
        let (first, payload) = tunnel.next().await.unwrap();
        assert!(first == 0xc1 && payload.len() < 50, "{first:x} {payload:x?}");
    });
}

#[test]
fn no_compression_without_both_sides() {
    everywhere(|placement, version| async move {
        let mut with = Options::default();
        with.deflate = Some(Deflate::default());
        let without = Options::default();
        for (ours, theirs) in [(&with, &without), (&without, &with)] {
            let server = Server::start(placement, both(ours, echo));
            let (mut socket, head) = open_with(&server, version, theirs, &[]).await.unwrap();
            assert!(!head.headers.contains_key("sec-websocket-extensions"));
            socket.send("a".repeat(1000)).await.unwrap();
            assert_eq!(socket.receive().await.unwrap(), Some("a".repeat(1000).into()));
        }
    });
}
