//! Servers that do not work: each in its own class, and the run ends by itself.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::load;
use crate::server::{H2, HTTP1, Server, Shape, answering, drain, nobody, silent};

/// All of a few handshakes fail with `class`, and the exit status says so.
#[track_caller]
fn all_fail(target: &str, class: &str, args: &[&str]) -> String {
    let args = [&["--count", "6", "--connections", "3", "--shards", "1"], args].concat();
    let (run, json) = load(target, &args);
    assert_eq!(json["errors"], json!({class: 6}), "{json}");
    assert_eq!((run.status, &json["handshakes"]), (1, &json!(0)), "{}", run.stderr);
    assert!(run.stderr.contains("no handshake with"), "{}", run.stderr);
    assert!(run.took < Duration::from_secs(5), "{:?}", run.took);
    run.stderr
}

#[test]
fn a_port_that_refuses() {
    let said = all_fail(&nobody(), "connect_refused", &[]);
    assert!(said.contains("is the server running"), "{said}");
}

#[test]
fn a_target_given_up_in_the_warm_up_still_says_why() {
    let args = ["--warm-up", "30s", "--give-up", "300ms", "--connections", "2", "--shards", "1"];
    let (run, json) = load(&nobody(), &args);
    assert_eq!((run.status, &json["ended"]), (1, &json!("gave_up")), "{}", run.stderr);
    assert!(json["errors"]["connect_refused"].as_u64() > Some(0), "{json}");
    assert!(run.stderr.contains("is the server running"), "{}", run.stderr);
}

#[test]
fn a_listener_that_never_answers() {
    all_fail(&silent().target(), "timeout", &["--timeout", "100ms"]);
}

#[test]
fn a_port_that_speaks_no_tls() {
    let http = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    all_fail(&http.target(), "not_tls", &[]);
    // Begins like a record, but no TLS version has that number.
    all_fail(&answering(b"\x16\x47\x47\x00\x05hello").target(), "not_tls", &[]);
    let talker = Server::bare(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
        drain(&mut stream);
    });
    all_fail(&talker.target(), "not_tls", &[]);
}

#[test]
fn one_that_closes_or_resets_instead_of_an_answer() {
    all_fail(&answering(b"").target(), "closed_early", &[]);
    // Half a ServerHello.
    all_fail(&answering(b"\x16\x03\x03\x00\x7a\x02\x00").target(), "closed_early", &[]);
    // Closing with unread bytes resets.
    let reset = Server::bare(|stream| {
        let _ = stream.peek(&mut [0]);
    });
    all_fail(&reset.target(), "reset", &[]);
}

#[test]
fn alerts_by_name() {
    let foreign = Server::tls(Shape { alpn: &["foreign"], ..Shape::default() });
    all_fail(&foreign.target(), "tls_alert:no_application_protocol", &[]);
    all_fail(&answering(b"\x15\x03\x03\x00\x02\x02\x28").target(), "tls_alert:handshake_failure", &[]);
}

#[test]
fn every_kind_of_alert_is_a_class_of_its_own() {
    let code = Arc::new(AtomicU8::new(0));
    let told = Arc::clone(&code);
    let server = Server::bare(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, told.load(Ordering::SeqCst)]);
        drain(&mut stream);
    });
    let mut classes = BTreeSet::new();
    // Those of RFC 8446 section 6 but close_notify, which is a refusal of nothing; and one that nobody knows.
    for alert in
        [10, 20, 22, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 70, 71, 80, 86, 109, 110, 112, 113, 115, 116, 120, 199]
    {
        code.store(alert, Ordering::SeqCst);
        let (run, json) = load(&server.target(), &["--count", "1", "--connections", "1"]);
        let errors = json["errors"].as_object().unwrap();
        let (class, n) = errors.iter().next().unwrap();
        assert_eq!((run.status, errors.len(), n), (1, 1, &json!(1)), "alert {alert}: {json}");
        assert!(class.starts_with("tls_alert:"), "alert {alert}: {class}");
        classes.insert(class.clone());
    }
    assert_eq!(classes.len(), 26, "{classes:?}");
    code.store(0, Ordering::SeqCst);
    all_fail(&server.target(), "closed_early", &[]);
}

