//! Key exchanges that are computed together, and those that cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use handfast::crypto::provider_with;
use handfast::handshake::{Batched, TlsVersions};
use handfast::rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
use handfast::rustls::crypto::{CryptoProvider, SupportedKxGroup};
use handfast::rustls::{AlertDescription, HandshakeKind, NamedGroup, version};
use handfast::selection::{Policy, Selection};
use handfast::shard::ShardConfig;
use handfast_tests::batch::batch;
use handfast_tests::certificates::{Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, World};

use crate::setup::{one_protocol_by, one_protocol_of, one_protocol_with, with_provider};

const CLIENTS: u64 = 5;

/// A shard that computes in batches with the groups of `provider`, on a CPU that can.
fn batched(made: &Made, provider: CryptoProvider) -> Option<ShardConfig> {
    let batch = batch()?;
    let provider = batch.provider(provider);
    let mut config = one_protocol_with(made, provider.clone());
    config.prepare = Box::new(Batched::new(batch, &provider).expect("memory"));
    Some(config)
}

fn clients(made: &Made, groups: &[&'static dyn SupportedKxGroup]) -> Options {
    let mut options = Options::new(made.roots(), &["h2"]);
    options.provider.kx_groups = groups.to_vec();
    options
}

/// Several clients whose ClientHellos arrive before the shard's next turn.
fn handshakes<W: World>(world: &mut W, options: &Options, kind: HandshakeKind) {
    let config = options.config();
    for round in 0..if kind == HandshakeKind::Resumed { 2 } else { 1 } {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Tls::new(world.connect(), &config, "localhost")).collect();
        for client in &mut clients {
            let hello = client.outgoing();
            client.peer.send(&hello);
        }
        for client in &mut clients {
            client.handshake(world).expect("a handshake");
            if kind != HandshakeKind::Resumed || round == 1 {
                assert_eq!(client.conn.handshake_kind(), Some(kind));
            }
        }
        // Tickets are read before the next round.
        for client in &mut clients {
            client.close();
            world.until("the end", |_| {
                client.receive();
                client.peer.is_eof()
            });
        }
    }
    world.until_empty();
}

pub(crate) fn key_exchanges_of_one_turn_are_computed_together<W: World>() {
    for groups in [&[X25519][..], &[X25519MLKEM768, X25519], &[X25519, X25519MLKEM768, SECP256R1]] {
        let made = make(&["localhost"]);
        let Some(config) = batched(&made, handfast::crypto::provider()) else { return };
        let mut world = W::new(config);
        handshakes(&mut world, &clients(&made, groups), HandshakeKind::Full);
        let m = world.metrics();
        assert_eq!(m.handshakes_full, CLIENTS);
        assert_eq!((m.batch_lanes + m.batch_scalar_fallbacks, m.batch_misses), (CLIENTS, 0), "{m}");
        assert!(m.batch_lanes >= 2 * m.batch_agreements && m.batch_agreements > 0, "{m}");
        assert!(m.batch_pool_refills > 0, "{m}");
    }
}

pub(crate) fn signatures_of_one_turn_are_prepared_together<W: World>() {
    let made = make(&["localhost"]);
    let Some(batch) = batch() else { return };
    let batch = batch.with_presigning().expect("nonces");
    let provider = batch.provider(handfast::crypto::provider());
    let mut config = one_protocol_of(made.set_with("default", &provider), provider.clone());
    config.prepare = Box::new(Batched::new(batch, &provider).expect("memory"));
    let mut world = W::new(config);
    // The client verifies every signature.
    handshakes(&mut world, &clients(&made, &[X25519]), HandshakeKind::Full);
    let m = world.metrics();
    assert_eq!((m.handshakes_full, m.batch_presigned), (CLIENTS, m.batch_nonces), "{m}");
    assert!(m.batch_nonces >= 3, "{m}");
}

pub(crate) fn resumed_handshakes_are_computed_together_too<W: World>() {
    let made = make(&["localhost"]);
    let Some(config) = batched(&made, handfast::crypto::provider()) else { return };
    let mut world = W::new(config);
    let mut options = clients(&made, &[X25519]);
    options.resume = true;
    handshakes(&mut world, &options, HandshakeKind::Resumed);
    let m = world.metrics();
    assert_eq!(m.handshakes_resumed, CLIENTS, "{m}");
    assert_eq!((m.batch_lanes + m.batch_scalar_fallbacks, m.batch_misses), (2 * CLIENTS, 0), "{m}");
    assert!(m.batch_lanes > CLIENTS, "full handshakes and resumed ones: {m}");
}

pub(crate) fn nothing_is_computed_for_another_group_another_version_or_a_retry<W: World>() {
    let made = make(&["localhost"]);
    let everything = handfast::crypto::provider;
    let only_x25519 = || provider_with(|group| group == NamedGroup::X25519, |_| true);
    let mut old = clients(&made, &[X25519]);
    old.versions = vec![&version::TLS12];
    for (provider, options, kind) in [
        (everything(), clients(&made, &[SECP256R1, X25519]), HandshakeKind::Full),
        (everything(), old, HandshakeKind::Full),
        // The client's share is one that the server cannot use.
        (only_x25519(), clients(&made, &[SECP256R1, X25519]), HandshakeKind::FullWithHelloRetryRequest),
    ] {
        let Some(config) = batched(&made, provider) else { return };
        let mut world = W::new(config);
        handshakes(&mut world, &options, kind);
        let m = world.metrics();
        assert_eq!(m.handshakes_full, CLIENTS, "{m}");
        assert_eq!((m.batch_lanes, m.batch_scalar_fallbacks, m.batch_misses), (0, 0, 0), "{m}");
    }
}

