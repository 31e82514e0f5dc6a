//! Connections that leave their shard, for the embedding program or for a worker thread. What a program does with them
//! needs the kernel's TCP.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use handfast::error::RefusalClass;
use handfast::shard::{Destination, Shard};
use handfast::transport::Transport;
use handfast::transport::sim::Faults;
use handfast::{Mailbox, Negotiated, Parts, Stream};
use handfast_tests::certificates::make;
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, SimWorld, TcpWorld, World};
use tokio::io::AsyncWriteExt;

use crate::setup::{serving, shard};

fn world<W: World>(depth: usize, wait: Duration) -> (W, Options, crossbeam::channel::Receiver<Negotiated>) {
    let (mailbox, receiver) = Mailbox::bounded(depth);
    let (mut config, options) = serving(|p| p.hand_off(mailbox));
    config.limits.hand_off_wait = wait;
    (W::new(config), options, receiver)
}

fn connect<W: World>(world: &mut W, options: &Options) -> Tls<W::Peer> {
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(world).expect("a handshake");
    client
}

/// Reads one message off a negotiated connection and answers it, with nothing but its parts.
fn answer(parts: Parts) -> (Vec<u8>, bool) {
    let Parts { socket, mut session, mut received, mut peer_closed, unsent, .. } = parts;
    let mut tcp = socket.into_tcp().expect("a TCP socket");
    tcp.set_nonblocking(false).expect("blocking");
    tcp.write_all(&unsent).expect("tickets");
    let mut buffer = [0; 4096];
    while received.is_empty() && !peer_closed {
        let n = tcp.read(&mut buffer).expect("records");
        if n == 0 {
            break;
        }
        let mut out = Vec::new();
        peer_closed = session.receive(&mut buffer[..n], &mut received, &mut out).expect("good records").peer_closed;
        tcp.write_all(&out).expect("room");
    }
    let mut out = Vec::new();
    session.send(&received, &mut out).expect("our side is open");
    session.close(&mut out).expect("our side is open");
    // The peer may be gone, which its end has said already.
    let _ = tcp.write_all(&out);
    (received, peer_closed)
}

#[test]
fn the_parts_are_all_that_a_program_needs() {
    let (mut world, options, receiver) = world::<TcpWorld>(4, Duration::from_secs(5));
    let mut client = connect(&mut world, &options);
    client.send(b"over to you");
    world.until("the hand-off", |_| !receiver.is_empty());
    let negotiated = receiver.recv().expect("a connection");
    assert_eq!(negotiated.facts().protocol_name(), "chat/1");
    assert_eq!(negotiated.facts().alpn.as_deref(), Some(&b"chat/1"[..]));
    assert_eq!(negotiated.facts().server_name.as_deref(), Some("localhost"));
    let (received, _) = answer(negotiated.into_parts());
    assert_eq!(received, b"over to you");
    let mut got = Vec::new();
    world.until("the answer", |_| {
        got.extend(client.recv());
        client.peer.is_eof()
    });
    assert_eq!(got, b"over to you");
    assert_eq!((world.metrics().handed_off, world.metrics().open()), (1, 0));
}

pub(crate) fn a_full_mailbox_pauses_accepting_until_there_is_room<W: World>() {
    let (mut world, options, receiver) = world::<W>(1, Duration::from_secs(30));
    let first = connect(&mut world, &options);
    let second = connect(&mut world, &options);
    world.until("the first is handed off, the second waits", |w| {
        w.metrics().handed_off == 1 && w.metrics().accept_pauses == 1
    });
    // A third gets no answer while accepting is paused.
    let mut third = Tls::new(world.connect(), &options.config(), "localhost");
    third.pump();
    world.pass(Duration::from_millis(50));
    assert_eq!((world.metrics().opened, world.shard().connections()), (2, 1));
    let one = receiver.recv().expect("the first");
    world.until("room lets the second through", |w| w.metrics().handed_off == 2);
    let two = receiver.recv().expect("the second");
    third.handshake(&mut world).expect("accepting goes on");
    world.until("the third too", |_| !receiver.is_empty());
    assert_eq!(world.metrics().refused_total(), 0);
    drop((first, second, one, two));
}

pub(crate) fn a_mailbox_that_stays_full_resets_what_waited_too_long<W: World>() {
    let (mut world, options, receiver) = world::<W>(1, Duration::from_millis(100));
    let _first = connect(&mut world, &options);
    let mut second = connect(&mut world, &options);
    world.until("the second is reset", |_| {
        second.pump();
        second.peer.is_reset()
    });
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::MailboxFull), 1);
    // From now on nothing waits: accepting goes on, and what finds no room is reset at once.
    let mut third = connect(&mut world, &options);
    world.until("the third is reset", |_| {
        third.pump();
        third.peer.is_reset()
    });
    assert_eq!((world.metrics().refused(RefusalClass::MailboxFull), world.metrics().accept_pauses), (2, 1));
    drop(receiver.recv());
    let _fourth = connect(&mut world, &options);
    world.until("with room it is handed off again", |w| w.metrics().handed_off == 2);
}

