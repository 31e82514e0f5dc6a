//! Limits on who may connect, on what goes on after the handshake, and how each is counted.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use handfast::Stream;
use handfast::error::RefusalClass;
use handfast::limits::{Limits, SourceRate};
use handfast::rustls::{CipherSuite, version};
use handfast::shard::Control;
use handfast::transport::sim::Faults;
use handfast_tests::client::{Options, Tls};
use handfast_tests::records::Sealer;
use handfast_tests::world::{Peer, SimWorld, TcpWorld, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup::{closing, serving};

async fn echo(mut stream: Stream) {
    while let Ok(bytes) = stream.received().await {
        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn number(n: u32) -> NonZeroU32 {
    n.try_into().expect("a number that is not zero")
}

/// A world with these limits, and options for its clients.
fn limited<W: World>(change: impl FnOnce(&mut Limits)) -> (W, Options) {
    let (mut config, options, _) = closing();
    change(&mut config.limits);
    (W::new(config), options)
}

/// A connection with the beginning of a ClientHello on it.
fn half_open<W: World>(world: &mut W, source: u8) -> W::Peer {
    let mut peer = world.connect_from(source);
    peer.send(&[22, 3, 1]);
    peer
}

fn handshake<W: World>(world: &mut W, options: &Options, source: u8) -> Tls<W::Peer> {
    let mut client = Tls::new(world.connect_from(source), &options.config(), "localhost");
    client.handshake(world).expect("a handshake");
    client
}

/// A connection from `source` is reset, and counted as `class`.
fn turned_away<W: World>(world: &mut W, source: u8, class: RefusalClass) {
    let before = world.metrics().refused(class);
    let mut peer = half_open(world, source);
    world.until("it is reset", |_| peer.is_reset());
    assert_eq!(world.metrics().refused(class), before + 1, "{:?}", world.metrics());
}

pub(crate) fn with_enough_handshakes_under_way_new_connections_are_shed<W: World>() {
    let (mut world, options) = limited::<W>(|l| l.handshakes_per_shard = 3);
    let mut first = Tls::new(world.connect_from(1), &options.config(), "localhost");
    let hello = first.outgoing();
    first.peer.send(&hello[..10]);
    let held: Vec<_> = (2..4).map(|source| half_open(&mut world, source)).collect();
    world.until("all three are accepted", |w| w.shard().connections() == 3);
    turned_away(&mut world, 4, RefusalClass::HandshakesShed);
    // The half-done ones stay, and what ends makes room.
    first.peer.send(&hello[10..]);
    first.handshake(&mut world).expect("the oldest goes on");
    world.until("it is counted", |w| w.metrics().handshakes() == 1);
    handshake(&mut world, &options, 4);
    drop((first, held));
    world.until_empty();
}

pub(crate) fn the_last_quarter_of_handshakes_is_for_sources_with_none<W: World>() {
    // No limit on sources is set.
    let (mut world, options) = limited::<W>(|l| l.handshakes_per_shard = 8);
    let held: Vec<_> = (0..6).map(|_| half_open(&mut world, 1)).collect();
    world.until("they are accepted", |w| w.shard().connections() == 6);
    turned_away(&mut world, 1, RefusalClass::HandshakesShed);
    for source in 2..20 {
        handshake(&mut world, &options, source).close();
    }
    assert_eq!(world.metrics().refused_total(), 1);
    drop(held);
    world.until_empty();
}

pub(crate) fn a_source_that_connects_too_fast_is_reset<W: World>() {
    let rate = SourceRate { per_second: number(2), burst: number(2) };
    let (mut world, options) = limited::<W>(|l| l.source.rate = Some(rate));
    let held = [handshake(&mut world, &options, 1), handshake(&mut world, &options, 1)];
    turned_away(&mut world, 1, RefusalClass::SourceRate);
    handshake(&mut world, &options, 2);
    world.pass(Duration::from_millis(550));
    handshake(&mut world, &options, 1);
    drop(held);
    world.until_empty();
}

pub(crate) fn a_source_has_so_many_handshakes_and_connections<W: World>() {
    let (mut world, options) = limited::<W>(|l| {
        l.source.handshakes = Some(number(2));
        l.source.connections = Some(number(3));
        l.close_wait = Duration::from_secs(5);
    });
    let first = handshake(&mut world, &options, 1);
    world.until("it is counted", |w| w.metrics().handshakes() == 1);
    let held = [half_open(&mut world, 1), half_open(&mut world, 1)];
    world.until("they are accepted", |w| w.shard().connections() == 3);
    turned_away(&mut world, 1, RefusalClass::SourceConnections);
    first.peer.reset();
    world.until("one has ended", |w| w.shard().connections() == 2);
    turned_away(&mut world, 1, RefusalClass::SourceHandshakes);
    handshake(&mut world, &options, 2);
    drop(held);
    world.until_empty();
    handshake(&mut world, &options, 1);
}

pub(crate) fn sources_beyond_those_remembered_are_forgotten<W: World>() {
    let rate = SourceRate { per_second: number(1), burst: number(1) };
    let (mut world, options) = limited::<W>(|l| {
        l.source.rate = Some(rate);
        l.source.remembered = 2;
    });
    for source in 1..6 {
        let mut client = handshake(&mut world, &options, source);
        client.close();
        world.until_empty();
    }
    assert_eq!(world.metrics().sources_forgotten, 3);
    turned_away(&mut world, 5, RefusalClass::SourceRate);
    handshake(&mut world, &options, 1);
}

pub(crate) fn addresses_of_one_prefix_are_one_source<W: World>() {
    let (mut world, options) = limited::<W>(|l| {
        l.source.connections = Some(number(1));
        l.source.prefix_v4 = 28;
    });
    let held = handshake(&mut world, &options, 1);
    turned_away(&mut world, 15, RefusalClass::SourceConnections);
    handshake(&mut world, &options, 16);
    drop(held);
}

#[test]
fn an_ipv6_64_is_one_source() {
    let (mut world, _) = limited::<SimWorld>(|l| l.source.connections = Some(number(1)));
    let to = world.shard().transport().addr();
    let mut peers = ["[2001:db8::1]:1", "[2001:db8::2:3]:1", "[2001:db8:0:1::1]:1"].map(|from| {
        let peer = world.net().connect_from(from.parse().expect("an address"), to);
        world.pass(Duration::from_millis(5));
        peer
    });
    assert_eq!(peers.each_mut().map(|peer| peer.is_reset()), [false, true, false]);
    assert_eq!(world.metrics().refused(RefusalClass::SourceConnections), 1);
}

/// Over sockets: `tests/limits/descriptors.rs`.
#[test]
fn accepts_that_fail_are_counted_and_accepting_goes_on() {
    let (config, options, _) = closing();
    let faults = Faults { accept_errors_one_in: 2, ..Faults::none() };
    let mut world = SimWorld::with_faults(7, faults, None, config);
    let config = options.config();
    let served = (0..40).filter(|_| Tls::new(world.connect(), &config, "localhost").handshake(&mut world).is_ok());
    let served = served.count() as u64;
    let m = world.metrics();
    assert!(m.accepts_shed_no_descriptor > 0 && m.accepts_failed > 0, "{m:?}");
    assert_eq!(served + m.accepts_shed_no_descriptor + m.accepts_failed, 40, "{m:?}");
    world.until_empty();
}

pub(crate) fn a_full_shard_and_a_full_turn_leave_connections_waiting<W: World>() {
    let (mut world, options) = limited::<W>(|l| {
        l.connections_per_shard = 4;
        l.accepts_per_turn = 2;
    });
    let held: Vec<_> = (1..6).map(|source| half_open(&mut world, source)).collect();
    world.until("the shard is full", |w| w.shard().connections() == 4 && w.metrics().connections_full > 0);
    assert!(world.metrics().accept_budget_met > 0, "{:?}", world.metrics());
    for _ in 0..20 {
        world.turn();
    }
    assert_eq!(world.shard().connections(), 4);
    drop(held);
    world.until("the fifth had its turn", |w| w.metrics().closed == 5);
    handshake(&mut world, &options, 1);
}

pub(crate) fn a_turn_reads_so_much_of_one_connection<W: World>() {
    let (mut config, options) = serving(|p| p.serve(echo));
    config.limits.read_bytes_per_turn = 1000;
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    client.send(&[7; 20_000]);
    let mut got = 0;
    world.until("all of it comes back", |_| {
        got += client.recv().len();
        got == 20_000
    });
    assert!(world.metrics().read_budget_met >= 10, "{:?}", world.metrics());
}

pub(crate) fn a_sender_faster_than_its_budget_costs_one_look_a_turn<W: World>() {
    const TURNS: usize = 200;
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let (mut config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            let counted = Arc::clone(&counted);
            async move {
                while let Ok(bytes) = stream.received().await {
                    counted.fetch_add(bytes.len(), Ordering::Relaxed);
                    if bytes.is_empty() {
                        break;
                    }
                }
            }
        })
    });
    config.limits.read_bytes_per_turn = 1000;
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    // In each turn more comes, which is an event, and more is there than a turn reads.
    for _ in 0..TURNS {
        client.send(&[7; 1500]);
        world.turn();
    }
    let sent = TURNS * 1500;
    world.until("all of it is read", |_| read.load(Ordering::Relaxed) == sent);
    assert!(world.metrics().read_budget_met >= TURNS as u64 / 2, "{:?}", world.metrics());
    world.turn();
    let turns = world.metrics().turns;
    world.pass(Duration::from_millis(50));
    assert!(world.metrics().turns - turns <= 3, "{:?}", world.metrics());
}

