//! A thousand requests by each of the HTTP/2 clients that other people wrote, without an error.

use std::path::{Path, PathBuf};

use handfast_tests::peers::Peer;
use handfast_tests::process::{Ended, run};

use crate::facts;
use crate::server::{Localhost, counter};

/// Both placements.
const PLACEMENTS: [&[&str]; 2] = [&["--stats"], &["--stats", "--workers", "2"]];

fn url(server: &Localhost) -> String {
    format!("https://localhost:{}/", server.addr().port())
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e").join(name)
}

/// The server, too, has seen nothing wrong.
#[track_caller]
fn assert_content(server: Localhost) {
    let stats = server.server.stop().stdout;
    for fault in ["faults_after_handshake", "handler_panics", "aborted", "lingered_out"] {
        assert_eq!(counter(&stats, fault), 0, "{stats}");
    }
}

/// A thousand times the facts of a connection with this protocol.
#[track_caller]
fn assert_thousand(ended: &Ended, protocol: &str) {
    assert_eq!(ended.code(), 0, "{ended}");
    let told = facts::all(&ended.stdout);
    assert_eq!(told.len(), 1000, "{}", ended.stderr);
    assert!(told.iter().all(|facts| facts["alpn"] == protocol), "{ended}");
}

#[test]
fn h2load_has_a_thousand_requests_answered() {
    let Some(h2load) = Peer::H2load.installed() else { return };
    for (placement, version) in PLACEMENTS.into_iter().flat_map(|p| [(p, &[][..]), (p, &["--h1"])]) {
        let server = Localhost::start(placement);
        let mut command = h2load.command();
        command.args(["-n", "1000", "-c", "10", "-t", "1"]).args(version).arg(url(&server));
        if version.is_empty() {
            command.args(["-m", "20"]);
        }
        let ended = run(&mut command);
        let told = &ended.stdout;
        assert_eq!(ended.code(), 0, "{ended}");
        assert!(told.contains("1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{ended}");
        assert!(told.contains("status codes: 1000 2xx"), "{ended}");
        let protocol = if version.is_empty() { "h2" } else { "http/1.1" };
        assert!(told.contains(&format!("Application protocol: {protocol}\n")), "{ended}");
        assert_content(server);
    }
}

#[test]
fn nghttp_has_a_thousand_requests_answered() {
    let Some(nghttp) = Peer::Nghttp.installed() else { return };
    for placement in PLACEMENTS {
        let server = Localhost::start(placement);
        // All of them on one connection, with priorities as of RFC 7540; `--multiply` is of the first.
        let args = ["--no-verify-peer", "--multiply=1000", "--peer-max-concurrent-streams=100", "--timeout=50"];
        assert_thousand(&run(nghttp.command().args(args).arg(url(&server))), "h2");
        assert_content(server);
    }
}

#[test]
fn curl_has_a_thousand_requests_answered() {
    let Some(curl) = Peer::Curl.installed() else { return };
    for placement in PLACEMENTS {
        let server = Localhost::start(placement);
        let mut command = curl.command();
        let resolve = format!("localhost:{}:127.0.0.1", server.addr().port());
        command.args(["-q", "--noproxy", "*", "--silent", "--show-error", "--fail", "--max-time", "50", "--http2"]);
        command.args(["--cacert", server.ca(), "--resolve", &resolve, "--parallel", "--parallel-max", "50"]);
        assert_thousand(&run(command.arg(url(&server) + "?[1-1000]")), "h2");
        assert_content(server);
    }
}

#[test]
fn httpx_has_a_thousand_requests_answered() {
    let Some(python) = Peer::Python.installed() else { return };
    for (placement, version, alpn) in
        PLACEMENTS.into_iter().flat_map(|p| [(p, "HTTP/2", "h2"), (p, "HTTP/1.1", "http/1.1")])
    {
        let server = Localhost::start(placement);
        let mut command = python.command();
        command.arg(script("h2_client.py")).args([&url(&server), server.ca(), version]);
        assert_thousand(&run(&mut command), alpn);
        assert_content(server);
    }
}

#[test]
fn node_has_a_thousand_requests_answered() {
    let Some(node) = Peer::Node.installed() else { return };
    for placement in PLACEMENTS {
        let server = Localhost::start(placement);
        let ended = run(node.command().arg(script("h2_client.js")).args([&url(&server), server.ca()]));
        assert_eq!(ended.code(), 0, "{ended}");
        // Nine hundred requests for the facts, a hundred uploads.
        let told = facts::all(&ended.stdout);
        assert_eq!((told.len(), ended.stdout.matches("only GET and HEAD\n").count()), (900, 100), "{ended}");
        assert!(told.iter().all(|facts| facts["alpn"] == "h2"), "{ended}");
        assert_content(server);
    }
}
