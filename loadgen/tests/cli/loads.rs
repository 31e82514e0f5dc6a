//! Open loops over real sockets, connections that stay, and where they come from.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{H2, Server, Shape, drain};
use crate::{load, run};

fn h2() -> Server {
    Server::tls(H2)
}

#[test]
fn a_rate_starts_what_is_due_and_counts_every_one_of_them() {
    let server = h2();
    // How late a busy machine lets us be is not the point here.
    let args = ["--rate", "200", "--arrivals", "constant", "--max-lateness", "10s", "--warm-up", "0s"];
    let (run, json) = load(&server.target(), &[&args[..], &["--duration", "1s", "--shards", "2"]].concat());
    assert_eq!((run.status, run.stderr.lines().count() > 0), (0, true), "{}", run.stderr);
    let due = json["open"]["due"].as_u64().unwrap();
    assert!((195..=201).contains(&due), "{json}");
    assert_eq!((&json["handshakes"], &json["errors"]), (&json!(due), &json!({})), "{json}");
    assert_eq!(json["handshakes_all"], server.completed(), "{json}");
    assert_eq!((&json["open"]["unstarted"], &json["valid"]), (&json!(0), &json!(true)), "{json}");
    assert!(json["open"]["lateness_us"]["p99"].as_f64().unwrap() > 0.0, "{json}");
}

#[test]
fn a_generator_that_is_too_late_makes_the_run_invalid() {
    let server = h2();
    let args = ["--rate", "100", "--count", "20", "--max-lateness", "0"];
    let (invalid, json) = load(&server.target(), &args);
    assert_eq!((invalid.status, &json["valid"], &json["handshakes"]), (1, &json!(false), &json!(20)), "{json}");
    assert!(invalid.stderr.contains("the generator, not the server, was the limit"), "{}", invalid.stderr);
    let table = run(&[&[&*server.target()], &args[..]].concat());
    assert!(table.stdout.contains("INVALID"), "{}", table.stdout);
}

#[test]
fn stages_are_run_one_after_another() {
    let server = h2();
    let args = ["--stages", "200ms@50,200ms@50..250,200ms@0", "--arrivals", "constant", "--max-lateness", "10s"];
    let (run, json) = load(&server.target(), &args);
    assert_eq!((run.status, &json["duration_s"].as_f64().map(|s| s >= 0.6)), (0, &Some(true)), "{json}");
    // 10, then the area under the ramp: 30.
    let due = json["open"]["due"].as_u64().unwrap();
    assert!((39..=41).contains(&due), "{json}");
}

#[test]
fn held_connections_stay_to_the_end_and_lost_ones_are_counted() {
    let server = Server::tls(Shape { keeps_open: true, ..Shape::default() });
    let args = ["--then", "hold", "--connections", "12", "--duration", "600ms"];
    let (run, json) = load(&server.target(), &args);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!((&json["handshakes"], &json["held"], &json["lost"]), (&json!(12), &json!(12), &json!(0)), "{json}");
    assert!(json["duration_s"].as_f64().unwrap() >= 0.6, "{json}");
    assert_eq!(server.accepted(), 12, "none is made twice");

    let leaver = Server::tls(Shape { says: Some(""), leaves: true, ..Shape::default() });
    let (run, json) = load(&leaver.target(), &args);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!((&json["handshakes"], &json["held"], &json["lost"]), (&json!(12), &json!(0), &json!(12)), "{json}");
    assert_eq!(leaver.accepted(), 12, "a lost one is not replaced");
    let deadline = Instant::now() + Duration::from_secs(20);
    while leaver.answered() < 12 {
        assert!(Instant::now() < deadline, "{} of 12 close_notify were answered", leaver.answered());
        std::thread::yield_now();
    }
}

#[test]
fn a_reset_after_the_handshake_is_ours() {
    let server = h2();
    let (run, json) = load(&server.target(), &["--then", "reset", "--count", "20", "--connections", "4"]);
    assert_eq!((run.status, &json["handshakes"], &json["errors"]), (0, &json!(20), &json!({})), "{json}");
}

#[cfg(target_os = "linux")]
#[test]
fn connections_come_from_the_addresses_that_were_asked_for() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let noted = Arc::clone(&seen);
    let server = Server::bare(move |mut stream| {
        if let Ok(peer) = stream.peer_addr() {
            noted.lock().unwrap().insert(peer.ip());
        }
        drain(&mut stream);
    });
    let args = ["--source", "127.0.1.0/29,127.0.2.1", "--count", "30", "--connections", "5", "--shards", "2"];
    let (_, json) = load(&server.target(), &args);
    assert_eq!(json["handshakes"], 0, "{json}");
    let asked = (1..=6).map(|n| IpAddr::from([127, 0, 1, n])).chain([IpAddr::from([127, 0, 2, 1])]);
    assert_eq!(*seen.lock().unwrap(), asked.collect::<HashSet<_>>());
}
