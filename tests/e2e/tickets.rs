//! Session tickets across processes, secrets and time, by `openssl s_client`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handfast::crypto::TicketSecrets;
use handfast::handshake::Sources;
use handfast::rustls::pki_types::UnixTime;
use handfast::rustls::time_provider::TimeProvider;
use handfast::transport::tcp::Endpoint;
use handfast::{Builder, Engine, Protocol};
use handfast_tests::binaries::handfast;
use handfast_tests::certificates::{Made, make};
use handfast_tests::peers::{Peer, Program};
use handfast_tests::process::{Scratch, Signal, run};

use crate::s_client::{SClient, handshake};
use crate::server::{Server, text};

/// A new secret in a file of its own.
fn secret(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.path(name);
    let ended = run(handfast().args(["ticket-secret", text(&path)]));
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "", ""), "{ended}");
    path
}

fn host(secret: &Path, args: &[&str]) -> Server {
    let own = ["--listen", "127.0.0.1:0", "--ticket-secret", text(secret)];
    Server::start(&[&own[..], args].concat())
}

/// Handshakes in full and leaves the ticket in a file.
#[track_caller]
fn ticket(openssl: &Program, from: SocketAddr, scratch: &Scratch, version: &str) -> PathBuf {
    let file = scratch.path(&format!("ticket-{}{version}.pem", from.port()));
    let _ = std::fs::remove_file(&file);
    let args = ["-alpn", "h2", version, "-sess_out", text(&file)];
    let ended = SClient::start(openssl, from, &args).with_ticket(&file).end();
    assert!(ended.stdout.contains("New, TLSv1."), "{ended}");
    file
}

/// Whether the ticket resumes there.
#[track_caller]
fn resumes(openssl: &Program, at: SocketAddr, ticket: &Path, version: &str) -> bool {
    let ended = handshake(openssl, at, &["-alpn", "h2", version, "-sess_in", text(ticket)]);
    let again = ended.stdout.contains("Reused, TLSv1.");
    assert!(again || ended.stdout.contains("New, TLSv1."), "{ended}");
    again
}

#[test]
fn hosts_with_one_secret_file_resume_each_others_sessions() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let (shared, other) = (secret(&scratch, "shared"), secret(&scratch, "other"));
    let (one, two, stranger) = (host(&shared, &[]), host(&shared, &[]), host(&other, &[]));
    for (from, to) in [(&one, &two), (&two, &one)] {
        let ticket = ticket(&openssl, from.addr(), &scratch, "-tls1_3");
        assert!(resumes(&openssl, to.addr(), &ticket, "-tls1_3"));
        assert!(!resumes(&openssl, stranger.addr(), &ticket, "-tls1_3"));
    }
    // A host with another lifetime is not of the fleet.
    let shorter = host(&shared, &["--ticket-lifetime", "1h"]);
    let ticket = ticket(&openssl, one.addr(), &scratch, "-tls1_3");
    assert!(!resumes(&openssl, shorter.addr(), &ticket, "-tls1_3"));
    let ended = handshake(&openssl, shorter.addr(), &["-alpn", "h2", "-tls1_3"]);
    assert!(!ended.stdout.contains("Reused"), "{ended}");
    for server in [one, two, stranger, shorter] {
        server.stop();
    }
}

#[test]
fn a_fleet_has_tickets_of_tls_1_2_only_when_asked() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let shared = secret(&scratch, "shared");
    let silent = host(&shared, &[]);
    let mut client = SClient::start(&openssl, silent.addr(), &["-alpn", "http/1.1", "-tls1_2"]).established();
    client.facts();
    let ended = client.end();
    assert!(!ended.stdout.contains("TLS session ticket:"), "{ended}");

    let (one, two) = (host(&shared, &["--tls12-tickets"]), host(&shared, &["--tls12-tickets"]));
    let ticket = ticket(&openssl, one.addr(), &scratch, "-tls1_2");
    assert!(resumes(&openssl, two.addr(), &ticket, "-tls1_2"));
    // Nor does one that gives none open them.
    assert!(!resumes(&openssl, silent.addr(), &ticket, "-tls1_2"));
    // Only 1.2 is spoken here though the client could do more.
    let old = host(&shared, &["--tls", "1.2"]);
    let mut client = SClient::start(&openssl, old.addr(), &["-alpn", "http/1.1"]).established();
    client.facts();
    let ended = client.end();
    assert!(ended.stdout.contains("TLSv1.2") && !ended.stdout.contains("TLS session ticket:"), "{ended}");
    for server in [silent, one, two, old] {
        server.stop();
    }
}

