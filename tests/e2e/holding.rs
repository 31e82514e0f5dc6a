//! Many idle connections, and what each takes.

use handfast_tests::binaries::handfast_load;
use handfast_tests::peers::{full, skipped};
use handfast_tests::process::{Process, Scratch, run};
use serde_json::{Value, json};

use crate::server::{Localhost, counter, text};

/// Serves connections that stay.
const STAYING: [&str; 5] = ["--protocol", "echo", "--without-alpn", "echo", "--stats"];

/// Whether this process, and so its children, may open so many files.
fn may_open(files: u64) -> bool {
    let limit = handfast::transport::tcp::raise_descriptor_limit().unwrap_or(u64::MAX);
    if limit < files {
        skipped(&format!("{files} open files, of which {limit} are allowed"));
    }
    limit >= files
}

#[test]
fn a_held_connection_takes_less_than_six_kibibytes_of_the_client() {
    if !may_open(10_100) {
        return;
    }
    let server = Localhost::start(&STAYING);
    let pid = server.server.process().id().to_string();
    let target = server.addr().to_string();
    let how = ["--alpn", "echo", "--tls", "1.3", "--connections", "10000", "--duration", "15s", "--server-pid", &pid];
    let ended = run(handfast_load().args(["hold", &target, "--json", "--quiet"]).args(how));
    let figures: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    assert_eq!((ended.code(), &figures["held"]), (0, &json!(10_000)), "{ended}");
    let bytes = figures["client_resident_bytes_per_connection"].as_f64().expect("a size");
    assert!(bytes > 1000.0 && bytes < 6.0 * 1024.0, "{bytes} bytes");
    assert!(figures["server_cpu_us_per_connection_second"].as_f64().is_some_and(|us| us < 1000.0), "{figures}");
    assert!(figures["server_resident_bytes_per_connection"].as_f64().is_some_and(|b| b > 1000.0), "{figures}");
}

/// Three clients and three servers, as a process may open 20,000 files on some machines.
const PROCESSES: usize = 3;
const EACH: u64 = 16_667;

/// A minute long, so only in a full run.
#[test]
fn fifty_thousand_connections_are_held_from_three_processes_and_merged() {
    if !full() {
        skipped(&"fifty thousand connections are for ./scripts/test --full");
        return;
    }
    if !may_open(EACH + 200) {
        return;
    }
    let scratch = Scratch::new();
    let servers: Vec<Localhost> = (0..PROCESSES).map(|_| Localhost::start(&STAYING)).collect();
    let logs: Vec<_> = (0..PROCESSES).map(|i| scratch.path(&format!("{i}.hdr"))).collect();
    let clients: Vec<Process> = servers
        .iter()
        .zip(&logs)
        .enumerate()
        .map(|(i, (server, log))| {
            let mut client = handfast_load();
            client.args(["hold", &server.addr().to_string(), "--connections", &EACH.to_string(), "--json", "--quiet"]);
            client.args(["--alpn", "echo", "--shards", "1", "--duration", "55s", "--hdr", text(log)]);
            Process::start(client.args(["--source", &format!("127.0.{}.0/28", i + 1)]))
        })
        .collect();
    for client in clients {
        let ended = client.end_within(std::time::Duration::from_secs(180));
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
        assert_eq!((ended.code(), &figures["held"], &figures["lost"]), (0, &json!(EACH), &json!(0)), "{ended}");
        // All began within a moment and ended after the same time, so all were up together for most of this.
        assert!(figures["idle_s"].as_f64().is_some_and(|s| s > 5.0), "{figures}");
    }
    for server in servers {
        let stats = server.server.stop().stdout;
        assert_eq!((counter(&stats, "handshakes_full"), counter(&stats, "closed")), (EACH, EACH), "{stats}");
    }
    let merged = run(handfast_load().arg("merge").args(&logs).arg("--json"));
    let merged: Value = serde_json::from_str(&merged.stdout).unwrap_or_else(|e| panic!("{e}: {merged}"));
    assert_eq!(merged["phases"]["total"]["count"], json!(EACH * PROCESSES as u64), "{merged}");
}