pub(crate) fn a_mailbox_that_stays_full_is_no_matter_of_another<W: World>() {
    let made = make(&["localhost"]);
    let (full, _never_emptied) = Mailbox::bounded(1);
    let (other, receiver) = Mailbox::bounded(1);
    let hand_off = |id, mailbox| (id, made.set("default"), Destination::HandOff(mailbox));
    let mut config = shard(vec![hand_off("full/1", full), hand_off("other/1", other)], |table| table);
    config.limits.hand_off_wait = Duration::from_millis(100);
    let mut world = W::new(config);
    let (full, other) = (Options::new(made.roots(), &["full/1"]), Options::new(made.roots(), &["other/1"]));
    let _first = connect(&mut world, &full);
    let mut second = connect(&mut world, &full);
    world.until("it waits in vain", |_| {
        second.pump();
        second.peer.is_reset()
    });
    // Room in the other one is none in this, which still keeps nobody waiting.
    let _third = connect(&mut world, &other);
    world.until("the other has room", |w| w.metrics().handed_off == 2);
    let mut fourth = connect(&mut world, &full);
    world.until("it is reset", |_| {
        fourth.pump();
        fourth.peer.is_reset()
    });
    assert_eq!((world.metrics().refused(RefusalClass::MailboxFull), world.metrics().accept_pauses), (2, 1));
    // And for room in the other one it is worth waiting.
    let _fifth = connect(&mut world, &other);
    world.until("it waits", |w| w.metrics().accept_pauses == 2);
    drop(receiver.recv());
    world.until("it is handed off", |w| w.metrics().handed_off == 3);
    assert_eq!(world.metrics().refused_total(), 2);
}

#[test]
fn a_client_that_leaves_while_it_waits_is_found_gone_by_the_receiver() {
    let (mut world, options, receiver) = world::<TcpWorld>(1, Duration::from_secs(30));
    let _first = connect(&mut world, &options);
    let mut second = connect(&mut world, &options);
    world.until("the second waits", |w| w.metrics().accept_pauses == 1);
    second.close();
    second.peer.shutdown();
    world.pass(Duration::from_millis(20));
    drop(receiver.recv());
    world.until("the second is handed off", |w| w.metrics().handed_off == 2);
    let (received, peer_closed) = answer(receiver.recv().expect("the second").into_parts());
    assert!(received.is_empty() && peer_closed);
    assert_eq!(world.shard().connections(), 0);
}

#[test]
fn a_client_that_resets_while_it_waits_leaves_nothing() {
    let (mut world, options, receiver) = world::<TcpWorld>(1, Duration::from_secs(30));
    let _first = connect(&mut world, &options);
    let second = connect(&mut world, &options);
    world.until("the second waits", |w| w.metrics().accept_pauses == 1);
    second.peer.reset();
    world.pass(Duration::from_millis(20));
    drop(receiver.recv());
    world.until_empty();
    if let Ok(negotiated) = receiver.try_recv() {
        let mut tcp = negotiated.into_parts().socket.into_tcp().expect("a TCP socket");
        let error = tcp.read(&mut [0; 1]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

pub(crate) fn a_receiver_that_is_gone_is_counted_and_its_connections_reset<W: World>() {
    let (mut world, options, receiver) = world::<W>(1, Duration::from_secs(1));
    drop(receiver);
    let mut client = connect(&mut world, &options);
    world.until("the end", |_| {
        client.pump();
        client.peer.is_reset() || client.peer.is_eof()
    });
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::WorkerGone), 1);
}

/// Says where it runs and ends.
fn saying(word: &'static str) -> Destination {
    let say = move |mut stream: Stream| async move {
        let _ = stream.write_all(word.as_bytes()).await;
    };
    handfast::Protocol::alpn("any").serve(say).destination().clone()
}

fn heard(world: &mut SimWorld, client: &mut Tls<<SimWorld as World>::Peer>, mut meanwhile: impl FnMut()) -> Vec<u8> {
    let mut heard = Vec::new();
    world.until("the answer's end", |_| {
        meanwhile();
        heard.extend(client.recv());
        client.peer.is_eof()
    });
    heard
}

#[test]
fn a_simulated_worker_thread_serves_what_its_mailbox_brings() {
    let made = make(&["localhost"]);
    let protocols = || vec![("chat/1", made.set("default"), saying("from the thread"))];
    let (mailbox, mail) = Mailbox::bounded(1);
    let mut config = shard(protocols(), |table| table);
    config.workers = vec![mailbox];
    let mut world = SimWorld::new(config);
    let mut config = shard(protocols(), |table| table);
    config.mail = Some(mail);
    let mut thread = Shard::new(world.net().transport(), config);
    let options = Options::new(made.roots(), &["chat/1"]);
    for served in 1..4 {
        let mut client = connect(&mut world, &options);
        let answer = heard(&mut world, &mut client, || {
            let now = thread.transport().now();
            thread.turn(Some(now)).expect("a turn");
        });
        assert_eq!(answer, b"from the thread");
        assert_eq!((world.metrics().handed_off, thread.counters().read().opened), (served, served));
    }
}

#[test]
fn where_sockets_cannot_leave_workers_run_on_the_shard_and_nothing_is_handed_off() {
    let made = make(&["localhost"]);
    let (mailbox, receiver) = Mailbox::bounded(1);
    let (program, parts) = Mailbox::bounded(1);
    let served = ("chat/1", made.set("default"), saying("from the shard"));
    let handed = ("own/1", made.set("default"), Destination::HandOff(program));
    let mut config = shard(vec![served, handed], |table| table);
    config.workers = vec![mailbox];
    let mut world = SimWorld::with_faults(1, Faults::none(), None, config);
    let mut client = connect(&mut world, &Options::new(made.roots(), &["chat/1"]));
    assert_eq!(heard(&mut world, &mut client, || ()), b"from the shard");
    let mut client = connect(&mut world, &Options::new(made.roots(), &["own/1"]));
    world.until("the end", |_| {
        client.pump();
        client.peer.is_reset()
    });
    assert!(receiver.is_empty() && parts.is_empty());
    assert_eq!((world.metrics().handed_off, world.metrics().refused(RefusalClass::WorkerGone)), (0, 1));
}