pub(crate) fn a_worker_that_does_not_read_is_not_read_for<W: World>() {
    let go = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&go);
    let (mut config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            let flag = Arc::clone(&flag);
            async move {
                let local = stream.local();
                while !flag.load(Ordering::Relaxed) {
                    local.sleep(Duration::from_millis(5)).await;
                }
                let mut got = 0;
                while let Ok(bytes) = stream.received().await {
                    got += bytes.len();
                    if bytes.is_empty() {
                        break;
                    }
                }
                let _ = stream.write_all(got.to_string().as_bytes()).await;
            }
        })
    });
    config.limits.stream_read_bytes = 4096;
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    for _ in 0..10 {
        client.send(&[7; 5000]);
        world.turn();
    }
    world.until("the shard stops reading", |w| w.metrics().stream_reads_paused > 0);
    go.store(true, Ordering::Relaxed);
    client.close();
    let mut got = Vec::new();
    world.until("nothing is lost", |_| {
        got.extend(client.recv());
        client.peer.is_eof()
    });
    assert_eq!(got, b"50000");
    client.peer.shutdown();
    world.until_empty();
}

pub(crate) fn a_worker_that_never_catches_up_costs_no_more_memory_with_time<W: World>() {
    const TOTAL: usize = 8 << 20;
    const CHUNK: usize = 16 * 1024;
    let allowed = Arc::new(AtomicUsize::new(0));
    let taken = Arc::new(AtomicUsize::new(0));
    let (gate, counter) = (Arc::clone(&allowed), Arc::clone(&taken));
    let (config, options) = serving(|p| {
        p.serve(move |mut stream: Stream| {
            let (gate, counter) = (Arc::clone(&gate), Arc::clone(&counter));
            async move {
                let local = stream.local();
                let mut chunk = vec![0; CHUNK];
                loop {
                    while counter.load(Ordering::Relaxed) == gate.load(Ordering::Relaxed) {
                        local.sleep(Duration::from_millis(1)).await;
                    }
                    if stream.read_exact(&mut chunk).await.is_err() {
                        return;
                    }
                    counter.fetch_add(CHUNK, Ordering::Relaxed);
                }
            }
        })
    });
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    let memory = allocation_counter::measure(|| {
        // So that something is left whenever the worker has read.
        client.send(&[7; 2 * CHUNK]);
        for _ in 0..TOTAL / CHUNK {
            client.send(&[7; CHUNK]);
            world.turn();
            let now = allowed.fetch_add(CHUNK, Ordering::Relaxed) + CHUNK;
            world.until("the worker has read some", |_| taken.load(Ordering::Relaxed) == now);
        }
    });
    assert!(memory.bytes_max < TOTAL as u64 / 4, "{memory:?} for {TOTAL} bytes that went through");
    client.peer.reset();
    world.until_empty();
}

