//! What goes wrong when it is told to, and that the same seed goes wrong the same way.

use super::*;

fn faulty(change: impl FnOnce(&mut Faults)) -> SimNet {
    let mut faults = Faults::none();
    change(&mut faults);
    SimNet::new(7, faults)
}

#[test]
fn segments_are_cut_and_stay_in_order() {
    let net = faulty(|f| f.segment_bytes_max = 3);
    net.0.borrow_mut().faults.delay_max = MS;
    let (mut server, client, conn) = pair(&net);
    let sent: Vec<u8> = (0..200).collect();
    client.send(&sent);
    let (mut got, mut edges) = (Vec::new(), 0);
    while got.len() < sent.len() {
        edges += poll(&mut server).len();
        got.extend(read_all(&mut server, conn).unwrap().0);
    }
    assert_eq!(got, sent);
    assert!(edges > 3, "{edges}");
}

#[test]
fn delays_let_connections_overtake_one_another() {
    let net = faulty(|f| f.delay_max = 5 * MS);
    let mut server = net.listen(addr());
    let clients: Vec<_> = (0..20).map(|_| net.connect(addr())).collect();
    let mut order = Vec::new();
    while order.len() < 20 {
        order.extend(poll(&mut server).iter().filter_map(|e| server.peer(e.conn)?.ip()));
    }
    assert_ne!(order, clients.iter().map(SimPeer::addr).collect::<Vec<_>>());
}

#[test]
fn a_short_read_leaves_the_rest_and_says_so() {
    let net = faulty(|f| f.short_reads_one_in = 1);
    let (mut server, client, conn) = pair(&net);
    client.send(&[1; 1000]);
    settle(&net, &mut server);
    let found = server.recv(conn, 4096, |b| b.len()).unwrap();
    assert!(matches!(found, Recv::Data(1..1000, More::Maybe)), "{found:?}");
    assert!(read_all(&mut server, conn).unwrap().0.len() < 1000);
}

#[test]
fn a_short_write_is_followed_by_writable() {
    let net = faulty(|f| f.short_writes_one_in = 1);
    let (mut server, client, conn) = pair(&net);
    let (mut sent, mut sends) = (0, 0);
    while sent < 1000 {
        let n = write(&mut server, conn, &[1; 1000][sent..]).unwrap();
        sent += n;
        sends += 1;
        while sent < 1000 && !poll(&mut server).iter().any(|e| e.ready.writable) {}
    }
    assert!(sends > 1);
    net.advance(MS);
    assert_eq!(client.recv().len(), 1000);
}

#[test]
fn spurious_readiness_has_nothing_behind_it() {
    let net = faulty(|f| f.spurious_one_in = 1);
    let (mut server, client, conn) = pair(&net);
    client.send(b"x");
    assert_eq!(poll(&mut server).len(), 1);
    assert_eq!(read_all(&mut server, conn).unwrap().0, b"x");
    let events = settle(&net, &mut server);
    assert!(events.len() == 1 && events[0].ready.readable);
    assert_eq!(read_all(&mut server, conn).unwrap(), (vec![], false));
}

#[test]
fn a_reset_from_the_middle_reaches_both_ends() {
    let net = faulty(|f| f.resets_one_in = 1);
    let (mut server, client, conn) = pair(&net);
    client.send(b"x");
    assert!(settle(&net, &mut server)[0].ready.read_closed);
    assert!(server.recv(conn, 9, |b| b.len()).is_ok(), "what came before it is there");
    assert!(server.recv(conn, 9, |_| ()).is_err());
    assert!(client.is_reset());
}

#[test]
fn a_peer_may_end_its_direction_alone() {
    let net = faulty(|f| f.half_closes_one_in = 1);
    let (mut server, client, conn) = pair(&net);
    client.send(b"x");
    client.send(b"lost");
    assert!(settle(&net, &mut server)[0].ready.read_closed);
    assert_eq!(read_all(&mut server, conn).unwrap(), (b"x".to_vec(), true));
    assert_eq!(write(&mut server, conn, b"still open").unwrap(), 10);
    net.advance(MS);
    assert_eq!(client.recv(), b"still open");
}

#[test]
fn one_bit_of_a_segment_flips() {
    let net = faulty(|f| f.bit_flips_one_in = 1);
    let (mut server, client, conn) = pair(&net);
    client.send(&[0; 100]);
    settle(&net, &mut server);
    let (got, _) = read_all(&mut server, conn).unwrap();
    assert_eq!(got.iter().map(|b| b.count_ones()).sum::<u32>(), 1);
}

#[test]
fn a_stalled_window_opens_again_and_says_writable() {
    let net = faulty(|f| (f.stalls_one_in, f.stall_max) = (1, 10 * MS));
    let (mut server, client, conn) = pair(&net);
    assert_eq!(write(&mut server, conn, b"one").unwrap(), 3);
    assert_eq!(write(&mut server, conn, b"two").unwrap(), 0);
    let events: Vec<_> = (0..20).flat_map(|_| poll(&mut server)).collect();
    assert!(events.len() == 1 && events[0].ready.writable);
    assert_eq!(write(&mut server, conn, b"two").unwrap(), 3);
    net.advance(MS);
    assert_eq!(client.recv(), b"onetwo");
}

