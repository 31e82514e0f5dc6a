//! The PROXY protocol header before the handshake.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast::error::RefusalClass;
use handfast::limits::SourceRate;
use handfast::peer::PeerAddr;
use handfast::shard::ShardConfig;
use handfast::{HandshakeFacts, IpNet, ProxyProtocol, Stream};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, World};

use crate::setup::serving;

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x1f\x90\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

type Seen = Arc<Mutex<Vec<Arc<HandshakeFacts>>>>;

/// A protocol that notes the facts of its connections, and its clients' options.
fn noting() -> (ShardConfig, Options, Seen) {
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let (config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            notes.lock().expect("the notes").push(Arc::clone(stream.facts()));
            async move { while stream.received().await.is_ok_and(|bytes| !bytes.is_empty()) {} }
        })
    });
    (config, options, seen)
}

fn trusting<W: World>(sources: impl IntoIterator<Item = u8>) -> ProxyProtocol {
    ProxyProtocol::from_sources(sources.into_iter().map(|n| IpNet::from(W::source(n))))
}

fn handshake_behind<W: World>(world: &mut W, options: &Options, header: &[u8]) -> Result<Tls<W::Peer>, String> {
    let mut client = Tls::new(world.connect_from(1), &options.config(), "localhost");
    client.peer.send(header);
    client.handshake(world).map_err(|e| e.to_string())?;
    let before = world.metrics().handshakes();
    world.until("the server has it too", |w| w.metrics().handshakes() >= before.max(1));
    Ok(client)
}

pub(crate) fn the_client_in_the_header_is_the_peer<W: World>() {
    let (config, options, seen) = noting();
    let mut world = W::behind(trusting::<W>([1]), config);
    let named = PeerAddr::Ip("203.0.113.7:8080".parse().expect("an address"));
    for (header, is_named) in [(V1, true), (V2, true), (LOCAL, false), (b"PROXY UNKNOWN\r\n", false)] {
        let client = handshake_behind(&mut world, &options, header).expect("a handshake");
        world.until("its facts", |_| !seen.lock().expect("the notes").is_empty());
        let facts = seen.lock().expect("the notes").pop().expect("facts");
        let proxy = if is_named { facts.proxy } else { Some(facts.peer) };
        assert_eq!(facts.peer == named, is_named, "{facts:?}");
        assert_eq!(facts.proxy.is_some(), is_named);
        assert_eq!(proxy.and_then(|p| p.ip()).map(|p| p.ip()), Some(W::source(1)));
        client.peer.reset();
        world.until_empty();
    }
}

pub(crate) fn a_selection_callback_sees_the_client_in_the_header<W: World>() {
    use handfast::selection::{Policy, Selection};
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let made = handfast_tests::certificates::make(&["localhost"]);
    let policy = Policy::callback(move |hello| {
        *note.lock().expect("the note") = hello.peer_addr();
        Selection::Table
    });
    let protocols = vec![("h2", made.set("default"), handfast::shard::Destination::Close)];
    let config = crate::setup::shard(protocols, |table| table.policy(policy));
    let options = Options::new(made.roots(), &["h2"]);
    let mut world = W::behind(trusting::<W>([1]), config);
    handshake_behind(&mut world, &options, V2).expect("a handshake");
    assert_eq!(*seen.lock().expect("the note"), Some("203.0.113.7:8080".parse().expect("an address")));
}

pub(crate) fn a_header_and_a_hello_in_pieces_are_read<W: World>() {
    let (config, options, _) = noting();
    let mut world = W::behind(trusting::<W>([1]), config);
    for header in [V1, V2] {
        // Byte by byte, and then both in one piece.
        let mut client = Tls::new(world.connect_from(1), &options.config(), "localhost");
        let hello = client.outgoing();
        for byte in header.iter().chain(&hello[..20]) {
            client.peer.send(&[*byte]);
            world.turn();
        }
        client.peer.send(&hello[20..]);
        client.handshake(&mut world).expect("a handshake");
        let mut client = Tls::new(world.connect_from(1), &options.config(), "localhost");
        let together = [header, &client.outgoing()].concat();
        client.peer.send(&together);
        client.handshake(&mut world).expect("a handshake");
        // With the hello cut in two behind the header.
        let mut client = Tls::new(world.connect_from(1), &options.config(), "localhost");
        let together = [header, &client.outgoing()].concat();
        client.peer.send(&together[..header.len() + 50]);
        world.turn();
        client.peer.send(&together[header.len() + 50..]);
        client.handshake(&mut world).expect("a handshake");
    }
    world.until("all are counted", |w| w.metrics().handshakes() == 6);
}

