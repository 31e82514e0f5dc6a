//! curl as a client, where there is one.

use std::process::Command;

use handfast::Protocol;

use crate::harness::{PLACEMENTS, Server, TempFile};

/// Runs curl and gives its output, the format's last.
pub(crate) fn curl(server: &Server, arguments: &[&str], path: &str) -> Option<String> {
    let roots = TempFile::new(&server.certificate.pem);
    let port = server.addr().port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--resolve", &format!("localhost:{port}:127.0.0.1")])
        .args(["--write-out", "|%{http_version} %{response_code} %{content_type}", "--cacert"])
        .arg(roots.path())
        .args(arguments)
        .arg(format!("https://localhost:{port}{path}"))
        .output();
    match output {
        Ok(o) => {
            assert!(o.status.success(), "{arguments:?} {}", String::from_utf8_lossy(&o.stderr));
            Some(String::from_utf8(o.stdout).unwrap())
        }
        Err(e) => {
            eprintln!("skipped: curl cannot be run: {e}");
            None
        }
    }
}

#[test]
fn curl_gets_facts_over_both_protocols() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::h2(), Protocol::http1()]);
        for (flag, version, alpn) in [("--http2", "2", "h2"), ("--http1.1", "1.1", "http/1.1")] {
            let Some(json) = curl(&server, &[flag], "/") else { return };
            assert!(json.starts_with(&format!("{{\"protocol\":\"{alpn}\"")), "{json}");
            assert!(json.ends_with(&format!("|{version} 200 application/json")), "{json}");
            let page = curl(&server, &[flag, "--header", "accept: text/html"], "/").unwrap();
            assert!(page.starts_with("<!doctype html>"), "{page}");
            let json = curl(&server, &[flag, "--header", "accept: text/html"], "/facts.json").unwrap();
            assert!(json.starts_with('{'), "{json}");
            let head = curl(&server, &[flag, "--head"], "/").unwrap();
            assert!(head.contains("content-length: ") && head.ends_with("200 application/json"), "{head}");
            let missing = curl(&server, &[flag], "/missing").unwrap();
            assert!(missing.ends_with(&format!("|{version} 404 text/plain; charset=utf-8")), "{missing}");
            let post = curl(&server, &[flag, "--data", "x=1", "--dump-header", "-"], "/").unwrap();
            assert!(post.contains("allow: GET, HEAD") && post.contains("405"), "{post}");
        }
        server.shutdown();
    }
}
