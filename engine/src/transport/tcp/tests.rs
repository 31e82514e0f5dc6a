//! What only kernel sockets can show.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::*;

fn listener() -> (Listener, SocketAddr) {
    let any = Endpoint::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = Listener::bind(&any, &ListenOptions::default(), 1).unwrap().remove(0);
    let Endpoint::Tcp { addr, .. } = *listener.endpoint() else { unreachable!("asked for TCP") };
    (listener, addr)
}

fn connect(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"x").unwrap();
    stream
}

#[test]
fn a_listener_that_fills_every_turn_leaves_the_next_one_to_the_others() {
    let ((busy, busy_addr), (quiet, quiet_addr)) = (listener(), listener());
    let mut config = Config::new(vec![busy, quiet]);
    config.accepts_per_turn = 2;
    let mut tcp = Tcp::new(config).unwrap();
    let _flood: Vec<_> = (0..8).map(|_| connect(busy_addr)).collect();
    let one = connect(quiet_addr);
    let from = Some(PeerAddr::Ip(one.local_addr().unwrap()));
    let mut events = Vec::new();
    while events.len() < 4 {
        tcp.poll(None, &mut events).unwrap();
    }
    assert!(events.iter().any(|e| tcp.peer(e.conn) == from), "it was not among the first: {events:?}");
}

#[test]
fn what_waits_is_accepted_before_the_listeners_close() {
    let dir = std::env::temp_dir().join(format!("handfast-drain-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("s.sock");
    let (tcp, addr) = listener();
    let unix = Endpoint::Unix(path.clone());
    let options = ListenOptions { proxy_protocol: Some(ProxyProtocol::from_sources([])), ..ListenOptions::default() };
    let unix = Listener::bind(&unix, &options, 1).unwrap().remove(0);
    let mut tcp = Tcp::new(Config::new(vec![tcp, unix])).unwrap();
    let _over_tcp: Vec<_> = (0..5).map(|_| connect(addr)).collect();
    let local = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"x").unwrap();
        stream
    };
    let _over_unix: Vec<_> = (0..3).map(|_| local()).collect();
    tcp.stop_listening();
    assert!(TcpStream::connect(addr).is_err() && UnixStream::connect(&path).is_err());
    let mut events = Vec::new();
    tcp.poll(Some(tcp.now()), &mut events).unwrap();
    assert_eq!(events.len(), 8);
    for Event { conn, ready } in &events {
        assert_eq!(*ready, NEW);
        assert!(matches!(tcp.recv(*conn, 16, |bytes| bytes == b"x"), Ok(Recv::Data(true, _))));
        // It is not forgotten what has to come first.
        assert_eq!(tcp.proxy_protocol(*conn).is_some(), tcp.peer(*conn) == Some(PeerAddr::Unix));
    }
    tcp.flush().unwrap();
    events.clear();
    tcp.poll(Some(tcp.now()), &mut events).unwrap();
    assert_eq!(events, []);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_full_transport_accepts_no_more_when_its_listeners_close() {
    let (listener, addr) = listener();
    let mut config = Config::new(vec![listener]);
    config.connections_max = 2;
    let mut tcp = Tcp::new(config).unwrap();
    let clients: Vec<_> = (0..4).map(|_| connect(addr)).collect();
    tcp.stop_listening();
    let mut events = Vec::new();
    tcp.poll(Some(tcp.now()), &mut events).unwrap();
    assert_eq!(events.len(), 2);
    let was_reset =
        |mut client: &TcpStream| client.read(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::ConnectionReset);
    let accepted: Vec<_> = events.iter().map(|e| tcp.peer(e.conn)).collect();
    for client in &clients {
        let held = accepted.contains(&Some(PeerAddr::Ip(client.local_addr().unwrap())));
        assert!(held || was_reset(client));
    }
}
