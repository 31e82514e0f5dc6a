//! How a WebSocket ends: limits, broken rules, silence, drains, and the close handshake both ways.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use handfast::websocket::client::open_stream;
use handfast::websocket::{CloseCode, Deflate, KeepAlive, Message, Options, Violation, WebSocket, WebSocketError};
use handfast::{HandshakeFacts, Limits};
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;

use super::{End, Tunnel, both, echo, everywhere, open, seen, shutdown, timer, tls};
use crate::harness::{PLACEMENTS, Server};

type Handler = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// A handler that takes messages in and tells how it ended, and what does.
fn reporting() -> (impl Fn(WebSocket, Arc<HandshakeFacts>) -> Handler + Clone + Send + Sync, mpsc::Receiver<End>) {
    let (tell, told) = mpsc::channel();
    let handler = move |mut socket: WebSocket, _: Arc<HandshakeFacts>| -> Handler {
        let tell = tell.clone();
        Box::pin(async move {
            let end = loop {
                match socket.receive().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            assert_eq!(socket.receive().await, Ok(None), "an error is told once");
            let _ = tell.send(end);
        })
    };
    (handler, told)
}

#[test]
fn broken_rules_and_limits_have_their_codes() {
    let cases: &[(&[u8], u16, Violation)] = &[
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0], 1009, Violation::TooBig),
        (&[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007, Violation::NotUtf8),
        (&[0xf2, 0x80, 0, 0, 0, 0], 1002, Violation::Frame),
        (&[0x80, 0x80, 0, 0, 0, 0], 1002, Violation::Frame),
        (&[0x02, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0], 1002, Violation::Frame),
        // Not masked; a Ping in fragments; a Close of one byte; a Close with a code that nobody may send.
        (&[0x81, 0x01, b'a'], 1002, Violation::Frame),
        (&[0x09, 0x80, 0, 0, 0, 0], 1002, Violation::Frame),
        (&[0x88, 0x81, 0, 0, 0, 0, 3], 1002, Violation::Frame),
        (&[0x88, 0x82, 0, 0, 0, 0, 3, 0xed], 1002, Violation::Frame),
        // An opcode that there is not; a compressed message, which was not agreed on.
        (&[0x83, 0x80, 0, 0, 0, 0], 1002, Violation::Opcode),
        (&[0xc1, 0x81, 0, 0, 0, 0, 0], 1002, Violation::Frame),
    ];
    everywhere(|placement, version| async move {
        for &(bytes, code, violation) in cases {
            let (handler, told) = reporting();
            let server = Server::start(placement, both(&Options::default(), handler));
            let mut tunnel = Tunnel::open(&server, version, &[]).await;
            tokio::io::AsyncWriteExt::write_all(&mut tunnel.io, bytes).await.unwrap();
            assert_eq!(tunnel.closed().await, code, "{bytes:x?}");
            assert_eq!(seen(told).await, Err(WebSocketError::Peer(violation)), "{bytes:x?}");
        }
    });
}

#[test]
fn control_frames_of_more_than_125_bytes_are_refused() {
    everywhere(|placement, version| async move {
        for opcode in [0x88, 0x89, 0x8a] {
            let (handler, told) = reporting();
            let server = Server::start(placement, both(&Options::default(), handler));
            let mut tunnel = Tunnel::open(&server, version, &[]).await;
            let mut frame = vec![opcode, 0x80 | 126, 0, 126, 0, 0, 0, 0, 3, 0xe8];
            frame.resize(8 + 126, b'x');
            tokio::io::AsyncWriteExt::write_all(&mut tunnel.io, &frame).await.unwrap();
            assert_eq!(tunnel.closed().await, 1002, "{opcode:x}");
            assert_eq!(seen(told).await, Err(WebSocketError::Peer(Violation::Frame)));
        }
    });
}

