//! The turns of a shard that computes in batches, on the simulator's clock: when key pairs are made, ClientHellos that
//! are held back for others, and a prepare phase that panics.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use handfast::crypto::batch::BatchCounters;
use handfast::handshake::hello::ClientHelloView;
use handfast::handshake::{Batched, Foreseen, Prepare, Sources};
use handfast::rustls::ClientConfig;
use handfast::rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519};
use handfast::shard::{Destination, ShardConfig};
use handfast::time::Instant64;
use handfast::transport::Transport;
use handfast::transport::sim::SimPeer;
use handfast::{Protocol, Stream};
use handfast_tests::batch::batch;
use handfast_tests::certificates::{Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{SimWorld, World};
use tokio::io::AsyncWriteExt;

use crate::setup::{reload, shard_with};

const WAIT: Duration = Duration::from_millis(200);

async fn echo(mut stream: Stream) {
    while let Ok(bytes) = stream.received().await {
        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// A shard that serves `chat/1` by an echo, and holds ClientHellos back for so long; `None` where the CPU cannot.
fn shard(made: &Made, wait: Duration) -> Option<ShardConfig> {
    let batch = batch()?;
    let mut sources = Sources::default();
    sources.provider = Arc::new(batch.provider(handfast::crypto::provider()));
    let served = Protocol::alpn("chat/1").serve(echo).destination().clone();
    let mut config = shard_with(vec![("chat/1", made.set("default"), served)], |table| table, &sources, 1);
    config.prepare = Box::new(Batched::new(batch, &sources.provider).expect("memory").with_wait(wait));
    Some(config)
}

fn client(made: &Made) -> Arc<ClientConfig> {
    let mut options = Options::new(made.roots(), &["chat/1"]);
    options.provider.kx_groups = vec![X25519];
    options.config()
}

fn world(made: &Made, wait: Duration) -> Option<SimWorld> {
    shard(made, wait).map(SimWorld::new)
}

fn connect(world: &mut SimWorld, config: &Arc<ClientConfig>) -> Tls<SimPeer> {
    let mut client = Tls::new(world.connect(), config, "localhost");
    client.pump();
    client
}

/// Whether the server has said anything.
fn is_answered(client: &mut Tls<SimPeer>) -> bool {
    client.pump();
    client.flights > 1
}

fn now(world: &mut SimWorld) -> Instant64 {
    world.shard().transport().now()
}

#[test]
fn hellos_that_come_within_the_wait_are_computed_together() {
    let made = make(&["localhost"]);
    let config = client(&made);
    for (wait, together) in [(WAIT, true), (Duration::ZERO, false)] {
        let Some(mut world) = world(&made, wait) else { return };
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(connect(&mut world, &config));
            world.pass(WAIT / 10);
        }
        assert!(clients.iter_mut().all(|client| is_answered(client) != together));
        for client in &mut clients {
            client.handshake(&mut world).expect("a handshake");
        }
        let m = world.metrics();
        let (lanes, held) = if together { (3, 3) } else { (0, 0) };
        assert_eq!((m.batch_lanes, m.batch_held, m.batch_misses), (lanes, held, 0), "{m}");
        assert_eq!(m.batch_lanes + m.batch_scalar_fallbacks, 3, "{m}");
    }
}

#[test]
fn a_lone_hello_leaves_after_the_wait() {
    let made = make(&["localhost"]);
    let Some(mut world) = world(&made, WAIT) else { return };
    let mut client = connect(&mut world, &client(&made));
    world.until("the hello is there", |world| world.metrics().batch_held == 1);
    let since = now(&mut world);
    world.until("an answer", |_| is_answered(&mut client));
    let waited = now(&mut world).since(since);
    assert!(waited >= WAIT - Duration::from_millis(2) && waited < WAIT + Duration::from_millis(10), "{waited:?}");
    client.handshake(&mut world).expect("a handshake");
    assert_eq!((world.metrics().batch_held, world.metrics().batch_scalar_fallbacks), (1, 1));
}

#[test]
fn eight_hellos_wait_for_no_more() {
    let made = make(&["localhost"]);
    let config = client(&made);
    let Some(mut world) = world(&made, WAIT) else { return };
    let since = now(&mut world);
    let mut clients: Vec<_> = (0..7).map(|_| connect(&mut world, &config)).collect();
    world.pass(WAIT / 4);
    assert!(!clients.iter_mut().any(is_answered));
    clients.push(connect(&mut world, &config));
    for client in &mut clients {
        client.handshake(&mut world).expect("a handshake");
    }
    assert!(now(&mut world).since(since) < WAIT);
    let m = world.metrics();
    assert_eq!((m.batch_lanes, m.batch_agreements, m.batch_held), (8, 1, 7), "{m}");
}

#[test]
fn what_gains_nothing_does_not_wait() {
    let made = make(&["localhost"]);
    let Some(mut world) = world(&made, WAIT) else { return };
    let mut options = Options::new(made.roots(), &["chat/1"]);
    options.provider.kx_groups = vec![SECP256R1];
    let since = now(&mut world);
    connect(&mut world, &options.config()).handshake(&mut world).expect("a handshake");
    assert!(now(&mut world).since(since) < WAIT);
    assert_eq!(world.metrics().batch_held, 0);
}

#[test]
fn streams_go_on_while_a_hello_waits() {
    let made = make(&["localhost"]);
    let config = client(&made);
    let Some(mut world) = world(&made, WAIT) else { return };
    let mut chat = connect(&mut world, &config);
    chat.handshake(&mut world).expect("a handshake");
    let mut waiting = connect(&mut world, &config);
    world.until("the hello is there", |world| world.metrics().batch_held == 2);
    for round in 0..10 {
        chat.send(format!("round {round}").as_bytes());
        let mut answer = Vec::new();
        world.until("an echo", |_| {
            answer.extend(chat.recv());
            answer.len() == 7
        });
    }
    assert!(!is_answered(&mut waiting), "and it still waits");
    waiting.handshake(&mut world).expect("a handshake");
}

#[test]
fn clients_that_leave_while_they_wait_leave_nothing_behind() {
    let made = make(&["localhost"]);
    let config = client(&made);
    let Some(mut world) = world(&made, WAIT) else { return };
    let gone = connect(&mut world, &config);
    let ends = connect(&mut world, &config);
    let hasty = connect(&mut world, &config);
    world.until("the hellos are there", |world| world.metrics().batch_held == 3);
    gone.peer.reset();
    ends.peer.shutdown();
    // More than a ClientHello: what follows it is read after it, and no turn spins for it.
    hasty.peer.send(&[23, 3, 3, 0, 1, 0]);
    let before = world.metrics().turns;
    world.pass(WAIT / 2);
    assert!(world.metrics().turns - before < 20, "{}", world.metrics());
    drop(hasty);
    world.pass(WAIT);
    world.until_empty();
}

/// Eights of key pairs that a full pool has.
const FULL: u64 = 32;

#[test]
fn the_pool_is_full_before_the_first_turn_and_anew_after_a_reload() {
    let made = make(&["localhost"]);
    let Some(mut world) = world(&made, Duration::ZERO) else { return };
    world.turn();
    assert_eq!(world.metrics().batch_pool_refills, FULL);
    world.turn();
    assert_eq!(world.metrics().batch_pool_refills, FULL, "it was full");
    world.shard().reload(&reload(vec![("h2", made.set("default"), Destination::Close)]));
    world.turn();
    assert_eq!(world.metrics().batch_pool_refills, 2 * FULL);
}

#[test]
fn an_idle_shard_wakes_for_its_pool_and_for_nothing_else() {
    let made = make(&["localhost"]);
    let Some(mut world) = world(&made, Duration::ZERO) else { return };
    world.pass(Duration::from_secs(49));
    assert_eq!((world.metrics().turns, world.metrics().batch_pool_refills), (1, FULL));
    world.pass(Duration::from_secs(2));
    assert_eq!((world.metrics().turns, world.metrics().batch_pool_refills), (3, 2 * FULL));
}

/// Computes in batches, and writes down the phases, each with the eights of key pairs made by its end.
struct Traced(Batched, Rc<RefCell<Vec<(&'static str, u64)>>>);

impl Traced {
    fn note(&self, phase: &'static str) {
        self.1.borrow_mut().push((phase, self.0.counters().refills));
    }
}

impl Prepare for Traced {
    fn see(&mut self, hello: &ClientHelloView<'_>, foreseen: &Foreseen<'_>) {
        self.0.see(hello, foreseen);
    }

    fn prepare(&mut self, now: Instant64) {
        self.0.prepare(now);
        self.note("prepare");
    }

    fn finish(&mut self) {
        self.0.finish();
        self.note("finish");
    }

    fn replenish(&mut self, now: Instant64) {
        self.0.replenish(now);
        self.note("replenish");
    }

    fn counters(&self) -> BatchCounters {
        self.0.counters()
    }
}

#[test]
fn however_many_hellos_come_at_once_key_pairs_are_made_between_their_batches() {
    const CLIENTS: usize = 600;
    let made = make(&["localhost"]);
    let config = client(&made);
    let Some(mut shard) = shard(&made, Duration::ZERO) else { return };
    let batch = batch().expect("as before");
    let provider = batch.provider(handfast::crypto::provider());
    let trace = Rc::default();
    shard.prepare = Box::new(Traced(Batched::new(batch, &provider).expect("memory"), Rc::clone(&trace)));
    let mut world = SimWorld::new(shard);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Tls::new(world.connect(), &config, "localhost")).collect();
    world.until("all are accepted", |world| world.shard().connections() == CLIENTS);
    clients.iter_mut().for_each(Tls::pump);
    trace.borrow_mut().clear();
    let hellos = world.metrics().hello_turns;
    world.until("all hellos are answered", |_| clients.iter_mut().all(is_answered));
    let m = world.metrics();
    assert_eq!((m.batch_lanes, m.batch_scalar_fallbacks, m.batch_misses), (CLIENTS as u64, 0, 0), "{m}");
    assert_eq!((m.hello_turns - hellos, m.hellos_per_turn_max), (3, 256), "{m}");
    let trace = trace.borrow();
    let from = trace.iter().position(|(phase, _)| *phase == "prepare").expect("hellos");
    let batches = &trace[from..from + 9];
    assert!(batches.chunks(3).map(|batch| batch[0].0).eq(["prepare"; 3]), "{trace:?}");
    for batch in batches.chunks(3) {
        let [("prepare", before), ("finish", answered), ("replenish", after)] = batch else { panic!("{trace:?}") };
        assert!(before == answered && answered < after, "{trace:?}");
    }
}

/// Computes in batches, but for the first, which it does not get to the end of.
struct Clumsy(Batched, bool);

impl Prepare for Clumsy {
    fn see(&mut self, hello: &ClientHelloView<'_>, foreseen: &Foreseen<'_>) {
        self.0.see(hello, foreseen);
    }

    fn prepare(&mut self, now: Instant64) {
        self.0.prepare(now);
        assert!(std::mem::replace(&mut self.1, true), "a bug of ours");
    }

    fn finish(&mut self) {
        self.0.finish();
    }

    fn replenish(&mut self, now: Instant64) {
        self.0.replenish(now);
    }

    fn counters(&self) -> BatchCounters {
        self.0.counters()
    }
}

#[test]
fn a_panic_in_the_prepare_phase_is_counted_and_costs_its_turn_the_batch() {
    let made = make(&["localhost"]);
    let config = client(&made);
    let Some(mut shard) = shard(&made, Duration::ZERO) else { return };
    let batch = batch().expect("as before");
    let provider = batch.provider(handfast::crypto::provider());
    shard.prepare = Box::new(Clumsy(Batched::new(batch, &provider).expect("memory"), false));
    let mut world = SimWorld::new(shard);
    for _ in 0..2 {
        let mut clients: Vec<_> = (0..3).map(|_| connect(&mut world, &config)).collect();
        for client in &mut clients {
            client.handshake(&mut world).expect("a handshake");
        }
        assert_eq!((world.metrics().batch_panics, world.metrics().batch_misses), (1, 0), "{}", world.metrics());
    }
    world.until("the last Finished", |world| world.metrics().handshakes_full == 6);
    assert_eq!(world.metrics().batch_lanes, 6, "{}", world.metrics());
}