pub(crate) fn a_reader_that_stopped_is_given_up<W: World>() {
    // More than any socket's buffers hold.
    const TOTAL: usize = 32 << 20;
    let (mut config, options) = serving(|p| {
        p.serve(|mut stream: Stream| async move {
            let _ = stream.write_all(&vec![7; TOTAL]).await;
        })
    });
    config.limits.idle_deadline = Duration::from_millis(400);
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    client.peer.pause(true);
    world.pass(Duration::from_millis(900));
    world.until_empty();
    let m = world.metrics();
    assert_eq!(m.idled_out, 1, "{m:?}");
    assert!(m.stream_writes_paused > 0, "{m:?}");
}

pub(crate) fn a_worker_that_left_waits_for_its_reader_so_long<W: World>() {
    let (mut config, options) = serving(|p| {
        p.serve(|mut stream: Stream| async move {
            // As much as the shard takes from it, so that it can leave.
            for _ in 0..400 {
                let local = stream.local();
                tokio::select! {
                    biased;
                    result = stream.write_all(&[7; 16 * 1024]) => if result.is_err() { return },
                    () = local.sleep(Duration::from_millis(100)) => return,
                }
            }
        })
    });
    config.limits.unsent_wait = Duration::from_millis(300);
    config.limits.stream_write_bytes = 1 << 16;
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    client.peer.pause(true);
    world.until("it is given up", |w| w.metrics().lingered_out == 1);
    world.until_empty();
    assert_eq!(world.metrics().idled_out, 0);
}