#[test]
fn corrupt_compression_is_refused() {
    everywhere(|placement, version| async move {
        let (handler, told) = reporting();
        let mut options = Options::default();
        options.deflate = Some(Deflate::default());
        let server = Server::start(placement, both(&options, handler));
        let mut tunnel = Tunnel::open(&server, version, &[("sec-websocket-extensions", "permessage-deflate")]).await;
        tunnel.send(0xc1, &[0xff; 20]).await;
        assert_eq!(tunnel.closed().await, 1007);
        assert_eq!(seen(told).await, Err(WebSocketError::Peer(Violation::Deflate)));
    });
}

#[test]
fn deflate_bomb_is_refused() {
    everywhere(|placement, version| async move {
        let (handler, told) = reporting();
        let mut options = Options::default();
        options.deflate = Some(Deflate::default());
        let server = Server::start(placement, both(&options, handler));
        let mut socket = open(&server, version, &options).await;
        // A few kilobytes on the wire.
        socket.send(vec![0; 8 << 20]).await.unwrap();
        assert_eq!(socket.receive().await, Ok(None));
        assert_eq!(socket.peer_close().unwrap().code, Some(CloseCode::TOO_BIG));
        assert_eq!(seen(told).await, Err(WebSocketError::Peer(Violation::TooBig)));
        drop(socket);
        shutdown(server).await;
    });
}

#[test]
fn message_of_many_fragments_is_bounded() {
    everywhere(|placement, version| async move {
        let (handler, told) = reporting();
        let mut options = Options::default();
        options.message_bytes_max = 1000;
        let server = Server::start(placement, both(&options, handler));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        tunnel.send(0x02, &[0; 100]).await;
        for _ in 0..10 {
            tunnel.send(0x00, &[0; 100]).await;
        }
        assert_eq!(tunnel.closed().await, 1009);
        assert_eq!(seen(told).await, Err(WebSocketError::Peer(Violation::TooBig)));
    });
}

#[test]
fn peer_that_answers_pings_stays_and_one_that_does_not_is_closed() {
    everywhere(|placement, version| async move {
        let (handler, told) = reporting();
        let mut options = Options::default();
        options.keep_alive = Some(KeepAlive::new(Duration::from_millis(20), Duration::from_secs(30)));
        let server = Server::start(placement, both(&options, handler));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        for _ in 0..3 {
            assert_eq!(tunnel.next().await, Some((0x89, Vec::new())));
            tunnel.send(0x8a, b"").await;
        }
        tunnel.send(0x88, &[3, 0xe8]).await;
        assert_eq!(seen(told).await, Ok(()));

        let (handler, told) = reporting();
        let wait = Duration::from_millis(20);
        options.keep_alive = Some(KeepAlive::new(wait, wait));
        let server = Server::start(placement, both(&options, handler));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        assert_eq!(tunnel.next().await, Some((0x89, Vec::new())));
        assert_eq!(tunnel.closed().await, 1011);
        assert_eq!(seen(told).await, Err(WebSocketError::Silent { after: wait }));
    });
}

#[test]
fn reader_that_stopped_is_given_up_after_a_bounded_amount() {
    everywhere(|placement, version| async move {
        let (tell, told) = mpsc::channel();
        let mut options = Options::default();
        options.send_timeout = Duration::from_millis(100);
        let after = options.send_timeout;
        let server = Server::start(
            placement,
            both(&options, move |mut socket: WebSocket, _| {
                let tell = tell.clone();
                async move {
                    let message = Message::binary(vec![0; 64 * 1024]);
                    let mut taken = 0;
                    let error = loop {
                        match socket.send(message.clone()).await {
                            Ok(()) if taken < 1 << 30 => taken += message.len(),
                            Ok(()) => break None,
                            Err(error) => break Some(error),
                        }
                    };
                    let _ = tell.send((taken, error));
                }
            }),
        );
        let tunnel = Tunnel::open(&server, version, &[]).await;
        let (taken, error) = seen(told).await;
        assert_eq!(error, Some(WebSocketError::Stalled { after }));
        // Most of it in the kernel's buffers.
        assert!(taken < 64 << 20, "{taken} bytes taken");
        drop(tunnel);
    });
}

