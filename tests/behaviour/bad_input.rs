//! Input that no honest client sends: each has a counter, an answer, and leaves nothing behind.

use std::time::Duration;

use handfast::error::RefusalClass;
use handfast::rustls::{AlertDescription, CipherSuite, Error, NamedGroup, version};
use handfast_tests::certificates::make;
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, World};

use crate::setup::{closing, shard};

/// The plaintext alert with this description.
fn alert(description: AlertDescription) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description.into()]
}

/// Sends `bytes` on a new connection, waits for the answer to end, and checks how it was counted.
fn refused<W: World>(world: &mut W, bytes: &[u8], class: RefusalClass) -> Vec<u8> {
    let before = world.metrics().refused(class);
    let mut peer = world.connect();
    peer.send(bytes);
    let mut answer = Vec::new();
    world.until("an answer and its end", |_| {
        answer.extend(peer.recv());
        peer.is_eof()
    });
    assert!(!peer.is_reset(), "the answer was overtaken by a reset");
    peer.shutdown();
    world.until_empty();
    assert_eq!(world.metrics().refused(class), before + 1, "{:?}", world.metrics());
    answer
}

pub(crate) fn client_hello(options: &Options) -> Vec<u8> {
    struct Nowhere;
    impl Peer for Nowhere {
        fn send(&mut self, _: &[u8]) {}
        fn recv(&mut self) -> Vec<u8> {
            Vec::new()
        }
        fn is_eof(&mut self) -> bool {
            false
        }
        fn is_reset(&mut self) -> bool {
            false
        }
        fn shutdown(&mut self) {}
        fn reset(self) {}
    }
    Tls::new(Nowhere, &options.config(), "localhost").outgoing()
}

pub(crate) fn plain_http_is_told_so<W: World>() {
    let (config, ..) = closing();
    let mut world = W::new(config);
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = refused(&mut world, request, RefusalClass::PlainHttp);
    assert!(answer.starts_with(b"HTTP/1.0 400 "), "{}", answer.escape_ascii());
    // With a body behind it that nobody reads: the answer still arrives.
    let mut long = request.to_vec();
    long.resize(20_000, b'x');
    let answer = refused(&mut world, &long, RefusalClass::PlainHttp);
    assert!(answer.ends_with(b"over plain HTTP.\n"), "{}", answer.escape_ascii());
}

pub(crate) fn random_bytes_are_refused<W: World>() {
    let (config, ..) = closing();
    let mut world = W::new(config);
    let mut random = handfast::transport::sim::SplitMix64::new(7);
    for len in [1, 2, 5, 6, 300, 5000] {
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next_u64().to_le_bytes()[0]).collect();
        // No handshake record, no SSLv2 header, no letter.
        bytes[0] = 0x07;
        assert_eq!(refused(&mut world, &bytes, RefusalClass::NotTls), b"");
    }
}

pub(crate) fn an_sslv2_hello_is_refused<W: World>() {
    let (config, ..) = closing();
    let mut world = W::new(config);
    // Length 46 with the high bit, CLIENT-HELLO, version 0.2, three ciphers.
    let mut hello = vec![0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10];
    hello.resize(48, 0x07);
    assert_eq!(refused(&mut world, &hello, RefusalClass::Sslv2), alert(AlertDescription::ProtocolVersion));
}

pub(crate) fn a_hello_cut_at_every_byte_leaves_nothing<W: World>() {
    let (config, options, _) = closing();
    let mut world = W::new(config);
    let mut options = options;
    options.provider.kx_groups.retain(|g| g.name() == NamedGroup::X25519);
    let hello = client_hello(&options);
    for cut in 0..hello.len() {
        let mut peer = world.connect();
        peer.send(&hello[..cut]);
        peer.shutdown();
        world.until("the cut hello is given up", |w| w.metrics().closed == cut as u64 + 1);
        assert_eq!(world.shard().connections(), 0);
        assert!(peer.recv().is_empty(), "an answer to {cut} bytes");
    }
    assert_eq!(world.metrics().refused(RefusalClass::Vanished), hello.len() as u64);
}

