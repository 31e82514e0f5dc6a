//! Early data (RFC 8446 sections 2.3 and 8): answered before the client's Finished, and never twice.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast::crypto::SessionStore;
use handfast::error::RefusalClass;
use handfast::handshake::{Blueprint, ProtocolTls, Sources};
use handfast::identity::{ClientAuth, ClientRoots};
use handfast::rustls::ClientConfig;
use handfast::rustls::NamedGroup;
use handfast::rustls::client::Resumption;
use handfast::selection::Table;
use handfast::shard::{Destination, ShardConfig};
use handfast::{Mailbox, Protocol, Stream};
use handfast_tests::certificates::{Authority, Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, TcpWorld, World};
use tokio::io::AsyncWriteExt;

use crate::setup::limits;

const EARLY: &[u8] = b"GET / before anything is settled";

/// Whom the protocols are served by, and the sessions that they keep.
struct Host {
    made: Made,
    store: Arc<SessionStore>,
    /// What was read while it could be a replay.
    replayable: Arc<Mutex<Vec<u8>>>,
    /// Connections that their worker saw.
    started: Arc<AtomicUsize>,
}

impl Host {
    fn new() -> Self {
        let store = Arc::new(SessionStore::new(1024, 1 << 20));
        Self { made: make(&["localhost"]), store, replayable: Arc::default(), started: Arc::default() }
    }

    /// Answers each read with whether it may be a replay.
    fn telling(&self) -> Destination {
        let (replayable, started) = (Arc::clone(&self.replayable), Arc::clone(&self.started));
        let protocol = Protocol::alpn("any").serve(move |mut stream: Stream| {
            started.fetch_add(1, Ordering::Relaxed);
            let replayable = Arc::clone(&replayable);
            async move {
                while let Ok(bytes) = stream.received().await {
                    let early = stream.facts().early_data.as_ref().is_some_and(|e| e.is_replayable());
                    if bytes.is_empty() {
                        return;
                    }
                    if early {
                        replayable.lock().expect("no panic").extend_from_slice(&bytes);
                    }
                    let mark = if early { &b"early:"[..] } else { b"late:" };
                    if stream.write_all(&[mark, &bytes].concat()).await.is_err() {
                        return;
                    }
                }
            }
        });
        protocol.destination().clone()
    }

    /// A shard on which these protocols accept so much early data.
    fn shard(&self, ids: &[&str], early_data: u32, to: &Destination, sources: &Sources) -> ShardConfig {
        let set = self.made.set("default");
        let tls = ids.iter().map(|id| {
            let mut tls = ProtocolTls::new(id.as_bytes(), Arc::clone(&set));
            tls.early_data = early_data;
            tls
        });
        let tls: Vec<_> = tls.collect();
        let table = ids.iter().fold(Table::builder(), |table, id| table.protocol(*id)).build().expect("a table");
        let blueprint = Blueprint::new(table, &tls, sources).expect("configurations");
        let live = blueprint.with_sessions(Arc::clone(&self.store)).live();
        let mut config = ShardConfig::new(live, vec![to.clone(); ids.len()]);
        config.limits = limits();
        config
    }

    fn world<W: World>(&self, early_data: u32) -> W {
        W::new(self.shard(&["a", "b"], early_data, &self.telling(), &Sources::default()))
    }

    /// A client that keeps sessions and uses them for early data.
    fn client(&self, id: &'static str) -> ClientConfig {
        let mut options = Options::new(self.made.roots(), &[id]);
        options.resume = true;
        let mut config = Arc::unwrap_or_clone(options.config());
        config.enable_early_data = true;
        config
    }
}

/// Handshakes in full and waits for what may be resumed.
fn first<W: World>(world: &mut W, config: &ClientConfig) {
    let mut client = Tls::new(world.connect(), &Arc::new(config.clone()), "localhost");
    client.handshake(world).expect("a handshake");
    client.send(b"x");
    // Tickets come before it.
    hears(world, &mut client, b"late:x");
    client.close();
    world.until_empty();
}

/// A client whose early data waits to be sent.
fn second<W: World>(world: &mut W, config: &ClientConfig, early: &[u8]) -> Tls<W::Peer> {
    let mut client = Tls::new(world.connect(), &Arc::new(config.clone()), "localhost");
    let taken = client.conn.early_data().expect("a session that allows it").write(early).expect("room");
    assert_eq!(taken, early.len());
    client
}

/// A host with a shard, and a client's configuration that has been there once.
fn opened<W: World>() -> (Host, W, ClientConfig) {
    let host = Host::new();
    let mut world = host.world(1024);
    let config = host.client("a");
    first(&mut world, &config);
    (host, world, config)
}