/// Clients whose ClientHellos come together, and what becomes of each.
fn together<W: World>(world: &mut W, options: &Options) -> Vec<bool> {
    let config = options.config();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Tls::new(world.connect(), &config, "localhost")).collect();
    clients.iter_mut().for_each(Tls::pump);
    let done = clients.iter_mut().map(|client| client.handshake(world).is_ok()).collect();
    clients.iter_mut().for_each(Tls::close);
    world.until_empty();
    done
}

pub(crate) fn nothing_is_computed_where_another_version_or_a_refusal_is_foreseen<W: World>() {
    let made = make(&["localhost"]);
    let Some(batch) = batch() else { return };
    let provider = batch.provider(handfast::crypto::provider());
    let world = |versions, policy: Policy| {
        let mut config = one_protocol_by(&made, versions, policy, provider.clone());
        config.prepare = Box::new(Batched::new(batch, &provider).expect("memory"));
        W::new(config)
    };
    let computed = |m: &handfast::metrics::Metrics| (m.batch_lanes, m.batch_scalar_fallbacks, m.batch_misses);
    let mut options = clients(&made, &[X25519]);

    let mut old = world(TlsVersions::Tls12, Policy::default());
    assert!(together(&mut old, &options).iter().all(|done| *done));
    assert_eq!((old.metrics().handshakes_full, computed(&old.metrics())), (CLIENTS, (0, 0, 0)));

    options.alpn = vec!["of-nobody"];
    let mut strange = world(TlsVersions::default(), Policy::default());
    assert!(together(&mut strange, &options).iter().all(|done| !*done));
    assert_eq!(computed(&strange.metrics()), (0, 0, 0));

    // A callback is asked once for each hello, and its refusals count too.
    options.alpn = vec!["h2"];
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let policy = Policy::callback(move |_| match count.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => Selection::Refuse(AlertDescription::AccessDenied),
        _ => Selection::Table,
    });
    let mut world = world(TlsVersions::default(), policy);
    let done = together(&mut world, &options);
    let done = done.iter().filter(|done| **done).count() as u64;
    let m = world.metrics();
    assert_eq!((asked.load(Ordering::Relaxed), done, m.handshakes_full), (CLIENTS, CLIENTS / 2, CLIENTS / 2), "{m}");
    assert_eq!((m.batch_lanes + m.batch_scalar_fallbacks, m.batch_misses), (CLIENTS / 2, 0), "{m}");
}

pub(crate) fn hellos_in_pieces_are_answered_from_a_batch<W: World>() {
    let made = make(&["localhost"]);
    let Some(config) = batched(&made, handfast::crypto::provider()) else { return };
    let mut world = W::new(config);
    let config = clients(&made, &[X25519]).config();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Tls::new(world.connect(), &config, "localhost")).collect();
    let hellos: Vec<_> = clients.iter_mut().map(Tls::outgoing).collect();
    for (client, hello) in clients.iter_mut().zip(&hellos) {
        client.peer.send(&hello[..100]);
    }
    world.pass(std::time::Duration::from_millis(20));
    for (client, hello) in clients.iter_mut().zip(&hellos) {
        client.peer.send(&hello[100..]);
    }
    for client in &mut clients {
        client.handshake(&mut world).expect("a handshake");
        client.close();
    }
    world.until_empty();
    let m = world.metrics();
    assert_eq!((m.batch_lanes + m.batch_scalar_fallbacks, m.batch_misses), (CLIENTS, 0), "{m}");
    assert!(m.batch_lanes > 0, "{m}");
}

pub(crate) fn one_client_at_a_time_is_left_to_aws_lc<W: World>() {
    let made = make(&["localhost"]);
    let Some(config) = batched(&made, handfast::crypto::provider()) else { return };
    let mut world = W::new(config);
    let config = clients(&made, &[X25519]).config();
    for _ in 0..CLIENTS {
        let mut client = Tls::new(world.connect(), &config, "localhost");
        client.handshake(&mut world).expect("a handshake");
        client.close();
        world.until_empty();
    }
    let m = world.metrics();
    assert_eq!((m.batch_agreements, m.batch_scalar_fallbacks, m.batch_misses), (0, CLIENTS, 0), "{m}");
}

pub(crate) fn a_client_of_a_plain_provider_needs_no_batch<W: World>() {
    // Configurations made for batches, and a shard that prepares nothing.
    let made = make(&["localhost"]);
    let Some(batch) = batch() else { return };
    let mut world = W::new(with_provider(&made, batch.provider(handfast::crypto::provider())));
    handshakes(&mut world, &clients(&made, &[X25519MLKEM768, X25519]), HandshakeKind::Full);
    assert_eq!(world.metrics().handshakes_full, CLIENTS);
}
