//! Shards over the simulated network with seeded faults, some with early data, some behind a proxy, some that compute in
//! batches. A failure prints its seed; `HANDFAST_SEEDS=FROM..TO` runs others, `HANDFAST_SEEDS=N..N+1` that one again.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use handfast::crypto::batch::Batch;
use handfast::error::RefusalClass;
use handfast::handshake::{Batched, Blueprint, ProtocolTls, Sources};
use handfast::metrics::Metrics;
use handfast::rustls::ClientConfig;
use handfast::selection::Table;
use handfast::shard::{Destination, ShardConfig};
use handfast::transport::sim::{Faults, SimPeer};
use handfast::{IpNet, Protocol, ProxyProtocol, Stream};
use handfast_tests::batch::batch;
use handfast_tests::certificates::{Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{SimWorld, World};
use tokio::io::AsyncWriteExt;

const CONNECTIONS: usize = 8;
/// Each step lets a millisecond pass; no exchange here is due longer, whatever its faults.
const STEPS: usize = 600_000;
const MESSAGE: &[u8] = b"the bytes that were sent before the answer was known";

/// What of it is early data, in the seeds that have some.
const EARLY_LEN: usize = 20;
/// Of both versions.
const PROXY_HEADERS: [&[u8]; 2] = [
    b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x1f\x90\x01\xbb",
];

async fn echo(mut stream: Stream) {
    while let Ok(bytes) = stream.received().await {
        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

struct Client {
    tls: Tls<SimPeer>,
    protocol: &'static str,
    /// How much of the message was sent as early data.
    early: usize,
    sent: bool,
    got: Vec<u8>,
    closed: bool,
}

impl Client {
    fn step(&mut self) {
        self.tls.pump();
        if self.tls.conn.is_handshaking() || self.tls.error.is_some() {
            return;
        }
        if !std::mem::replace(&mut self.sent, true) && self.protocol == "echo" {
            let taken = if self.tls.conn.is_early_data_accepted() { self.early } else { 0 };
            self.tls.send(&MESSAGE[taken..]);
        }
        self.got.extend(self.tls.recv());
        let done = self.protocol == "close" || self.got.len() >= MESSAGE.len();
        if done && !std::mem::replace(&mut self.closed, true) {
            self.tls.close();
            self.tls.peer.shutdown();
        }
    }

    fn is_over(&mut self) -> bool {
        self.tls.peer.is_eof() || self.tls.peer.is_reset() || self.tls.error.is_some()
    }
}

fn shard(blueprint: &Blueprint) -> ShardConfig {
    let echo = Protocol::alpn("echo").serve(echo).destination().clone();
    ShardConfig::new(blueprint.live(), vec![echo, Destination::Close])
}

/// A configuration for clients with sessions of `echo` that allow early data, one for each.
fn early_clients(made: &Made, blueprint: &Blueprint) -> Arc<ClientConfig> {
    let mut options = Options::new(made.roots(), &["echo"]);
    options.resume = true;
    let mut config = Arc::unwrap_or_clone(options.config());
    config.enable_early_data = true;
    let (config, mut world) = (Arc::new(config), SimWorld::new(shard(blueprint)));
    let clients = (0..CONNECTIONS).map(|_| Tls::new(world.connect(), &config, "localhost")).collect::<Vec<_>>();
    for mut client in clients {
        client.handshake(&mut world).expect("a handshake");
        client.send(b"x");
        world.until("an answer, and the ticket before it", |_| client.recv() == b"x");
    }
    config
}

/// What the shard has counted at the end of a seed, where the CPU can compute in batches with `batch`.
fn run(seed: u64, made: &Made, blueprint: &Blueprint, batch: Option<Batch>) -> Metrics {
    let faults = Faults::swarm(seed);
    let breaks = faults.may_break_connections();
    let mut config = shard(blueprint);
    // Two of three seeds compute in batches, on a CPU that can; the configurations look for what was prepared. One of
    // the two presigns, and holds ClientHellos back for others.
    let batch = batch.filter(|_| !seed.is_multiple_of(3));
    if let Some(batch) = batch {
        let batch = if seed % 3 == 2 { batch.with_presigning().expect("nonces") } else { batch };
        let wait = Duration::from_millis(if seed % 3 == 2 { 5 } else { 0 });
        let batched = Batched::new(batch, &handfast::crypto::provider()).expect("memory");
        config.prepare = Box::new(batched.with_wait(wait));
    }
    config.limits.handshake_deadline = Duration::from_secs(600);
    // Limits that are met all the time.
    let index = usize::try_from(seed % 4).unwrap_or(0);
    config.limits.read_bytes_per_turn = [64 * 1024, 700, 100, 7][index];
    config.limits.stream_read_bytes = [64 * 1024, 1000, 20, 64 * 1024][index];
    config.limits.stream_write_bytes = [64 * 1024, 30, 64 * 1024, 1000][index];
    config.limits.proxy_header_deadline = config.limits.handshake_deadline;
    let everywhere: IpNet = "0.0.0.0/0".parse().expect("a network");
    let proxy = (seed % 5 < 2).then(|| ProxyProtocol::from_sources([everywhere]));
    let early = (seed / 2).is_multiple_of(3).then(|| early_clients(made, blueprint));
    let mut world = SimWorld::with_faults(seed, faults, proxy.clone(), config);
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|i| {
            let protocol = if i % 2 == 0 { "echo" } else { "close" };
            let options = Options::new(made.roots(), &[protocol]).config();
            let config = early.as_ref().filter(|_| protocol == "echo").unwrap_or(&options);
            let mut tls = Tls::new(world.connect(), config, "localhost");
            if proxy.is_some() {
                tls.peer.send(PROXY_HEADERS[i / 2 % 2]);
            }
            let early = tls.conn.early_data().map_or(0, |mut e| e.write(&MESSAGE[..EARLY_LEN]).expect("room"));
            Client { tls, protocol, early, sent: false, got: Vec::new(), closed: false }
        })
        .collect();
    for step in 0.. {
        assert!(step < STEPS, "seed {seed}: no progress; {:?}", world.metrics());
        world.turn();
        clients.iter_mut().for_each(Client::step);
        if clients.iter_mut().all(Client::is_over) {
            break;
        }
        // A flipped bit in a record's length leaves both sides waiting for the rest of it: the client gives up.
        if breaks && step == STEPS / 2 {
            clients.iter().for_each(|c| c.tls.peer.reset());
            break;
        }
    }
    let results: Vec<_> = clients
        .iter()
        .map(|c| (c.protocol, c.tls.conn.is_handshaking(), c.tls.alpn(), c.got.clone(), c.tls.error.clone()))
        .collect();
    drop(clients);
    world.until_empty();

    let m = world.metrics();
    assert_eq!(m.opened, m.closed, "seed {seed}: {m:?}");
    assert_eq!(m.handler_panics, 0, "seed {seed}");
    assert_eq!(m.refused(RefusalClass::Internal), 0, "seed {seed}: something panicked");
    assert_eq!(m.batch_panics, 0, "seed {seed}: something panicked over a batch");
    assert!(m.handshakes() + m.refused_total() <= m.opened, "seed {seed}: {m:?}");
    for (protocol, handshaking, alpn, got, error) in results {
        assert!(MESSAGE.starts_with(&got), "seed {seed}: bytes changed on their way: {}", got.escape_ascii());
        if !handshaking {
            assert_eq!(alpn.as_deref(), Some(protocol), "seed {seed}");
        }
        if !breaks {
            assert!(!handshaking && error.is_none(), "seed {seed}: {error:?} {m:?} {:?}", Faults::swarm(seed));
            assert!(protocol == "close" || got == MESSAGE, "seed {seed}: {}", got.escape_ascii());
        }
    }
    if !breaks {
        assert_eq!(m.handshakes(), CONNECTIONS as u64, "seed {seed}: {m:?}");
        let with_early = if early.is_some() { CONNECTIONS as u64 / 2 } else { 0 };
        assert_eq!(m.early_data_accepted, with_early, "seed {seed}: {m:?}");
        let prepared = if batch.is_some() { CONNECTIONS as u64 } else { 0 };
        assert_eq!(m.batch_lanes + m.batch_scalar_fallbacks, prepared, "seed {seed}: {m:?}");
        assert_eq!((m.batch_misses, m.batch_presigned), (0, m.batch_nonces), "seed {seed}: {m:?}");
    }
    m
}

#[test]
fn every_seed_ends_with_nothing_left() {
    let range = std::env::var("HANDFAST_SEEDS").unwrap_or_else(|_| "0..300".into());
    let (from, to) = range.split_once("..").expect("FROM..TO");
    let (from, to): (u64, u64) = (from.parse().expect("a seed"), to.parse().expect("a seed"));
    let made = make(&["localhost"]);
    let table = Table::builder().protocol("echo").protocol("close").build().expect("a table");
    let mut sources = Sources::default();
    let batch = batch();
    if let Some(batch) = batch {
        let presigning = batch.with_presigning().expect("nonces");
        sources.provider = Arc::new(presigning.provider(handfast::crypto::provider()));
    }
    let set = made.set_with("default", &sources.provider);
    let mut protocols = ["echo", "close"].map(|id| ProtocolTls::new(id.as_bytes(), Arc::clone(&set)));
    protocols[0].early_data = 1024;
    let blueprint = Blueprint::new(table, &protocols, &sources).expect("configurations");
    let mut all = Metrics::default();
    for seed in from..to {
        all.add(&run(seed, &made, &blueprint, batch));
    }
    // A few seeds may happen to have nothing to compute together.
    if batch.is_some() && to - from >= 100 {
        assert!(all.batch_agreements > 0 && all.batch_lanes >= 2 * all.batch_agreements, "{all}");
        assert!(all.batch_nonces > 0 && all.batch_presigned > 0 && all.batch_held > 0, "{all}");
    }
}
