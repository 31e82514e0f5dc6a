//! Limits that an engine gives to what its threads share.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast::{Limits, Placement, Protocol, Stream};

use crate::harness::{Server, builder, read_rest};

#[test]
fn mailboxes_of_worker_threads_are_as_deep_as_the_limits_say() {
    const DEPTH: usize = 2;
    let ((started, starts), (open, gate)) = (channel(), channel::<()>());
    let gate = Arc::new(Mutex::new(gate));
    // Whoever comes first keeps the thread busy, so that the rest stays in the mailbox.
    let blocking = Protocol::alpn("chat/1").serve(move |stream: Stream| {
        started.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        async move { drop(stream) }
    });
    let mut limits = Limits::default();
    limits.mailbox_depth = DEPTH;
    limits.hand_off_wait = Duration::from_secs(600);
    let server = Server::start_with(Placement::Threads(1), [blocking], |b| b.limits(limits));
    let mut connections = vec![server.connect("chat/1")];
    starts.recv().unwrap();
    for _ in 0..DEPTH {
        connections.push(server.connect("chat/1"));
    }
    server.until(|m| m.handed_off == 1 + DEPTH as u64);
    assert_eq!(server.metrics().accept_pauses, 0);
    connections.push(server.connect("chat/1"));
    server.until(|m| m.accept_pauses == 1);
    assert_eq!(server.metrics().handed_off, 1 + DEPTH as u64);
    drop(open);
    server.until(|m| m.handed_off == 2 + DEPTH as u64);
    drop(connections);
    assert_eq!(server.shutdown().refused_total(), 0);
}

#[test]
fn sessions_for_early_data_are_as_many_as_the_limits_say() {
    const KEPT: usize = 16;
    const MADE: u64 = 40;
    let placement = Placement::SharedCore;
    let protocol = || Protocol::alpn("chat/1").serve(|stream: Stream| async move { drop(stream) }).early_data(1000);
    let limits = |sessions| {
        let mut limits = Limits::default();
        limits.early_sessions = sessions;
        limits
    };
    let server = Server::start_with(placement, [protocol()], |b| b.limits(limits(KEPT)));
    for _ in 0..MADE {
        read_rest(&mut server.connect("chat/1"));
    }
    server.until(|m| m.early_sessions_stored == MADE);
    let left = |m: handfast::metrics::Metrics| m.early_sessions_stored - m.early_sessions_evicted;
    assert!((1..=KEPT as u64).contains(&left(server.metrics())), "{}", server.metrics());
    // Fewer are allowed from now on.
    server.handle().reload(builder(placement, &server.certificate, [protocol()]).limits(limits(0))).unwrap();
    assert_eq!(left(server.metrics()), 0);
    server.shutdown();
}
