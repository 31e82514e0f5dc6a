//! What changes when a shard reloads, and what does not.

use std::time::Duration;

use handfast::Stream;
use handfast::handshake::Sources;
use handfast::rustls::version;
use handfast::shard::Destination;
use handfast_tests::certificates::{Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, World};
use tokio::io::AsyncWriteExt;

use crate::setup::{reload, shard, shard_with};

/// A worker that says `word` and leaves.
fn saying(word: &'static str) -> Destination {
    let say = move |mut stream: Stream| async move {
        let _ = stream.write_all(word.as_bytes()).await;
    };
    handfast::Protocol::alpn("any").serve(say).destination().clone()
}

fn connect<W: World>(world: &mut W, made: &Made, alpn: &[&'static str]) -> Tls<W::Peer> {
    Tls::new(world.connect(), &Options::new(made.roots(), alpn).config(), "localhost")
}

fn heard<W: World>(world: &mut W, client: &mut Tls<W::Peer>) -> String {
    let mut heard = Vec::new();
    world.until("the server's end", |_| {
        heard.extend(client.recv());
        client.peer.is_eof()
    });
    String::from_utf8(heard).expect("text")
}

pub(crate) fn another_certificate_is_shown<W: World>() {
    let (old, new) = (make(&["localhost"]), make(&["localhost"]));
    let mut world = W::new(shard(vec![("h2", old.set("default"), Destination::Close)], |t| t));
    connect(&mut world, &old, &["h2"]).handshake(&mut world).expect("a handshake");
    world.shard().reload(&reload(vec![("h2", new.set("default"), Destination::Close)]));
    connect(&mut world, &new, &["h2"]).handshake(&mut world).expect("a handshake");
    connect(&mut world, &old, &["h2"]).handshake(&mut world).expect_err("the old one");
}

pub(crate) fn a_handshake_under_way_keeps_its_certificate_and_its_worker<W: World>() {
    for tls in [&version::TLS12, &version::TLS13] {
        let (old, new) = (make(&["localhost"]), make(&["localhost"]));
        // The one that it is for has another place in the new table.
        let before = vec![("chat/1", old.set("default"), saying("old"))];
        let mut world = W::new(shard(before, |t| t));
        let options = Options { versions: vec![tls], ..Options::new(old.roots(), &["chat/1"]) };
        let mut client = Tls::new(world.connect(), &options.config(), "localhost");
        client.pump();
        world.until("the ClientHello is acted on", |w| w.metrics().hellos == 1);
        let mut silent = connect(&mut world, &new, &["chat/1"]);
        silent.peer.send(&[22]);
        world.until("another is accepted", |w| w.shard().connections() == 2);
        world.shard().reload(&reload(vec![
            ("h2", new.set("default"), Destination::Close),
            ("chat/1", new.set("default"), saying("new")),
        ]));
        client.handshake(&mut world).expect("a handshake");
        assert_eq!(heard(&mut world, &mut client), "old");
        client.peer.shutdown();
        // One whose ClientHello comes later gets what is there by then.
        let hello = silent.outgoing();
        silent.peer.send(&hello[1..]);
        silent.handshake(&mut world).expect("a handshake");
        assert_eq!(heard(&mut world, &mut silent), "new");
        silent.peer.shutdown();
        world.until_empty();
    }
}

pub(crate) fn protocols_come_and_go<W: World>() {
    let made = make(&["localhost"]);
    let set = || made.set("default");
    let mut world = W::new(shard(vec![("h2", set(), Destination::Close), ("chat/1", set(), saying("one"))], |t| t));
    connect(&mut world, &made, &["chat/2"]).handshake(&mut world).expect_err("it comes later");
    world.shard().reload(&reload(vec![("chat/1", set(), saying("still one")), ("chat/2", set(), saying("two"))]));
    for (alpn, says) in [("chat/1", "still one"), ("chat/2", "two")] {
        let mut client = connect(&mut world, &made, &[alpn]);
        client.handshake(&mut world).expect("a handshake");
        assert_eq!((client.alpn().as_deref(), heard(&mut world, &mut client)), (Some(alpn), says.to_owned()));
        client.peer.shutdown();
    }
    connect(&mut world, &made, &["h2"]).handshake(&mut world).expect_err("it is gone");
}

pub(crate) fn limits_change<W: World>() {
    let made = make(&["localhost"]);
    let mut config = shard_with(vec![("h2", made.set("default"), Destination::Close)], |t| t, &Sources::default(), 2);
    config.limits.handshake_deadline = Duration::from_secs(600);
    let mut world = W::new(config);
    let mut before = world.connect();
    before.send(&[22]);
    world.until("it is accepted", |w| w.shard().connections() == 1);
    let mut reload = reload(vec![("h2", made.set("default"), Destination::Close)]);
    reload.limits.handshake_deadline = Duration::from_millis(20);
    world.shard().reload(&reload);
    let mut after = world.connect();
    after.send(&[22]);
    world.until("it meets the deadline", |_| after.is_eof());
    assert!(!before.is_eof());
    assert_eq!(world.shard().connections(), 1);
}

pub(crate) fn a_shard_that_may_hold_fewer_accepts_no_more<W: World>() {
    let made = make(&["localhost"]);
    let protocols = || vec![("h2", made.set("default"), Destination::Close)];
    let mut world = W::new(shard(protocols(), |t| t));
    let half_open = |world: &mut W| {
        let mut peer = world.connect();
        peer.send(&[22]);
        peer
    };
    let held = [half_open(&mut world), half_open(&mut world)];
    world.until("both are accepted", |w| w.shard().connections() == 2);
    let mut reload = reload(protocols());
    reload.limits.connections_per_shard = 2;
    world.shard().reload(&reload);
    let third = half_open(&mut world);
    world.until("it waits", |w| w.metrics().connections_full > 0);
    assert_eq!(world.metrics().opened, 2);
    drop(held);
    world.until("its turn", |w| w.metrics().opened == 3);
    drop(third);
    world.until_empty();
}

pub(crate) fn negotiated_connections_stay<W: World>() {
    let made = make(&["localhost"]);
    let echo = |mut stream: Stream| async move {
        while let Ok(bytes) = stream.received().await {
            if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let echo = handfast::Protocol::alpn("any").serve(echo).destination().clone();
    let mut world = W::new(shard(vec![("chat/1", made.set("default"), echo)], |t| t));
    let mut client = connect(&mut world, &made, &["chat/1"]);
    client.handshake(&mut world).expect("a handshake");
    let mut exchange = |world: &mut W, word: &[u8]| {
        client.send(word);
        let mut back = Vec::new();
        world.until("the echo", |_| {
            back.extend(client.recv());
            back.len() == word.len()
        });
        assert_eq!(back, word);
    };
    exchange(&mut world, b"before");
    world.shard().reload(&reload(vec![("h2", make(&["localhost"]).set("default"), Destination::Close)]));
    exchange(&mut world, b"after");
}
