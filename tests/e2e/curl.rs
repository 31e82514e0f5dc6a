//! curl against `handfast serve`.

use std::collections::BTreeSet;
use std::process::Command;

use handfast_tests::peers::{Peer, Program};
use handfast_tests::process::run;

use crate::facts;
use crate::server::{Localhost, counter, threads};

/// curl that trusts this server and reaches it by its name.
pub(crate) fn curl(curl: &Program, server: &Localhost, args: &[&str]) -> Command {
    let port = server.addr().port();
    let mut command = curl.command();
    // The settings and proxies of whoever runs the tests are not to the point. `-q` has to come first.
    command.args(["-q", "--noproxy", "*", "--silent", "--show-error", "--max-time", "50", "--cacert", server.ca()]);
    command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]).args(args);
    command
}

pub(crate) fn url(server: &Localhost, path: &str) -> String {
    format!("https://localhost:{}{path}", server.addr().port())
}

#[test]
fn curl_gets_the_facts_over_h2_and_http_1_1() {
    let Some(program) = Peer::Curl.installed() else { return };
    let server = Localhost::start(&[]);
    for (flag, version, protocol) in [("--http2", "2", "h2"), ("--http1.1", "1.1", "http/1.1")] {
        for (tls, tls_version) in [("1.3", "TLSv1.3"), ("1.2", "TLSv1.2")] {
            let args = [flag, "--tls-max", tls, "--write-out", "%{http_version} %{content_type} %{http_code}\n"];
            let ended = run(curl(&program, &server, &args).arg(url(&server, "/")));
            assert_eq!(ended.code(), 0, "{ended}");
            assert!(ended.stdout.ends_with(&format!("\n{version} application/json 200\n")), "{ended}");
            let facts = facts::find(&ended.stdout).expect("facts");
            assert_eq!((&facts["protocol"], &facts["alpn"]), (&protocol.into(), &protocol.into()), "{facts}");
            assert_eq!(facts["tls_version"], tls_version, "{facts}");
            assert_eq!((&facts["server_name"], &facts["resumed"]), (&"localhost".into(), &false.into()), "{facts}");
            assert!(facts["cipher_suite"].as_str().is_some_and(|s| s.starts_with("TLS_")), "{facts}");
            assert!(facts["group"].is_string(), "{facts}");
            assert!(facts["peer"].as_str().is_some_and(|p| p.starts_with("127.0.0.1:")), "{facts}");
            assert!(facts["handshake_us"].as_u64().is_some_and(|us| us > 0), "{facts}");
        }
    }
    server.server.stop();
}

#[test]
fn who_accepts_html_gets_a_page() {
    let Some(program) = Peer::Curl.installed() else { return };
    let server = Localhost::start(&[]);
    for (flag, protocol) in [("--http2", "h2"), ("--http1.1", "http/1.1")] {
        let args = [flag, "--header", "accept: text/html", "--write-out", "%{content_type}\n"];
        let ended = run(curl(&program, &server, &args).arg(url(&server, "/")));
        assert!(ended.stdout.starts_with("<!doctype html>"), "{ended}");
        assert!(ended.stdout.ends_with("text/html; charset=utf-8\n"), "{ended}");
        assert!(ended.stdout.contains(&format!("<td>{protocol}\n")), "{ended}");
    }
}

#[test]
fn curl_is_told_to_continue_before_it_sends_its_content() {
    let Some(program) = Peer::Curl.installed() else { return };
    for placement in [&[][..], &["--workers", "1"]] {
        let server = Localhost::start(placement);
        for (flag, version) in [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")] {
            // It would wait for longer than the test may take.
            let args = [flag, "--verbose", "--expect100-timeout", "1000", "--header", "expect: 100-continue"];
            let ended = run(curl(&program, &server, &args).args(["--data", "content"]).arg(url(&server, "/")));
            assert_eq!((ended.code(), &*ended.stdout), (0, "only GET and HEAD\n"), "{ended}");
            let statuses: Vec<_> = ended.stderr.lines().filter_map(|l| l.strip_prefix("< ")).collect();
            let statuses: Vec<_> = statuses.iter().filter_map(|l| l.strip_prefix(version)).map(str::trim).collect();
            assert!(
                matches!(statuses[..], [first, last] if first.starts_with("100") && last.starts_with("405")),
                "{ended}"
            );
        }
    }
}

#[test]
fn a_second_request_uses_the_same_connection() {
    let Some(program) = Peer::Curl.installed() else { return };
    let server = Localhost::start(&["--stats"]);
    for flag in ["--http2", "--http1.1"] {
        let urls = [url(&server, "/"), url(&server, "/facts.json"), url(&server, "/nothing")];
        let args = [flag, "--write-out", "%{http_code} after %{num_connects}\n"];
        let ended = run(curl(&program, &server, &args).args(urls));
        assert_eq!(ended.code(), 0, "{ended}");
        let told: Vec<&str> = ended.stdout.lines().filter(|l| l.contains(" after ")).collect();
        assert_eq!(told, ["200 after 1", "200 after 0", "404 after 0"], "{ended}");
    }
    let stats = server.server.stop().stdout;
    assert_eq!(counter(&stats, "opened"), 2, "{stats}");
}

#[test]
fn h2_carries_many_requests_at_once() {
    let Some(program) = Peer::Curl.installed() else { return };
    let server = Localhost::start(&[]);
    let args = ["--http2", "--parallel", "--parallel-max", "20", "--write-out", "%{http_version}\n"];
    let ended = run(curl(&program, &server, &args).arg(url(&server, "/?[1-60]")));
    assert_eq!(ended.code(), 0, "{ended}");
    let facts = facts::all(&ended.stdout);
    assert_eq!((facts.len(), ended.stdout.lines().filter(|&l| l == "2").count()), (60, 60), "{ended}");
    let connections: BTreeSet<_> = facts.iter().map(|f| f["peer"].to_string()).collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
}

#[test]
fn http_on_the_tls_port_is_told_so() {
    let Some(program) = Peer::Curl.installed() else { return };
    let server = Localhost::start(&["--stats"]);
    let ended =
        run(curl(&program, &server, &["--write-out", "%{http_code}\n"]).arg(format!("http://{}/", server.addr())));
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stdout.ends_with("400\n"), "{ended}");
    let stats = server.server.stop().stdout;
    assert_eq!(counter(&stats, "plain_http"), 1, "{stats}");
}

#[test]
fn worker_threads_serve_both_protocols() {
    let Some(program) = Peer::Curl.installed() else { return };
    let server = Localhost::start(&["--workers", "2", "--stats"]);
    for (flag, protocol) in [("--http2", "h2"), ("--http1.1", "http/1.1")].repeat(4) {
        let ended = run(curl(&program, &server, &[flag]).arg(url(&server, "/")));
        assert_eq!(facts::find(&ended.stdout).expect("facts")["protocol"], protocol, "{ended}");
    }
    let names = threads(server.server.process().id());
    for name in ["hf-shard-0", "hf-worker-0", "hf-worker-1"] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    let stats = server.server.stop().stdout;
    assert_eq!(counter(&stats, "handshakes_full"), 8, "{stats}");
    assert_eq!(counter(&stats, "handed_off"), 8, "{stats}");
}
