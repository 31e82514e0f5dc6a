//! HAProxy and nginx in front of the engine, with the PROXY protocol between them.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use handfast::client::{Client, Roots};
use handfast::error::RefusalClass;
use handfast::identity::{CertificateSet, Identity};
use handfast::peer::PeerAddr;
use handfast::transport::tcp::{Endpoint, ListenOptions};
use handfast::{Engine, HandshakeFacts, Protocol, ProxyProtocol, Stream};
use handfast_tests::certificates::make;
use handfast_tests::peers::{NGINX_STREAM, Peer};
use handfast_tests::process::{BOUND, Process, Scratch};

use crate::server::{Files, text, until};

/// An engine behind proxies on this machine, and the facts of its connections.
struct Behind {
    engine: Engine,
    facts: mpsc::Receiver<HandshakeFacts>,
    files: Files,
    scratch: Scratch,
}

fn behind() -> Behind {
    let scratch = Scratch::new();
    let files = Files::new(&scratch, "behind", make(&["localhost", "127.0.0.1"]));
    let identity = Identity::from_files(&files.cert, &files.key, &handfast::crypto::provider()).expect("an identity");
    let (sender, facts) = mpsc::channel();
    let mut options = ListenOptions::default();
    options.proxy_protocol = Some(ProxyProtocol::from_sources(["127.0.0.1/32".parse().expect("a network")]));
    let engine = Engine::builder()
        .listen_with("127.0.0.1:0".parse::<Endpoint>().expect("an endpoint"), options)
        .shards(1)
        .certificates(CertificateSet::new("default", vec![identity]).expect("a set"))
        .protocol(Protocol::alpn("note/1").serve(move |stream: Stream| {
            // The test may have seen enough.
            let _ = sender.send((**stream.facts()).clone());
            async move { drop(stream) }
        }))
        .start()
        .expect("an engine");
    Behind { engine, facts, files, scratch }
}

impl Behind {
    fn addr(&self) -> SocketAddr {
        self.engine.handle().local_addr().expect("an address")
    }

    /// A handshake through `proxy`; the engine takes it for one of this client.
    fn is_named_by(&self, proxy: SocketAddr) {
        let client = Client::builder().roots(Roots::file(&self.files.cert)).alpn(["note/1"]).build().expect("a client");
        let connection = client.connect_to(proxy, "localhost").expect("a connection through the proxy");
        let near = connection.socket().local_addr().expect("an address");
        let facts = self.facts.recv_timeout(BOUND).expect("facts");
        assert_eq!(facts.peer, PeerAddr::Ip(near), "{facts:?}");
        let proxy = facts.proxy.and_then(|proxy| proxy.ip()).expect("a proxy");
        assert!(proxy.ip().is_loopback() && proxy != near, "{facts:?}");
    }
}

/// Starts a proxy that listens on the port it is given, on another if somebody else was faster.
fn started(start: impl Fn(SocketAddr) -> Process) -> (Process, SocketAddr) {
    for _ in 0..10 {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let process = start(addr);
        until("the proxy", || process.has_ended() || std::net::TcpStream::connect(addr).is_ok());
        if !process.has_ended() {
            return (process, addr);
        }
    }
    panic!("the proxy finds no free port");
}

#[test]
fn haproxy_names_its_clients() {
    let Some(haproxy) = Peer::HaProxy.installed() else { return };
    let behind = behind();
    let modes = ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"];
    for mode in modes {
        let (_proxy, addr) = started(|addr| {
            let config = format!(
                "global\n maxconn 100\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n \
                 timeout server 30s\n unique-id-format %[uuid()]\nlisten front\n bind {addr}\n \
                 server engine {} {mode}\n",
                behind.addr()
            );
            let file = behind.scratch.file("haproxy.cfg", config);
            Process::start(haproxy.command().args(["-db", "-f", text(&file)]))
        });
        for _ in 0..3 {
            behind.is_named_by(addr);
        }
    }
}

#[test]
fn health_checks_of_haproxy_are_taken_for_what_they_are() {
    let Some(haproxy) = Peer::HaProxy.installed() else { return };
    let behind = behind();
    let (_proxy, addr) = started(|addr| {
        let config = format!(
            "global\n maxconn 100\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen front\n bind {addr}\n server engine {} send-proxy-v2 check check-send-proxy check-ssl verify none \
             inter 100ms check-alpn note/1\n",
            behind.addr()
        );
        let file = behind.scratch.file("haproxy.cfg", config);
        Process::start(haproxy.command().args(["-db", "-f", text(&file)]))
    });
    // LOCAL: the proxy speaks for itself.
    let facts = behind.facts.recv_timeout(BOUND).expect("a check");
    assert_eq!(facts.proxy, None, "{facts:?}");
    until("a client is served beside them", || {
        let client = Client::builder().roots(Roots::file(&behind.files.cert)).alpn(["note/1"]).build();
        client.expect("a client").connect_to(addr, "localhost").is_ok()
    });
    assert_eq!(behind.engine.handle().metrics().refused(RefusalClass::ProxyHeader), 0);
}

#[test]
fn nginx_names_its_clients() {
    let Some(nginx) = Peer::NginxStream.installed() else { return };
    let behind = behind();
    let (_proxy, addr) = started(|addr| {
        let dir = behind.scratch.path("");
        let config = format!(
            "load_module {NGINX_STREAM}; daemon off; master_process off; pid {0}/nginx.pid; \
             error_log stderr; events {{ worker_connections 64; }} \
             stream {{ server {{ listen {addr}; proxy_pass {1}; proxy_protocol on; }} }}",
            text(&dir),
            behind.addr()
        );
        let file = behind.scratch.file("nginx.conf", config);
        Process::start(nginx.command().args(["-p", text(&dir), "-c", text(&file)]))
    });
    for _ in 0..3 {
        behind.is_named_by(addr);
    }
}

#[test]
fn who_is_no_proxy_is_reset() {
    let behind = behind();
    let client = Client::builder().roots(Roots::file(&behind.files.cert)).alpn(["note/1"]).build().expect("a client");
    client.connect_to(behind.addr(), "localhost").expect_err("no header");
    let metrics = || behind.engine.handle().metrics();
    until("it is counted", || metrics().refused(RefusalClass::ProxyHeader) == 1);
    assert!(behind.facts.recv_timeout(Duration::ZERO).is_err());
}
