//! Servers that work: the figures are those of the server.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use handfast::crypto::batch::{Batch, Unavailable};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{H2, Server, Shape, silent};
use crate::{command, load, run};

#[test]
fn a_count_of_handshakes_is_what_the_server_counts() {
    let server = Server::tls(H2);
    let (run, json) = load(&server.target(), &["--count", "60", "--connections", "8"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!(server.completed(), 60);
    assert_eq!(server.accepted(), 60);
    assert_eq!((&json["handshakes"], &json["handshakes_all"]), (&60.into(), &60.into()));
    assert_eq!(json["schema"], 1);
    assert_eq!(json["target"], server.target());
    assert_eq!(json["verified"], false);
    assert_eq!(json["connections"], 8);
    assert_eq!(json["errors"], serde_json::json!({}));
    assert_eq!(json["negotiated"], serde_json::json!({"h2": 60}));
    assert_eq!(json["tls_versions"], serde_json::json!({"1.3": 60}));
    assert_eq!(json["groups"], serde_json::json!({"x25519": 60}));
    assert_eq!(json["resumed"], 0);
    assert!(json["handshakes_per_second"].as_f64().unwrap() > 0.0);
    assert!(json["client_cpu_us_per_handshake"].as_f64().unwrap() > 0.0);
    assert!(json["server_cpu_us_per_handshake"].is_null());
    for phase in ["tcp_connect", "tls_handshake", "total"] {
        let at = |q: &str| json["latency_us"][phase][q].as_f64().unwrap();
        assert!(0.0 < at("p50") && at("p50") <= at("p90") && at("p90") <= at("p99"), "{phase}");
        assert!(at("p99") <= at("p999") && at("p999") <= at("max"), "{phase}");
    }
}

#[test]
fn key_exchanges_that_are_computed_together_are_reported() {
    let server = Server::tls(H2);
    let load_args = ["--count", "64", "--connections", "16", "--burst", "--shards", "1"];
    let with = |crypto| load(&server.target(), &[&load_args[..], &["--crypto", crypto]].concat());
    let (run, json) = with("aws-lc");
    assert_eq!((run.status, &json["batch"]), (0, &serde_json::Value::Null), "{json}");
    let (run, json) = with("auto");
    assert_eq!(run.status, 0, "{}", run.stderr);
    if let Err(e) = Batch::detect() {
        let is_able = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpu| cpu.contains(" avx512ifma"));
        assert!(!is_able && e == Unavailable::NoIfma, "{e}");
        assert!(json["batch"].is_null(), "{json}");
        return eprintln!("skipped: key exchanges computed together: {e}");
    }
    let count = |name: &str| json["batch"][name].as_u64().expect("a count");
    assert_eq!(count("lanes") + count("misses"), 64, "{json}");
    // One that is alone is an agreement of one lane.
    assert!(count("lanes") > count("agreements") && count("pool_refills") >= 8, "{json}");
    assert_eq!(count("misses"), 0, "{json}");
    let table = crate::run(&[&[&*server.target()], &load_args[..], &["--crypto", "auto"]].concat());
    assert!(table.stdout.contains(" of 8 at a time"), "{}", table.stdout);
}

#[test]
fn the_built_in_engine_is_measured_without_a_target() {
    let measure = |args: &[&str]| {
        let run = run(&[&["--json", "--count", "40", "--connections", "4"], args].concat());
        assert_eq!(run.status, 0, "{}", run.stderr);
        let json = run.json();
        assert_eq!((&json["target"], &json["handshakes"]), (&"embedded".into(), &40.into()), "{json}");
        assert_eq!((&json["reset_after_handshake"], &json["left_open"]), (&0.into(), &0.into()), "{json}");
        json
    };
    let json = measure(&[]);
    assert_eq!(json["negotiated"], serde_json::json!({"h2": 40}));
    if cfg!(target_os = "linux") {
        assert!(json["server_cpu_us_per_handshake"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(measure(&["--alpn", "none"])["negotiated"], serde_json::json!({"none": 40}));
    assert_eq!(measure(&["--alpn", "own/1"])["negotiated"], serde_json::json!({"own/1": 40}));
    assert_eq!(measure(&["--verify"])["verified"], true);
    assert_eq!(measure(&["--verify", "--sni", "a.example"])["verified"], true);
    assert_eq!(measure(&["--resume"])["resumed"], 36);
    assert_eq!(measure(&["--tls", "1.2"])["tls_versions"], serde_json::json!({"1.2": 40}));
    assert_eq!(measure(&["--server-shards", "2", "--shards", "2"])["shards"], 2);
}

#[test]
fn a_table_says_what_was_measured_and_that_nothing_was_verified() {
    let server = Server::tls(H2);
    let run = run(&[&server.target(), "--duration", "1200ms", "--warm-up", "100ms", "--connections", "2"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    for part in ["handshakes/s", "tcp_connect", "tls_handshake", "total", "p99.9", "not verified", "server unknown"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    assert!(run.stderr.starts_with("measuring "), "{}", run.stderr);
    assert!(run.stderr.contains("handshakes/s"), "progress in a pipe: {}", run.stderr);
    assert!(!run.stderr.contains('\r'), "no terminal, no line that is written over");
}

#[test]
fn sessions_resume_slot_by_slot() {
    let server = Server::tls(H2);
    for tls in ["1.3", "1.2"] {
        let (run, json) = load(&server.target(), &["--count", "20", "--connections", "2", "--resume", "--tls", tls]);
        assert_eq!(run.status, 0, "{}", run.stderr);
        let shards = json["shards"].as_u64().unwrap();
        assert!(shards <= 2);
        assert_eq!(json["resumed"], 18, "the first of each of two slots is full, TLS {tls}");
        assert_eq!(json["tls_versions"], serde_json::json!({tls: 20}));
    }
}

#[test]
fn what_is_offered_is_what_is_negotiated() {
    let server = Server::tls(Shape { alpn: &["http/1.1", "h2"], ..H2 });
    let negotiated = |args: &[&str]| load(&server.target(), &[&["--count", "4"], args].concat()).1;
    assert_eq!(negotiated(&["--alpn", "none"])["negotiated"], serde_json::json!({"none": 4}));
    assert_eq!(negotiated(&["--alpn", "foreign,h2"])["negotiated"], serde_json::json!({"h2": 4}));
    assert_eq!(negotiated(&["--groups", "p256"])["groups"], serde_json::json!({"secp256r1": 4}));
    assert_eq!(negotiated(&["--groups", "x25519mlkem768"])["groups"], serde_json::json!({"X25519MLKEM768": 4}));
    assert_eq!(negotiated(&["--tls", "1.2"])["tls_versions"], serde_json::json!({"1.2": 4}));
}

#[test]
fn certificates_are_verified_when_that_is_asked_for() {
    let (server, other) = (Server::tls(H2), Server::tls(H2));
    let file = |name: &str, pem: &str| {
        let path = std::env::temp_dir().join(format!("handfast-load-{}-{name}.pem", std::process::id()));
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (good, bad) = (file("good", server.pem()), file("bad", other.pem()));
    let verify = |ca: &std::path::Path, sni| {
        load(&server.target(), &["--count", "4", "--ca", ca.to_str().unwrap(), "--sni", sni])
    };
    let (run, json) = verify(&good, "localhost");
    assert_eq!((run.status, &json["verified"], &json["handshakes"]), (0, &true.into(), &4.into()), "{}", run.stderr);
    for (ca, sni) in [(&bad, "localhost"), (&good, "elsewhere.example")] {
        let (run, json) = verify(ca, sni);
        assert_eq!(run.status, 1);
        assert_eq!(json["errors"], serde_json::json!({"verify": 4}));
        assert!(run.stderr.contains("--ca FILE"), "{}", run.stderr);
    }
    for path in [good, bad] {
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn rounds_count_every_handshake() {
    let server = Server::tls(H2);
    let (run, json) = load(&server.target(), &["--count", "35", "--connections", "10", "--burst", "--shards", "1"]);
    assert_eq!((run.status, &json["handshakes"]), (0, &35.into()), "{}", run.stderr);
    assert_eq!(server.completed(), 35);
}

#[test]
fn ipv6_works() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let server = Server::tls(Shape { ipv6: true, ..H2 });
    let (run, json) = load(&server.target(), &["--count", "4"]);
    assert_eq!((run.status, &json["handshakes"]), (0, &4.into()), "{}", run.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn the_cpu_of_a_process_is_shared_out_over_its_handshakes() {
    let server = Server::tls(H2);
    let pid = std::process::id().to_string();
    let args = ["--duration", "500ms", "--warm-up", "100ms", "--server-pid", &pid];
    let (run, json) = load(&server.target(), &args);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(json["server_cpu_us_per_handshake"].as_f64().unwrap() > 0.0);
}

#[test]
fn an_interrupt_ends_it_with_the_figures_so_far() {
    let server = Server::tls(H2);
    let mut child = command(&[&server.target(), "--duration", "60s", "--warm-up", "0s", "--json", "-q"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while server.completed() < 10 {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["ended"], "interrupted");
    assert!(json["handshakes"].as_u64().unwrap() > 0);
}

/// util-linux's `script` gives it a terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_a_live_view_which_q_ends_with_the_figures_so_far() {
    let server = Server::tls(H2);
    let program = env!("CARGO_BIN_EXE_handfast-load");
    let line = format!("stty rows 36 cols 100; exec '{program}' {} --duration 60s --warm-up 0s", server.target());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return eprintln!("skipped: there is no `script`") };
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    let shows = |seen: &[u8], text: &str| String::from_utf8_lossy(seen).contains(text);
    while !shows(&seen, "q or Ctrl-C ends the run") || server.completed() < 10 {
        let n = screen.read(&mut bytes).unwrap();
        assert!(n > 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..n]);
    }
    keys.write_all(b"q").unwrap();
    screen.read_to_end(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let screen = String::from_utf8_lossy(&seen);
    // The alternate screen comes, and goes before the result.
    let (before, after) = screen.rsplit_once("\x1b[?1049l").expect("the screen given back");
    assert!(before.contains("\x1b[?1049h") && before.contains("latency,"), "{screen}");
    assert!(after.contains("handshakes/s") && after.contains("tls_handshake"), "{screen}");
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let server = Server::tls(H2);
    let mut child =
        command(&[&server.target(), "--count", "4"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_first_line_comes_within_a_second() {
    let server = silent();
    let started = std::time::Instant::now();
    let mut child =
        command(&[&server.target(), "--duration", "1s"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut byte = [0];
    child.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    child.kill().unwrap();
    child.wait().unwrap();
}
