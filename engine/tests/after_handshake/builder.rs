//! What the builder says before anything runs, and options of single endpoints.

use std::time::Duration;

use handfast::handshake::TlsVersions;
use handfast::rustls::ProtocolVersion;
use handfast::transport::tcp::{Endpoint, ListenOptions};
use handfast::{Engine, Limits, Placement, Protocol, StartError};

use crate::harness::Server;

#[test]
fn check_finds_what_start_would_without_listening() {
    let protocol = || Protocol::alpn("bench").close();
    let server = Server::start(Placement::SharedCore, [protocol()]);
    assert!(matches!(Engine::builder().protocol(protocol()).check(), Err(StartError::NoCertificates { .. })));
    let good = || server.certified(Engine::builder()).protocol(protocol());
    assert!(matches!(good().check(), Err(StartError::NoEndpoint)));
    let taken = Endpoint::from(server.addr());
    assert!(good().listen(taken.clone()).check().is_ok(), "nothing is bound to be checked");
    assert!(matches!(good().listen(taken.clone()).shards(0).check(), Err(StartError::NoThreads)));
    let unregistered = good().listen(taken.clone()).fallback("none");
    assert!(matches!(unregistered.check(), Err(StartError::UnknownProtocol { .. })));
    assert!(matches!(good().listen(taken).start(), Err(StartError::Listen(_))));
}

#[test]
fn limits_with_which_nothing_could_be_served_are_refused_by_name() {
    type Change = fn(&mut Limits);
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("bench").close()]);
    let with = |change: Change| {
        let mut limits = Limits::default();
        change(&mut limits);
        server
            .certified(Engine::builder())
            .protocol(Protocol::alpn("bench").close())
            .listen(server.addr())
            .limits(limits)
    };
    for (limit, wants, change) in [
        ("connections_per_shard", "at least 1", (|l| l.connections_per_shard = 0) as Change),
        ("accepts_per_turn", "at least 1", |l| l.accepts_per_turn = 0),
        ("handshakes_per_shard", "at least 1", |l| l.handshakes_per_shard = 0),
        ("source.prefix_v4", "at most 32", |l| l.source.prefix_v4 = 33),
        ("source.prefix_v6", "at most 128", |l| l.source.prefix_v6 = 129),
        ("proxy_header_bytes", "at least 1", |l| l.proxy_header_bytes = 0),
        ("proxy_header_deadline", "over zero", |l| l.proxy_header_deadline = Duration::ZERO),
        ("read_bytes_per_turn", "at least 1", |l| l.read_bytes_per_turn = 0),
        ("client_hello_bytes", "at least 1", |l| l.client_hello_bytes = 0),
        ("handshake_bytes", "at least 1", |l| l.handshake_bytes = 0),
        ("handshake_deadline", "over zero", |l| l.handshake_deadline = Duration::ZERO),
        ("unsent_wait", "over zero", |l| l.unsent_wait = Duration::ZERO),
        ("linger", "over zero", |l| l.linger = Duration::ZERO),
        ("close_wait", "over zero", |l| l.close_wait = Duration::ZERO),
        ("stream_read_bytes", "at least 1", |l| l.stream_read_bytes = 0),
        ("stream_write_bytes", "at least 1", |l| l.stream_write_bytes = 0),
        ("idle_deadline", "over zero", |l| l.idle_deadline = Duration::ZERO),
        ("control_records", "at least 1", |l| l.control_records = 0),
        ("mailbox_depth", "at least 1", |l| l.mailbox_depth = 0),
        ("hand_off_wait", "over zero", |l| l.hand_off_wait = Duration::ZERO),
        ("drain_deadline", "over zero", |l| l.drain_deadline = Duration::ZERO),
    ] {
        let error = with(change).check().expect_err(limit);
        assert!(matches!(&error, StartError::Limit(e) if e.limit == limit), "{limit}: {error:?}");
        assert_eq!(error.to_string(), format!("the limit `{limit}` has to be {wants}"));
        assert!(matches!(with(change).start(), Err(StartError::Limit(_))), "{limit}");
    }
    let none: [Change; 3] = [|l| l.early_sessions = 0, |l| l.early_session_bytes = 0, |l| l.source.remembered = 0];
    none.into_iter().for_each(|change| assert!(with(change).check().is_ok()));
}

#[test]
fn a_protocol_without_versions_of_its_own_has_the_engines() {
    let protocols = [Protocol::alpn("any").close(), Protocol::alpn("old").close().versions(TlsVersions::Tls12)];
    let server = Server::start_with(Placement::SharedCore, protocols, |b| b.versions(TlsVersions::Tls13));
    assert_eq!(server.connect("old").protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let old = server.trusting().alpn(["any"]).versions(TlsVersions::Tls12).build().unwrap();
    assert!(old.connect_to(server.addr(), "localhost").is_err());
    assert_eq!(server.connect("any").protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn an_endpoint_may_have_options_of_its_own() {
    // Linux tells how a socket listens: its queue is shown as the send queue.
    let mut options = ListenOptions::default();
    options.backlog = 7;
    let server = Server::start_with(Placement::SharedCore, [Protocol::alpn("bench").close()], |builder| {
        builder.listen_with("127.0.0.1:0".parse::<Endpoint>().unwrap(), options)
    });
    let own = server.handle().endpoints()[1].to_string();
    let told = std::process::Command::new("ss").args(["-Hltn"]).output();
    let Ok(told) = told else { return eprintln!("skipped: ss is not installed") };
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let queue = |addr: &str| {
        let line = told.lines().find(|l| l.split_whitespace().nth(3) == Some(addr));
        line.and_then(|l| l.split_whitespace().nth(2)).map(str::to_owned)
    };
    assert_eq!(queue(&own).as_deref(), Some("7"), "{told}");
    assert_ne!(queue(&server.addr().to_string()).as_deref(), Some("7"), "{told}");
}
