//! The blocking client, against the engine and against OpenSSL.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use handfast::client::{Client, ClientError, Phase, Roots, RootsProblem};
use handfast::handshake::TlsVersions;
use handfast::rustls::{CertificateError, NamedGroup, ProtocolVersion};
use handfast::{Culprit, Placement, Protocol};

use crate::harness::{Certificate, Server, TempFile, read_rest};

fn server() -> Server {
    Server::start(Placement::SharedCore, [Protocol::alpn("bench").close()])
}

#[test]
fn what_was_negotiated_can_be_asked_for() {
    let server = server();
    let target = format!("localhost:{}", server.addr().port());
    let roots = TempFile::new(&server.certificate.pem);
    let client = Client::builder().alpn(["other", "bench"]).roots(Roots::file(roots.path())).build().unwrap();
    let c = client.connect(&target).unwrap();
    assert_eq!(c.alpn_protocol(), Some(&b"bench"[..]));
    assert_eq!(c.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(c.group(), Some(NamedGroup::X25519MLKEM768));
    assert!(c.cipher_suite().is_some() && !c.resumed());
    assert_eq!(c.peer_certificates(), std::slice::from_ref(&server.certificate.der));
    let c = client.connect_with_name(&target, "127.0.0.1").unwrap();
    drop(c);
    let old = Client::builder().alpn(["bench"]).roots(Roots::file(roots.path())).versions(TlsVersions::Tls12);
    let c = old.build().unwrap().connect(&target).unwrap();
    assert_eq!(c.protocol_version(), Some(ProtocolVersion::TLSv1_2));
}

#[test]
fn sessions_are_resumed_within_a_client_unless_turned_off() {
    for versions in [TlsVersions::Tls13, TlsVersions::Tls12] {
        let server = server();
        let roots = || Roots::certificates([server.certificate.der.clone()]);
        let build = |resume| {
            let builder = Client::builder().alpn(["bench"]).roots(roots()).versions(versions);
            builder.resumption(resume).build().unwrap()
        };
        let resumed = |client: &Client| {
            let mut c = client.connect_to(server.addr(), "localhost").unwrap();
            c.close().unwrap();
            assert_eq!(read_rest(&mut c), b"");
            c.resumed()
        };
        let client = build(true);
        assert_eq!([(); 3].map(|()| resumed(&client)), [false, true, true]);
        assert!(!resumed(&build(true)), "sessions are a client's own");
        let fresh = build(false);
        assert_eq!([(); 2].map(|()| resumed(&fresh)), [false, false]);
        assert_eq!(server.shutdown().handshakes_resumed, 2);
    }
}

#[test]
fn untrusted_server_is_refused_unless_insecure_is_asked_for() {
    let server = server();
    let connect = |roots, name: &str| {
        Client::builder().alpn(["bench"]).roots(roots).build().unwrap().connect_to(server.addr(), name)
    };
    match connect(Roots::WebPki, "localhost") {
        Err(ClientError::NotTrusted { server_name, reason: CertificateError::UnknownIssuer }) => {
            assert_eq!(server_name, "localhost");
        }
        other => panic!("{other:?}"),
    }
    let namesake = connect(Roots::certificates([Certificate::new().der]), "localhost");
    assert!(matches!(namesake, Err(ClientError::NotTrusted { .. })), "{namesake:?}");
    let own = || Roots::certificates([server.certificate.der.clone()]);
    let error = connect(own(), "elsewhere.example").unwrap_err();
    assert!(matches!(error, ClientError::NotTrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("elsewhere.example"), "{error}");
    assert_eq!(error.culprit(), Culprit::Peer);
    assert!(connect(Roots::insecure_none(), "elsewhere.example").is_ok());
}

#[test]
fn no_common_protocol_is_named_with_what_was_offered() {
    let server = server();
    let builder = Client::builder().roots(Roots::certificates([server.certificate.der.clone()]));
    let error = builder.alpn(["h3", "x"]).build().unwrap().connect_to(server.addr(), "localhost").unwrap_err();
    match &error {
        ClientError::NoApplicationProtocol { offered } => assert_eq!(offered, &["h3", "x"]),
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains("h3, x"), "{error}");
}

#[test]
fn mistakes_in_the_configuration_are_told_before_connecting() {
    let roots = |roots| match Client::builder().roots(roots).build() {
        Err(ClientError::Roots { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(roots(Roots::file("/nowhere/roots.pem")), RootsProblem::Unreadable(ErrorKind::NotFound));
    assert_eq!(roots(Roots::file(TempFile::new("nothing here").path())), RootsProblem::Empty);
    assert_eq!(roots(Roots::certificates([])), RootsProblem::Empty);
    assert_eq!(roots(Roots::certificates([b"x".to_vec().into()])), RootsProblem::Malformed);
    assert!(matches!(Client::builder().alpn([""]).build(), Err(ClientError::AlpnId { len: 0 })));
    let client = Client::builder().build().unwrap();
    assert!(matches!(client.connect("example.org"), Err(ClientError::Target { .. })));
    assert!(matches!(client.connect_with_name("localhost:1", "a b"), Err(ClientError::ServerName { .. })));
    assert!(matches!(client.connect("host.invalid:1"), Err(ClientError::UnknownHost { .. })));
}

/// What the client says when the server does `serve` with its first connection.
fn error_against(serve: impl FnOnce(std::net::TcpStream) + Send + 'static, timeout: Duration) -> ClientError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let client = Client::builder().roots(Roots::insecure_none()).handshake_timeout(timeout).build().unwrap();
    let error = client.connect_to(addr, "localhost").unwrap_err();
    server.join().unwrap();
    error
}

#[test]
fn servers_that_refuse_close_stall_or_speak_no_tls_are_told_apart() {
    let long = Duration::from_secs(20);
    let plain = |mut socket: std::net::TcpStream| {
        let _ = socket.read(&mut [0; 4096]);
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    };
    assert!(matches!(error_against(plain, long), ClientError::NotTls { .. }));
    let closes = |mut socket: std::net::TcpStream| drop(socket.read(&mut [0; 4096]));
    assert!(matches!(error_against(closes, long), ClientError::Closed { .. }));
    let resets = |mut socket: std::net::TcpStream| drop(socket.read(&mut [0; 1]));
    let error = error_against(resets, long);
    assert!(matches!(error, ClientError::Reset { phase: Phase::Handshake, .. }), "{error:?}");
    let stalls = |mut socket: std::net::TcpStream| drop(socket.read_to_end(&mut Vec::new()));
    let error = error_against(stalls, Duration::from_millis(50));
    assert!(matches!(error, ClientError::TimedOut { phase: Phase::Handshake, .. }), "{error:?}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::builder().build().unwrap().connect_to(free, "localhost").unwrap_err();
    assert!(matches!(error, ClientError::Refused { addr } if addr == free), "{error:?}");
}

/// `openssl s_server`, ended with the test.
struct Openssl(Child);

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(certificate: &Certificate, arguments: &[&str]) -> Option<(Openssl, SocketAddr)> {
    let (cert, key) = (TempFile::new(&certificate.pem), TempFile::new(&certificate.key_pem));
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert"])
        .arg(cert.path())
        .arg("-key")
        .arg(key.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .inspect_err(|e| eprintln!("skipped: openssl cannot be run: {e}"))
        .ok()?;
    // `ACCEPT address` once it listens.
    let lines = BufReader::new(child.stdout.take()?).lines();
    let addr = lines.map_while(Result::ok).find_map(|l| l.strip_prefix("ACCEPT ")?.parse().ok());
    Some((Openssl(child), addr.expect("openssl s_server says where it listens")))
}

#[test]
fn openssl_server_is_spoken_to_and_resumed() {
    let certificate = Certificate::new();
    let Some((_server, addr)) = openssl(&certificate, &["-alpn", "http/1.1"]) else { return };
    for (versions, version) in
        [(TlsVersions::Tls13, ProtocolVersion::TLSv1_3), (TlsVersions::Tls12, ProtocolVersion::TLSv1_2)]
    {
        let roots = Roots::certificates([certificate.der.clone()]);
        let builder = Client::builder().alpn(["h2", "http/1.1"]).roots(roots).versions(versions);
        let client = builder.build().unwrap();
        for resumed in [false, true] {
            let mut c = client.connect_to(addr, "localhost").unwrap();
            assert_eq!((c.alpn_protocol(), c.protocol_version()), (Some(&b"http/1.1"[..]), Some(version)));
            assert_eq!(c.resumed(), resumed);
            c.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = [0; 15];
            c.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.0 200 ok");
        }
    }
}
