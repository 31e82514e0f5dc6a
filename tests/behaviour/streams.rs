//! Connections after their handshake, with a worker on the shard.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use handfast::Stream;
use handfast::error::RefusalClass;
use handfast_tests::client::Tls;
use handfast_tests::world::{Peer, World};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::setup::{closing, serving};

async fn echo(mut stream: Stream) {
    while let Ok(bytes) = stream.received().await {
        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

pub(crate) fn bytes_go_both_ways<W: World>() {
    let (config, options) = serving(|p| p.serve(echo));
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    client.conn.set_buffer_limit(None);
    let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    client.send(&sent);
    let mut got = Vec::new();
    world.until("all of it comes back", |_| {
        got.extend(client.recv());
        got.len() == sent.len()
    });
    assert_eq!(got, sent);
    client.close();
    world.until("the server's end", |_| {
        client.pump();
        client.peer.is_eof()
    });
    assert!(client.error.is_none(), "{:?}", client.error);
    client.peer.shutdown();
    world.until_empty();
}

pub(crate) fn a_slow_reader_holds_the_writer_back<W: World>() {
    const TOTAL: usize = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let (config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            let counter = Arc::clone(&counter);
            async move {
                let chunk = vec![7; 16 * 1024];
                while counter.load(Ordering::Relaxed) < TOTAL && stream.write_all(&chunk).await.is_ok() {
                    counter.fetch_add(chunk.len(), Ordering::Relaxed);
                }
            }
        })
    });
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    // The client stops reading: what the server holds stays bounded.
    let mut last = usize::MAX;
    world.until("the writer stands still", |w| {
        for _ in 0..20 {
            w.turn();
        }
        let now = written.load(Ordering::Relaxed);
        std::mem::replace(&mut last, now) == now && now > 0
    });
    assert!(last < TOTAL, "all of it was written to a client that does not read");
    let mut got = 0;
    world.until("it goes on when the client reads", |_| {
        got += client.recv().len();
        got > last + (1 << 20)
    });
    client.peer.reset();
    world.until_empty();
}

pub(crate) fn close_notify_is_answered<W: World>() {
    let (config, options, _) = closing();
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    client.close();
    world.until("the server's close_notify and FIN", |_| {
        client.pump();
        client.peer.is_eof()
    });
    let mut rest = [0; 1];
    assert_eq!(std::io::Read::read(&mut client.conn.reader(), &mut rest).expect("a clean end"), 0);
    world.until_empty();
    assert_eq!(world.metrics().aborted, 0);
}

pub(crate) fn a_panic_ends_its_own_connection_only<W: World>() {
    let panics = Arc::new(AtomicBool::new(true));
    let first = Arc::clone(&panics);
    let (config, options) = serving(|p| {
        p.serve(move |stream: Stream| {
            let panics = first.swap(false, Ordering::Relaxed);
            async move {
                let mut stream = stream;
                let mut byte = [0];
                let _ = stream.read_exact(&mut byte).await;
                assert!(!panics, "a handler's bug");
                echo(stream).await;
            }
        })
    });
    let mut world = W::new(config);
    let client_config = options.config();
    let mut bad = Tls::new(world.connect(), &client_config, "localhost");
    bad.handshake(&mut world).expect("a handshake");
    world.until("the first handler waits", |w| w.metrics().handshakes() == 1);
    let mut good = Tls::new(world.connect(), &client_config, "localhost");
    good.handshake(&mut world).expect("a handshake");
    bad.send(b"x");
    good.send(b"xyz");
    world.until("the panic resets the first", |_| {
        bad.pump();
        bad.peer.is_reset()
    });
    let mut got = Vec::new();
    world.until("the second is served", |_| {
        got.extend(good.recv());
        got == b"yz"
    });
    good.close();
    good.peer.shutdown();
    world.until_empty();
    assert_eq!(world.metrics().handler_panics, 1);
}

