//! Where `handfast serve` listens.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use handfast::rustls::{ClientConnection, StreamOwned};
use handfast_tests::certificates::make;
use handfast_tests::client::Options;
use handfast_tests::peers::{Peer, Program, skipped};
use handfast_tests::process::{BOUND, Scratch, run};
use serde_json::Value;

use crate::facts;
use crate::server::{Files, Server, counter, has_ipv6, text, until_accepting};

#[track_caller]
fn get(curl: &Program, ca: &str, args: &[&str]) -> Value {
    let mut command = curl.command();
    command.args(["-q", "--noproxy", "*", "--silent", "--show-error", "--max-time", "50", "--cacert", ca]).args(args);
    let ended = run(&mut command);
    facts::find(&ended.stdout).unwrap_or_else(|| panic!("{ended}"))
}

fn port_of(endpoint: &str) -> u16 {
    let addr = endpoint.split(',').next().expect("an address");
    addr.parse::<SocketAddr>().unwrap_or_else(|e| panic!("{endpoint}: {e}")).port()
}

#[test]
fn ipv4_ipv6_and_unix_at_once() {
    let Some(curl) = Peer::Curl.installed() else { return };
    let scratch = Scratch::new();
    let files = Files::new(&scratch, "all", make(&["localhost", "127.0.0.1", "::1"]));
    let path = scratch.path("hf.sock");
    let unix = format!("unix:{}", text(&path));
    let mut listen = vec!["--listen", "127.0.0.1:0", "--listen", &unix];
    if has_ipv6() {
        listen.extend(["--listen", "[::1]:0"]);
    } else {
        skipped(&"this machine has no IPv6 loopback address");
    }
    let server = Server::start(&[&listen[..], &["--cert", files.cert(), "--key", files.key()]].concat());
    let endpoints = server.endpoints().to_vec();
    assert_eq!(endpoints[1], unix);

    let facts = get(&curl, files.cert(), &[&format!("https://127.0.0.1:{}/", port_of(&endpoints[0]))]);
    assert!(facts["peer"].as_str().is_some_and(|p| p.starts_with("127.0.0.1:")), "{facts}");
    for flag in ["--http2", "--http1.1"] {
        let facts = get(&curl, files.cert(), &[flag, "--unix-socket", text(&path), "https://localhost/"]);
        assert_eq!((&facts["peer"], &facts["server_name"]), (&"unix".into(), &"localhost".into()), "{facts}");
    }
    if let Some(v6) = endpoints.get(2) {
        let facts = get(&curl, files.cert(), &[&format!("https://[::1]:{}/", port_of(v6))]);
        assert!(facts["peer"].as_str().is_some_and(|p| p.starts_with("[::1]:")), "{facts}");
    }
    server.stop();
    assert!(!path.exists(), "the socket's file is left behind");
    until_accepting(SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(&endpoints[0]))), false);
}

/// A client that goes without a word leaves the server's goodbye unsent, which must not reach the next one.
#[test]
fn clients_that_vanish_do_no_harm_to_the_next() {
    let scratch = Scratch::new();
    let files = Files::new(&scratch, "localhost", make(&["localhost"]));
    let path = scratch.path("hf.sock");
    let unix = format!("unix:{}", text(&path));
    let args = ["--listen", &unix, "--cert", files.cert(), "--key", files.key(), "--stats"];
    let server = Server::start(&args);
    let config = Options::new(files.made.roots(), &["http/1.1"]).config();
    for i in 0..10 {
        let socket = UnixStream::connect(&path).expect("a connection");
        socket.set_read_timeout(Some(BOUND)).expect("a time limit");
        let name = "localhost".try_into().expect("a name");
        let tls = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let mut stream = StreamOwned::new(tls, socket);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("a request");
        let mut lines = BufReader::new(stream).lines();
        let facts = lines.find_map(|line| facts::find(&(line.unwrap_or_else(|e| panic!("client {i}: {e}")) + "\n")));
        assert_eq!(facts.expect("facts")["peer"], "unix");
    }
    let stats = server.stop().stdout;
    assert_eq!(counter(&stats, "handshakes_full"), 10, "{stats}");
}

#[test]
fn an_ipv6_listener_serves_ipv4_only_when_told_to() {
    if !has_ipv6() {
        return skipped(&"this machine has no IPv6 loopback address");
    }
    let server = Server::start(&["--listen", "[::]:0", "--listen", "[::]:0,v6only=off", "--listen", ":0"]);
    let ports: Vec<u16> = server.endpoints().iter().map(|e| port_of(e)).collect();
    let accepts = |addr: SocketAddr| TcpStream::connect(addr).is_ok();
    for (port, ipv4) in ports.into_iter().zip([false, true, true]) {
        assert!(accepts(SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
        assert_eq!(accepts(SocketAddr::from((Ipv4Addr::LOCALHOST, port))), ipv4, "{:?}", server.endpoints());
    }
    server.stop();
}

#[test]
fn several_shards_share_each_listener() {
    let Some(curl) = Peer::Curl.installed() else { return };
    let scratch = Scratch::new();
    let files = Files::new(&scratch, "all", make(&["localhost", "127.0.0.1"]));
    let path = scratch.path("hf.sock");
    let unix = format!("unix:{}", text(&path));
    let args = ["--listen", "127.0.0.1:0", "--listen", &unix, "--cert", files.cert(), "--key", files.key()];
    let server = Server::with_shards("3", &args);
    for _ in 0..12 {
        get(&curl, files.cert(), &[&format!("https://127.0.0.1:{}/", port_of(&server.endpoints()[0]))]);
        get(&curl, files.cert(), &["--unix-socket", text(&path), "https://localhost/"]);
    }
    server.stop();
}
