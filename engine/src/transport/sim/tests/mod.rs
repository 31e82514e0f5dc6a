//! What the simulated network does when nothing goes wrong.

mod faults;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 443))
}

fn quiet() -> SimNet {
    SimNet::new(1, Faults::none())
}

fn with(change: impl FnOnce(&mut Options)) -> SimNet {
    let mut options = Options::default();
    change(&mut options);
    SimNet::with_options(1, Faults::none(), options)
}

/// One poll that waits no longer than a virtual millisecond.
fn poll(t: &mut SimTransport) -> Vec<Event> {
    let mut events = Vec::new();
    let deadline = t.now() + MS;
    t.poll(Some(deadline), &mut events).expect("a simulated poll does not fail");
    events
}

/// Lets everything on its way arrive, then polls.
fn settle(net: &SimNet, t: &mut SimTransport) -> Vec<Event> {
    net.advance(MS);
    poll(t)
}

fn accepted(net: &SimNet, t: &mut SimTransport) -> ConnId {
    let events = settle(net, t);
    assert_eq!(events.len(), 1);
    assert!(events[0].ready.accepted);
    events[0].conn
}

/// A server, a client that it has accepted, and the connection.
fn pair(net: &SimNet) -> (SimTransport, SimPeer, ConnId) {
    let mut server = net.listen(addr());
    let client = net.connect(addr());
    let conn = accepted(net, &mut server);
    (server, client, conn)
}

/// Reads until there is nothing more; whether it was the end.
fn read_all(t: &mut SimTransport, conn: ConnId) -> io::Result<(Vec<u8>, bool)> {
    let mut all = Vec::new();
    loop {
        match t.recv(conn, 4096, |bytes| all.extend_from_slice(bytes))? {
            Recv::Data((), _) => {}
            Recv::Eof => return Ok((all, true)),
            Recv::WouldBlock => return Ok((all, false)),
        }
    }
}

fn write(t: &mut SimTransport, conn: ConnId, bytes: &[u8]) -> io::Result<usize> {
    t.send(conn, &[IoSlice::new(bytes)], Push::Now)
}

const READABLE: Ready = Ready { accepted: false, readable: true, writable: false, read_closed: false };

#[test]
fn an_edge_is_told_once_for_each_arrival() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"one");
    assert_eq!(settle(&net, &mut server), [Event { conn, ready: READABLE }]);
    assert_eq!(settle(&net, &mut server), [], "nothing new, though nothing was read");
    client.send(b"two");
    assert_eq!(settle(&net, &mut server), [Event { conn, ready: READABLE }]);
    assert_eq!(read_all(&mut server, conn).unwrap(), (b"onetwo".to_vec(), false));
}

#[test]
fn bytes_that_were_read_before_the_poll_are_not_told_of() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"early");
    net.advance(MS);
    assert_eq!(read_all(&mut server, conn).unwrap().0, b"early");
    assert_eq!(poll(&mut server), []);
}

#[test]
fn a_poll_names_a_connection_at_most_once() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"one");
    client.send(b"two");
    client.shutdown();
    assert_eq!(settle(&net, &mut server), [Event { conn, ready: Ready { read_closed: true, ..READABLE } }]);
}

#[test]
fn data_and_fin_may_share_one_edge_and_no_second_comes() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"bye");
    client.shutdown();
    assert!(settle(&net, &mut server)[0].ready.read_closed);
    let found = server.recv(conn, 4096, |bytes| bytes.len()).unwrap();
    assert!(matches!(found, Recv::Data(3, More::Maybe)), "{found:?}");
    assert_eq!(settle(&net, &mut server), []);
    assert_eq!(read_all(&mut server, conn).unwrap(), (vec![], true));
}

#[test]
fn an_accepted_connection_may_already_hold_bytes_and_fin() {
    let net = quiet();
    let mut server = net.listen(addr());
    let client = net.connect(addr());
    client.send(b"hello");
    client.shutdown();
    let events = settle(&net, &mut server);
    let ready = Ready { accepted: true, readable: true, writable: false, read_closed: true };
    assert_eq!(events, [Event { conn: events[0].conn, ready }]);
    assert_eq!(read_all(&mut server, events[0].conn).unwrap(), (b"hello".to_vec(), true));
    assert_eq!(server.peer(events[0].conn), Some(PeerAddr::Ip(client.addr())));
}