#[test]
fn a_secret_that_is_still_listed_opens_what_it_sealed() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let (old, new) = (secret(&scratch, "old"), secret(&scratch, "new"));
    let both = [&new, &old].map(|f| std::fs::read_to_string(f).expect("a secret")).concat();
    let rotated = scratch.file("rotated", both);
    std::fs::set_permissions(&rotated, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let [old, new, rotated] = [old, new, rotated].map(|file| host(&file, &[]));

    let before = ticket(&openssl, old.addr(), &scratch, "-tls1_3");
    assert!(resumes(&openssl, rotated.addr(), &before, "-tls1_3"));
    assert!(!resumes(&openssl, new.addr(), &before, "-tls1_3"));
    let after = ticket(&openssl, rotated.addr(), &scratch, "-tls1_3");
    assert!(resumes(&openssl, new.addr(), &after, "-tls1_3"));
    assert!(!resumes(&openssl, old.addr(), &after, "-tls1_3"));
    for server in [old, new, rotated] {
        server.stop();
    }
}

/// A wall clock that is set by hand.
#[derive(Debug)]
struct Seconds(AtomicU64);

impl TimeProvider for Seconds {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::SeqCst))))
    }
}

/// A host of a fleet at this time.
fn host_at(time: Duration, made: &Made, set: &str, adjust: impl FnOnce(Builder) -> Builder) -> Engine {
    let mut sources = Sources::default();
    sources.time = Arc::new(Seconds(AtomicU64::new(time.as_secs())));
    let builder = Engine::builder()
        .listen("127.0.0.1:0".parse::<Endpoint>().expect("an endpoint"))
        .shards(1)
        .certificates(made.set(set))
        .protocol(Protocol::h2())
        .ticket_secrets(TicketSecrets::new([[1; 32]]).expect("a secret"))
        .sources(sources);
    adjust(builder).start().expect("an engine")
}

fn addr(engine: &Engine) -> SocketAddr {
    engine.handle().local_addr().expect("an address")
}

#[test]
fn a_process_with_a_secret_of_its_own_resumes_sessions_of_two_epochs() {
    const LIFETIME_SECS: u64 = 90;
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let (scratch, made) = (Scratch::new(), make(&["localhost"]));
    let clock = Arc::new(Seconds(AtomicU64::new(0)));
    let epoch = UnixTime::now().as_secs() / LIFETIME_SECS;
    let set = |later: u64| clock.0.store((epoch + later) * LIFETIME_SECS + 1, Ordering::SeqCst);
    let mut sources = Sources::default();
    sources.time = Arc::clone(&clock) as Arc<_>;
    let builder = Engine::builder()
        .listen("127.0.0.1:0".parse::<Endpoint>().expect("an endpoint"))
        .shards(2)
        .certificates(made.set("default"))
        .protocol(Protocol::h2())
        .ticket_lifetime(Duration::from_secs(LIFETIME_SECS))
        .sources(sources);
    for version in ["-tls1_2", "-tls1_3"] {
        set(0);
        let engine = builder.clone().start().expect("an engine");
        let ticket = ticket(&openssl, addr(&engine), &scratch, version);
        // Whichever shard the kernel chooses.
        let resumes = || [(); 4].map(|()| resumes(&openssl, addr(&engine), &ticket, version));
        assert_eq!(resumes(), [true; 4], "{version}");
        set(1);
        engine.handle().reload(builder.clone()).expect("a reload");
        assert_eq!(resumes(), [true; 4], "{version}, one epoch later, after a reload");
        set(2);
        assert_eq!(resumes(), [false; 4], "{version}, two epochs later");
        set(1);
        assert_eq!(resumes(), [false; 4], "{version}, with the clock put back");
        engine.shutdown().expect("a drain");
    }
}

