//! The subcommands around a run, each end to end against a small server.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::{H2, Server, Shape, nobody};
use crate::{Run, command, run};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("handfast-load-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.file(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn done(args: &[&str]) -> Run {
    let run = run(args);
    assert_eq!(run.status, 0, "{args:?}: {}{}", run.stdout, run.stderr);
    run
}

#[test]
fn rounds_are_whole_measurements_and_say_how_far_they_spread() {
    let server = Server::tls(H2);
    let json = done(&["run", &server.target(), "--count", "20", "--rounds", "3", "--json", "-q"]).json();
    assert_eq!((&json["kind"], &json["schema"]), (&"rounds".into(), &1.into()));
    assert_eq!(json["rounds"].as_array().unwrap().len(), 3);
    assert_eq!(server.completed(), 60);
    let spread = &json["spread"]["handshakes_per_second"];
    assert!(spread["min"].as_f64() <= spread["median"].as_f64() && spread["median"].as_f64() <= spread["max"].as_f64());
    let table = done(&[&server.target(), "--count", "20", "--rounds", "2"]);
    for part in ["round", "median", "handshakes/s", "latency p99", "tricks         ack-with-hello", "crypto         "] {
        assert!(table.stdout.contains(part), "{part}: {}", table.stdout);
    }
    assert!(table.stderr.contains("round 2 of 2"), "{}", table.stderr);
}

#[test]
fn a_run_writes_seconds_a_log_and_a_page() {
    let (server, scratch) = (Server::tls(H2), Scratch::new("files"));
    let (csv, hdr, html) = (scratch.file("a.csv"), scratch.file("a.hdr"), scratch.file("a.html"));
    let json =
        done(&[&server.target(), "--count", "50", "--csv", &csv, "--hdr", &hdr, "--html", &html, "--json", "-q"])
            .json();
    let rows: Vec<Vec<String>> = std::fs::read_to_string(&csv)
        .unwrap()
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect();
    assert_eq!(rows[0][4], "complete");
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{rows:?}");
    let complete: u64 = rows[1..].iter().map(|row| row[4].parse::<u64>().unwrap()).sum();
    assert_eq!(complete, 50);
    assert!(std::fs::read_to_string(&html).unwrap().contains(&server.target()));

    let merged = done(&["merge", &hdr, &hdr, "--json"]).json();
    assert_eq!(merged["phases"]["total"]["count"], 100);
    for quantile in ["p50", "p99", "max"] {
        assert_eq!(merged["phases"]["total"]["latency_us"][quantile], json["latency_us"]["total"][quantile]);
    }
    assert!(done(&["merge", &hdr]).stdout.contains("p99.99"));
}

#[test]
fn files_that_cannot_be_written_are_found_out_before_the_run() {
    let server = Server::tls(H2);
    let run = run(&[&server.target(), "--count", "5", "--html", "/nonexistent/a.html"]);
    assert_eq!((run.status, server.accepted()), (1, 0), "{}", run.stderr);
    assert!(run.stderr.contains("cannot write /nonexistent/a.html"), "{}", run.stderr);
}

#[test]
fn single_runs_cannot_be_told_apart_and_rounds_can() {
    let (server, scratch) = (Server::tls(H2), Scratch::new("compare"));
    let one = done(&[&server.target(), "--count", "10", "--json", "-q"]).stdout;
    let (a, b) = (scratch.write("a.json", &one), scratch.write("b.json", &one));
    let single = run(&["compare", &a, &b, "--json"]);
    assert_eq!(single.status, 1, "{}", single.stderr);
    assert_eq!(single.json()["verdict"], "cannot_tell");
    // One object after the other is rounds too.
    let (a, b) = (scratch.write("a.json", &one.repeat(5)), scratch.write("b.json", &one.repeat(5)));
    assert_eq!(done(&["compare", &a, &b, "--json"]).json()["verdict"], "no_difference");
    let rate = serde_json::from_str::<serde_json::Value>(&one).unwrap()["handshakes_per_second"].to_string();
    let slow = one.replace(&format!("\"handshakes_per_second\":{rate}"), "\"handshakes_per_second\":0.5");
    let b = scratch.write("b.json", &slow.repeat(5));
    let worse = run(&["compare", &a, &b]);
    assert_eq!(worse.status, 1);
    assert!(worse.stdout.contains("B is worse"), "{}", worse.stdout);
    assert!(run(&["compare", &a, &b, "--rounds", "3"]).stderr.contains("--interleave"));
    assert_eq!(run(&["compare", &a, &b, "--connections", "3"]).status, 2);
}