#[test]
fn deferred_accept_waits_for_the_first_byte_and_never_shows_a_silent_client() {
    let net = with(|o| o.defer_accept = true);
    let mut server = net.listen(addr());
    let silent = net.connect(addr());
    let talking = net.connect(addr());
    let leaving = net.connect(addr());
    assert_eq!(settle(&net, &mut server), []);
    assert!(silent.is_connected());
    assert_eq!(net.waiting_connections(), 3);
    silent.reset();
    talking.send(b"x");
    leaving.shutdown();
    let events = settle(&net, &mut server);
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|e| e.ready.accepted && e.ready.readable));
    assert_eq!(net.waiting_connections(), 0);
}

#[test]
fn a_drained_connection_would_block_and_says_that_no_more_is_there() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    assert!(matches!(server.recv(conn, 10, |_| ()), Ok(Recv::WouldBlock)));
    client.send(b"12345");
    settle(&net, &mut server);
    assert!(matches!(server.recv(conn, 3, |b| b.to_vec()), Ok(Recv::Data(b, More::Maybe)) if b == b"123"));
    assert!(matches!(server.recv(conn, 3, |b| b.to_vec()), Ok(Recv::Data(b, More::No)) if b == b"45"));
    assert!(matches!(server.recv(conn, 3, |_| ()), Ok(Recv::WouldBlock)));
}

#[test]
fn a_reset_is_an_error_after_the_bytes_that_came_before_it() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"last");
    settle(&net, &mut server);
    client.reset();
    assert_eq!(settle(&net, &mut server), [Event { conn, ready: Ready { read_closed: true, ..READABLE } }]);
    assert!(matches!(server.recv(conn, 10, |b| b.len()), Ok(Recv::Data(4, More::Maybe))));
    let error = server.recv(conn, 10, |_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(write(&mut server, conn, b"x").unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(client.is_reset());
}

#[test]
fn a_send_is_short_when_the_window_is_full_and_writable_follows_once_when_it_opens() {
    let net = with(|o| o.window = 10);
    let (mut server, mut client, conn) = pair(&net);
    client.stop_reading();
    assert_eq!(write(&mut server, conn, b"0123456").unwrap(), 7);
    assert_eq!(write(&mut server, conn, b"0123456").unwrap(), 3);
    assert_eq!(write(&mut server, conn, b"3456").unwrap(), 0);
    assert_eq!(settle(&net, &mut server), []);
    assert_eq!(client.recv(), b"", "the window stays closed");
    client.resume_reading();
    assert_eq!(client.recv(), b"0123456012");
    let writable = Ready { writable: true, ..Ready::default() };
    assert_eq!(settle(&net, &mut server), [Event { conn, ready: writable }]);
    assert_eq!(settle(&net, &mut server), []);
    assert_eq!(write(&mut server, conn, b"3456").unwrap(), 4);
    net.advance(MS);
    assert_eq!(client.recv(), b"3456");
    assert_eq!(settle(&net, &mut server), [], "no writable without a short send");
}

#[test]
fn what_a_peer_sends_beyond_the_window_follows_as_it_is_read() {
    let net = with(|o| o.window = 10);
    let (mut server, client, conn) = pair(&net);
    client.send(&[7; 25]);
    client.shutdown();
    assert_eq!(client.unsent(), 15);
    let mut got = Vec::new();
    for _ in 0..3 {
        settle(&net, &mut server);
        got.extend(read_all(&mut server, conn).unwrap().0);
    }
    assert_eq!(got, [7; 25]);
    assert!(read_all(&mut server, conn).unwrap().1);
}

#[test]
fn a_send_into_a_closed_peer_succeeds_and_is_answered_with_reset() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    drop(client);
    settle(&net, &mut server);
    assert_eq!(read_all(&mut server, conn).unwrap(), (vec![], true));
    assert_eq!(write(&mut server, conn, b"too late").unwrap(), 8);
    assert!(settle(&net, &mut server)[0].ready.read_closed);
    assert_eq!(write(&mut server, conn, b"again").unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_close_with_unread_bytes_resets_and_throws_sent_output_away() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"unread");
    settle(&net, &mut server);
    write(&mut server, conn, b"alert").unwrap();
    server.close(conn, Close::Graceful);
    net.advance(MS);
    assert!(client.is_reset());
    assert_eq!(client.recv(), b"");
}