#[test]
fn a_failed_accept_is_counted_and_resets_the_client() {
    let net = faulty(|f| f.accept_errors_one_in = 1);
    let mut server = net.listen(addr());
    let clients: Vec<_> = (0..20).map(|_| net.connect(addr())).collect();
    assert_eq!(settle(&net, &mut server), []);
    net.advance(MS);
    assert!(clients.iter().all(SimPeer::is_reset));
    let counters = server.counters();
    assert_eq!(counters.accepts_failed + counters.accepts_shed_no_descriptor, 20);
    assert!(counters.accepts_failed > 0 && counters.accepts_shed_no_descriptor > 0);
    assert_eq!(net.open_connections(), 0);
}

#[test]
fn the_clock_jumps_over_deadlines() {
    let net = faulty(|f| (f.clock_jumps_one_in, f.clock_jump_max) = (1, Duration::from_secs(3_600)));
    let mut server = net.listen(addr());
    poll(&mut server);
    assert!(net.now() > Instant64::ZERO + MS);
}

/// Sends `bytes` through a server that gives them back, over several connections, until all have ended.
struct Echo {
    server: SimTransport,
    /// What is read and not yet sent, whether reading has ended, for each open connection.
    conns: Vec<(ConnId, Vec<u8>, bool)>,
}

impl Echo {
    fn turn(&mut self) {
        let mut events = Vec::new();
        let deadline = self.server.now() + Duration::from_secs(1);
        self.server.poll(Some(deadline), &mut events).expect("a simulated poll does not fail");
        for Event { conn, ready } in events {
            if ready.accepted {
                self.conns.push((conn, Vec::new(), false));
            }
            let at = self.conns.iter().position(|(c, ..)| *c == conn).expect("an event names an open connection");
            if self.serve(at).is_err() {
                self.server.close(conn, Close::Abort);
                self.conns.swap_remove(at);
            } else if self.conns[at].1.is_empty() && self.conns[at].2 {
                self.server.close(conn, Close::Graceful);
                self.conns.swap_remove(at);
            }
        }
    }

    fn serve(&mut self, at: usize) -> io::Result<()> {
        let (conn, buffer, ended) = &mut self.conns[at];
        while !*ended {
            match self.server.recv(*conn, 512, |bytes| buffer.extend_from_slice(bytes))? {
                Recv::Data((), More::Maybe) => {}
                Recv::Data((), More::No) | Recv::WouldBlock => break,
                Recv::Data((), More::End) | Recv::Eof => *ended = true,
            }
        }
        if !buffer.is_empty() {
            let n = self.server.send(*conn, &[IoSlice::new(buffer)], Push::Now)?;
            buffer.drain(..n);
        }
        Ok(())
    }
}

/// The trace of one run, after checks of what must hold for every seed.
fn run(seed: u64) -> u64 {
    let faults = Faults::swarm(seed);
    let mut rng = SplitMix64::new(seed);
    let options = Options { window: 1 + rng.index(5_000), defer_accept: rng.one_in(2), ..Options::default() };
    let net = SimNet::with_options(seed, faults.clone(), options);
    let mut echo = Echo { server: net.listen(addr()), conns: Vec::new() };
    let mut clients: Vec<_> = (0..8)
        .map(|_| {
            let bytes: Vec<u8> = (0..1 + rng.index(10_000)).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            let peer = net.connect(addr());
            peer.send(&bytes);
            peer.shutdown();
            (peer, bytes, Vec::new())
        })
        .collect();
    let mut turns = 0;
    while clients.iter().any(|(peer, ..)| !peer.is_eof() && !peer.is_reset()) {
        echo.turn();
        for (peer, _, got) in &mut clients {
            got.extend(peer.recv());
        }
        turns += 1;
        assert!(turns < 200_000, "seed {seed}: no progress");
    }
    if !faults.may_break_connections() {
        assert!(clients.iter().all(|(_, sent, got)| sent == got), "seed {seed}: bytes differ");
    }
    drop(clients);
    while net.open_connections() + net.waiting_connections() > 0 {
        echo.turn();
        turns += 1;
        assert!(turns < 200_000, "seed {seed}: connections stay open");
    }
    net.advance(Duration::from_secs(10));
    assert_eq!(net.0.borrow().links().count(), 0, "seed {seed}: links stay");
    net.trace_hash()
}

#[test]
fn every_seed_comes_to_rest_and_the_same_seed_gives_the_same_trace() {
    let mut traces: Vec<_> = (0..300)
        .map(|seed| {
            let trace = run(seed);
            assert_eq!(trace, run(seed), "seed {seed} is not reproducible");
            trace
        })
        .collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 300);
}

#[test]
fn a_swarm_switches_each_fault_on_for_some_seeds_and_off_for_others() {
    let all: Vec<_> = (0..200).map(Faults::swarm).collect();
    let switches: [fn(&Faults) -> bool; 11] = [
        |f| f.segment_bytes_max != 0,
        |f| !f.delay_max.is_zero(),
        |f| f.short_reads_one_in != 0,
        |f| f.short_writes_one_in != 0,
        |f| f.spurious_one_in != 0,
        |f| f.resets_one_in != 0,
        |f| f.half_closes_one_in != 0,
        |f| f.bit_flips_one_in != 0,
        |f| f.stalls_one_in != 0,
        |f| f.accept_errors_one_in != 0,
        |f| f.clock_jumps_one_in != 0,
    ];
    for (n, on) in switches.iter().enumerate() {
        let count = all.iter().filter(|f| on(f)).count();
        assert!((20..180).contains(&count), "fault {n} is on in {count} of 200");
    }
    assert!(all.iter().filter(|f| !f.may_break_connections()).count() > 20);
}