/// A client whose early data a worker has read; nothing but its first flight has been sent.
fn read_early<W: World>(host: &Host, world: &mut W, config: &ClientConfig) -> Tls<W::Peer> {
    let mut client = second(world, config, EARLY);
    let flight = client.outgoing();
    client.peer.send(&flight);
    world.until("the worker's read", |_| host.replayable.lock().expect("no panic").len() == EARLY.len());
    client
}

/// Waits until the client has heard this, and nothing else.
fn hears<W: World>(world: &mut W, client: &mut Tls<W::Peer>, wanted: &[u8]) {
    let mut answer = Vec::new();
    world.until("an answer", |_| {
        answer.extend(client.recv());
        answer == wanted
    });
}

pub(crate) fn it_is_answered_before_the_clients_finished<W: World>() {
    let (host, mut world, config) = opened::<W>();
    let mut client = read_early(&host, &mut world, &config);
    assert_eq!(*host.replayable.lock().expect("no panic"), EARLY);
    assert_eq!(world.metrics().handshakes_resumed, 0);
    hears(&mut world, &mut client, &[b"early:", EARLY].concat());
    assert!(client.is_resumed() && client.conn.is_early_data_accepted());
    client.send(b"more");
    hears(&mut world, &mut client, b"late:more");
    client.close();
    world.until_empty();
    let m = world.metrics();
    assert_eq!((m.handshakes_full, m.handshakes_resumed, m.early_data_accepted), (1, 1, 1), "{m:?}");
    assert_eq!(m.refused_total(), 0, "{m:?}");
}

pub(crate) fn a_replay_is_not_processed<W: World>() {
    let host = Host::new();
    // Two shards of a host.
    let (mut one, mut two): (W, W) = (host.world(1024), host.world(1024));
    let config = host.client("a");
    first(&mut one, &config);
    let mut client = second(&mut one, &config, EARLY);
    let recorded = client.outgoing();
    let started = host.started.load(Ordering::Relaxed);
    for round in 0..3 {
        for world in [&mut two, &mut one] {
            let mut peer = world.connect();
            peer.send(&recorded);
            world.until("the server's flight", |_| !peer.recv().is_empty());
            peer.shutdown();
            world.until("its end", |_| peer.is_eof());
            let processed = host.started.load(Ordering::Relaxed) - started;
            assert_eq!(processed, 1, "round {round}");
        }
    }
    assert_eq!(*host.replayable.lock().expect("no panic"), EARLY);
    let accepted = one.metrics().early_data_accepted + two.metrics().early_data_accepted;
    let vanished = one.metrics().refused(RefusalClass::Vanished) + two.metrics().refused(RefusalClass::Vanished);
    assert_eq!((accepted, vanished), (1, 6));
    // It takes the session for the client's that is too late, which then goes on without early data.
    client.peer.send(&recorded);
    client.handshake(&mut one).expect("a handshake");
    assert!(!client.is_resumed() && !client.conn.is_early_data_accepted());
    client.send(b"again");
    hears(&mut one, &mut client, b"late:again");
}

pub(crate) fn more_than_was_allowed_is_refused<W: World>() {
    let host = Host::new();
    let (mut generous, mut strict): (W, W) = (host.world(1024), host.world(8));
    let config = host.client("a");
    first(&mut generous, &config);
    let started = host.started.load(Ordering::Relaxed);
    let mut client = second(&mut strict, &config, EARLY);
    client.handshake(&mut strict).expect_err("too much early data");
    strict.until_empty();
    assert_eq!(host.started.load(Ordering::Relaxed), started);
    let m = strict.metrics();
    assert_eq!((m.refused(RefusalClass::Misbehaved), m.early_data_accepted), (1, 0), "{m:?}");
}

pub(crate) fn another_protocol_or_group_rejects_it_and_goes_on<W: World>() {
    let (host, mut world, mut config) = opened::<W>();
    let mut p384 = Sources::default();
    p384.provider = Arc::new(handfast::crypto::provider_with(|group| group == NamedGroup::secp384r1, |_| true));
    // Where the client's key share does not fit, a HelloRetryRequest rejects its early data.
    let mut retrying = W::new(host.shard(&["a"], 1024, &host.telling(), &p384));
    let mut off: W = host.world(0);
    for case in ["protocol", "retry", "off"] {
        config.alpn_protocols = vec![b"a".to_vec()];
        first(&mut world, &config);
        config.alpn_protocols = vec![if case == "protocol" { b"b".to_vec() } else { b"a".to_vec() }];
        let at = match case {
            "retry" => &mut retrying,
            "off" => &mut off,
            _ => &mut world,
        };
        let mut client = second(at, &config, EARLY);
        client.handshake(at).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert!(!client.conn.is_early_data_accepted(), "{case}");
        client.send(b"once more");
        hears(at, &mut client, b"late:once more");
        client.close();
        at.until_empty();
        assert_eq!(at.metrics().early_data_accepted, 0, "{case}");
    }
    assert!(host.replayable.lock().expect("no panic").is_empty());
}

