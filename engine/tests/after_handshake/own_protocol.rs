//! A protocol of one's own: an async function over the stream.

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use handfast::{Limits, Placement, Protocol, Stream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::harness::{PLACEMENTS, Server, exchange, pattern, read_rest};

async fn echo(mut stream: Stream) {
    let mut buf = vec![0; 5000];
    loop {
        match stream.read(&mut buf).await {
            Ok(n) if n > 0 && stream.write_all(&buf[..n]).await.is_ok() => {}
            _ => return,
        }
    }
}

/// Limits so small that reading and writing wait all the time.
fn tight() -> Limits {
    let mut limits = Limits::default();
    (limits.stream_read_bytes, limits.stream_write_bytes) = (3000, 2000);
    limits.read_bytes_per_turn = 1000;
    limits
}

#[test]
fn a_megabyte_comes_back_under_back_pressure() {
    for (placement, limits) in PLACEMENTS.into_iter().flat_map(|p| [(p, Limits::default()), (p, tight())]) {
        let protocols = [Protocol::alpn("chat/1").serve(echo)];
        let server = Server::start_with(placement, protocols, |b| b.limits(limits));
        let mut c = server.connect("chat/1");
        for chunk in pattern(1 << 20).chunks(100_000) {
            assert!(exchange(&mut c, chunk) == chunk);
        }
        c.close().unwrap();
        assert_eq!(read_rest(&mut c), b"");
        server.shutdown();
    }
}

#[test]
fn half_close_lets_the_answer_through() {
    for (placement, limits) in PLACEMENTS.into_iter().flat_map(|p| [(p, Limits::default()), (p, tight())]) {
        let protocol = Protocol::alpn("upload/1").serve(|mut stream| async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        });
        let server = Server::start_with(placement, [protocol], |b| b.limits(limits));
        let mut c = server.connect("upload/1");
        let sent = pattern(1 << 20);
        c.write_all(&sent).unwrap();
        c.close().unwrap();
        assert!(read_rest(&mut c) == sent);
        server.shutdown();
    }
}

#[test]
fn worker_that_ends_first_can_still_read() {
    for placement in PLACEMENTS {
        let (tell, told) = std::sync::mpsc::channel();
        let protocol = Protocol::alpn("bye/1").serve(move |mut stream| {
            let tell = tell.clone();
            async move {
                stream.write_all(b"bye").await.unwrap();
                stream.shutdown().await.unwrap();
                let mut rest = String::new();
                stream.read_to_string(&mut rest).await.unwrap();
                tell.send(rest).unwrap();
            }
        });
        let server = Server::start(placement, [protocol]);
        let mut c = server.connect("bye/1");
        assert_eq!(read_rest(&mut c), b"bye");
        c.write_all(b"after you").unwrap();
        c.close().unwrap();
        assert_eq!(told.recv().unwrap(), "after you");
        server.shutdown();
    }
}

#[test]
fn reader_that_stops_does_not_keep_what_a_worker_has_left() {
    for placement in PLACEMENTS {
        let protocol = Protocol::alpn("leave/1").serve(|mut stream| async move {
            // Until no more fits anywhere for a while; then it loses its patience.
            let mut taken = usize::MAX;
            while taken > 0 {
                stream.local().sleep(Duration::from_millis(20)).await;
                taken = 0;
                poll_fn(|cx| {
                    while let Poll::Ready(written) = Pin::new(&mut stream).poll_write(cx, &[0; 50_000]) {
                        taken += written.unwrap();
                    }
                    Poll::Ready(())
                })
                .await;
            }
        });
        let mut limits = Limits::default();
        (limits.unsent_wait, limits.linger) = (Duration::from_millis(30), Duration::from_secs(3600));
        let server = Server::start_with(placement, [protocol], |b| b.limits(limits));
        let c = server.connect("leave/1");
        server.until(|metrics| metrics.lingered_out == 1);
        drop(c);
        server.shutdown();
    }
}

#[test]
fn truncated_stream_is_an_error_to_the_worker() {
    for placement in PLACEMENTS {
        let (tell, told) = std::sync::mpsc::channel();
        let protocol = Protocol::alpn("in/1").serve(move |mut stream| {
            let tell = tell.clone();
            async move { tell.send(stream.read_to_end(&mut Vec::new()).await.map_err(|e| e.kind())).unwrap() }
        });
        let server = Server::start(placement, [protocol]);
        let mut c = server.connect("in/1");
        c.write_all(b"half of").unwrap();
        c.socket().shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(told.recv().unwrap(), Err(ErrorKind::UnexpectedEof));
        drop(c);
        server.shutdown();
    }
}

#[test]
fn panicking_handler_takes_its_own_connection_down_alone() {
    for placement in PLACEMENTS {
        let boom = Protocol::alpn("boom").serve(|mut stream| async move {
            let _ = stream.read_u8().await;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        let server = Server::start(placement, [Protocol::alpn("chat/1").serve(echo), boom]);
        let mut chat = server.connect("chat/1");
        let mut boom = server.connect("boom");
        assert_eq!(exchange(&mut chat, b"before"), b"before");
        boom.write_all(b"!").unwrap();
        let kind = boom.read(&mut [0; 9]).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{kind}");
        assert_eq!(exchange(&mut chat, b"after"), b"after");
        assert_eq!(server.metrics().handler_panics, 1);
        drop(chat);
        server.shutdown();
    }
}

#[test]
fn drain_deadline_resets_those_who_stay() {
    for placement in PLACEMENTS {
        let mut limits = Limits::default();
        limits.drain_deadline = Duration::from_millis(20);
        let server = Server::start_with(placement, [Protocol::alpn("chat/1").serve(echo)], |b| b.limits(limits));
        let mut c = server.connect("chat/1");
        assert_eq!(exchange(&mut c, b"here"), b"here");
        server.handle().drain();
        assert!(c.read(&mut [0; 9]).is_err());
        let metrics = server.join();
        assert_eq!((metrics.aborted, metrics.open()), (1, 0), "{metrics}");
    }
}

#[test]
fn close_protocol_answers_close_notify() {
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("bench").close()]);
    let mut c = server.connect("bench");
    c.close().unwrap();
    assert_eq!(read_rest(&mut c), b"");
    server.shutdown();
}
