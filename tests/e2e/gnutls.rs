//! gnutls-cli against `handfast serve`.

use handfast_tests::peers::{Peer, Program};
use handfast_tests::process::{Ended, Pipe, Process};

use crate::facts;
use crate::server::Localhost;

pub(crate) const TLS12: &str = "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.2";
pub(crate) const TLS13: &str = "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.3";

/// The only group, which GnuTLS does not prefer.
pub(crate) const X25519: &str = "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519";

pub(crate) fn start(gnutls: &Program, server: &Localhost, args: &[&str]) -> Process {
    let mut command = gnutls.command();
    command.args(["--port", &server.addr().port().to_string(), "--x509cafile", server.ca()]);
    command.args(["--sni-hostname=localhost", "--verify-hostname=localhost"]).args(args).arg("127.0.0.1");
    Process::start(&mut command)
}

#[track_caller]
pub(crate) fn until_its_end(gnutls: &Program, server: &Localhost, args: &[&str], event: &str) -> Ended {
    ended_after(start(gnutls, server, args), event)
}

/// Ends one that has said so.
#[track_caller]
pub(crate) fn ended_after(client: Process, event: &str) -> Ended {
    client.wait_for_text(event);
    let ended = client.end();
    assert_eq!(ended.code(), 0, "{ended}");
    ended
}

#[test]
fn gnutls_verifies_us_and_gets_each_protocol() {
    let Some(gnutls) = Peer::GnuTlsCli.installed() else { return };
    let server = Localhost::start(&[]);
    for (priority, version) in [(TLS13, "(TLS1.3-X.509)"), (TLS12, "(TLS1.2-X.509)")] {
        for id in ["h2", "http/1.1"] {
            let args = [priority, "--alpn", id];
            let ended = until_its_end(&gnutls, &server, &args, "Handshake was completed");
            assert!(ended.stdout.contains(&format!("- Application protocol: {id}\n")), "{ended}");
            assert!(ended.stdout.contains("The certificate is trusted"), "{ended}");
            assert!(ended.stdout.contains(version), "{ended}");
        }
    }
    server.server.stop();
}

#[test]
fn gnutls_gets_the_facts() {
    let Some(gnutls) = Peer::GnuTlsCli.installed() else { return };
    let server = Localhost::start(&[]);
    let mut client = start(&gnutls, &server, &["--alpn=http/1.1"]);
    client.wait_for_text("Simple Client Mode");
    client.input(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let facts = client.wait_for("facts", Pipe::Stdout, facts::find);
    assert_eq!((&facts["protocol"], &facts["server_name"]), (&"http/1.1".into(), &"localhost".into()), "{facts}");
    let ended = client.end();
    assert!(ended.stdout.contains("Peer has closed the GnuTLS connection"), "{ended}");
}

#[test]
fn gnutls_resumes() {
    let Some(gnutls) = Peer::GnuTlsCli.installed() else { return };
    let server = Localhost::start(&[]);
    for priority in [TLS13, TLS12] {
        let args = [priority, "--alpn=h2", "--resume", "--waitresumption"];
        let ended = until_its_end(&gnutls, &server, &args, "Resume Handshake was completed");
        assert!(ended.stdout.contains("This is a resumed session"), "{ended}");
    }
}

#[test]
fn gnutls_is_told_that_no_protocol_is_in_common() {
    let Some(gnutls) = Peer::GnuTlsCli.installed() else { return };
    let server = Localhost::start(&[]);
    for priority in [TLS13, TLS12] {
        let ended = start(&gnutls, &server, &[priority, "--alpn=foreign"]).end();
        assert_ne!(ended.code(), 0, "{ended}");
        assert!(ended.to_string().contains("Received alert [120]"), "{ended}");
    }
}
