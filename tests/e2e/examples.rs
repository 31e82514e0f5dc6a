//! The engine's examples do what they say.

use std::net::SocketAddr;

use handfast::client::{Client, Connection, Roots};
use handfast::rustls::pki_types::CertificateDer;
use handfast::rustls::pki_types::pem::PemObject;
use handfast_tests::binaries::example;
use handfast_tests::peers::Peer;
use handfast_tests::process::{Pipe, Process, run};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::s_client::{SClient, certificate, handshake};

/// The lines of an example that ends by itself.
#[track_caller]
fn lines(name: &str) -> Vec<String> {
    let ended = run(&mut example(name));
    assert_eq!(ended.code(), 0, "{name}: {}", ended.stderr);
    ended.stdout.lines().map(str::to_owned).collect()
}

/// An example that listens where it is told, until it reads a line or the end of its input.
fn serving(name: &str) -> (Process, SocketAddr) {
    let process = Process::start(example(name).arg("127.0.0.1:0"));
    let addr = process.wait_for("the address", Pipe::Stdout, |text| {
        let line = text.split_inclusive('\n').find_map(|l| l.strip_suffix('\n')?.strip_prefix("listening on "))?;
        line.parse().ok()
    });
    (process, addr)
}

#[track_caller]
fn ends(process: Process) {
    let ended = process.end();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn alpn_negotiation_says_what_was_accepted() {
    let lines = lines("alpn_negotiation");
    let expected = [
        r#"offered ["chat/1", "chat/2"]: accepted chat/2, and the server says `this is chat/2`"#,
        r#"offered ["chat/1"]: accepted chat/1, and the server says `this is chat/1`"#,
        r#"offered ["spdy/3"]: the server speaks none of the ALPN protocols"#,
        r#"offered []: accepted none, and the server says `this is status/1`"#,
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    assert!(lines.iter().zip(expected).all(|(line, expected)| line.starts_with(expected)), "{lines:?}");
}

#[test]
fn alpn_callback_chooses_by_server_name() {
    let lines = lines("alpn_callback");
    assert_eq!(lines[..2], ["localhost: chat/1", "beta.localhost: chat/2"]);
    assert!(lines[2].starts_with("closed.localhost: ") && lines[2].contains("UnrecognisedName"), "{lines:?}");
}

#[test]
fn certificate_per_protocol_shows_each_its_own() {
    let lines = lines("certificate_per_protocol");
    assert_eq!(lines[0], "h2, trusting public: the server shows the certificate of `public`");
    assert_eq!(lines[1], "telemetry/1, trusting devices: the server shows the certificate of `devices`");
    assert!(lines[2].contains("is not trusted"), "{lines:?}");
}

#[test]
fn acme_tls_alpn_shows_the_challenge_to_the_authority_and_to_nobody_else() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let (process, addr) = serving("acme_tls_alpn");
    let hex = process.wait_for("the digest", Pipe::Stdout, |text| {
        Some(text.split("the challenge for localhost has ").nth(1)?.split_once(';')?.0.to_owned())
    });
    let digest: Vec<u8> =
        (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect();
    // id-pe-acmeIdentifier (1.3.6.1.5.5.7.1.31), critical, an octet string in an octet string (RFC 8737 section 3).
    let extension = [&[6, 8, 43, 6, 1, 5, 5, 7, 1, 31, 1, 1, 255, 4, 34, 4, 32], &digest[..]].concat();
    let has = |der: &[u8], bytes: &[u8]| der.windows(bytes.len()).any(|window| window == bytes);
    for version in ["-tls1_3", "-tls1_2"] {
        let ended = handshake(&openssl, addr, &["-alpn", "acme-tls/1", version]);
        assert!(ended.stdout.contains("ALPN protocol: acme-tls/1\n"), "{ended}");
        let shown = CertificateDer::from_pem_slice(certificate(&ended.stdout).as_bytes()).expect("a certificate");
        assert!(has(&shown, &extension), "{ended}");
        // Its only name, as a DNS name.
        assert!(has(&shown, b"\x30\x0b\x82\x09localhost"), "{ended}");

        let ended = handshake(&openssl, addr, &["-alpn", "http/1.1", version]);
        let shown = CertificateDer::from_pem_slice(certificate(&ended.stdout).as_bytes()).expect("a certificate");
        assert!(!has(&shown, &extension), "{ended}");
        // s_client takes the last name that it is given.
        let ended = SClient::start(&openssl, addr, &["-alpn", "acme-tls/1", version, "-servername", "b.test"]).end();
        assert_ne!(ended.code(), 0, "{ended}");
        assert!(!ended.stdout.contains("BEGIN CERTIFICATE"), "{ended}");
    }
    ends(process);
}

#[test]
fn hand_off_answers_from_its_own_loop() {
    let lines = lines("hand_off");
    assert!(lines[0].starts_with("taken over: shout/1 from 127.0.0.1:"), "{lines:?}");
    assert_eq!(lines[1..], ["the answer: HELLO", "handed off: 1"]);
}

#[test]
fn own_protocol_counts_lines() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let (process, addr) = serving("own_protocol");
    let mut command = openssl.command();
    command.args(["s_client", "-quiet", "-alpn", "lines/1", "-connect", &addr.to_string()]);
    let mut client = Process::start(&mut command);
    client.input(b"hello\nyou\n");
    client.wait_for_text("1: 5 bytes\n2: 3 bytes\n");
    drop(client);
    ends(process);
}

#[test]
fn axum_application_answers_curl_over_both_versions() {
    let Some(curl) = Peer::Curl.installed() else { return };
    let (process, addr) = serving("axum");
    for (flag, alpn) in [("--http2", "h2"), ("--http1.1", "http/1.1")] {
        let get = |path| {
            let url = format!("https://{addr}{path}");
            run(curl.command().args(["--silent", "--show-error", "--insecure", "--max-time", "20", flag, &url])).stdout
        };
        assert!(get("/").starts_with(&format!("hello over {alpn} from 127.0.0.1:")));
        assert!(get("/slow").starts_with("this took a while"));
    }
    ends(process);
}

/// A member of the chat room, over HTTP/1.1.
fn member(addr: SocketAddr) -> WebSocket<Connection> {
    let client = Client::builder().alpn(["http/1.1"]).roots(Roots::insecure_none()).build().expect("a client");
    let mut request = format!("wss://{addr}/chat").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "other, chat".parse().expect("a header value"));
    let connection = client.connect_to(addr, "localhost").expect("a connection");
    let (socket, response) = tungstenite::client(request, connection).expect("a WebSocket");
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    socket
}

/// Reads until the room says something that ends like this.
fn hear(member: &mut WebSocket<Connection>, end: &str) {
    loop {
        let heard = member.read().expect("a message").into_text().expect("a text");
        if heard.ends_with(end) {
            return;
        }
    }
}

#[test]
fn websocket_chat_tells_everybody_on_every_shard() {
    let (process, addr) = serving("websocket_chat");
    let mut members: Vec<_> = (0..6).map(|_| member(addr)).collect();
    hear(&mut members[5], "came over http/1.1");
    members[5].send(Message::text("is anybody here?")).expect("a message sent");
    members.iter_mut().for_each(|member| hear(member, ": is anybody here?"));
    members.swap_remove(0).close(None).expect("a Close frame");
    members.iter_mut().for_each(|member| hear(member, " left"));
    // A binary message is not for this room, and ends its sender's membership only.
    members[0].send(Message::binary(vec![0])).expect("a message sent");
    hear(&mut members[1], " left");
    members[2].send(Message::text("still here")).expect("a message sent");
    hear(&mut members[1], ": still here");
    drop(members);
    ends(process);
}