pub(crate) fn a_hello_of_single_bytes_is_answered<W: World>() {
    let (config, options, _) = closing();
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    for byte in client.outgoing() {
        client.peer.send(&[byte]);
        world.turn();
    }
    client.handshake(&mut world).expect("a handshake");
    client.close();
    world.until_empty();
    assert_eq!(world.metrics().handshakes_full, 1);
}

pub(crate) fn a_hello_that_never_ends_meets_the_deadline<W: World>() {
    let (mut config, options, _) = closing();
    let deadline = Duration::from_millis(800);
    config.limits.handshake_deadline = deadline;
    let mut world = W::new(config);
    let hello = client_hello(&options);
    let mut peer = world.connect();
    // A byte now and then does not put the deadline off: it counts from accept.
    for byte in &hello[..4] {
        peer.send(&[*byte]);
        world.pass(deadline / 16);
    }
    assert_eq!(world.shard().connections(), 1);
    peer.send(&hello[4..5]);
    world.pass(deadline * 7 / 8);
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::Deadline), 1);
    world.until("the client sees the end", |_| peer.is_eof() || peer.is_reset());
}

pub(crate) fn a_hello_over_the_limit_is_refused<W: World>() {
    let (config, ..) = closing();
    let mut world = W::new(config);
    // A handshake record that announces a ClientHello of 60,000 bytes.
    let mut hello = vec![22, 3, 1, 0x40, 0x00, 1, 0, 0xea, 0x60];
    hello.resize(2000, 0);
    assert_eq!(refused(&mut world, &hello, RefusalClass::HelloTooLarge), alert(AlertDescription::DecodeError));
}

/// A handshake that fails, and how it was counted.
fn fails<W: World>(options: &Options, class: RefusalClass) -> Error {
    let (mut config, ..) = closing();
    // A server with less than the client may ask for.
    config.limits.handshake_deadline = Duration::from_secs(5);
    fails_with(W::new(config), options, class)
}

fn fails_with<W: World>(mut world: W, options: &Options, class: RefusalClass) -> Error {
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    let error = client.handshake(&mut world).expect_err("a refusal");
    client.peer.shutdown();
    world.until_empty();
    let m = world.metrics();
    assert_eq!((m.refused(class), m.refused_total(), m.handshakes()), (1, 1, 0), "{m:?}");
    error
}

pub(crate) fn no_common_version<W: World>() {
    let made = make(&["localhost"]);
    let config = crate::setup::only_tls13(&made);
    let mut options = Options::new(made.roots(), &["h2"]);
    options.versions = vec![&version::TLS12];
    let error = fails_with(W::new(config), &options, RefusalClass::NoCommonVersion);
    assert_eq!(error, Error::AlertReceived(AlertDescription::ProtocolVersion));
}