pub(crate) fn a_half_closed_client_still_gets_its_answer<W: World>() {
    let (config, options) = serving(|p| {
        p.serve(|mut stream: Stream| async move {
            let mut all = Vec::new();
            let result = stream.read_to_end(&mut all).await;
            let _ = stream.write_all(format!("{} bytes, {}", all.len(), result.is_ok()).as_bytes()).await;
        })
    });
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    client.send(&[1; 1000]);
    client.close();
    client.peer.shutdown();
    let mut got = Vec::new();
    world.until("the answer", |_| {
        got.extend(client.recv());
        client.peer.is_eof()
    });
    assert_eq!(String::from_utf8_lossy(&got), "1000 bytes, true");
    world.until_empty();
}

pub(crate) fn garbage_after_the_handshake_ends_the_connection<W: World>() {
    let (config, options) = serving(|p| p.serve(echo));
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    world.until("the server has it too", |w| w.metrics().handshakes() == 1);
    client.peer.send(&[23, 3, 3, 0, 32]);
    client.peer.send(&[0; 32]);
    world.until("the alert", |_| {
        client.pump();
        client.error.is_some()
    });
    client.peer.shutdown();
    world.until_empty();
    assert_eq!(world.metrics().faults_after_handshake, 1);
}

pub(crate) fn a_drain_ends_when_the_last_connection_does<W: World>() {
    let (config, options) = serving(|p| p.serve(echo));
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    world.shard().start_drain();
    client.send(b"still here");
    let mut got = Vec::new();
    world.until("it is served on", |_| {
        got.extend(client.recv());
        got == b"still here"
    });
    client.close();
    client.peer.shutdown();
    world.until_empty();
}

pub(crate) fn a_client_that_does_not_close_meets_the_wait<W: World>() {
    let (config, options, _) = closing();
    let wait = config.limits.close_wait;
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    world.until("the server has it too", |w| w.metrics().handshakes() == 1);
    assert_eq!(world.shard().connections(), 1);
    world.pass(wait + wait / 4);
    world.until_empty();
    assert_eq!(world.metrics().close_waited_out, 1);
    world.until("the client sees the end", |_| {
        client.pump();
        client.peer.is_eof() || client.peer.is_reset()
    });
}

pub(crate) fn a_refused_client_that_stays_is_lingered_out<W: World>() {
    let (config, ..) = closing();
    let linger = config.limits.linger;
    let mut world = W::new(config);
    let mut peer = world.connect();
    peer.send(b"GET / HTTP/1.1\r\n\r\n");
    world.until("the answer and our end", |_| !peer.recv().is_empty());
    assert_eq!(world.shard().connections(), 1);
    world.pass(linger + linger / 4);
    world.until_empty();
    assert_eq!(world.metrics().lingered_out, 1);
}

pub(crate) fn a_reader_that_pauses_gets_all_that_a_finished_worker_wrote<W: World>() {
    // More than any socket's buffers hold.
    const TOTAL: usize = 32 << 20;
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let (config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            let flag = Arc::clone(&flag);
            async move {
                let _ = stream.write_all(&vec![7; TOTAL]).await;
                flag.store(true, Ordering::Relaxed);
            }
        })
    });
    let linger = config.limits.linger;
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    let mut got = 0;
    world.until("the worker has left", |_| {
        if !done.load(Ordering::Relaxed) {
            got += client.recv().len();
        }
        done.load(Ordering::Relaxed)
    });
    client.peer.pause(true);
    assert!(got < TOTAL);
    // For much longer than a peer that has everything may stay.
    world.pass(linger * 3);
    client.peer.pause(false);
    world.until("the rest of it", |_| {
        got += client.recv().len();
        assert!(!client.peer.is_reset(), "cut off after {got} bytes");
        got == TOTAL
    });
    client.close();
    client.peer.shutdown();
    world.until_empty();
}

