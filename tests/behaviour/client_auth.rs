//! Clients that show certificates, or do not.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use handfast::crypto::{TicketOptions, TicketSecrets};
use handfast::error::RefusalClass;
use handfast::handshake::{Blueprint, ProtocolTls, Sources};
use handfast::identity::{AltName, ClientAuth, ClientRoots};
use handfast::rustls::pki_types::UnixTime;
use handfast::rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use handfast::rustls::{ClientConfig, version};
use handfast::selection::Table;
use handfast::shard::{Destination, Reload, ShardConfig};
use handfast::{Protocol, Stream};
use handfast_tests::certificates::{Authority, Made, make};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::{Peer, World};
use tokio::io::AsyncWriteExt;

use crate::setup::limits;

/// Says who the client is and whether its session was resumed.
fn whoami() -> Destination {
    let say = |mut stream: Stream| async move {
        let facts = stream.facts();
        let client = facts.client.as_ref().map_or("nobody", |c| &c.subject);
        let answer = format!("{client}{}", if facts.resumed { ", again" } else { "" });
        let _ = stream.write_all(answer.as_bytes()).await;
    };
    Protocol::alpn("any").serve(say).destination().clone()
}

/// The same in every blueprint.
fn tickets() -> TicketOptions {
    static SECRETS: LazyLock<TicketSecrets> = LazyLock::new(|| TicketSecrets::random().expect("randomness"));
    let mut options = TicketOptions::default();
    options.secrets = Some(SECRETS.clone());
    options
}

/// Protocols that share one certificate set.
fn reload(server: &Made, protocols: &[(&str, ClientAuth)]) -> Reload {
    reload_by(&Sources::default(), server, protocols)
}

fn reload_by(sources: &Sources, server: &Made, protocols: &[(&str, ClientAuth)]) -> Reload {
    let set = server.set("default");
    let mut table = Table::builder();
    let mut tls = Vec::new();
    for (id, auth) in protocols {
        table = table.protocol(*id);
        let mut protocol = ProtocolTls::new(id.as_bytes(), Arc::clone(&set));
        protocol.client_auth = auth.clone();
        tls.push(protocol);
    }
    let table = table.build().expect("a table");
    let blueprint = Blueprint::new(table, &tls, sources).expect("configurations").with_tickets(tickets());
    Reload::new(blueprint, Some(protocols.iter().map(|_| whoami()).collect()), limits())
}

fn shard(server: &Made, protocols: &[(&str, ClientAuth)]) -> ShardConfig {
    let Reload { blueprint, destinations, .. } = reload(server, protocols);
    ShardConfig::new(blueprint.live(), destinations.expect("some"))
}

fn roots(ca: &Authority) -> ClientRoots {
    ClientRoots::from_pem(ca.pem.as_bytes()).expect("roots")
}

/// What the server answers; `None` if it refuses.
fn ask<W: World>(world: &mut W, config: &ClientConfig, alpn: &str) -> Option<String> {
    let mut config = config.clone();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let mut client = Tls::new(world.connect(), &Arc::new(config), "localhost");
    let mut answer = Vec::new();
    world.until("an answer or a refusal", |_| {
        answer.extend(client.recv());
        client.error.is_some() || client.peer.is_eof() || client.peer.is_reset()
    });
    client.peer.shutdown();
    world.until_empty();
    (!answer.is_empty()).then(|| String::from_utf8(answer).expect("text"))
}

pub(crate) fn modes_in_each_version<W: World>() {
    let (server, ca, other) = (make(&["localhost"]), Authority::new("ours"), Authority::new("another"));
    let (known, stranger) = (Arc::new(ca.issue("known", |_| ())), Arc::new(other.issue("stranger", |_| ())));
    let mut world = W::new(shard(
        &server,
        &[
            ("none", ClientAuth::None),
            ("optional", ClientAuth::Optional(roots(&ca))),
            ("required", ClientAuth::Required(roots(&ca))),
        ],
    ));
    let mut refused = 0;
    for tls in [&version::TLS12, &version::TLS13] {
        for (certificate, alpn, answer) in [
            (None, "none", Some("nobody")),
            (None, "optional", Some("nobody")),
            (None, "required", None),
            (Some(&known), "none", Some("nobody")),
            (Some(&known), "optional", Some("CN=known")),
            (Some(&known), "required", Some("CN=known")),
            (Some(&stranger), "optional", None),
            (Some(&stranger), "required", None),
        ] {
            let mut options = Options::new(server.roots(), &[]);
            options.versions = vec![tls];
            options.certificate = certificate.cloned();
            assert_eq!(ask(&mut world, &options.config(), alpn).as_deref(), answer, "{:?} {alpn}", tls.version);
            refused += u64::from(answer.is_none());
        }
    }
    let m = world.metrics();
    assert_eq!((m.refused(RefusalClass::ClientCertificate), m.refused_total()), (refused, refused), "{m:?}");
}

