//! `openssl s_client` against `handfast serve`.

use handfast_tests::peers::{Peer, say};
use handfast_tests::process::{Pipe, Process, Scratch, run};

use crate::s_client::{SClient, certificate, handshake};
use crate::server::{Localhost, Server, counter, text};

#[test]
fn openssl_verifies_us_with_each_version_and_group() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let server = Localhost::start(&[]);
    for (flag, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        // With TLS 1.2 the groups are also the curves of certificates: ours needs P-256.
        for (groups, group) in [("X25519:P-256", "X25519"), ("P-256", "secp256r1"), ("P-384:P-256", "secp384r1")] {
            let args = ["-alpn", "http/1.1", flag, "-groups", groups, "-CAfile", server.ca()];
            let verify = ["-verify_return_error", "-verify_hostname", "localhost"];
            let mut client = SClient::start(&openssl, server.addr(), &[&args[..], &verify].concat()).established();
            let facts = client.facts();
            let ended = client.end();
            assert_eq!(ended.code(), 0, "{ended}");
            assert!(ended.stdout.contains("Verify return code: 0 (ok)"), "{ended}");
            assert!(ended.stdout.contains(&format!("New, {version}, Cipher is ")), "{ended}");
            assert!(ended.stdout.contains("ALPN protocol: http/1.1"), "{ended}");
            assert_eq!((&facts["tls_version"], &facts["group"]), (&version.into(), &group.into()), "{facts}");
            assert_eq!((&facts["protocol"], &facts["alpn"]), (&"http/1.1".into(), &"http/1.1".into()), "{facts}");
            assert_eq!((&facts["server_name"], &facts["resumed"]), (&"localhost".into(), &false.into()), "{facts}");
        }
    }
    server.server.stop();
}

#[test]
fn openssl_agrees_on_x25519mlkem768_if_it_can() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let group = ["-groups", "X25519MLKEM768"];
    let server = Localhost::start(&[]);
    // It reads its options before it connects; version 3.5 brought the group.
    let unknown = run(openssl.command().args(["s_client", "-connect", "127.0.0.1:0"]).args(group));
    if unknown.stderr.contains("X25519MLKEM768") {
        say(&format!("skipped: X25519MLKEM768, which {} does not know", Peer::OpenSsl.version()));
        assert!(unknown.stderr.contains("-groups"), "{unknown}");
        return;
    }
    let args = [&["-alpn", "http/1.1"], &group[..]].concat();
    let facts = SClient::start(&openssl, server.addr(), &args).established().facts();
    assert_eq!(facts["group"], "X25519MLKEM768", "{facts}");
}

#[test]
fn without_alpn_http_1_1_serves_unless_such_clients_are_refused() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let (serving, refusing) = (Localhost::start(&[]), Localhost::start(&["--without-alpn", "refuse"]));
    for version in ["-tls1_3", "-tls1_2"] {
        let mut client = SClient::start(&openssl, serving.addr(), &[version]).established();
        let facts = client.facts();
        assert_eq!((&facts["protocol"], facts["alpn"].is_null()), (&"http/1.1".into(), true), "{facts}");
        let ended = client.end();
        assert!(ended.stdout.contains("No ALPN negotiated"), "{ended}");

        let refused = SClient::start(&openssl, refusing.addr(), &[version]).end();
        assert_ne!(refused.code(), 0, "{refused}");
        assert!(refused.stderr.contains("SSL alert number 120"), "{refused}");
    }
}

#[test]
fn a_foreign_protocol_meets_alert_120() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let server = Localhost::start(&["--stats"]);
    for version in ["-tls1_3", "-tls1_2"] {
        let refused = SClient::start(&openssl, server.addr(), &["-alpn", "foreign,http/0.9", version]).end();
        assert_ne!(refused.code(), 0, "{refused}");
        assert!(refused.stderr.contains("SSL alert number 120"), "{refused}");
    }
    let stats = server.server.stop().stdout;
    assert_eq!(counter(&stats, "no_application_protocol"), 2, "{stats}");
    assert_eq!((counter(&stats, "opened"), counter(&stats, "closed")), (2, 2), "{stats}");
}

#[test]
fn one_version_only_refuses_the_other_with_alert_70() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    for (ours, same, other) in [("1.2", "-tls1_2", "-tls1_3"), ("1.3", "-tls1_3", "-tls1_2")] {
        let server = Localhost::start(&["--tls", ours]);
        handshake(&openssl, server.addr(), &["-alpn", "h2", same]);
        let refused = SClient::start(&openssl, server.addr(), &["-alpn", "h2", other]).end();
        assert_ne!(refused.code(), 0, "{refused}");
        assert!(refused.stderr.contains("SSL alert number 70"), "{refused}");
    }
}

#[test]
fn a_client_that_none_of_our_certificates_suits_meets_alert_40() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let server = Localhost::start(&[]);
    // Our certificate is ECDSA on P-256.
    for args in [&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"][..], &["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"]]
    {
        let refused = SClient::start(&openssl, server.addr(), args).end();
        assert!(refused.stderr.contains("SSL alert number 40"), "{refused}");
    }
    server.server.stop();
}

#[test]
fn preference_is_the_servers_unless_it_is_given_to_the_client() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    for (args, chosen) in [(&[][..], "h2"), (&["--prefer", "client"], "http/1.1")] {
        let server = Localhost::start(args);
        let ended = handshake(&openssl, server.addr(), &["-alpn", "http/1.1,h2"]);
        assert!(ended.stdout.contains(&format!("ALPN protocol: {chosen}\n")), "{ended}");
    }
}

#[test]
fn close_finishes_the_handshake_and_counts_it() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let server = Localhost::start(&["--close", "--tickets", "2", "--stats"]);
    for version in ["-tls1_3", "-tls1_2"] {
        let ticket = scratch.path(version);
        let args = ["-alpn", "h2", version, "-sess_out", text(&ticket)];
        let ended = SClient::start(&openssl, server.addr(), &args).with_ticket(&ticket).end();
        assert_eq!(ended.code(), 0, "{ended}");
        assert!(ended.stdout.contains("ALPN protocol: h2"), "{ended}");
    }
    let stats = server.server.stop().stdout;
    assert_eq!(counter(&stats, "handshakes_full"), 2, "{stats}");
    assert_eq!((counter(&stats, "opened"), counter(&stats, "closed")), (2, 2), "{stats}");
}

#[test]
fn a_made_up_certificate_has_the_fingerprint_that_is_printed() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let printed = server.process().written(Pipe::Stdout);
    let printed = printed.lines().find_map(|l| l.strip_prefix("handfast: self-signed certificate, SHA-256 "));
    let ended = handshake(&openssl, server.addr(), &["-alpn", "h2"]);
    let mut x509 = Process::start(openssl.command().args(["x509", "-noout", "-fingerprint", "-sha256"]));
    x509.input(certificate(&ended.stdout).as_bytes());
    let x509 = x509.end();
    let shown = x509.stdout.trim_end().rsplit('=').next();
    assert!(shown.is_some_and(|s| s.len() == 32 * 3 - 1), "{x509}");
    assert_eq!(shown, printed);
    server.stop();
}
