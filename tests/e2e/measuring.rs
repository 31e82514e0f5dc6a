//! `handfast-load` as a program, and what it is asked for most.

use std::fs;
use std::path::PathBuf;

use handfast_tests::binaries::handfast_load;
use handfast_tests::peers::skipped;
use handfast_tests::process::{Ended, run};
use serde_json::{Value, json};

use crate::server::{Localhost, counter};

/// Runs it to its end with `--json`.
#[track_caller]
pub(crate) fn load(args: &[&str]) -> (Ended, Value) {
    let ended = run(handfast_load().args(["--json", "--quiet"]).args(args));
    let figures = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    (ended, figures)
}

/// A run in which everything went well; its figures, and how many handshakes.
#[track_caller]
pub(crate) fn good_load(args: &[&str]) -> (Value, u64) {
    let (ended, figures) = load(args);
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended}");
    let handshakes = figures["handshakes"].as_u64().expect("a number");
    assert!(handshakes > 0, "{figures}");
    assert_eq!((&figures["errors"], &figures["ended"]), (&json!({}), &json!("planned")), "{figures}");
    (figures, handshakes)
}

pub(crate) const SHORT: [&str; 6] = ["--duration", "500ms", "--warm-up", "100ms", "--connections", "8"];

#[test]
fn both_ends_count_the_same_handshakes() {
    for (how, resumes) in [(&[][..], false), (&["--resume"], true)] {
        let server = Localhost::start(&["--close", "--tickets", "2", "--stats"]);
        let (target, pid) = (server.addr().to_string(), server.server.process().id().to_string());
        let args =
            [&[&target, "--sni", "localhost", "--ca", server.ca(), "--server-pid", &pid], &SHORT[..], how].concat();
        let (figures, handshakes) = good_load(&args);
        assert_eq!(figures["negotiated"], json!({"h2": handshakes}), "{figures}");
        assert_eq!(figures["verified"], true, "{figures}");
        assert!(figures["server_cpu_us_per_handshake"].as_f64().is_some_and(|us| us > 0.0), "{figures}");
        let stats = server.server.stop().stdout;
        let (full, resumed) = (counter(&stats, "handshakes_full"), counter(&stats, "handshakes_resumed"));
        assert_eq!(figures["handshakes_all"].as_u64(), Some(full + resumed), "{figures}\n{stats}");
        assert_eq!(resumed > 0, resumes, "{stats}");
    }
}

#[test]
fn each_of_our_protocols_is_measured_while_it_serves() {
    let server = Localhost::start(&["--stats"]);
    let target = server.addr().to_string();
    for (alpn, negotiated) in [("h2", "h2"), ("http/1.1", "http/1.1"), ("none", "none")] {
        for tls in ["1.2", "1.3"] {
            let args =
                [&[&target, "--alpn", alpn, "--tls", tls, "--count", "20"], &["--connections", "4"][..]].concat();
            let (figures, _) = good_load(&args);
            assert_eq!(figures["negotiated"], json!({negotiated: 20}), "{figures}");
            assert_eq!(figures["tls_versions"], json!({tls: 20}), "{figures}");
        }
    }
    let stats = server.server.stop().stdout;
    assert_eq!((counter(&stats, "opened"), counter(&stats, "closed")), (120, 120), "{stats}");
}

#[test]
fn every_group_is_negotiated() {
    let server = Localhost::start(&["--close"]);
    let target = server.addr().to_string();
    for group in ["x25519", "p256", "x25519mlkem768"] {
        let (figures, _) = good_load(&[&target, "--groups", group, "--count", "10", "--tls", "1.3"]);
        let groups = figures["groups"].as_object().expect("groups");
        assert_eq!(groups.values().collect::<Vec<_>>(), [&json!(10)], "{figures}");
    }
}

#[test]
fn an_engine_of_its_own_without_a_target() {
    let (figures, _) = good_load(&SHORT);
    assert_eq!(figures["target"], "embedded", "{figures}");
    assert!(figures["latency_us"]["total"]["p50"].as_f64().is_some_and(|us| us > 0.0), "{figures}");
}

#[test]
fn a_share_of_resumed_sessions_is_the_share_that_the_server_counts() {
    let server = Localhost::start(&["--close", "--stats"]);
    let target = server.addr().to_string();
    let (figures, _) = good_load(&[&target, "--resume", "0.5", "--count", "400", "--connections", "8"]);
    let stats = server.server.stop().stdout;
    let (full, resumed) = (counter(&stats, "handshakes_full"), counter(&stats, "handshakes_resumed"));
    assert_eq!((figures["resumed"].as_u64(), full + resumed), (Some(resumed), 400), "{figures}\n{stats}");
    assert!((198..=202).contains(&resumed), "{stats}");
}

