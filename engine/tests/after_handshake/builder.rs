//! What the builder says before anything runs, and options of single endpoints.

use handfast::handshake::TlsVersions;
use handfast::rustls::ProtocolVersion;
use handfast::transport::tcp::{Endpoint, ListenOptions};
use handfast::{Engine, Placement, Protocol, StartError};

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
