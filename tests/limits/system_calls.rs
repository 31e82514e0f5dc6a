//! How many system calls a handshake costs, counted by strace.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use handfast_tests::binaries::handfast;
use handfast_tests::certificates::{Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::peers::Peer as Installed;
use handfast_tests::process::{Pipe, Process, Scratch, Signal};
use handfast_tests::world::{Peer, TcpPeer};

use handfast::rustls::{ClientConfig, NamedGroup, version};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 10;
/// What the issue allows for a handshake that is accepted, finished with two tickets, and closed with close_notify
/// answered.
const CALLS_MAX: f64 = 7.5;

/// The rows of a table of strace: each call's name and how often it was made.
fn rows(table: &str) -> HashMap<&str, u64> {
    let rows = table.lines().filter_map(|l| l.trim().split_once(' '));
    rows.filter_map(|(n, name)| Some((name, n.parse().ok()?))).collect()
}

/// All system calls of a server over what `exchange` does with it, its start and end included, and the table of them.
fn calls(
    strace: &handfast_tests::peers::Program,
    made: &Made,
    exchange: impl FnOnce(&mut Process, SocketAddr),
) -> (u64, String) {
    let scratch = Scratch::new();
    let (cert, key) = (scratch.file("cert.pem", &made.pem), scratch.file("key.pem", &made.key_pem));
    let table = scratch.path("strace.txt");
    let mut command = strace.command();
    // -D makes strace the grandchild, so that the signal below reaches the server itself.
    command.args(["-D", "-f", "-c", "-U", "calls,name", "-o"]).arg(&table).arg("--");
    command.arg(handfast().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--no-pin", "--close", "--tickets", "2"]);
    command.arg("--cert").arg(cert).arg("--key").arg(key);
    let mut server = Process::start(&mut command);
    let addr: SocketAddr = server.wait_for("a listener", Pipe::Stdout, |text| {
        text.lines().find_map(|l| l.strip_prefix("handfast: listening on ")?.parse().ok())
    });
    exchange(&mut server, addr);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), 0);
    // strace writes its table after the server has ended.
    let deadline = std::time::Instant::now() + handfast_tests::process::BOUND;
    loop {
        let text = std::fs::read_to_string(&table).unwrap_or_default();
        let counts = rows(&text);
        if let Some(&total) = counts.get("total") {
            // With debug assertions the standard library looks at each descriptor before it closes it.
            let checks = if cfg!(debug_assertions) { counts.get("fcntl").copied().unwrap_or(0) } else { 0 };
            return (total - checks, text);
        }
        assert!(std::time::Instant::now() < deadline, "no table from strace: {text}");
        std::thread::yield_now();
    }
}

/// Handshakes in step: the server stands still until each phase of all connections is on its way, as one that is busy
/// with others would, so that its batches are full whatever the speed of this machine.
fn round(server: &mut Process, addr: SocketAddr, config: &Arc<ClientConfig>) {
    server.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Tls::new(TcpPeer::connect(addr), config, "localhost")).collect();
    let hellos: Vec<_> = clients.iter_mut().map(Tls::outgoing).collect();
    for (client, hello) in clients.iter_mut().zip(hellos) {
        client.peer.send(&hello);
    }
    server.signal(Signal::CONT);
    let mut last_flights = Vec::new();
    for client in &mut clients {
        while client.conn.is_handshaking() {
            client.receive();
        }
        client.conn.send_close_notify();
        last_flights.push(client.outgoing());
    }
    server.signal(Signal::STOP);
    for (client, flight) in clients.iter_mut().zip(last_flights) {
        client.peer.send(&flight);
        client.peer.shutdown();
    }
    server.signal(Signal::CONT);
    for client in &mut clients {
        while !client.peer.is_eof() {
            client.receive();
            assert!(!client.peer.is_reset() && client.error.is_none(), "{:?}", client.error);
        }
    }
}

#[test]
fn a_handshake_costs_at_most_seven_and_a_half_system_calls() {
    let Some(strace) = Installed::Strace.installed() else { return };
    let made = make(&["localhost"]);
    let mut options = Options::new(made.roots(), &["h2"]);
    options.versions = vec![&version::TLS13];
    options.provider.kx_groups.retain(|g| g.name() == NamedGroup::X25519);
    let config = options.config();
    let (idle, _) = calls(&strace, &made, |_, _| {});
    let (busy, table) = calls(&strace, &made, |server, addr| (0..ROUNDS).for_each(|_| round(server, addr, &config)));
    let per_handshake = (busy - idle) as f64 / (CONNECTIONS * ROUNDS) as f64;
    println!("{per_handshake:.2} system calls per handshake");
    assert!(per_handshake > 5.0, "the count counts nothing: {table}");
    assert!(per_handshake <= CALLS_MAX, "{per_handshake:.2} system calls per handshake:\n{table}");
}

/// Clients that send a byte of a ClientHello at a time, `bytes` in all, and leave.
fn trickle(addr: SocketAddr, clients: usize, bytes: usize) {
    let mut peers: Vec<_> = (0..clients).map(|_| TcpPeer::connect(addr)).collect();
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0];
    for byte in &hello[..bytes] {
        for peer in &mut peers {
            peer.send(&[*byte]);
        }
        until_read(addr.port());
    }
    peers.iter_mut().for_each(Peer::shutdown);
}

/// Waits until nothing that was sent to `port` is unread: otherwise two bytes of a client could be read as one.
fn until_read(port: u16) {
    let local = format!(":{port:04X}");
    let deadline = std::time::Instant::now() + handfast_tests::process::BOUND;
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        let unread = table.lines().skip(1).any(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            // Local address, state and queues; state 0A listens.
            fields[1].ends_with(&local) && fields[3] != "0A" && !fields[4].ends_with(":00000000")
        });
        if !unread {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the server does not read");
        std::thread::yield_now();
    }
}

#[test]
fn a_byte_of_a_trickling_client_costs_at_most_three_system_calls() {
    let Some(strace) = Installed::Strace.installed() else { return };
    let made = make(&["localhost"]);
    let (clients, few, many) = (if handfast_tests::peers::full() { 2000 } else { 200 }, 2, 12);
    // The difference is that of the bytes: connecting and leaving cost the same, but for a turn of the loop or two for
    // each client.
    let (less, _) = calls(&strace, &made, |_, addr| trickle(addr, clients, few));
    let (more, table) = calls(&strace, &made, |_, addr| trickle(addr, clients, many));
    let reads = rows(&table).get("recvfrom").copied().unwrap_or(0);
    assert!(reads >= (clients * many) as u64, "not each byte was read by itself: {table}");
    let per_byte = more.saturating_sub(less) as f64 / (clients * (many - few)) as f64;
    println!("{per_byte:.2} system calls for each byte of {clients} trickling clients");
    assert!(per_byte <= 3.0, "{per_byte:.2} system calls for a byte:\n{table}");
}
