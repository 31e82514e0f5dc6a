//! How many allocations a handshake costs over those that rustls itself makes.

use std::sync::Arc;

use handfast::crypto::{TicketOptions, TicketSecrets, Ticketer};
use handfast::handshake::{Blueprint, ProtocolTls, Sources, TlsVersions};
use handfast::identity::{CertificateSet, Identity};
use handfast::rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use handfast::rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use handfast::rustls::{ClientConfig, NamedGroup, ServerConfig, SignatureScheme, version};
use handfast::selection::Table;
use handfast::shard::{Destination, ShardConfig};
use handfast_tests::certificates::{Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, TcpWorld, World};

const TICKETS: usize = 2;
const HANDSHAKES: u64 = 64;
/// What the issue allows.
const OURS_MAX: u64 = 4;

fn client_config(made: &Made) -> Arc<ClientConfig> {
    let mut options = Options::new(made.roots(), &["h2"]);
    options.versions = vec![&version::TLS13];
    options.provider.kx_groups.retain(|g| g.name() == NamedGroup::X25519);
    options.config()
}

/// One handshake and its end; the allocations that the shard made in it.
fn over_a_shard(world: &mut TcpWorld, config: &Arc<ClientConfig>) -> u64 {
    let mut client = Tls::new(world.connect(), config, "localhost");
    let closed = world.metrics().closed;
    let mut allocations = 0;
    let mut said_goodbye = false;
    world.until("a handshake and its end", |w| {
        client.pump();
        if !client.conn.is_handshaking() && !std::mem::replace(&mut said_goodbye, true) {
            client.close();
        }
        allocations += allocation_counter::measure(|| w.turn()).count_total;
        w.metrics().closed > closed
    });
    allocations
}

/// The same handshake between two rustls in memory; the allocations that the server's made.
fn over_rustls_alone(server: &Arc<ServerConfig>, config: &Arc<ClientConfig>) -> u64 {
    struct Memory(Vec<u8>, Vec<u8>);
    impl Peer for &mut Memory {
        fn send(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn recv(&mut self) -> Vec<u8> {
            std::mem::take(&mut self.1)
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
    let mut memory = Memory(Vec::new(), Vec::new());
    let mut client = Tls::new(&mut memory, config, "localhost");
    let mut out = Vec::with_capacity(16 * 1024);
    let mut conn = None;
    let mut allocations = 0;
    let mut over = false;
    while !over {
        client.pump();
        if !client.conn.is_handshaking() {
            client.close();
            over = true;
        }
        let mut input = std::mem::take(&mut client.peer.0);
        out.clear();
        let info = allocation_counter::measure(|| {
            let conn =
                conn.get_or_insert_with(|| UnbufferedServerConnection::new(Arc::clone(server)).expect("a connection"));
            drive(conn, &mut input, &mut out, over);
        });
        allocations += info.count_total;
        client.peer.1.extend_from_slice(&out);
    }
    assert!(!conn.expect("a connection").is_handshaking());
    allocations
}

fn drive(conn: &mut UnbufferedServerConnection, input: &mut [u8], out: &mut Vec<u8>, close: bool) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = conn.process_tls_records(&mut input[used..]);
        match state.expect("an honest handshake") {
            ConnectionState::EncodeTlsData(mut data) => {
                let at = out.len();
                let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else { unreachable!("no room") };
                out.resize(at + size.required_size, 0);
                let n = data.encode(&mut out[at..]).expect("room");
                out.truncate(at + n);
            }
            ConnectionState::TransmitTlsData(sent) => sent.done(),
            ConnectionState::PeerClosed => {}
            ConnectionState::WriteTraffic(mut traffic) => {
                if close {
                    let at = out.len();
                    out.resize(at + 64, 0);
                    let n = traffic.queue_close_notify(&mut out[at..]).expect("room");
                    out.truncate(at + n);
                }
                return;
            }
            _ => return,
        }
        used += discard;
    }
}

#[test]
fn a_handshake_allocates_little_over_rustls() {
    let made = make(&["localhost"]);
    let certificates = made.set("default");
    let client = client_config(&made);
    let sources = Sources::default();

    let mut rustls = ServerConfig::builder_with_provider(Arc::clone(&sources.provider))
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&certificates) as Arc<_>);
    rustls.alpn_protocols = vec![b"h2".to_vec()];
    rustls.session_storage = Arc::new(NoServerSessionStorage {});
    rustls.send_tls13_tickets = TICKETS;
    // The same sealer, so that what is left is the engine's own.
    let secrets = TicketSecrets::new([[7; 32]]).expect("a secret");
    let lifetime = TicketOptions::default().lifetime;
    let ticketer = Ticketer::new(secrets, lifetime, [0; 32], Arc::clone(&sources.time));
    rustls.ticketer = Arc::new(ticketer);
    let rustls = Arc::new(rustls);

    let mut tls = ProtocolTls::new(*b"h2", certificates);
    tls.versions = TlsVersions::Tls13;
    tls.tickets = TICKETS;
    let table = Table::builder().protocol("h2").build().expect("a table");
    let blueprint = Blueprint::new(table, &[tls], &sources).expect("configurations");
    let mut world = TcpWorld::new(ShardConfig::new(blueprint.live(), vec![Destination::Close]));

    // Once each to warm up what is kept between handshakes.
    for _ in 0..4 {
        over_a_shard(&mut world, &client);
        over_rustls_alone(&rustls, &client);
    }
    let theirs: u64 = (0..HANDSHAKES).map(|_| over_rustls_alone(&rustls, &client)).sum();
    let all: u64 = (0..HANDSHAKES).map(|_| over_a_shard(&mut world, &client)).sum();
    let (all, theirs) = (all as f64 / HANDSHAKES as f64, theirs as f64 / HANDSHAKES as f64);
    println!("allocations per handshake: {all:.2} with the engine, {theirs:.2} by rustls alone");
    assert!(theirs > 20.0, "the count counts nothing");
    assert!(all - theirs <= OURS_MAX as f64, "{all:.2} allocations, of which rustls makes {theirs:.2}");
}

#[test]
fn a_lookup_among_ten_thousand_names_allocates_nothing() {
    let key = rcgen::KeyPair::generate().expect("a key");
    // As many in each as authorities allow.
    let identity = |first: usize| {
        let names = (first..first + 100).map(|i| format!("host-{i}.test")).collect::<Vec<_>>();
        let params = rcgen::CertificateParams::new(names).expect("names");
        let (pem, key) = (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem());
        Identity::from_pem(pem.as_bytes(), key.as_bytes(), &handfast::crypto::provider()).expect("an identity")
    };
    let set = CertificateSet::new("default", (0..10_000).step_by(100).map(identity).collect()).expect("a set");
    let set = set.with_identity("pinned.test", Some(set.identities()[0].clone())).expect("a name");
    let schemes = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
    let asked = ["host-7.test", "HOST-9999.TEST.", "pinned.test", "unknown.test", "www.host-1.test", ""];
    let info = allocation_counter::measure(|| {
        for name in asked {
            assert!(set.choose(Some(name), schemes.into_iter()).is_some());
        }
        assert!(set.choose(None, schemes.into_iter()).is_some());
        assert!(set.choose(Some("host-7.test"), schemes[..1].iter().copied()).is_none());
    });
    assert_eq!(info.count_total, 0);
}