/// Sends `bytes` from `source`, which is reset for it.
fn refused<W: World>(world: &mut W, source: u8, bytes: &[u8], class: RefusalClass) {
    let before = world.metrics().refused(class);
    let mut peer = world.connect_from(source);
    peer.send(bytes);
    world.until("it is reset", |_| peer.is_reset());
    world.until_empty();
    assert_eq!(world.metrics().refused(class), before + 1, "{:?}", world.metrics());
}

pub(crate) fn only_listed_proxies_are_believed<W: World>() {
    let (config, options, _) = noting();
    let mut world = W::behind(trusting::<W>([1, 3]), config);
    refused(&mut world, 2, V1, RefusalClass::ProxyUntrusted);
    // Not even without a header.
    let mut client = Tls::new(world.connect_from(2), &options.config(), "localhost");
    assert!(client.handshake(&mut world).is_err());
    assert_eq!(world.metrics().refused(RefusalClass::ProxyUntrusted), 2);
    // And whoever is listed must send one.
    let hello = Tls::new(world.connect_from(3), &options.config(), "localhost").outgoing();
    refused(&mut world, 3, &hello, RefusalClass::ProxyHeader);
    handshake_behind(&mut world, &options, V1).expect("a handshake");
}

pub(crate) fn a_broken_a_long_and_a_late_header_are_refused<W: World>() {
    let (mut config, ..) = noting();
    config.limits.proxy_header_bytes = 200;
    config.limits.proxy_header_deadline = Duration::from_millis(500);
    let mut world = W::behind(trusting::<W>([1]), config);
    refused(&mut world, 1, b"PROXY TCP4 203.0.113.7 10.0.0.1 80800 443\r\n", RefusalClass::ProxyHeader);
    refused(&mut world, 1, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0", RefusalClass::ProxyTooLarge);
    let mut peer = world.connect_from(1);
    peer.send(&V1[..20]);
    world.until("it is accepted", |w| w.shard().connections() == 1);
    world.pass(Duration::from_millis(600));
    world.until("it is reset", |_| peer.is_reset());
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::ProxyDeadline), 1, "{:?}", world.metrics());
    // A health check that only connects is gone without a fuss.
    world.connect_from(1).shutdown();
    world.until("it is gone", |w| w.metrics().refused(RefusalClass::Vanished) == 1);
}

pub(crate) fn a_header_that_trickles_meets_its_deadline<W: World>() {
    let (mut config, ..) = noting();
    config.limits.proxy_header_deadline = Duration::from_millis(500);
    let mut world = W::behind(trusting::<W>([1]), config);
    let mut peer = world.connect_from(1);
    // No byte puts it off.
    for byte in V1 {
        if peer.is_reset() {
            break;
        }
        peer.send(&[*byte]);
        world.pass(Duration::from_millis(50));
    }
    world.until("it is reset", |_| peer.is_reset());
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::ProxyDeadline), 1, "{:?}", world.metrics());
}

pub(crate) fn after_the_header_the_handshake_has_its_own_deadline<W: World>() {
    let (mut config, options, _) = noting();
    config.limits.proxy_header_deadline = Duration::from_millis(300);
    config.limits.handshake_deadline = Duration::from_millis(1500);
    let mut world = W::behind(trusting::<W>([1]), config);
    let mut slow = Tls::new(world.connect_from(1), &options.config(), "localhost");
    slow.peer.send(V2);
    world.until("it is accepted", |w| w.shard().connections() == 1);
    world.pass(Duration::from_millis(600));
    slow.handshake(&mut world).expect("a handshake");
    slow.peer.reset();
    world.until_empty();
    let mut never = world.connect_from(1);
    never.send(V2);
    world.until("it is accepted", |w| w.shard().connections() == 1);
    world.pass(Duration::from_millis(1600));
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::Deadline), 1, "{:?}", world.metrics());
}

pub(crate) fn the_client_in_the_header_is_limited_and_not_the_proxy<W: World>() {
    let (mut config, options, _) = noting();
    let one = std::num::NonZeroU32::MIN;
    config.limits.source.rate = Some(SourceRate { per_second: one, burst: one });
    let mut world = W::behind(trusting::<W>([1]), config);
    let other = b"PROXY TCP4 203.0.113.8 10.0.0.1 8080 443\r\n";
    for header in [V1, other, LOCAL, LOCAL] {
        handshake_behind(&mut world, &options, header).expect("each client has its own rate, and the proxy none");
    }
    for header in [V2, other] {
        assert!(handshake_behind(&mut world, &options, header).is_err(), "too fast");
    }
    assert_eq!(world.metrics().refused(RefusalClass::SourceRate), 2, "{:?}", world.metrics());
}