#[test]
fn peer_that_pings_without_end_and_reads_nothing_is_given_up() {
    everywhere(|placement, version| async move {
        let (handler, told) = reporting();
        let mut options = Options::default();
        options.send_timeout = Duration::from_millis(100);
        let after = options.send_timeout;
        let server = Server::start(placement, both(&options, handler));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
        ping.resize(6 + 125, b'x');
        let flood = tokio::spawn(async move {
            let many = ping.repeat(500);
            while tokio::io::AsyncWriteExt::write_all(&mut tunnel.io, &many).await.is_ok() {}
        });
        assert_eq!(seen(told).await, Err(WebSocketError::Stalled { after }));
        flood.abort();
    });
}

#[test]
fn pings_to_a_websocket_that_closes_do_not_pile_up() {
    everywhere(|placement, version| async move {
        let (tell, told) = mpsc::channel();
        let mut options = Options::default();
        options.close_wait = Duration::from_millis(300);
        let after = options.close_wait;
        let handler = move |mut socket: WebSocket, _| {
            let tell = tell.clone();
            async move {
                let _ = tell.send(socket.close(CloseCode::NORMAL, "").await);
            }
        };
        let mut limits = Limits::default();
        (limits.unsent_wait, limits.linger) = (Duration::from_millis(30), Duration::from_millis(30));
        let server = Server::start_with(placement, both(&options, handler), |b| b.limits(limits));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
        ping.resize(6 + 125, b'x');
        let flood = tokio::spawn(async move {
            let many = ping.repeat(500);
            let mut taken = 0;
            while tokio::io::AsyncWriteExt::write_all(&mut tunnel.io, &many).await.is_ok() {
                taken += many.len();
            }
            taken
        });
        assert_eq!(seen(told).await, Err(WebSocketError::NotClosed { after }));
        // What the kernel's buffers on the way hold, and not all that can be sent in as long.
        let taken = flood.await.unwrap();
        assert!(taken < 24 << 20, "{taken} bytes of pings were read");
    });
}

#[test]
fn a_frame_under_way_is_a_sign_of_life() {
    everywhere(|placement, version| async move {
        let (handler, told) = reporting();
        let mut options = Options::default();
        options.keep_alive = Some(KeepAlive::new(Duration::from_millis(40), Duration::from_millis(40)));
        let server = Server::start(placement, both(&options, handler));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        // Sixty bytes that take at least seven times as long as silence is borne.
        tokio::io::AsyncWriteExt::write_all(&mut tunnel.io, &[0x82, 0x80 | 60, 0, 0, 0, 0]).await.unwrap();
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..60 {
            beat.tick().await;
            tokio::io::AsyncWriteExt::write_all(&mut tunnel.io, &[0]).await.unwrap();
            tokio::io::AsyncWriteExt::flush(&mut tunnel.io).await.unwrap();
        }
        tunnel.send(0x88, &[3, 0xe8]).await;
        assert_eq!(seen(told).await, Ok(()));
    });
}

#[test]
fn drain_closes_with_going_away_and_the_handler_hears_of_the_end() {
    everywhere(|placement, version| async move {
        let (handler, told) = reporting();
        let server = Server::start(placement, both(&Options::default(), handler));
        let mut socket = open(&server, version, &Options::default()).await;
        socket.send("up").await.unwrap();
        server.handle().drain();
        assert_eq!(socket.receive().await, Ok(None));
        assert_eq!(socket.peer_close().unwrap().code, Some(CloseCode::GOING_AWAY));
        assert_eq!(seen(told).await, Ok(()));
        assert_eq!(socket.send("still there?").await, Err(WebSocketError::Closed));
        drop(socket);
        let metrics = tokio::task::spawn_blocking(move || server.join()).await.unwrap();
        assert_eq!((metrics.aborted, metrics.handler_panics), (0, 0), "{metrics}");
    });
}

