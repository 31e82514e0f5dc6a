//! Which certificate `openssl s_client` is shown, and which sessions it may resume.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use handfast::rustls::ClientConnection;
use handfast_tests::certificates::{Authority, Key, make, make_with};
use handfast_tests::client::Options;
use handfast_tests::compression::Decompressing;
use handfast_tests::peers::{Peer, Program};
use handfast_tests::process::{Scratch, run};

use crate::s_client::{SClient, certificate, handshake};
use crate::server::{Files, Server, text};

/// One port, two protocols, each with a certificate of its own.
fn two_protocols(scratch: &Scratch) -> (Server, [(&'static str, Files); 2]) {
    let own = ["h2", "http/1.1"].map(|id| (id, Files::new(scratch, &id.replace('/', "-"), make(&["localhost"]))));
    let [h2, http1] = own.each_ref().map(|(id, files)| files.own_of(id));
    let server = Server::start(&["--listen", "127.0.0.1:0", "--protocol", &h2, "--protocol", &http1]);
    (server, own)
}

#[test]
fn each_protocol_shows_its_own_certificate_on_one_port() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let (server, own) = two_protocols(&scratch);
    for version in ["-tls1_3", "-tls1_2"] {
        for (id, files) in &own {
            let verified = ["-CAfile", files.cert(), "-verify_return_error", "-verify_hostname", "localhost"];
            let ended = handshake(&openssl, server.addr(), &[&["-alpn", id, version], &verified[..]].concat());
            assert_eq!(certificate(&ended.stdout), files.made.pem.trim_end(), "{version} {id}: {ended}");
            assert!(ended.stdout.contains(&format!("ALPN protocol: {id}\n")), "{ended}");
        }
    }
    server.stop();
}

#[test]
fn openssl_gets_the_ocsp_response_that_the_file_a_directory_or_the_command_line_has() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let ca = Authority::new("ours");
    let made = ca.issue("site", |params| {
        params.serial_number = Some(7_u64.into());
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().expect("a name"))];
    });
    let directory = scratch.path("certificates");
    std::fs::create_dir(&directory).expect("a directory");
    for (name, content) in [("site.pem", format!("{}{}", made.pem, ca.pem)), ("site.key", made.key_pem.clone())] {
        let path = directory.join(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    let (ca_pem, ca_key) = (scratch.file("ca.pem", &ca.pem), scratch.file("ca.key", &ca.key_pem));
    let index = scratch.file("index.txt", "V\t401231235959Z\t\t07\tunknown\t/CN=site\n");
    let (leaf, response) = (scratch.file("leaf.pem", &made.pem), directory.join("site.ocsp"));
    let ca_pem = text(&ca_pem);
    let answered =
        run(openssl.command().args(["ocsp", "-index", text(&index), "-CA", ca_pem, "-rsigner", ca_pem]).args([
            "-rkey",
            text(&ca_key),
            "-issuer",
            ca_pem,
            "-cert",
            text(&leaf),
            "-ndays",
            "7",
            "-respout",
            text(&response),
        ]));
    assert_eq!(answered.code(), 0, "{answered}");

    let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let identity = "[[certificates.default.identity]]\ncertificate = \"certificates/site.pem\"\n\
                    key = \"certificates/site.key\"\nocsp = \"certificates/site.ocsp\"\n";
    let in_directory = "[certificates.default]\ndirectory = \"certificates\"\n";
    for (certificates, args) in [(identity, &[][..]), (in_directory, &[]), ("", &["--cert-dir", text(&directory)])] {
        let file = scratch.file("handfast.toml", format!("{listen}{certificates}"));
        let server = Server::start(&[&["--config", text(&file)], args].concat());
        for version in ["-tls1_3", "-tls1_2"] {
            let ended = handshake(&openssl, server.addr(), &["-alpn", "h2", version, "-status", "-CAfile", ca_pem]);
            assert!(ended.stdout.contains("OCSP Response Status: successful"), "{ended}");
            assert!(ended.stdout.contains("Cert Status: good"), "{ended}");
            assert!(ended.stdout.contains("Verify return code: 0 (ok)"), "{ended}");
        }
        server.stop();
    }
}

#[test]
fn certificates_are_compressed_if_the_file_or_the_command_line_says_so() {
    let scratch = Scratch::new();
    let files = Files::new(&scratch, "site", make(&["localhost"]));
    let decompressing: &'static Decompressing = Box::leak(Box::default());
    let mut config = Arc::unwrap_or_clone(Options::new(files.made.roots(), &["h2"]).config());
    config.cert_decompressors = vec![decompressing];
    let config = Arc::new(config);
    for (key, args, compressed) in [
        ("", &[][..], 0),
        ("certificate_compressors = [\"brotli\"]\n", &[], 1),
        ("certificate_compressors = [\"brotli\"]\n", &["--compress-certs", "off"], 0),
        ("", &["--compress-certs", "on"], 1),
    ] {
        let file = scratch.file(
            "handfast.toml",
            format!(
                "{key}[[listen]]\naddress = \"127.0.0.1:0\"\n[[certificates.default.identity]]\n\
                 certificate = \"site.pem\"\nkey = \"site.key\"\n"
            ),
        );
        let server = Server::start(&[&["--config", text(&file)], args].concat());
        let before = decompressing.count();
        let mut stream = TcpStream::connect(server.addr()).expect("a connection");
        let name = "localhost".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        while client.is_handshaking() {
            client.complete_io(&mut stream).expect("a handshake");
        }
        assert_eq!(decompressing.count() - before, compressed, "{key}{args:?}");
        drop(stream);
        server.stop();
    }
}

#[test]
fn a_ticket_resumes_its_own_protocol_and_not_the_other() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let (server, own) = two_protocols(&scratch);
    let reused = |version: &str, id: &str, ticket: &str| {
        let ended = handshake(&openssl, server.addr(), &["-alpn", id, version, "-sess_in", ticket]);
        let again = ended.stdout.contains("Reused, TLSv1.");
        assert!(again || ended.stdout.contains("New, TLSv1."), "{ended}");
        again
    };
    for version in ["-tls1_3", "-tls1_2"] {
        for (id, other) in [("h2", "http/1.1"), ("http/1.1", "h2")] {
            let ticket = scratch.path(&format!("{version}-{}.pem", id.len()));
            let args = ["-alpn", id, version, "-sess_out", text(&ticket)];
            let ended = SClient::start(&openssl, server.addr(), &args).with_ticket(&ticket).end();
            assert!(ended.stdout.contains("New, TLSv1."), "{ended}");
            assert!(!reused(version, other, text(&ticket)), "{version}: a ticket of {id} resumed {other}");
            assert!(reused(version, id, text(&ticket)), "{version}: a ticket of {id} did not resume {id}");
        }
    }
    assert_eq!(own.len(), 2);
    server.stop();
}

