//! How `handfast serve` ends.

use std::time::{Duration, Instant};

use handfast_tests::peers::Peer;
use handfast_tests::process::Signal;

use crate::s_client::SClient;
use crate::server::{Localhost, counter, until_accepting};

/// Far below the drain's deadline where one is set to a minute, far above what a busy machine needs.
const AT_ONCE: Duration = Duration::from_secs(20);

#[test]
fn sigterm_and_sigint_end_an_idle_server() {
    for signal in [Signal::TERM, Signal::INT] {
        for workers in ["shared-core", "2"] {
            let mut server = Localhost::start(&["--workers", workers]);
            let addr = server.addr();
            server.server.signal(signal);
            let ended = server.server.end();
            assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended}");
            until_accepting(addr, false);
        }
    }
}

#[test]
fn an_idle_keep_alive_connection_is_closed_in_peace() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Localhost::start(&["--drain-timeout", "60s", "--stats"]);
        let mut client = SClient::start(&openssl, server.addr(), &["-alpn", "http/1.1"]).established();
        client.facts();
        let started = Instant::now();
        server.server.signal(signal);
        let ended = server.server.end();
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended}");
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        // The client was sent a close_notify: it says that it is closed, and not that it was cut off.
        client.wait_for_text("closed");
        let client = client.end();
        assert!(client.code() == 0 && !client.stderr.contains("SSL routines"), "{client}");
        assert_eq!((counter(&ended.stdout, "opened"), counter(&ended.stdout, "closed")), (1, 1), "{ended}");
    }
}

#[test]
fn an_h2_client_that_says_nothing_does_not_hold_the_end_up() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let mut server = Localhost::start(&["--drain-timeout", "1s"]);
    let client = SClient::start(&openssl, server.addr(), &["-alpn", "h2"]).established();
    let started = Instant::now();
    server.server.signal(Signal::TERM);
    let ended = server.server.end();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended}");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    client.end();
}

#[test]
fn the_drain_deadline_ends_what_does_not_end_by_itself() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    for workers in ["shared-core", "1"] {
        let mut server = Localhost::start(&["--protocol", "echo", "--workers", workers, "--drain-timeout", "300ms"]);
        let mut client = SClient::start(&openssl, server.addr(), &["-alpn", "echo"]).established();
        client.input(b"hello\n");
        client.wait_for_text("\nhello\n");
        let started = Instant::now();
        server.server.signal(Signal::TERM);
        let ended = server.server.end();
        assert_eq!(ended.code(), 0, "{ended}");
        assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
        assert!(!client.end().stdout.contains("no peer certificate"));
    }
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let mut server = Localhost::start(&["--protocol", "echo", "--drain-timeout", "60s"]);
    let addr = server.addr();
    let mut client = SClient::start(&openssl, addr, &["-alpn", "echo"]).established();
    client.input(b"hello\n");
    client.wait_for_text("\nhello\n");
    let started = Instant::now();
    server.server.signal(Signal::TERM);
    // The drain has begun, and would last.
    until_accepting(addr, false);
    server.server.signal(Signal::TERM);
    let ended = server.server.end();
    assert_eq!(ended.code(), 1, "{ended}");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}