#[test]
fn requests_have_a_first_byte_and_a_status_in_both_protocols() {
    let server = Localhost::start(&["--stats"]);
    let target = server.addr().to_string();
    for (alpn, path, status) in [("h2", "/", "200"), ("http/1.1", "/", "200"), ("h2", "/no", "404")] {
        let args = [&target, "--then", "http", "--alpn", alpn, "--path", path, "--count", "50"];
        let (figures, handshakes) = good_load(&args);
        assert_eq!(figures["statuses"], json!({status: handshakes}), "{figures}");
        let at = |phase: &str| figures["latency_us"][phase]["p50"].as_f64().expect("a latency");
        assert!(at("first_byte") > 0.0 && at("total") > at("tls_handshake"), "{figures}");
    }
    let stats = server.server.stop().stdout;
    assert_eq!((counter(&stats, "opened"), counter(&stats, "closed")), (150, 150), "{stats}");
}

#[test]
fn websocket_messages_come_back_and_are_timed() {
    let server = Localhost::start(&[]);
    let target = server.addr().to_string();
    let (figures, handshakes) =
        good_load(&[&target, "--then", "websocket", "--messages", "7", "--count", "20", "--connections", "4"]);
    assert_eq!(figures["statuses"], json!({"101": handshakes}), "{figures}");
    assert!(figures["latency_us"]["echo"]["p50"].as_f64().is_some_and(|us| us > 0.0), "{figures}");
}

#[test]
fn connections_are_held_open_and_end_in_the_orderly_way() {
    let server = Localhost::start(&["--protocol", "echo", "--without-alpn", "echo", "--stats"]);
    let target = server.addr().to_string();
    let held = [&target, "--then", "hold", "--alpn", "none", "--connections", "200", "--duration", "1s"];
    let (figures, _) = good_load(&held);
    assert_eq!((&figures["held"], &figures["lost"]), (&json!(200), &json!(0)), "{figures}");
    let stats = server.server.stop().stdout;
    assert_eq!((counter(&stats, "opened"), counter(&stats, "closed")), (200, 200), "{stats}");
}

#[test]
fn handshakes_that_end_with_a_reset_are_complete_for_the_server_too() {
    let server = Localhost::start(&["--close", "--tickets", "1", "--stats"]);
    let target = server.addr().to_string();
    for tls in ["1.2", "1.3"] {
        good_load(&[&target, "--then", "reset", "--tls", tls, "--count", "200", "--connections", "8"]);
    }
    let stats = server.server.stop().stdout;
    assert_eq!((counter(&stats, "handshakes_full"), counter(&stats, "closed")), (400, 400), "{stats}");
}

/// The directory of the control groups of version 2, wherever this system has it.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// A control group, which goes when its processes have.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that stays behind is empty.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_servers_control_group_has_the_figures_of_its_processes() {
    let group = cgroups().map(|root| Cgroup(root.join(format!("handfast-{}", std::process::id()))));
    let Some(group) = group.filter(|group| fs::create_dir(&group.0).is_ok()) else {
        skipped(&"there is no control group of version 2 that this user may make");
        return;
    };
    let server = Localhost::start(&["--close"]);
    let (target, pid) = (server.addr().to_string(), server.server.process().id().to_string());
    fs::write(group.0.join("cgroup.procs"), &pid).expect("the server moves into the group");
    let path = group.0.to_str().expect("a path in UTF-8").to_owned();
    for how in [["--server-cgroup", &path], ["--server-pid", &pid]] {
        let (figures, _) = good_load(&[&[target.as_str()], &SHORT[..], &how].concat());
        let at = |field: &str| figures.pointer(field).and_then(Value::as_f64).unwrap_or_else(|| panic!("{figures}"));
        let (all, user) = (at("/server_cpu_us_per_handshake"), at("/server/cpu_user_us_per_handshake"));
        // A handshake takes tens of microseconds, and no machine that runs these tests milliseconds.
        assert!(all > 20.0 && all < 20_000.0 && user <= all * 1.5, "{figures}");
        assert!(at("/server/resident_bytes_before") > 1e6, "{figures}");
        assert!(at("/server/switches_voluntary_per_handshake") >= 0.0, "{figures}");
    }
    server.server.stop();
}