#[test]
fn protocols_that_share_a_certificate_share_their_tickets() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let ticket = scratch.path("ticket.pem");
    let args = ["-alpn", "h2", "-tls1_3", "-sess_out", text(&ticket)];
    SClient::start(&openssl, server.addr(), &args).with_ticket(&ticket).end();
    let args = ["-alpn", "http/1.1", "-tls1_3", "-sess_in", text(&ticket)];
    let facts = SClient::start(&openssl, server.addr(), &args).established().facts();
    assert_eq!((&facts["resumed"], &facts["protocol"]), (&true.into(), &"http/1.1".into()), "{facts}");
}

#[test]
fn no_tickets_no_resumption() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let server = Server::start(&["--listen", "127.0.0.1:0", "--tickets", "0"]);
    for version in ["-tls1_3", "-tls1_2"] {
        let ticket = scratch.path("ticket.pem");
        let args = ["-alpn", "http/1.1", version, "-sess_out", text(&ticket)];
        let mut client = SClient::start(&openssl, server.addr(), &args).established();
        // Its answer comes after any ticket.
        client.facts();
        let ended = client.end();
        assert!(!ended.stdout.contains("TLS session ticket:"), "{ended}");
    }
}

#[test]
fn the_clients_signature_schemes_choose_among_rsa_ecdsa_and_ed25519() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let keys = [("rsa", Key::Rsa), ("ecdsa", Key::P256), ("ed25519", Key::Ed25519)];
    let files = keys.map(|(name, key)| Files::new(&scratch, name, make_with(&["localhost"], key, |_| ())));
    let args: Vec<&str> = files.iter().flat_map(|f| ["--cert", f.cert(), "--key", f.key()]).collect();
    let server = Server::start(&[&["--listen", "127.0.0.1:0"], &args[..]].concat());
    for version in ["-tls1_3", "-tls1_2"] {
        for (schemes, expected) in [
            ("RSA-PSS+SHA256", &files[0]),
            ("ECDSA+SHA256", &files[1]),
            ("ed25519", &files[2]),
            ("RSA-PSS+SHA256:ECDSA+SHA256", &files[1]),
        ] {
            let shown = shown_for(&openssl, &server, &["-alpn", "h2", version, "-sigalgs", schemes], expected);
            assert_eq!(shown, expected.made.pem.trim_end(), "{version} {schemes}");
        }
    }
    server.stop();
}

/// The certificate that a client which trusts only `expected` is shown.
fn shown_for(openssl: &Program, server: &Server, args: &[&str], expected: &Files) -> String {
    let ended = handshake(openssl, server.addr(), &[args, &["-CAfile", expected.cert()]].concat());
    certificate(&ended.stdout).to_owned()
}