pub(crate) fn a_connection_on_which_nothing_moves_is_ended<W: World>() {
    let (mut config, options) = serving(|p| p.serve(echo));
    let idle = Duration::from_millis(600);
    config.limits.idle_deadline = idle;
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    for _ in 0..4 {
        world.pass(idle / 2);
        client.send(b"still here");
        world.until("an answer", |_| client.recv() == b"still here");
    }
    assert_eq!(world.metrics().idled_out, 0);
    world.pass(idle + idle / 4);
    world.until("close_notify and FIN", |_| {
        client.pump();
        client.peer.is_eof()
    });
    let mut rest = [0; 1];
    assert_eq!(std::io::Read::read(&mut client.conn.reader(), &mut rest).expect("a clean end"), 0);
    assert_eq!(world.metrics().idled_out, 1);
    client.peer.shutdown();
    world.until_empty();
}

pub(crate) fn a_drain_resets_those_who_stay<W: World>() {
    let (config, options) = serving(|p| p.serve(echo));
    let mut world = W::new(config);
    let mut client = handshake(&mut world, &options, 1);
    world.until("the server has it too", |w| w.metrics().handshakes() == 1);
    let mut half = half_open(&mut world, 2);
    world.until("and half of another", |w| w.shard().connections() == 2);
    let control = Control::default();
    control.drain();
    world.shard().run(&control).expect("a drain");
    let m = world.metrics();
    assert_eq!((m.aborted, m.refused(RefusalClass::Draining), world.shard().connections()), (1, 1, 0));
    world.until("both are reset", |_| client.peer.is_reset() && half.is_reset());
}

#[test]
fn a_shard_that_holds_nothing_ends_after_those_who_wait_to_be_accepted() {
    let (config, options, _) = closing();
    let mut world = TcpWorld::new(config);
    let mut client = Tls::new(world.connect(), &options.config(), "localhost");
    client.pump();
    let control = Control::default();
    control.drain();
    world.shard().run(&control).expect("a drain");
    client.receive();
    let m = world.metrics();
    assert_eq!((m.opened, m.hellos, m.closed), (1, 1, 1), "{m}");
    assert!(client.flights > 1, "nothing was answered");
}

pub(crate) fn a_drain_serves_those_who_wait_to_be_accepted<W: World>() {
    let (mut world, options) = limited::<W>(|limits| limits.accepts_per_turn = 1);
    let mut clients: Vec<_> = (0..6).map(|n| Tls::new(world.connect_from(n), &options.config(), "localhost")).collect();
    clients.iter_mut().for_each(Tls::pump);
    world.until("one is accepted", |w| w.shard().connections() == 1);
    world.shard().start_drain();
    for client in &mut clients {
        client.handshake(&mut world).expect("a handshake");
    }
    world.until("the server has them all too", |w| w.metrics().handshakes() == 6);
    assert_eq!(world.metrics().opened, 6);
}

/// A world whose worker echoes, and a client of it with ChaCha20-Poly1305, whose records can be sealed by hand.
fn with_sealer<W: World>(tls13: bool, change: impl FnOnce(&mut Limits)) -> (W, Sealer<W::Peer>) {
    let (mut config, mut options) = serving(|p| p.serve(echo));
    change(&mut config.limits);
    options.extract = true;
    options.versions = vec![if tls13 { &version::TLS13 } else { &version::TLS12 }];
    options.provider.cipher_suites.retain(|s| {
        [CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]
            .contains(&s.suite())
    });
    let mut world = W::new(config);
    let client = handshake(&mut world, &options, 1);
    world.until("the server has it too", |w| w.metrics().handshakes() == 1);
    (world, Sealer::new(client))
}

