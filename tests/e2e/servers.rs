//! Our client and our load generator against nginx and `openssl s_server`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use handfast::client::{Client, ClientBuilder, ClientError, Roots};
use handfast::handshake::TlsVersions;
use handfast_tests::binaries::handfast_load;
use handfast_tests::certificates::make;
use handfast_tests::peers::Peer;
use handfast_tests::process::{BOUND, Pipe, Process, Scratch};
use serde_json::json;

use crate::measuring::{SHORT, good_load, load};
use crate::server::{Files, text, until};

/// A server of somebody else's, with a certificate of ours for `localhost` and 127.0.0.1.
pub(crate) struct Foreign {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) files: Files,
    pub(crate) scratch: Scratch,
}

impl Foreign {
    pub(crate) fn target(&self) -> String {
        self.addr.to_string()
    }

    /// A client that trusts it.
    pub(crate) fn trusting(&self) -> ClientBuilder {
        Client::builder().roots(Roots::file(&self.files.cert))
    }

    fn client(&self, alpn: &'static str) -> ClientBuilder {
        self.trusting().alpn([alpn])
    }
}

/// The server name for which nginx asks clients for a certificate; it takes its own.
pub(crate) const ASKING: &str = "asking.example";

/// nginx in the foreground, with TLS on `tls` and without on `plain`.
pub(crate) struct Nginx {
    pub(crate) tls: Foreign,
    plain: SocketAddr,
}

pub(crate) fn nginx() -> Option<Nginx> {
    nginx_with(nginx_config)
}

/// nginx with another configuration, made of its directory, its two addresses and its certificate.
pub(crate) fn nginx_with(config: impl Fn(&str, SocketAddr, SocketAddr, &Files) -> String) -> Option<Nginx> {
    let nginx = Peer::Nginx.installed()?;
    // It cannot tell us which free ports it took; so we take two and give them up, and somebody else may be faster.
    for _ in 0..10 {
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [addr, plain] = free.map(|listener| listener.local_addr().expect("an address"));
        let scratch = Scratch::new();
        let files = Files::new(&scratch, "nginx", make(&["localhost", "127.0.0.1", ASKING]));
        let (dir, pid) = (scratch.path(""), scratch.path("nginx.pid"));
        let config = scratch.file("nginx.conf", config(text(&dir), addr, plain, &files));
        let process = Process::start(nginx.command().args(["-p", text(&dir), "-c", text(&config)]));
        // It writes this file once it listens.
        let listens = || fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'));
        until("nginx", || listens() || process.has_ended());
        if listens() {
            return Some(Nginx { tls: Foreign { process, addr, files, scratch }, plain });
        }
        let ended = process.end();
        assert!(ended.stderr.contains("Address already in use"), "{ended}");
    }
    panic!("nginx finds no free port");
}