pub(crate) fn no_common_suite<W: World>() {
    let made = make(&["localhost"]);
    let provider = handfast::crypto::provider_with(|_| true, |s| s.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let config = crate::setup::with_provider(&made, provider);
    let mut options = Options::new(made.roots(), &["h2"]);
    options.versions = vec![&version::TLS13];
    options.provider.cipher_suites.retain(|s| s.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    let error = fails_with(W::new(config), &options, RefusalClass::NoCommonSuite);
    assert_eq!(error, Error::AlertReceived(AlertDescription::HandshakeFailure));
}

pub(crate) fn no_common_group<W: World>() {
    let made = make(&["localhost"]);
    let provider = handfast::crypto::provider_with(|g| g == NamedGroup::X25519, |_| true);
    let config = crate::setup::with_provider(&made, provider);
    let mut options = Options::new(made.roots(), &["h2"]);
    options.versions = vec![&version::TLS13];
    options.provider.kx_groups.retain(|g| g.name() == NamedGroup::secp384r1);
    let error = fails_with(W::new(config), &options, RefusalClass::NoCommonGroup);
    assert_eq!(error, Error::AlertReceived(AlertDescription::HandshakeFailure));
}

pub(crate) fn no_common_protocol<W: World>() {
    let (_, mut options, _) = closing();
    options.alpn = vec!["foreign/1"];
    let error = fails::<W>(&options, RefusalClass::NoApplicationProtocol);
    assert_eq!(error, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
}

pub(crate) fn a_client_that_vanishes_after_each_flight<W: World>() {
    leaves_after_each_flight::<W>(RefusalClass::Vanished, |mut client| {
        client.peer.shutdown();
    });
}

pub(crate) fn a_client_that_resets_after_each_flight<W: World>() {
    leaves_after_each_flight::<W>(RefusalClass::Reset, |client| client.peer.reset());
}

fn leaves_after_each_flight<W: World>(class: RefusalClass, leave: fn(Tls<W::Peer>)) {
    let (config, options, _) = closing();
    let mut world = W::new(config);
    // After a first byte, so that it is accepted in either world.
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    let hello = client.outgoing();
    client.peer.send(&hello[..1]);
    world.until("it is accepted", |w| w.shard().connections() == 1);
    leave(client);
    world.until_empty();
    // After the server's flight.
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    let hello = client.outgoing();
    client.peer.send(&hello);
    world.until("the server's flight", |_| !client.peer.recv().is_empty());
    leave(client);
    world.until_empty();
    assert_eq!(world.metrics().refused(class), 2, "{:?}", world.metrics());
    // After its own Finished: negotiated, and gone.
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.handshake(&mut world).expect("a handshake");
    leave(client);
    world.until_empty();
}

pub(crate) fn a_bad_finished_is_refused<W: World>() {
    let (config, options, _) = closing();
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.tamper = Some(|bytes| {
        // The last flight ends with the Finished record; the hello is left as it is.
        if bytes[0] != 22 {
            *bytes.last_mut().expect("a flight") ^= 1;
        }
    });
    client.handshake(&mut world).expect("our side is content");
    world.until("the alert", |_| {
        client.pump();
        client.error.is_some()
    });
    assert!(
        matches!(
            client.error,
            Some(Error::AlertReceived(AlertDescription::BadRecordMac | AlertDescription::DecryptError))
        ),
        "{:?}",
        client.error
    );
    client.peer.shutdown();
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::BadCrypto), 1, "{:?}", world.metrics());
}

pub(crate) fn half_a_record_over_the_limit_is_refused<W: World>() {
    let (mut config, options, _) = closing();
    config.limits.handshake_bytes = 1000;
    let mut world = W::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    let hello = client.outgoing();
    client.peer.send(&hello);
    world.until("the server's flight", |_| !client.peer.recv().is_empty());
    // A record of 4 KiB, of which a quarter never comes.
    client.peer.send(&[23, 3, 3, 0x10, 0x00]);
    client.peer.send(&[0; 3 * 1024]);
    world.until("it is refused", |w| w.metrics().refused_total() == 1);
    client.peer.shutdown();
    world.until_empty();
    assert_eq!(world.metrics().refused(RefusalClass::HandshakeTooLarge), 1, "{:?}", world.metrics());
}

pub(crate) fn a_client_that_rejects_our_certificate<W: World>() {
    let (_, _, stranger) = closing();
    let options = Options::new(stranger.roots(), &["h2"]);
    let error = fails::<W>(&options, RefusalClass::PeerAlert);
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
}

#[test]
fn a_name_that_no_identity_can_sign_for_is_our_own_fault() {
    use handfast::rustls::SignatureScheme;
    let made = make(&["localhost"]);
    let config = shard(vec![("h2", made.set("default"), handfast::shard::Destination::Close)], |t| t);
    let mut options = Options::new(made.roots(), &["h2"]);
    let mapping = options.provider.signature_verification_algorithms.mapping;
    let rsa: Vec<_> = mapping.iter().filter(|(s, _)| *s == SignatureScheme::RSA_PSS_SHA256).copied().collect();
    options.provider.signature_verification_algorithms.mapping = Box::leak(rsa.into_boxed_slice());
    let world = handfast_tests::world::SimWorld::new(config);
    fails_with(world, &options, RefusalClass::NoIdentity);
}