/// A client that keeps its sessions.
fn resuming(server: &Made, tls: &'static handfast::rustls::SupportedProtocolVersion) -> Options {
    let mut options = Options::new(server.roots(), &[]);
    options.versions = vec![tls];
    options.resume = true;
    options
}

pub(crate) fn a_session_without_a_certificate_does_not_resume_where_one_is_required<W: World>() {
    let (server, ca) = (make(&["localhost"]), Authority::new("ours"));
    let (optional, required) = (ClientAuth::Optional(roots(&ca)), ClientAuth::Required(roots(&ca)));
    let mut world = W::new(shard(
        &server,
        &[("none", ClientAuth::None), ("optional", optional), ("required", required.clone()), ("required/2", required)],
    ));
    for tls in [&version::TLS12, &version::TLS13] {
        let config = resuming(&server, tls).config();
        for open in ["none", "optional"] {
            assert_eq!(ask(&mut world, &config, open).as_deref(), Some("nobody"));
            assert_eq!(ask(&mut world, &config, open).as_deref(), Some("nobody, again"));
            assert_eq!(ask(&mut world, &config, "required"), None, "{:?} {open}", tls.version);
            // What a client is refused with takes its session away.
            assert_eq!(ask(&mut world, &config, "none").as_deref().map(|a| &a[..6]), Some("nobody"));
        }
        let mut options = resuming(&server, tls);
        options.certificate = Some(Arc::new(ca.issue("known", |_| ())));
        let config = options.config();
        assert_eq!(ask(&mut world, &config, "required").as_deref(), Some("CN=known"));
        // The same mode and roots: one domain, and the ticket brings the certificate back.
        assert_eq!(ask(&mut world, &config, "required/2").as_deref(), Some("CN=known, again"));
        assert_eq!(ask(&mut world, &config, "optional").as_deref(), Some("CN=known"));
    }
}

pub(crate) fn other_client_cas_end_resumption<W: World>() {
    let (server, ca, other) = (make(&["localhost"]), Authority::new("ours"), Authority::new("another"));
    for tls in [&version::TLS12, &version::TLS13] {
        let before = ClientAuth::Required(roots(&ca));
        let mut world = W::new(shard(&server, &[("chat/1", before.clone())]));
        let mut options = resuming(&server, tls);
        options.certificate = Some(Arc::new(ca.issue("known", |p| p.serial_number = Some(7_u64.into()))));
        let config = options.config();
        let answers = |world: &mut W| ask(world, &config, "chat/1");
        assert_eq!(answers(&mut world).as_deref(), Some("CN=known"));
        // The same roots, in a reload.
        world.shard().reload(&reload(&server, &[("chat/1", before)]));
        assert_eq!(answers(&mut world).as_deref(), Some("CN=known, again"));
        // One more: what was verified by the old ones counts no longer.
        let both = format!("{}{}", ca.pem, other.pem);
        let both = || ClientRoots::from_pem(both.as_bytes()).expect("roots");
        world.shard().reload(&reload(&server, &[("chat/1", ClientAuth::Required(both()))]));
        assert_eq!(answers(&mut world).as_deref(), Some("CN=known"));
        assert_eq!(answers(&mut world).as_deref(), Some("CN=known, again"));
        // Revoked since.
        let lists = ca.revoke(&[7], 2100);
        let revoked = both().with_revocation_lists(lists.as_bytes()).expect("a list");
        world.shard().reload(&reload(&server, &[("chat/1", ClientAuth::Required(revoked))]));
        assert_eq!(answers(&mut world), None);
        // Another authority: who has a ticket is a stranger all the same.
        world.shard().reload(&reload(&server, &[("chat/1", ClientAuth::Required(roots(&other)))]));
        assert_eq!(answers(&mut world), None);
    }
}

