//! Handshakes that succeed, and what they settle.

use std::sync::Arc;

use handfast::error::RefusalClass;
use handfast::handshake::hello::ClientHelloView;
use handfast::handshake::{Foreseen, Prepare, Unprepared};
use handfast::rustls::{AlertDescription, Error, NamedGroup, ProtocolVersion, version};
use handfast::selection::{Policy, Selection, WithoutAlpn};
use handfast::shard::Destination;
use handfast::time::Instant64;
use handfast_tests::certificates::make;
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, World};

use crate::setup::{closing, shard};

pub(crate) fn one_round_trip_and_the_protocol_is_known<W: World>() {
    let (config, options, _) = closing();
    let mut world = W::new(config);
    let peer = world.connect();
    let mut client = Tls::new(peer, &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    // ClientHello, the server's flight, our Finished: one round trip before application data may follow.
    assert_eq!(client.flights, 3);
    assert_eq!(client.alpn().as_deref(), Some("h2"));
    assert_eq!(client.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    world.until("tickets", |w| {
        client.pump();
        w.metrics().handshakes() == 1
    });
    client.close();
    world.until_empty();
    let m = world.metrics();
    assert_eq!((m.handshakes_full, m.handshakes_resumed, m.refused_total()), (1, 0, 0), "{m:?}");
}

pub(crate) fn every_version_and_group<W: World>() {
    let (config, options, _) = closing();
    let mut world = W::new(config);
    for tls in [&version::TLS12, &version::TLS13] {
        for group in [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1] {
            if tls.version == ProtocolVersion::TLSv1_2 && group == NamedGroup::X25519MLKEM768 {
                continue;
            }
            let mut options = options.clone();
            options.versions = vec![tls];
            // TLS 1.2 takes the certificate's curve from the same list, so P-256 stays in it.
            options.provider.kx_groups.retain(|g| g.name() == group || g.name() == NamedGroup::secp256r1);
            options.provider.kx_groups.sort_by_key(|g| g.name() != group);
            let mut client = Tls::new(world.connect(), &options.config(), "localhost");
            client.handshake(&mut world).unwrap_or_else(|e| panic!("{:?} {group:?}: {e}", tls.version));
            assert_eq!(client.conn.protocol_version(), Some(tls.version));
            assert_eq!(client.conn.negotiated_key_exchange_group().map(|g| g.name()), Some(group));
            client.close();
        }
    }
    world.until_empty();
    assert_eq!(world.metrics().handshakes_full, 7);
}

pub(crate) fn a_ticket_resumes_in_its_own_domain_only<W: World>() {
    let (one, two) = (make(&["localhost"]), make(&["localhost"]));
    let (first, second) = (one.set("first"), two.set("second"));
    let config = shard(
        vec![
            ("a", first.clone(), Destination::Close),
            ("a2", first, Destination::Close),
            ("b", second, Destination::Close),
        ],
        |table| table,
    );
    let mut world = W::new(config);
    for tls in [&version::TLS12, &version::TLS13] {
        let mut options = Options::new(one.roots(), &["a"]);
        options.versions = vec![tls];
        options.resume = true;
        let mut config = Arc::unwrap_or_clone(options.config());
        // One verifier for both certificates, because the session cache belongs to the configuration.
        let mut roots = Arc::unwrap_or_clone(one.roots());
        roots.add(two.der.clone()).expect("a root");
        let resumption = config.resumption.clone();
        options.roots = Arc::new(roots);
        config = Arc::unwrap_or_clone(options.config());
        config.resumption = resumption;
        for (id, resumed) in [("a", false), ("a", true), ("a2", true), ("b", false), ("b", true), ("a", false)] {
            config.alpn_protocols = vec![id.as_bytes().to_vec()];
            let mut client = Tls::new(world.connect(), &Arc::new(config.clone()), "localhost");
            client.handshake(&mut world).expect("a handshake");
            assert_eq!(client.is_resumed(), resumed, "{:?} {id}", tls.version);
            assert_eq!(client.alpn().as_deref(), Some(id));
            client.close();
            world.until("tickets and the end", |_| {
                client.pump();
                client.peer.is_eof()
            });
        }
    }
    let m = world.metrics();
    assert_eq!((m.handshakes_full, m.handshakes_resumed), (6, 6), "{m:?}");
}

pub(crate) fn without_alpn_the_default_protocol_serves<W: World>() {
    let made = make(&["localhost"]);
    let set = made.set("default");
    let protocols = || vec![("h2", set.clone(), Destination::Close), ("http/1.1", set.clone(), Destination::Close)];
    let options = Options::new(made.roots(), &[]);

    let mut world = W::new(shard(protocols(), |t| t.without_alpn(WithoutAlpn::Protocol(1))));
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    assert_eq!(client.alpn(), None);
    client.close();
    world.until_empty();

    let mut world = W::new(shard(protocols(), |t| t));
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    let error = client.handshake(&mut world).expect_err("a refusal");
    assert_eq!(error, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    assert_eq!(world.metrics().refused(RefusalClass::NoApplicationProtocol), 1);
}

pub(crate) fn client_preference_and_fallback<W: World>() {
    let made = make(&["localhost"]);
    let set = made.set("default");
    let protocols = vec![("h2", set.clone(), Destination::Close), ("http/1.1", set, Destination::Close)];
    let mut world = W::new(shard(protocols, |t| t.policy(Policy::ClientPreference).fallback(1)));
    for (offer, expected) in
        [(&["http/1.1", "h2"][..], Some("http/1.1")), (&["spdy/3", "h2", "http/1.1"], Some("h2")), (&["spdy/3"], None)]
    {
        let mut client = Tls::new(world.connect(), &Options::new(made.roots(), offer).config(), "localhost");
        client.handshake(&mut world).expect("a handshake");
        assert_eq!(client.alpn().as_deref(), expected, "{offer:?}");
        client.close();
    }
    world.until_empty();
}

pub(crate) fn a_callback_chooses_refuses_or_defers<W: World>() {
    let made = make(&["one.test", "two.test", "three.test"]);
    let set = made.set("default");
    let protocols = vec![("a", set.clone(), Destination::Close), ("b", set, Destination::Close)];
    let choose = |hello: &ClientHelloView<'_>| match hello.server_name() {
        Some("one.test") => Selection::protocol("b"),
        Some("two.test") => Selection::Refuse(AlertDescription::AccessDenied),
        _ => Selection::Table,
    };
    let mut world = W::new(shard(protocols, |t| t.policy(Policy::Callback(Arc::new(choose)))));
    let config = Options::new(made.roots(), &["a", "b"]).config();
    for (name, expected) in [("one.test", Some("b")), ("three.test", Some("a"))] {
        let mut client = Tls::new(world.connect(), &config, name);
        client.handshake(&mut world).expect("a handshake");
        assert_eq!(client.alpn().as_deref(), expected);
        client.close();
    }
    let mut client = Tls::new(world.connect(), &config, "two.test");
    let error = client.handshake(&mut world).expect_err("a refusal");
    assert_eq!(error, Error::AlertReceived(AlertDescription::AccessDenied));
    assert_eq!(world.metrics().refused(RefusalClass::ByCallback), 1);
}

pub(crate) fn a_panic_in_a_callback_ends_its_own_connection_only<W: World>() {
    let made = make(&["bad.test", "good.test"]);
    let protocols = vec![("a", made.set("default"), Destination::Close)];
    let choose = |hello: &ClientHelloView<'_>| {
        assert_ne!(hello.server_name(), Some("bad.test"), "the program's own bug");
        Selection::Table
    };
    let mut world = W::new(shard(protocols, |t| t.policy(Policy::Callback(Arc::new(choose)))));
    let config = Options::new(made.roots(), &["a"]).config();
    // Both in one turn, the bad one first.
    let mut clients = ["bad.test", "good.test"].map(|name| Tls::new(world.connect(), &config, name));
    for client in &mut clients {
        let hello = client.outgoing();
        client.peer.send(&hello);
    }
    let [mut bad, mut good] = clients;
    good.handshake(&mut world).expect("a handshake");
    good.close();
    world.until("the bad one is reset", |_| {
        bad.pump();
        bad.peer.is_reset() || bad.peer.is_eof()
    });
    world.until_empty();
    let m = world.metrics();
    assert_eq!((m.refused(RefusalClass::Internal), m.handshakes()), (1, 1), "{m:?}");
}

/// Counts what the prepare phase is shown.
#[derive(Default)]
struct Spy {
    seen: usize,
    inner: Unprepared,
    batches: std::rc::Rc<std::cell::RefCell<Vec<usize>>>,
    latest: std::rc::Rc<std::cell::Cell<&'static str>>,
}

impl Prepare for Spy {
    fn see(&mut self, hello: &ClientHelloView<'_>, foreseen: &Foreseen<'_>) {
        assert!(hello.key_share(NamedGroup::X25519).is_some() && foreseen.is_tls13(hello));
        self.seen += 1;
        self.inner.see(hello, foreseen);
    }

    fn prepare(&mut self, now: Instant64) {
        if self.seen > 0 {
            self.batches.borrow_mut().push(self.seen);
        }
        self.inner.prepare(now);
        self.latest.set("prepare");
    }

    fn finish(&mut self) {
        self.seen = 0;
        self.inner.finish();
        assert_eq!(self.latest.replace("finish"), "prepare", "a batch that nothing was prepared for");
    }

    fn replenish(&mut self, now: Instant64) {
        self.inner.replenish(now);
        self.latest.set("replenish");
    }
}

pub(crate) fn hellos_of_one_turn_are_seen_together<W: World>() {
    let (mut config, options, _) = closing();
    let spy = Spy::default();
    let batches = std::rc::Rc::clone(&spy.batches);
    config.prepare = Box::new(spy);
    let mut world = W::new(config);
    let client_config = options.config();
    let mut clients: Vec<_> = (0..5).map(|_| Tls::new(world.connect(), &client_config, "localhost")).collect();
    for client in &mut clients {
        let hello = client.outgoing();
        client.peer.send(&hello);
    }
    for client in &mut clients {
        client.handshake(&mut world).expect("a handshake");
        client.close();
    }
    world.until_empty();
    let batches = batches.borrow();
    assert_eq!(batches.iter().sum::<usize>(), 5, "{batches:?}");
    assert!(batches.len() < 5, "no two hellos of one turn were prepared together: {batches:?}");
    assert_eq!(world.metrics().hellos_per_turn_max, *batches.iter().max().expect("a batch") as u64);
}

pub(crate) fn a_turn_ends_with_what_later_ones_need<W: World>() {
    let (mut config, options, _) = closing();
    let spy = Spy::default();
    let (batches, latest) = (std::rc::Rc::clone(&spy.batches), std::rc::Rc::clone(&spy.latest));
    config.prepare = Box::new(spy);
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.pump();
    while batches.borrow().is_empty() {
        world.turn();
        assert_eq!(latest.get(), "replenish");
    }
    client.handshake(&mut world).expect("a handshake");
}