#[test]
fn bytes_that_arrive_after_a_close_reset_it_too() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"on its way");
    write(&mut server, conn, b"alert").unwrap();
    server.close(conn, Close::Graceful);
    net.advance(MS);
    assert!(client.is_reset());
}

#[test]
fn a_lingering_close_delivers_the_last_bytes_to_a_peer_that_still_talks() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"unread");
    settle(&net, &mut server);
    write(&mut server, conn, b"alert").unwrap();
    server.shutdown(conn);
    assert_eq!(write(&mut server, conn, b"more").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    client.send(b"still talking");
    net.advance(MS);
    assert_eq!(client.recv(), b"alert");
    assert!(client.is_eof());
    client.shutdown();
    settle(&net, &mut server);
    assert!(read_all(&mut server, conn).unwrap().1);
    server.close(conn, Close::Graceful);
    net.advance(MS);
    assert!(!client.is_reset());
}

#[test]
fn a_graceful_close_delivers_what_was_sent_and_then_fin() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    write(&mut server, conn, b"bye").unwrap();
    server.close(conn, Close::Graceful);
    net.advance(MS);
    assert!(!client.is_eof(), "not before what came with it is read");
    assert_eq!(client.recv(), b"bye");
    assert!(client.is_eof());
    assert!(!client.is_reset());
    assert_eq!(net.open_connections(), 0);
}

#[test]
fn an_abort_drops_what_was_not_delivered() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    write(&mut server, conn, b"lost").unwrap();
    server.close(conn, Close::Abort);
    net.advance(MS);
    assert!(client.is_reset());
    assert_eq!(client.recv(), b"");
}

#[test]
fn output_before_a_close_waits_for_the_fin_or_a_fifth_of_a_second() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    server.send(conn, &[IoSlice::new(b"one")], Push::BeforeClose).unwrap();
    net.advance(100 * MS);
    assert_eq!(client.recv(), b"");
    net.advance(101 * MS);
    assert_eq!(client.recv(), b"one");
    server.send(conn, &[IoSlice::new(b"two")], Push::BeforeClose).unwrap();
    server.close(conn, Close::Graceful);
    net.advance(MS);
    assert_eq!(client.recv(), b"two");
    assert!(client.is_eof());
}

#[test]
fn output_that_was_held_back_goes_out_with_what_follows() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    server.send(conn, &[IoSlice::new(b"one")], Push::BeforeClose).unwrap();
    write(&mut server, conn, b"two").unwrap();
    net.advance(MS);
    assert_eq!(client.recv(), b"onetwo");
}

#[test]
fn a_poll_moves_time_to_the_next_event_or_to_its_deadline() {
    let net = quiet();
    let (mut server, client, _) = pair(&net);
    let start = net.now();
    client.send(b"x");
    let mut events = Vec::new();
    server.poll(Some(start + Duration::from_secs(1)), &mut events).unwrap();
    assert_eq!((events.len(), net.now()), (1, start + Options::default().latency));
    events.clear();
    server.poll(Some(start + Duration::from_secs(1)), &mut events).unwrap();
    assert_eq!((events.len(), net.now()), (0, start + Duration::from_secs(1)));
    server.poll(Some(start), &mut events).unwrap();
    assert_eq!(net.now(), start + Duration::from_secs(1), "time does not go back");
}

#[test]
fn a_poll_for_ever_returns_with_nothing_when_nothing_can_happen() {
    let net = quiet();
    let (mut server, _client, _) = pair(&net);
    let mut events = Vec::new();
    server.poll(None, &mut events).unwrap();
    assert_eq!(events, []);
    assert_eq!(net.next_event(), None);
}

#[test]
fn a_poll_returns_early_when_something_arrives_for_another_end() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    let start = net.now();
    write(&mut server, conn, b"question").unwrap();
    let mut events = Vec::new();
    server.poll(Some(start + Duration::from_secs(10)), &mut events).unwrap();
    assert_eq!(events, []);
    assert_eq!(net.now(), start + Options::default().latency);
    assert_eq!(client.recv(), b"question");
    client.send(b"answer");
    server.poll(Some(start + Duration::from_secs(10)), &mut events).unwrap();
    assert_eq!(events, [Event { conn, ready: READABLE }]);
}