/// The wall clock, and so many hours more.
#[derive(Debug)]
struct Ahead(u64);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = DefaultTimeProvider.current_time()?.as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now + self.0 * 3600)))
    }
}

pub(crate) fn an_expired_certificate_does_not_resume<W: World>() {
    let (server, ca) = (make(&["localhost"]), Authority::new("ours"));
    for tls in [&version::TLS12, &version::TLS13] {
        let auth = ClientAuth::Required(roots(&ca));
        let mut world = W::new(shard(&server, &[("chat/1", auth.clone())]));
        let mut options = resuming(&server, tls);
        options.certificate = Some(Arc::new(
            ca.issue("short", |p| p.not_after = (SystemTime::now() + Duration::from_secs(2 * 3600)).into()),
        ));
        let config = options.config();
        assert_eq!(ask(&mut world, &config, "chat/1").as_deref(), Some("CN=short"));
        for (hours, answer) in [(1, Some("CN=short, again")), (3, None)] {
            let mut sources = Sources::default();
            sources.time = Arc::new(Ahead(hours));
            world.shard().reload(&reload_by(&sources, &server, &[("chat/1", auth.clone())]));
            assert_eq!(ask(&mut world, &config, "chat/1").as_deref(), answer, "{:?}", tls.version);
        }
        assert_eq!(world.metrics().refused(RefusalClass::ClientCertificate), 1);
    }
}

pub(crate) fn a_revoked_certificate_is_refused<W: World>() {
    let (server, ca) = (make(&["localhost"]), Authority::new("ours"));
    let client = |serial: u64| {
        let mut options = Options::new(server.roots(), &[]);
        options.certificate = Some(Arc::new(ca.issue("known", |p| p.serial_number = Some(serial.into()))));
        options.config()
    };
    for (until, good) in [(2100, Some("CN=known")), (2021, None)] {
        let roots = roots(&ca).with_revocation_lists(ca.revoke(&[7, 9], until).as_bytes()).expect("a list");
        let mut world = W::new(shard(&server, &[("chat/1", ClientAuth::Required(roots))]));
        assert_eq!(ask(&mut world, &client(7), "chat/1"), None);
        // A list that has expired says nothing about anybody.
        assert_eq!(ask(&mut world, &client(8), "chat/1").as_deref(), good);
    }
}

pub(crate) fn names_of_the_client<W: World>() {
    let (server, ca) = (make(&["localhost"]), Authority::new("ours"));
    let (sender, facts) = crossbeam::channel::unbounded();
    let tell = move |stream: Stream| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(stream.facts().clone());
        }
    };
    let mut config = shard(&server, &[("chat/1", ClientAuth::Required(roots(&ca)))]);
    config.destinations = vec![Protocol::alpn("any").serve(tell).destination().clone()];
    let mut world = W::new(config);
    let made = ca.issue("a, b+c", |params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Über \"Eck\"");
        params.subject_alt_names = vec![
            rcgen::SanType::DnsName("printer.example".try_into().expect("a name")),
            rcgen::SanType::URI("spiffe://example/printer".try_into().expect("a URI")),
            rcgen::SanType::Rfc822Name("p@example.org".try_into().expect("a mailbox")),
            rcgen::SanType::IpAddress([192, 0, 2, 7].into()),
        ];
    });
    let made = Arc::new(made);
    let mut options = Options::new(server.roots(), &[]);
    options.certificate = Some(Arc::clone(&made));
    ask(&mut world, &options.config(), "chat/1");
    let facts = facts.try_recv().expect("facts");
    let client = facts.client.as_ref().expect("a certificate");
    // The last part first (RFC 4514 section 2.1), and what means something escaped (section 2.4).
    assert_eq!(&*client.subject, "O=Über \\\"Eck\\\",CN=a\\, b\\+c");
    let names = [
        AltName::Dns("printer.example".into()),
        AltName::Uri("spiffe://example/printer".into()),
        AltName::Email("p@example.org".into()),
        AltName::Ip([192, 0, 2, 7].into()),
    ];
    assert_eq!(*client.alt_names, names);
    assert_eq!(client.certificate, made.der);
    assert!(format!("{facts:?}").len() < 2000);
}