#[test]
fn two_servers_are_measured_in_turn() {
    let (a, b) = (Server::tls(H2), Server::tls(H2));
    let args = ["--interleave", "--rounds", "3", "--count", "10", "--json", "-q", "--confidence", "99.9%"];
    let run = run(&[&["compare", &*a.target(), &b.target()][..], &args].concat());
    let json = run.json();
    assert_eq!((a.completed(), b.completed()), (30, 30));
    assert_eq!((&json["a"]["rounds"], &json["b"]["rounds"]), (&3.into(), &3.into()));
    assert_eq!((&json["paired"], &json["a"]["name"]), (&true.into(), &a.target().into()));
    assert!(json["metrics"]["p99_us"]["ratio_low"].as_f64() <= json["metrics"]["p99_us"]["ratio_high"].as_f64());
}

#[test]
fn the_half_of_a_pair_that_was_interrupted_is_no_round() {
    // A dies with its first round, so that its second one, which ends the second pair, does not end.
    let (a, b) = (Server::tls(Shape { dies_after: Some(10), ..H2 }), Server::tls(H2));
    let (a, b) = (a.target(), b.target());
    let args = ["compare", &a, &b, "--interleave", "--rounds", "5", "--count", "10", "--give-up", "5m", "--json"];
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with("round 2 of 5, A")));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // What it still says must find a reader.
    said.for_each(drop);
    let output = child.wait_with_output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["a"]["rounds"], &json["b"]["rounds"]), (&1.into(), &1.into()), "{json}");
    assert_eq!((&json["a"]["error_share"], output.status.code()), (&0.0.into(), Some(1)), "{json}");
}

#[test]
fn a_sweep_feeds_a_plan() {
    let (server, scratch) = (Server::tls(H2), Scratch::new("sweep"));
    let swept = done(&["sweep", &server.target(), "--over", "connections=1,2,3,4,5", "--count", "20", "--json", "-q"]);
    let json = swept.json();
    assert_eq!((&json["kind"], &json["over"]), (&"sweep".into(), &"connections".into()));
    let ns: Vec<f64> = json["points"].as_array().unwrap().iter().map(|p| p["n"].as_f64().unwrap()).collect();
    assert_eq!(ns, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(json["points"][4]["run"]["connections"], 5);
    let file = scratch.write("sweep.json", &swept.stdout);
    let plan = done(&["plan", &file, "--rate", "100000", "--server-cores", "2", "--json"]).json();
    assert!(plan["hosts"]["best"].as_f64().unwrap() >= 1.0, "{plan}");
    assert!(plan["warnings"][0].as_str().unwrap().contains("only 5 points"), "{plan}");
    assert!(done(&["plan", &file, "--rate", "100000"]).stdout.contains("--server-cores"));

    for (over, args, says) in [
        ("rate", &[][..], "--over connections=1..128"),
        ("server-shards", &["--latency", "5ms"], "leave --latency out"),
    ] {
        let other = swept.stdout.replace("\"over\":\"connections\"", &format!("\"over\":\"{over}\""));
        let file = scratch.write(over, &other);
        let refused = run(&[&["plan", &*file, "--rate", "1"], args].concat());
        assert_eq!((refused.status, &*refused.stdout), (2, ""), "{over}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{over}: {}", refused.stderr);
    }

    let rates = ["--over", "rate=20,40", "--duration", "500ms", "--warm-up", "0s", "--max-lateness", "5s"];
    let json = done(&[&["sweep", &*server.target(), "--json", "-q"], &rates[..]].concat()).json();
    for (point, rate) in json["points"].as_array().unwrap().iter().zip([20.0, 40.0]) {
        assert_eq!((&point["n"], &point["run"]["errors"]), (&rate.into(), &serde_json::json!({})), "{json}");
        assert!(point["run"]["open"]["due"].as_f64().unwrap() > rate / 5.0, "{json}");
    }

    let few = done(&["sweep", &server.target(), "--over", "connections=1,2", "--count", "5", "--json", "-q"]);
    let refused = run(&["plan", &scratch.write("few.json", &few.stdout), "--rate", "1"]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("too few"), "{}", refused.stderr);
}

#[test]
fn max_prints_its_probes_and_finds_a_rate() {
    let server = Server::tls(H2);
    let args = ["--slo", "p99<5s,errors<50%", "--start", "20", "--max-rate", "40", "--duration", "500ms"];
    let quiet = ["--warm-up", "0s", "--max-lateness", "5s", "--json"];
    let run = done(&[&["max", &*server.target()][..], &args, &quiet].concat());
    let json = run.json();
    assert_eq!((&json["found"], &json["rate"]), (&"above_max".into(), &40.0.into()), "{json}");
    assert_eq!(json["probes"].as_array().unwrap().len(), 2);
    assert!(run.stderr.contains("40/s offered") && run.stderr.contains("met"), "{}", run.stderr);
}

#[test]
fn max_finds_its_first_rate_itself() {
    let server = Server::tls(H2);
    let args =
        ["--slo", "errors<100%", "--max-rate", "5", "--duration", "300ms", "--max-lateness", "5s", "--json", "-q"];
    let json = done(&[&["max", &*server.target()][..], &args].concat()).json();
    assert_eq!((&json["found"], &json["rate"]), (&"above_max".into(), &5.0.into()), "{json}");
}

#[test]
fn max_against_nobody_fails_and_says_why() {
    let run = run(&["max", &nobody(), "--duration", "300ms", "--give-up", "300ms"]);
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("connect_refused"), "{}", run.stderr);
    assert_eq!(crate::run(&["max", "a:1", "--rate", "5"]).status, 2);
}