pub(crate) fn a_client_that_never_finishes_meets_the_deadline<W: World>() {
    let host = Host::new();
    let mut config = host.shard(&["a"], 1024, &host.telling(), &Sources::default());
    config.limits.handshake_deadline = Duration::from_millis(300);
    let mut world = W::new(config);
    let config = host.client("a");
    first(&mut world, &config);
    let _silent = read_early(&host, &mut world, &config);
    world.until_empty();
    let m = world.metrics();
    assert_eq!((m.early_data_accepted, m.refused(RefusalClass::Deadline)), (1, 1), "{m:?}");
    assert_eq!(m.handshakes(), 1, "{m:?}");
}

pub(crate) fn a_bad_finished_ends_the_connection_of_its_worker<W: World>() {
    let (host, mut world, config) = opened::<W>();
    let mut client = read_early(&host, &mut world, &config);
    client.peer.send(&[23, 3, 3, 0, 32, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
    client.peer.send(&[7; 6]);
    world.until("the refusal", |w| w.metrics().refused(RefusalClass::BadCrypto) == 1);
    client.peer.shutdown();
    world.until_empty();
    let m = world.metrics();
    assert_eq!((m.handshakes(), m.faults_after_handshake), (1, 0), "{m:?}");
}

pub(crate) fn kept_sessions_over_a_limit_are_forgotten<W: World>() {
    // Room for one in each of the sixteen parts of a store, by number and by bytes.
    for (sessions_max, bytes_max) in [(16, 1 << 20), (1024, 16 * 500)] {
        let mut host = Host::new();
        host.store = Arc::new(SessionStore::new(sessions_max, bytes_max));
        let mut world: W = host.world(1024);
        let mut config = host.client("a");
        config.resumption = Resumption::disabled();
        for _ in 0..20 {
            first(&mut world, &config);
        }
        let counts = host.store.counts();
        assert_eq!(counts.stored, 20);
        assert!((4..20).contains(&counts.evicted), "{counts:?}");
    }
}

/// Sets of another name, and other client authentication: with the secret of tickets it is no different.
pub(crate) fn a_kept_session_stays_in_its_domain<W: World>() {
    let host = Host::new();
    let anybody = ClientAuth::Optional(ClientRoots::from_der(vec![Authority::new("ours").der]).expect("roots"));
    let protocols = [("a", "one", ClientAuth::None), ("b", "other", ClientAuth::None), ("c", "one", anybody)];
    let tls = protocols.map(|(id, set, auth)| {
        let mut tls = ProtocolTls::new(id.as_bytes(), host.made.set(set));
        (tls.early_data, tls.client_auth) = (1024, auth);
        tls
    });
    let ids = ["a", "b", "c"];
    let table = ids.iter().fold(Table::builder(), |table, id| table.protocol(*id)).build().expect("a table");
    let blueprint = Blueprint::new(table, &tls, &Sources::default()).expect("configurations");
    let live = blueprint.with_sessions(Arc::clone(&host.store)).live();
    let mut world = W::new(ShardConfig::new(live, vec![host.telling(); 3]));
    for (id, resumes) in [("a", true), ("b", false), ("c", false)] {
        let mut config = host.client("a");
        first(&mut world, &config);
        config.alpn_protocols = vec![id.as_bytes().to_vec()];
        let mut client = Tls::new(world.connect(), &Arc::new(config), "localhost");
        client.handshake(&mut world).expect("a handshake");
        assert_eq!(client.is_resumed(), resumes, "{id}");
        client.close();
        world.until_empty();
    }
}

#[test]
fn whoever_is_handed_off_to_has_it_after_the_finished() {
    let host = Host::new();
    let (mailbox, receiver) = Mailbox::bounded(4);
    let mut world: TcpWorld = host.world(1024);
    let to = Protocol::alpn("any").hand_off(mailbox).destination().clone();
    let mut handing = TcpWorld::new(host.shard(&["a"], 1024, &to, &Sources::default()));
    let config = host.client("a");
    first(&mut world, &config);
    let mut client = second(&mut handing, &config, EARLY);
    let flight = client.outgoing();
    client.peer.send(&flight);
    // The answer to it is sent, and nobody has seen it yet.
    handing.until("the server's flight", |_| {
        client.receive();
        !client.conn.is_handshaking()
    });
    assert!(receiver.is_empty());
    client.send(b", and late");
    handing.until("the hand-off", |_| !receiver.is_empty());
    let parts = receiver.recv().expect("a connection").into_parts();
    assert!(parts.received.starts_with(EARLY), "{}", parts.received.escape_ascii());
    let early = parts.facts.early_data.expect("early data");
    assert_eq!((early.bytes(), early.is_replayable()), (EARLY.len() as u64, false));
    let m = handing.metrics();
    assert_eq!((m.handshakes_resumed, m.early_data_accepted, m.handed_off), (1, 1, 1), "{m:?}");
}