#[test]
fn hosts_whose_clocks_are_an_epoch_apart_resume_each_others_sessions() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let made = make(&["localhost"]);
    let now = UnixTime::now().as_secs();
    for lifetime in [6 * 60 * 60, 90] {
        let lifetime = Duration::from_secs(lifetime);
        let at = |epochs: u64| {
            let start = now - now % lifetime.as_secs();
            let time = Duration::from_secs(start + 10) + lifetime * u32::try_from(epochs).expect("few");
            host_at(time, &made, "default", |builder| builder.ticket_lifetime(lifetime))
        };
        let [first, second, third] = [0, 1, 2].map(at);
        let early = ticket(&openssl, addr(&first), &scratch, "-tls1_3");
        assert!(resumes(&openssl, addr(&second), &early, "-tls1_3"), "one epoch later");
        assert!(!resumes(&openssl, addr(&third), &early, "-tls1_3"), "two epochs later");
        let late = ticket(&openssl, addr(&second), &scratch, "-tls1_3");
        assert!(resumes(&openssl, addr(&first), &late, "-tls1_3"), "where the clock is behind");
        assert!(resumes(&openssl, addr(&third), &late, "-tls1_3"), "one epoch later");
        for engine in [first, second, third] {
            engine.shutdown().expect("a drain");
        }
    }
}

#[test]
fn processes_resume_each_others_sessions_across_an_epoch() {
    const LIFETIME_SECS: u64 = 5;
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let (shared, lifetime) = (secret(&scratch, "shared"), format!("{LIFETIME_SECS}s"));
    let [one, two] = [(); 2].map(|()| host(&shared, &["--ticket-lifetime", &lifetime]));
    let epoch = || UnixTime::now().as_secs() / LIFETIME_SECS;
    // A ticket is tried once the next one is there: in one round of a few, an epoch ends between them.
    let mut last = None;
    for _ in 0..200 {
        let (scratch, before) = (Scratch::new(), epoch());
        let ticket = ticket(&openssl, one.addr(), &scratch, "-tls1_3");
        let next = (ticket, before == epoch(), before, scratch);
        if let Some((ticket, true, sealed_in, _scratch)) = last.replace(next) {
            let from = epoch();
            let resumed = resumes(&openssl, two.addr(), &ticket, "-tls1_3");
            if resumed && (from, epoch()) == (sealed_in + 1, sealed_in + 1) {
                one.stop();
                two.stop();
                return;
            }
        }
    }
    panic!("no ticket was opened in the epoch after its own");
}

#[test]
fn a_ticket_does_not_cross_certificate_sets_of_a_fleet() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let made = make(&["localhost"]);
    let now = Duration::from_secs(UnixTime::now().as_secs());
    let [one, same, other] = ["one", "one", "other"].map(|set| host_at(now, &made, set, |builder| builder));
    let ticket = ticket(&openssl, addr(&one), &scratch, "-tls1_3");
    assert!(resumes(&openssl, addr(&same), &ticket, "-tls1_3"));
    assert!(!resumes(&openssl, addr(&other), &ticket, "-tls1_3"));
    for engine in [one, same, other] {
        engine.shutdown().expect("a drain");
    }
}

