//! Early data by `openssl s_client`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use handfast_tests::peers::{Peer, Program};
use handfast_tests::process::{Pipe, Scratch};

use crate::facts;
use crate::s_client::SClient;
use crate::server::{Server, counter, text};

const REQUEST: &str = "GET /facts.json HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A session that allows early data, in a file.
fn session(openssl: &Program, at: SocketAddr, scratch: &Scratch) -> PathBuf {
    let file = scratch.path("session.pem");
    let _ = std::fs::remove_file(&file);
    let args = ["-alpn", "http/1.1", "-tls1_3", "-sess_out", text(&file)];
    let ended = SClient::start(openssl, at, &args).with_ticket(&file).end();
    assert!(ended.stdout.contains("Max Early Data: 1000"), "{ended}");
    file
}

/// Sends the request as early data; what openssl says of it, and whether it was answered.
fn early(openssl: &Program, at: SocketAddr, session: &Path, request: &Path, more: &[&str]) -> (String, bool) {
    let args = ["-alpn", "http/1.1", "-tls1_3", "-sess_in", text(session), "-early_data", text(request)];
    let client = SClient::start(openssl, at, &[&args[..], more].concat()).established();
    let status = client.wait_for("what became of it", Pipe::Stdout, |out| {
        out.lines().find_map(|line| line.strip_prefix("Early data was ").map(str::to_owned))
    });
    let answered = status == "accepted" && {
        let facts = client.wait_for("facts", Pipe::Stdout, facts::find);
        assert_eq!((&facts["early_data"], &facts["resumed"]), (&true.into(), &true.into()), "{facts}");
        true
    };
    client.end();
    (status, answered)
}

#[test]
fn openssl_has_its_early_request_answered_once_for_each_session() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let request = scratch.file("request", REQUEST);
    let start = || {
        let args = ["--listen", "127.0.0.1:0", "--protocol", "http/1.1", "--early-data", "1000", "--stats"];
        // A session is kept for all shards.
        Server::with_shards("2", &args)
    };
    let (server, other) = (start(), start());
    for _ in 0..4 {
        let session = session(&openssl, server.addr(), &scratch);
        // Another process does not know it, and does not spend it.
        assert_eq!(early(&openssl, other.addr(), &session, &request, &[]), ("rejected".into(), false));
        assert_eq!(early(&openssl, server.addr(), &session, &request, &[]), ("accepted".into(), true));
        for _ in 0..2 {
            assert_eq!(early(&openssl, server.addr(), &session, &request, &[]), ("rejected".into(), false));
        }
    }
    // A key share that is not ours leads to a HelloRetryRequest.
    let session = session(&openssl, server.addr(), &scratch);
    let retry = ["-groups", "X448:P-256"];
    assert_eq!(early(&openssl, server.addr(), &session, &request, &retry), ("rejected".into(), false));
    let stats = server.stop().stdout;
    assert_eq!(counter(&stats, "early_data_accepted"), 4, "{stats}");
    assert_eq!(counter(&stats, "early_sessions_missed"), 8, "{stats}");
    assert_eq!(counter(&stats, "early_sessions_taken"), 5, "{stats}");
    assert_eq!(counter(&other.stop().stdout, "early_data_accepted"), 0);
}

#[test]
fn without_being_asked_for_there_is_no_early_data() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let file = scratch.path("session.pem");
    let args = ["-alpn", "http/1.1", "-tls1_3", "-sess_out", text(&file)];
    let ended = SClient::start(&openssl, server.addr(), &args).with_ticket(&file).end();
    assert!(ended.stdout.contains("Max Early Data: 0"), "{ended}");
    server.stop();
}