/// Sends records until the server has had enough of them; how many it took.
fn until_refused<W: World>(
    world: &mut W,
    sealer: &mut Sealer<W::Peer>,
    mut records: impl FnMut(&mut Sealer<W::Peer>) -> Vec<u8>,
) -> usize {
    for sent in 0..1000 {
        for _ in 0..5 {
            world.turn();
        }
        let m = world.metrics();
        if m.faults_after_handshake + m.control_floods > 0 {
            return sent;
        }
        let bytes = records(sealer);
        sealer.peer.send(&bytes);
    }
    panic!("a thousand were taken: {:?}", world.metrics());
}

pub(crate) fn a_flood_of_key_updates_is_cut_off<W: World>() {
    let (mut config, options) = serving(|p| p.serve(echo));
    config.limits.control_records = 100;
    let mut world = W::new(config);
    // In a row: rustls takes 32.
    let mut client = handshake(&mut world, &options, 1);
    world.until("it is refused", |w| {
        let _ = client.conn.refresh_traffic_keys();
        client.pump();
        w.metrics().faults_after_handshake == 1
    });
    client.peer.shutdown();
    world.until_empty();
    // With data between them rustls takes any number; the engine counts them by time.
    let mut client = handshake(&mut world, &options, 1);
    let mut updates = 0;
    world.until("it is reset", |w| {
        if client.conn.refresh_traffic_keys().is_ok() && !client.peer.is_reset() {
            client.send(b"x");
            updates += 1;
        }
        w.metrics().control_floods == 1
    });
    assert!(updates > 100, "reset after {updates}");
    world.until_empty();
    // Within the limit they are answered.
    let mut client = handshake(&mut world, &options, 1);
    for _ in 0..50 {
        client.conn.refresh_traffic_keys().expect("a KeyUpdate");
        client.send(b"ping");
        world.until("an answer", |_| client.recv() == b"ping");
    }
}

pub(crate) fn empty_records_and_warnings_are_cut_off<W: World>() {
    const APPLICATION_DATA: u8 = 23;
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    // In a row they are rustls' to refuse.
    let warnings: [(bool, &[u8]); 2] = [(true, &[1, 90]), (false, &[1, 90])];
    for (tls13, warning) in warnings {
        let (mut world, mut sealer) = with_sealer::<W>(tls13, |_| {});
        assert!(until_refused(&mut world, &mut sealer, |s| s.record(APPLICATION_DATA, &[])) <= 40);
        assert_eq!(world.metrics().faults_after_handshake, 1);
        let (mut world, mut sealer) = with_sealer::<W>(tls13, |_| {});
        assert!(until_refused(&mut world, &mut sealer, |s| s.record(ALERT, warning)) <= 10);
    }
    // With data between them they are the engine's.
    let (mut world, mut sealer) = with_sealer::<W>(true, |l| l.control_records = 50);
    let mixed = |s: &mut Sealer<W::Peer>| [s.record(APPLICATION_DATA, &[]), s.record(APPLICATION_DATA, b"x")].concat();
    let taken = until_refused(&mut world, &mut sealer, mixed);
    assert!((50..=60).contains(&taken), "{taken} pairs were taken");
    assert_eq!(world.metrics().control_floods, 1);
    world.until_empty();
    // A ClientHello inside TLS 1.2 asks for a renegotiation: answered with a warning once, then refused.
    let (mut world, mut sealer) = with_sealer::<W>(false, |_| {});
    let hello = [1, 0, 0, 2, 3, 3];
    let taken = until_refused(&mut world, &mut sealer, |s| s.record(HANDSHAKE, &hello));
    assert!(taken <= 2, "{taken} renegotiations were taken");
}