#[test]
fn a_handshake_gives_as_many_tickets_as_asked_for() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    for (args, tickets) in [(&[][..], 1), (&["--tickets", "3"], 3), (&["--tickets", "0"], 0)] {
        let server = Server::start(&[&["--listen", "127.0.0.1:0"], args].concat());
        let mut client = SClient::start(&openssl, server.addr(), &["-alpn", "http/1.1", "-tls1_3"]).established();
        // They come before it.
        client.facts();
        let ended = client.end();
        assert_eq!(ended.stdout.matches("New Session Ticket arrived").count(), tickets, "{ended}");
        server.stop();
    }
}

#[test]
fn clients_are_told_the_lifetime() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    for (args, told) in [(&[][..], "21600"), (&["--ticket-lifetime", "10m"], "600")] {
        let server = Server::start(&[&["--listen", "127.0.0.1:0"], args].concat());
        for version in ["-tls1_3", "-tls1_2"] {
            let file = ticket(&openssl, server.addr(), &scratch, version);
            let shown = run(openssl.command().args(["sess_id", "-noout", "-text", "-in", text(&file)]));
            let hint = format!("TLS session ticket lifetime hint: {told} (seconds)");
            assert!(shown.stdout.contains(&hint), "{shown}");
        }
        server.stop();
    }
    let ended = run(handfast().args(["serve", "--listen", "127.0.0.1:0", "--ticket-lifetime", "200h"]));
    assert_eq!(ended.code(), 2, "{ended}");
    assert!(ended.stderr.contains("1 second to 7 days"), "{ended}");
}

#[test]
fn a_new_secret_is_its_owners_and_replaces_nothing() {
    let scratch = Scratch::new();
    let path = secret(&scratch, "tickets");
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let made = std::fs::read_to_string(&path).expect("a secret");
    assert!(made.len() == 65 && made.ends_with('\n'), "{made:?}");

    let again = run(handfast().args(["ticket-secret", text(&path)]));
    assert_eq!(again.code(), 2, "{again}");
    assert!(again.stderr.contains(text(&path)) && again.stderr.contains("append"), "{again}");
    assert_eq!(std::fs::read_to_string(&path).expect("a secret"), made);

    let printed = run(handfast().arg("ticket-secret"));
    assert_eq!((printed.code(), printed.stdout.len(), printed.stderr.as_str()), (0, 65, ""), "{printed}");
    assert_ne!(printed.stdout, made);
}

#[test]
fn a_file_of_secrets_that_is_wrong_is_said_with_its_line() {
    let scratch = Scratch::new();
    let good = format!("{}\n", "5a".repeat(32));
    for (content, says) in [
        (format!("{good}short\n"), &["line 2", "hexadecimal", "handfast ticket-secret"][..]),
        ("5a\n".to_owned(), &["line 1", "1 bytes", "32 to 256"]),
        ("# soon\n".to_owned(), &["there is none", "handfast ticket-secret"]),
        (format!("{good}{good}"), &["line 2", "line 1 once more", "remove"]),
    ] {
        let file = scratch.file("secrets", content);
        let ended = run(handfast().args(["serve", "--listen", "127.0.0.1:0", "--ticket-secret", text(&file)]));
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{ended}");
        for part in [text(&file)].iter().chain(says) {
            assert!(ended.stderr.contains(part), "{part:?} is not in {ended}");
        }
        assert!(!ended.stderr.contains("5a5a"), "{ended}");
    }
    let missing = scratch.path("missing");
    let ended = run(handfast().args(["serve", "--listen", "127.0.0.1:0", "--ticket-secret", text(&missing)]));
    assert_eq!(ended.code(), 2, "{ended}");
    assert!(ended.stderr.contains("does not exist"), "{ended}");
}

#[test]
fn a_file_of_secrets_that_others_can_read_is_complained_about() {
    let scratch = Scratch::new();
    let path = secret(&scratch, "tickets");
    for (mode, complains) in [(0o644, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        let mut server = host(&path, &[]);
        server.signal(Signal::TERM);
        let ended = server.end();
        assert_eq!((ended.code(), ended.stderr.contains("chmod 600")), (0, complains), "{ended}");
        assert!(!complains || ended.stderr.contains(text(&path)), "{ended}");
    }
}