#[test]
fn server_closes_and_waits_for_the_answer() {
    everywhere(|placement, version| async move {
        let (tell, told) = mpsc::channel();
        let server = Server::start(
            placement,
            both(&Options::default(), move |mut socket: WebSocket, _| {
                let tell = tell.clone();
                async move {
                    let code = CloseCode::new(4000).unwrap();
                    let long = socket.close(code, "x".repeat(124)).await;
                    assert_eq!(long, Err(WebSocketError::ReasonTooLong { len: 124 }));
                    let closed = socket.close(code, "enough").await;
                    let answer = socket.peer_close().cloned();
                    let _ = tell.send((closed, answer));
                }
            }),
        );
        let mut socket = open(&server, version, &Options::default()).await;
        assert_eq!(socket.receive().await, Ok(None));
        let close = socket.peer_close().unwrap();
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::new(4000), "enough"));
        let (closed, answer) = seen(told).await;
        assert_eq!((closed, answer.as_ref()), (Ok(()), Some(close)));
        drop(socket);
        shutdown(server).await;
    });
}

#[test]
fn peer_that_does_not_answer_a_close_is_not_waited_for_longer() {
    everywhere(|placement, version| async move {
        let (tell, told) = mpsc::channel();
        let mut options = Options::default();
        options.close_wait = Duration::from_millis(50);
        let after = options.close_wait;
        let server = Server::start(
            placement,
            both(&options, move |mut socket: WebSocket, _| {
                let tell = tell.clone();
                async move {
                    let _ = tell.send(socket.close(CloseCode::POLICY, "").await);
                }
            }),
        );
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        assert_eq!(tunnel.closed().await, 1008);
        assert_eq!(seen(told).await, Err(WebSocketError::NotClosed { after }));
    });
}

#[test]
fn handler_that_returns_says_goodbye_and_a_peer_that_vanishes_is_told_of() {
    everywhere(|placement, version| async move {
        let server = Server::start(
            placement,
            both(&Options::default(), |mut socket, _| async move {
                let _ = socket.send("bye").await;
            }),
        );
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        assert_eq!(tunnel.next().await, Some((0x81, b"bye".to_vec())));
        assert_eq!(tunnel.closed().await, 1000);
        drop(tunnel);

        let (handler, told) = reporting();
        let server = Server::start(placement, both(&Options::default(), handler));
        let mut tunnel = Tunnel::open(&server, version, &[]).await;
        tokio::io::AsyncWriteExt::shutdown(&mut tunnel.io).await.unwrap();
        assert_eq!(seen(told).await, Err(WebSocketError::Vanished));
    });
}

/// Echoes, until it is told to panic.
async fn fragile(mut socket: WebSocket, _: Arc<HandshakeFacts>) {
    while let Ok(Some(message)) = socket.receive().await {
        if message.as_text() == Some("boom") {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        socket.send(message).await.unwrap();
    }
}

#[test]
fn panicking_handler_ends_its_websocket_alone() {
    for placement in PLACEMENTS {
        super::run(async move {
            let server = Server::start(placement, both(&Options::default(), fragile));
            // Two on one connection.
            let io = TokioIo::new(tls(&server, "h2").await);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let request = || Request::builder().uri("wss://localhost/").body(()).unwrap();
            let options = Options::default();
            let (mut first, _) = open_stream(&mut sender, request(), &options, timer()).await.unwrap();
            let (mut second, _) = open_stream(&mut sender, request(), &options, timer()).await.unwrap();
            first.send("boom").await.unwrap();
            assert_eq!(first.receive().await, Err(WebSocketError::Vanished));
            second.send("well").await.unwrap();
            assert_eq!(second.receive().await, Ok(Some("well".into())));

            let mut alone = open(&server, "http/1.1", &options).await;
            alone.send("boom").await.unwrap();
            assert!(alone.receive().await.is_err(), "no proper end");
            assert_eq!(server.metrics().handler_panics, 2);
        });
    }
}

#[test]
fn websockets_of_one_h2_connection_close_one_by_one() {
    super::run(async {
        let server = Server::start(PLACEMENTS[0], both(&Options::default(), echo));
        let mut tunnel = Tunnel::open(&server, "h2", &[]).await;
        tunnel.send(0x88, &[3, 0xe8]).await;
        assert_eq!(tunnel.next().await, Some((0x88, vec![3, 0xe8])));
        // END_STREAM in the place of FIN (RFC 8441 section 5).
        assert_eq!(tunnel.io.read(&mut [0]).await.unwrap(), 0);
    });
}