pub(crate) fn half_a_message_after_the_handshake_is_kept_up_to_a_bound<W: World>() {
    const HANDSHAKE: u8 = 22;
    // A KeyUpdate, and a ClientHello that would renegotiate; both say that 65535 bytes follow.
    for (tls13, message) in [(true, 24), (false, 1)] {
        let (mut world, mut sealer) = with_sealer::<W>(tls13, |_| {});
        let mut content = vec![0; 8192];
        content[..4].copy_from_slice(&[message, 0, 0xff, 0xff]);
        let taken = until_refused(&mut world, &mut sealer, |s| s.record(HANDSHAKE, &content));
        assert!((2..=4).contains(&taken), "{taken} pieces were kept");
        assert_eq!(world.metrics().control_floods, 1);
        world.until("it is reset", |_| sealer.peer.is_reset());
        world.until_empty();
    }
    // One that is no longer than it has to be may come in pieces.
    let (mut world, mut sealer) = with_sealer::<W>(true, |_| {});
    for byte in [24, 0, 0, 1, 0] {
        let record = sealer.record(HANDSHAKE, &[byte]);
        sealer.peer.send(&record);
        world.pass(Duration::from_millis(5));
    }
    let m = world.metrics();
    assert_eq!((m.faults_after_handshake, m.control_floods, world.shard().connections()), (0, 0, 1), "{m:?}");
}

pub(crate) fn honest_handshakes_complete_beside_a_flood<W: World>() {
    const FLOODERS: u8 = 100;
    let rate = SourceRate { per_second: number(2), burst: number(5) };
    let (mut world, options) = limited::<W>(|l| {
        l.source.rate = Some(rate);
        l.source.handshakes = Some(number(4));
        l.handshakes_per_shard = 512;
    });
    let mut held = std::collections::VecDeque::new();
    let mut sources = (1..=FLOODERS).cycle();
    let mut flood = 0;
    for honest in FLOODERS + 1..FLOODERS + 41 {
        for _ in 0..50 {
            let mut peer = world.connect_from(sources.next().expect("a source"));
            // Silent, half a header, and garbage.
            match flood % 3 {
                0 => {}
                1 => peer.send(&[22, 3, 1, 2, 0, 1]),
                _ => peer.send(&[0x5a; 200]),
            }
            flood += 1;
            held.push_back(peer);
            if held.len() > 600 {
                held.pop_front();
            }
        }
        let mut client = handshake(&mut world, &options, honest);
        client.close();
    }
    world.until("all have finished", |w| w.metrics().handshakes() == 40);
    let m = world.metrics();
    let shed = m.refused(RefusalClass::SourceRate) + m.refused(RefusalClass::SourceHandshakes);
    assert!(shed > 100, "{m:?}");
    assert_eq!(m.refused(RefusalClass::HandshakesShed), 0, "{m:?}");
    drop(held);
    world.until_empty();
}

pub(crate) fn trickling_clients_leave_at_their_deadline<W: World>() {
    const CLIENTS: usize = 200;
    let (mut world, _) = limited::<W>(|l| l.handshake_deadline = Duration::from_millis(900));
    let mut peers: Vec<_> = (0..CLIENTS).map(|_| world.connect()).collect();
    let left = |world: &mut W| world.metrics().refused(RefusalClass::Deadline);
    // However many bytes they send, a byte puts nothing off.
    for byte in [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].into_iter().chain(std::iter::repeat(0)) {
        if left(&mut world) == CLIENTS as u64 {
            break;
        }
        for peer in &mut peers {
            if !peer.is_eof() && !peer.is_reset() {
                peer.send(&[byte]);
            }
        }
        world.pass(Duration::from_millis(100));
        assert!(world.metrics().refused_total() == left(&mut world), "{:?}", world.metrics());
    }
    world.until_empty();
    assert_eq!(world.metrics().closed, CLIENTS as u64);
}

#[test]
fn two_thousand_trickling_clients_leave_at_their_deadline() {
    const CLIENTS: usize = 2000;
    let (mut config, options, _) = closing();
    config.limits.handshake_deadline = Duration::from_secs(10);
    let mut world = SimWorld::new(config);
    let hello = crate::bad_input::client_hello(&options);
    let mut peers: Vec<_> = (0..CLIENTS).map(|_| world.connect()).collect();
    for byte in &hello[..9] {
        for peer in &mut peers {
            peer.send(&[*byte]);
        }
        world.pass(Duration::from_secs(1));
        assert_eq!(world.shard().connections(), CLIENTS, "none is let go before its time");
    }
    world.pass(Duration::from_millis(1100));
    assert_eq!(world.shard().connections(), 0);
    let m = world.metrics();
    assert_eq!((m.refused(RefusalClass::Deadline), m.closed), (CLIENTS as u64, CLIENTS as u64), "{m:?}");
    assert!(peers.iter().all(|p| p.is_eof() || p.is_reset()));
}