fn nginx_config(dir: &str, addr: SocketAddr, plain: SocketAddr, files: &Files) -> String {
    let (cert, key) = (files.cert(), files.key());
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr;
         events {{ worker_connections 512; }}
         http {{
             access_log off;
             client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
             scgi_temp_path {dir};
             server {{
                 listen {addr} ssl http2;
                 ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
                 location / {{ default_type text/plain; return 200 \"$server_protocol $ssl_protocol\\n\"; }}
             }}
             server {{
                 listen {addr} ssl http2; server_name {ASKING};
                 ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
                 ssl_client_certificate {cert}; ssl_verify_client on;
                 location / {{ default_type text/plain; return 200 \"$ssl_client_verify $ssl_session_reused\"; }}
             }}
             server {{ listen {plain}; }}
         }}"
    )
}

/// `openssl s_server`, one connection after the other.
pub(crate) fn s_server(args: &[&str]) -> Option<Foreign> {
    let openssl = Peer::OpenSsl.installed()?;
    let scratch = Scratch::new();
    let files = Files::new(&scratch, "s_server", make(&["localhost", "127.0.0.1"]));
    let mut command = openssl.command();
    command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", files.cert(), "-key", files.key()]).args(args);
    let process = Process::start(&mut command);
    let addr = process.wait_for("port", Pipe::Stdout, |text| {
        text.split_inclusive('\n').find_map(|l| l.strip_suffix('\n')?.strip_prefix("ACCEPT ")?.parse().ok())
    });
    Some(Foreign { process, addr, files, scratch })
}

/// One request over HTTP/1.x; the whole answer.
pub(crate) fn get(connection: &mut handfast::client::Connection) -> String {
    connection.socket().set_read_timeout(Some(BOUND)).expect("a time limit");
    connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_load_generator_measures_nginx() {
    let Some(nginx) = nginx() else { return };
    let (target, pid) = (nginx.tls.target(), nginx.tls.process.id().to_string());
    for (alpn, tls) in [("h2,http/1.1", "1.3"), ("h2", "1.2"), ("http/1.1", "1.3"), ("none", "1.2")] {
        let args = [&target, "--alpn", alpn, "--tls", tls, "--ca", nginx.tls.files.cert(), "--server-pid", &pid];
        let (figures, handshakes) = good_load(&[&args, &SHORT[..]].concat());
        let negotiated = alpn.split(',').next().expect("a protocol");
        assert_eq!(figures["negotiated"], json!({negotiated: handshakes}), "{figures}");
        assert_eq!(figures["tls_versions"], json!({tls: handshakes}), "{figures}");
        assert!(figures["server_cpu_us_per_handshake"].as_f64().is_some_and(|us| us > 0.0), "{figures}");
    }
}

#[test]
fn the_load_generator_resumes_at_nginx() {
    let Some(nginx) = nginx() else { return };
    let target = nginx.tls.target();
    for tls in ["1.2", "1.3"] {
        let (figures, handshakes) = good_load(&[&[&target, "--resume", "--tls", tls], &SHORT[..]].concat());
        let resumed = figures["resumed"].as_u64().expect("a number");
        assert!(resumed > 0 && resumed <= handshakes, "{figures}");
    }
}

#[test]
fn the_load_generator_measures_s_server() {
    for (args, negotiated) in [(&["-www", "-alpn", "http/1.1,h2"][..], "http/1.1"), (&["-www"], "none")] {
        let Some(server) = s_server(args) else { return };
        let target = server.target();
        let args = [&target, "--ca", server.files.cert(), "--duration", "500ms", "--warm-up", "100ms"];
        // It answers one connection at a time.
        let (figures, handshakes) = good_load(&[&args[..], &["--connections", "2"]].concat());
        assert_eq!(figures["negotiated"], json!({negotiated: handshakes}), "{figures}");
    }
}

#[test]
fn the_load_generator_names_a_port_without_tls() {
    let Some(nginx) = nginx() else { return };
    let (ended, figures) = load(&[&nginx.plain.to_string(), "--count", "6", "--connections", "3"]);
    assert_eq!(ended.code(), 1, "{ended}");
    assert_eq!((&figures["handshakes"], &figures["errors"]), (&json!(0), &json!({"not_tls": 6})), "{figures}");
    assert!(ended.stderr.contains("does this port speak TLS?"), "{ended}");
}

#[test]
fn the_load_generator_ends_when_its_target_dies() {
    let Some(server) = s_server(&["-alpn", "h2"]) else { return };
    let mut command = handfast_load();
    command.args([
        &server.target(),
        "--json",
        "--duration",
        "50s",
        "--warm-up",
        "0s",
        "--give-up",
        "1s",
        "--connections",
        "2",
    ]);
    let load = Process::start(&mut command);
    // It says so each time it is ready for another.
    server.process.wait_for("handshakes", Pipe::Stdout, |t| (t.matches("CIPHER is").count() > 20).then_some(()));
    drop(server);
    let ended = load.end();
    let figures: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    assert_eq!(ended.code(), 1, "{ended}");
    assert!(["target_lost", "gave_up"].iter().any(|e| figures["ended"] == *e), "{figures}");
    assert!(figures["handshakes_all"].as_u64().is_some_and(|n| n > 0), "{figures}");
    assert!(figures["errors"]["connect_refused"].as_u64().is_some_and(|n| n > 0), "{figures}");
}

#[test]
fn the_client_talks_to_nginx() {
    let Some(nginx) = nginx() else { return };
    for (versions, name) in [(TlsVersions::Tls13, "TLSv1.3"), (TlsVersions::Tls12, "TLSv1.2")] {
        let client = nginx.tls.client("http/1.1").versions(versions).build().expect("a client");
        for resumed in [false, true] {
            let mut connection = client.connect_to(nginx.tls.addr, "localhost").expect("a connection");
            assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(connection.resumed(), resumed, "{name}");
            let answer = get(&mut connection);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\nHTTP/1.1 {name}\n")), "{answer}");
        }
    }
    let h2 = nginx.tls.client("h2").build().expect("a client");
    // By its address, which is in the certificate, too.
    let connection = h2.connect(&nginx.tls.target()).expect("a connection");
    assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn the_client_talks_to_s_server() {
    let Some(server) = s_server(&["-www", "-alpn", "http/1.1"]) else { return };
    for (versions, name) in [(TlsVersions::Tls13, "TLSv1.3"), (TlsVersions::Tls12, "TLSv1.2")] {
        let client = server.client("http/1.1").versions(versions).build().expect("a client");
        let mut connection = client.connect_to(server.addr, "localhost").expect("a connection");
        assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = get(&mut connection);
        assert!(answer.starts_with("HTTP/1.0 200 ok\r\n") && answer.contains(name), "{answer}");
    }
}

#[test]
fn the_client_names_what_is_wrong_with_a_server() {
    let Some(nginx) = nginx() else { return };
    let stranger = make(&["localhost"]);
    let distrustful = Client::builder().roots(Roots::certificates([stranger.der])).build().expect("a client");
    let error = distrustful.connect_to(nginx.tls.addr, "localhost").expect_err("an unknown issuer");
    assert!(matches!(error, ClientError::NotTrusted { .. }), "{error}");
    let client = nginx.tls.client("h2").build().expect("a client");
    let error = client.connect_to(nginx.tls.addr, "www.example.com").expect_err("another name");
    assert!(matches!(error, ClientError::NotTrusted { .. }), "{error}");
    let error = client.connect_to(nginx.plain, "localhost").expect_err("plain HTTP");
    assert!(matches!(error, ClientError::NotTls { .. }), "{error}");
    drop(nginx);
}