#[test]
fn connections_wait_while_accepting_is_off() {
    let net = quiet();
    let mut server = net.listen(addr());
    server.accepting(false);
    let client = net.connect(addr());
    client.send(b"hello");
    assert_eq!(settle(&net, &mut server), []);
    assert_eq!(net.waiting_connections(), 1);
    assert!(client.is_connected());
    server.accepting(true);
    assert!(poll(&mut server)[0].ready.accepted);
}

#[test]
fn a_full_backlog_resets_who_comes_next() {
    let net = with(|o| o.backlog = 2);
    let mut server = net.listen(addr());
    server.accepting(false);
    let clients: Vec<_> = (0..3).map(|_| net.connect(addr())).collect();
    net.advance(MS);
    assert_eq!(clients.iter().map(SimPeer::is_reset).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_turn_accepts_no_more_than_its_limit_and_the_next_the_rest() {
    let net = with(|o| o.accepts_per_turn = 2);
    let mut server = net.listen(addr());
    let _clients: Vec<_> = (0..3).map(|_| net.connect(addr())).collect();
    assert_eq!(settle(&net, &mut server).len(), 2);
    assert_eq!(poll(&mut server).len(), 1);
}

#[test]
fn a_stopped_listener_refuses_who_is_late_and_resets_whom_it_cannot_accept() {
    let net = with(|o| (o.defer_accept, o.connections_max, o.accepts_per_turn) = (true, 2, 1));
    let silent = net.connect(addr());
    let early = [(); 3].map(|()| net.connect(addr()));
    let mut server = net.listen(addr());
    early.iter().for_each(|client| client.send(b"x"));
    net.advance(MS);
    server.accepting(false);
    server.stop_listening();
    let late = net.connect(addr());
    net.advance(MS);
    assert!(silent.is_reset() && late.is_reset());
    assert_eq!(early.each_ref().map(SimPeer::is_reset), [false, false, true]);
    for _ in 0..2 {
        let conn = accepted(&net, &mut server);
        assert_eq!(read_all(&mut server, conn).unwrap(), (b"x".to_vec(), false));
    }
    assert_eq!(poll(&mut server), []);
    assert_eq!(net.waiting_connections(), 0);
}

#[test]
fn a_transport_that_is_gone_resets_who_waited() {
    let net = quiet();
    let server = net.listen(addr());
    let client = net.connect(addr());
    net.advance(MS);
    drop(server);
    net.advance(MS);
    assert!(client.is_reset());
    assert_eq!(net.waiting_connections(), 0);
}

#[test]
fn transports_connect_to_each_other() {
    let net = quiet();
    let (mut server, mut client) = (net.listen(addr()), net.transport());
    let near = client.connect(addr(), None).unwrap();
    assert_eq!(write(&mut client, near, b"early").unwrap(), 0, "not connected yet");
    net.advance(MS);
    assert_eq!(poll(&mut client), [Event { conn: near, ready: Ready { writable: true, ..Ready::default() } }]);
    let far = accepted(&net, &mut server);
    write(&mut client, near, b"ping").unwrap();
    assert_eq!(settle(&net, &mut server), [Event { conn: far, ready: READABLE }]);
    assert_eq!(read_all(&mut server, far).unwrap().0, b"ping");
    write(&mut server, far, b"pong").unwrap();
    assert_eq!(settle(&net, &mut client), [Event { conn: near, ready: READABLE }]);
    assert_eq!(read_all(&mut client, near).unwrap().0, b"pong");
    assert_eq!(client.peer(near), Some(PeerAddr::Ip(addr())));
    assert_eq!(net.open_connections(), 2);
}

#[test]
fn a_refused_connect_is_reported_as_ready_and_fails() {
    let net = quiet();
    let mut client = net.transport();
    let conn = client.connect(addr(), None).unwrap();
    assert!(settle(&net, &mut client)[0].ready.writable);
    assert_eq!(write(&mut client, conn, b"x").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(client.recv(conn, 1, |_| ()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn listeners_that_share_an_address_share_its_connections() {
    let net = quiet();
    let (mut a, mut b) = (net.listen(addr()), net.listen(addr()));
    let _clients: Vec<_> = (0..40).map(|_| net.connect(addr())).collect();
    net.advance(MS);
    let (a, b) = (poll(&mut a).len(), poll(&mut b).len());
    assert!(a > 5 && b > 5 && a + b == 40, "{a} and {b}");
}

#[test]
fn a_closed_connection_is_not_found_even_when_its_slot_is_used_again() {
    let net = quiet();
    let (mut server, _client, conn) = pair(&net);
    server.close(conn, Close::Graceful);
    let _next = net.connect(addr());
    assert_eq!(accepted(&net, &mut server).slot(), conn.slot());
    assert_eq!(server.recv(conn, 1, |_| ()).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(write(&mut server, conn, b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(server.peer(conn), None);
    server.shutdown(conn);
    server.close(conn, Close::Abort);
    assert_eq!(net.open_connections(), 1);
}

#[test]
fn readiness_of_a_connection_that_was_closed_meanwhile_is_not_reported() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    client.send(b"x");
    net.advance(MS);
    server.close(conn, Close::Abort);
    assert_eq!(poll(&mut server), []);
}

#[test]
fn a_wake_up_ends_a_poll_at_once_and_counts_once() {
    let net = quiet();
    let mut server = net.listen(addr());
    let waker = server.waker();
    std::thread::spawn(move || {
        waker.wake();
        waker.wake();
    })
    .join()
    .unwrap();
    let start = net.now();
    assert_eq!(poll(&mut server), []);
    assert_eq!(net.now(), start);
    assert_eq!(poll(&mut server), []);
    assert_eq!(net.now(), start + MS);
}

#[test]
fn sockets_stay_unless_they_may_leave() {
    let net = quiet();
    let (mut server, client, conn) = pair(&net);
    assert!(server.release(conn).is_none());
    client.send(b"still here");
    assert_eq!(settle(&net, &mut server).len(), 1);
}

fn leaving() -> SimNet {
    with(|options| options.sockets_leave = true)
}

#[test]
fn a_connection_moves_to_another_transport_with_what_has_come() {
    let net = leaving();
    let (mut server, client, conn) = pair(&net);
    client.send(b"before");
    net.advance(MS);
    let socket = server.release(conn).unwrap();
    assert_eq!((socket.peer(), net.open_connections()), (PeerAddr::Ip(client.addr()), 0));
    client.send(b", under way");
    assert!(settle(&net, &mut server).is_empty());
    let mut other = net.transport();
    let conn = other.adopt(socket).unwrap();
    client.shutdown();
    assert_eq!(settle(&net, &mut other), [Event { conn, ready: Ready { read_closed: true, ..READABLE } }]);
    assert_eq!(read_all(&mut other, conn).unwrap(), (b"before, under way".to_vec(), true));
    assert_eq!(write(&mut other, conn, b"here").unwrap(), 4);
    net.advance(MS);
    assert_eq!(client.recv(), b"here");
}

#[test]
fn a_socket_that_is_dropped_closes_its_connection() {
    let net = leaving();
    let (mut server, client, conn) = pair(&net);
    drop(server.release(conn).unwrap());
    net.advance(MS);
    assert!(client.is_eof());
}

#[test]
fn a_socket_is_no_stream_and_of_its_own_network_only() {
    let net = leaving();
    let (mut server, client, conn) = pair(&net);
    let socket = server.release(conn).unwrap().into_tcp().unwrap_err().into_unix().unwrap_err();
    let error = leaving().transport().adopt(socket).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    net.advance(MS);
    assert!(client.is_eof());
}

#[test]
fn a_dropped_transport_closes_all_that_it_held() {
    let net = quiet();
    let (server, client, _) = pair(&net);
    let waiting = net.connect(addr());
    net.advance(MS);
    drop(server);
    net.advance(MS);
    assert!(client.is_eof() && waiting.is_reset());
    drop((client, waiting));
    net.advance(MS);
    assert_eq!((net.open_connections(), net.waiting_connections()), (0, 0));
    assert_eq!(net.0.borrow().links().count(), 0, "nothing is remembered of links that nobody holds");
}