#[test]
fn one_that_trickles_keeps_nobody_beyond_the_time_allowed() {
    // The beginning of a ServerHello, byte by byte, for ever.
    let trickle = Server::bare(|mut stream| {
        for byte in [22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3].into_iter().chain(std::iter::repeat(0)) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    all_fail(&trickle.target(), "timeout", &["--timeout", "300ms"]);
}

#[test]
fn servers_that_fail_after_the_handshake_have_classes_of_their_own() {
    let says = |text| Server::tls(Shape { says: Some(text), ..HTTP1 });
    let http = ["--then", "http", "--timeout", "400ms"];
    let websocket = ["--then", "websocket", "--timeout", "400ms"];
    let mute = Server::tls(HTTP1);
    for (server, class, args) in [
        (&mute, "response_timeout", &http),
        (&mute, "response_timeout", &websocket),
        (&says(""), "no_response", &http),
        (&says("SSH-2.0-OpenSSH_9.9"), "bad_response", &http),
        (&says("HTTP/1.1 404 Not Found\r\n\r\n"), "not_upgraded", &websocket),
        (&says("HTTP/1.1 101 Switching Protocols\r\n\r\n"), "not_upgraded", &websocket),
        (&Server::tls(H2), "wrong_protocol", &["--then", "websocket", "--alpn", "h2"]),
    ] {
        let (run, json) = load(&server.target(), &[&["--count", "3", "--connections", "3"], &args[..]].concat());
        assert_eq!(json["errors"], json!({class: 3}), "{json}");
        assert_eq!((run.status, &json["handshakes_all"]), (1, &json!(3)), "the handshakes were complete: {json}");
        assert!(run.took < Duration::from_secs(5), "{:?}", run.took);
    }
}

#[test]
fn a_refusal_after_our_finished_is_no_handshake() {
    let server = Server::tls(Shape { wants_client_certificate: true, ..Shape::default() });
    all_fail(&server.target(), "tls_alert:certificate_required", &["--tls", "1.3"]);
    all_fail(&server.target(), "tls_alert:certificate_required", &["--tls", "1.3", "--resume"]);
}

#[test]
fn nonsense_in_the_handshake() {
    // A ServerHello with nothing in it.
    all_fail(&answering(b"\x16\x03\x03\x00\x04\x02\x00\x00\x00").target(), "tls_error", &[]);
}

#[test]
fn a_target_that_dies_half_way_ends_a_count_by_itself() {
    let server = Server::tls(Shape { dies_after: Some(20), ..Shape::default() });
    let args = ["--count", "1000000", "--connections", "4", "--give-up", "1s"];
    let (run, json) = load(&server.target(), &args);
    assert_eq!((run.status, &json["ended"]), (1, &json!("gave_up")), "{}", run.stderr);
    assert!(run.took < Duration::from_secs(5), "{:?}", run.took);
    assert!(run.stderr.contains("gave up"), "{}", run.stderr);
    let handshakes = json["handshakes"].as_u64().unwrap();
    assert!((1..=20).contains(&handshakes), "{handshakes}");
    let attempts = handshakes + json["errors"].as_object().unwrap().values().filter_map(|n| n.as_u64()).sum::<u64>();
    assert!(attempts < 20 + 4 * 12, "a dead target is not hammered: {attempts} attempts");
}

#[test]
fn a_target_that_dies_half_way_is_reported_at_the_end_of_the_time() {
    let server = Server::tls(Shape { dies_after: Some(20), ..Shape::default() });
    let (run, json) = load(&server.target(), &["--duration", "1500ms", "--warm-up", "0s", "--connections", "4"]);
    assert_eq!((run.status, &json["ended"]), (1, &json!("target_lost")), "{}", run.stderr);
    assert!(run.stderr.contains("was lost before the end"), "{}", run.stderr);
}

#[test]
fn a_silent_target_ends_at_the_time_that_was_asked_for() {
    let (run, json) = load(&silent().target(), &["--duration", "300ms", "--warm-up", "300ms"]);
    assert_eq!(run.status, 1, "{}", run.stderr);
    let errors: Vec<_> = json["errors"].as_object().unwrap().keys().collect();
    assert_eq!(errors, ["timeout"], "{json}");
    assert!(run.took < Duration::from_secs(3), "{:?}", run.took);
}

#[test]
fn a_server_that_never_closes_is_named_and_its_handshakes_count() {
    let server = Server::tls(Shape { keeps_open: true, ..Shape::default() });
    let (run, json) = load(&server.target(), &["--count", "3", "--connections", "3", "--timeout", "300ms"]);
    assert_eq!((run.status, &json["handshakes"], &json["left_open"]), (0, &json!(3), &json!(3)), "{}", run.stderr);
}