#[test]
fn held_connections_are_counted_and_cost_something() {
    let server = Server::tls(Shape { keeps_open: true, ..H2 });
    let json = done(&["hold", &server.target(), "--connections", "20", "--duration", "2500ms", "--json", "-q"]).json();
    assert_eq!((&json["kind"], &json["held"], &json["lost"]), (&"hold".into(), &20.into(), &0.into()));
    assert_eq!(json["established"], 20);
    assert!(json["idle_s"].as_f64().unwrap() > 0.5, "{json}");
    assert!(json["server_resident_bytes_per_connection"].is_null());
    assert_eq!(run(&["hold", "a:1", "--then", "http"]).status, 2);
}

#[test]
fn results_that_are_none_are_refused_with_what_to_do() {
    let scratch = Scratch::new("bad");
    let refused = |args: &[&str], says: &str| {
        let run = run(args);
        assert_eq!(run.status, 2, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
    };
    let (empty, text) = (scratch.write("empty", ""), scratch.write("text", "hello"));
    let future = scratch.write("future", r#"{"schema":99,"kind":"run"}"#);
    let sweep = scratch.write("sweep", r#"{"schema":1,"kind":"sweep","over":"connections","points":[]}"#);
    refused(&["compare", &empty, &empty], "it is empty");
    refused(&["compare", &text, &text], "write one with --json");
    refused(&["compare", &future, &future], "its schema is 99");
    refused(&["compare", &sweep, &sweep], "`sweep`, not of `run`");
    refused(&["compare", "/nonexistent", &text], "cannot read /nonexistent");
    refused(&["plan", &text, "--rate", "1"], "write one with --json");
    refused(&["merge", &text], "no HDR log");
    refused(&["sweep", "a:1", "--over", "connections=1,2", "--connections", "3"], "--over");
}

#[test]
fn a_server_process_is_sampled_by_its_id() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let server = Server::tls(H2);
    // Not this test's own process: what comes from that are other tests' loads, and they end in between.
    let mut process = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = process.id().to_string();
    let json = done(&[&server.target(), "--count", "200", "--server-pid", &pid, "--json", "-q"]).json();
    let used = &json["server"];
    assert!(used["resident_bytes_after"].as_u64().unwrap() > 100_000, "{used}");
    for field in ["cpu_user_us_per_handshake", "switches_voluntary_per_handshake"] {
        assert!(used[field].is_number(), "{field}: {used}");
    }
    drop(process.stdin.take());
    process.wait().unwrap();
}