pub(crate) fn a_half_close_loses_nothing_that_a_finished_worker_wrote<W: World>() {
    // More than any socket's buffers hold.
    const TOTAL: usize = 32 << 20;
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let (mut config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            let flag = Arc::clone(&flag);
            async move {
                let _ = stream.write_all(&vec![7; TOTAL]).await;
                flag.store(true, Ordering::Relaxed);
            }
        })
    });
    // The shard takes it all at once, so that our close_notify is written while the socket has taken little of it.
    config.limits.stream_write_bytes = TOTAL;
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    client.peer.pause(true);
    world.until("the worker has left", |_| done.load(Ordering::Relaxed));
    client.close();
    client.peer.shutdown();
    world.pass(std::time::Duration::from_millis(50));
    assert_eq!(world.shard().connections(), 1, "it was ended with bytes unsent");
    client.peer.pause(false);
    let mut got = 0;
    world.until("the rest of it", |_| {
        got += client.recv().len();
        client.peer.is_eof()
    });
    assert_eq!(got, TOTAL);
    world.until_empty();
}

/// A waker that a worker brings along.
struct Faulty;

impl Wake for Faulty {
    fn wake(self: Arc<Self>) {
        panic!("a waker's bug");
    }
}

pub(crate) fn a_waker_that_panics_ends_its_own_connection_only<W: World>() {
    let faulty = Arc::new(AtomicBool::new(true));
    let first = Arc::clone(&faulty);
    let (config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            let faulty = first.swap(false, Ordering::Relaxed);
            async move {
                if !faulty {
                    return echo(stream).await;
                }
                let waker = Waker::from(Arc::new(Faulty));
                let mut cx = Context::from_waker(&waker);
                while Pin::new(&mut stream).poll_write(&mut cx, &[7; 4096]).is_ready() {}
            }
        })
    });
    let mut world = W::new(config);
    let client_config = options.config();
    let mut bad = Tls::new(world.connect(), &client_config, "localhost");
    bad.handshake(&mut world).expect("a handshake");
    world.until("it is reset", |_| {
        bad.pump();
        bad.peer.is_reset()
    });
    let mut good = Tls::new(world.connect(), &client_config, "localhost");
    good.handshake(&mut world).expect("a handshake");
    good.send(b"xyz");
    world.until("the second is served", |_| good.recv() == b"xyz");
    good.close();
    good.peer.shutdown();
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::Internal), 1);
}

pub(crate) fn a_worker_sleeps_spawns_and_hears_of_a_drain<W: World>() {
    let (config, options) = serving(|p| {
        p.serve(|mut stream: Stream| async move {
            let local = stream.local();
            local.sleep(std::time::Duration::from_millis(20)).await;
            let _ = stream.write_all(b"slept").await;
            let spawned = local.clone();
            local.spawn(async move {
                spawned.draining().await;
                let _ = stream.write_all(b", drained").await;
            });
        })
    });
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    let mut got = Vec::new();
    world.until("it has slept", |_| {
        got.extend(client.recv());
        got == b"slept"
    });
    world.shard().start_drain();
    world.until("it says goodbye", |_| {
        got.extend(client.recv());
        client.peer.is_eof()
    });
    assert_eq!(String::from_utf8_lossy(&got), "slept, drained");
    client.peer.shutdown();
    world.until_empty();
}

#[test]
fn a_full_shard_accepts_again_when_a_connection_ends() {
    let (mut config, options) = serving(|p| p.serve(echo));
    config.limits.connections_per_shard = 2;
    let mut world = handfast_tests::world::TcpWorld::new(config);
    let client_config = options.config();
    let mut held: Vec<_> = (0..2).map(|_| Tls::new(world.connect(), &client_config, "localhost")).collect();
    for client in &mut held {
        client.handshake(&mut world).expect("a handshake");
    }
    let mut third = Tls::new(world.connect(), &client_config, "localhost");
    third.pump();
    let before = world.metrics().turns;
    world.pass(std::time::Duration::from_millis(100));
    assert_eq!((world.shard().connections(), world.metrics().opened), (2, 2));
    assert!(world.metrics().turns - before < 50, "a full shard spins");
    let mut first = held.remove(0);
    first.close();
    first.peer.shutdown();
    third.handshake(&mut world).expect("there is room now");
}
