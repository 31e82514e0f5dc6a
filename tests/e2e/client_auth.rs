//! `openssl s_client` with and without a certificate of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use handfast::identity::{ClientAuth, ClientRoots};
use handfast::{Builder, Engine, Pin, Protocol};
use handfast_tests::certificates::{Authority, Made, make};
use handfast_tests::peers::Peer;
use handfast_tests::process::Scratch;

use crate::s_client::SClient;
use crate::server::text;

/// `open` serves anybody, `http/1.1` what `auth` says.
fn builder(server: &Made, auth: ClientAuth) -> Builder {
    Engine::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .shards(1)
        .pin(Pin::Off)
        .certificates(server.set("default"))
        .protocol(Protocol::http1().client_auth(auth))
        .protocol(Protocol::alpn("open").close())
}

fn roots(ca: &Authority) -> ClientRoots {
    ClientRoots::from_pem(ca.pem.as_bytes()).expect("roots")
}

#[test]
fn openssl_shows_its_certificate_or_is_refused() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let (server, ca, other) = (make(&["localhost"]), Authority::new("ours"), Authority::new("another"));
    let files = |name: &str, made: &Made| {
        (scratch.file(&format!("{name}.pem"), &made.pem), scratch.file(&format!("{name}.key"), &made.key_pem))
    };
    let known = files("known", &ca.issue("known", |_| ()));
    let stranger = files("stranger", &other.issue("stranger", |_| ()));
    for (auth, without) in [(ClientAuth::Required(roots(&ca)), false), (ClientAuth::Optional(roots(&ca)), true)] {
        let engine = builder(&server, auth).start().expect("an engine");
        let addr = engine.handle().local_addr().expect("an address");
        let start = |version: &str, files: Option<&(PathBuf, PathBuf)>| {
            let mut args = vec!["-alpn", "http/1.1", version, "-ign_eof"];
            if let Some((cert, key)) = files {
                args.extend(["-cert", text(cert), "-key", text(key)]);
            }
            SClient::start(&openssl, addr, &args)
        };
        for version in ["-tls1_3", "-tls1_2"] {
            let mut client = start(version, Some(&known)).established();
            assert_eq!(client.facts()["client"], "CN=known", "{version}");
            let refused = start(version, Some(&stranger)).end();
            assert_ne!(refused.code(), 0, "{refused}");
            assert!(refused.stderr.contains("alert number 48"), "unknown_ca: {refused}");
            if without {
                assert!(start(version, None).established().facts()["client"].is_null());
            } else {
                let refused = start(version, None).end();
                assert_ne!(refused.code(), 0, "{refused}");
                assert!(refused.stderr.contains("alert number 116"), "certificate_required: {refused}");
            }
        }
    }
}

#[test]
fn openssl_resumes_with_its_certificate_until_the_client_cas_change() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let (server, ca, other) = (make(&["localhost"]), Authority::new("ours"), Authority::new("another"));
    let made = ca.issue("known", |_| ());
    let (cert, key) = (scratch.file("known.pem", &made.pem), scratch.file("known.key", &made.key_pem));
    for version in ["-tls1_3", "-tls1_2"] {
        let required = || ClientAuth::Required(roots(&ca));
        let engine = builder(&server, required()).start().expect("an engine");
        let addr = engine.handle().local_addr().expect("an address");
        let ask = |alpn: &str, more: &[&str]| {
            let args = ["-alpn", alpn, version, "-cert", text(&cert), "-key", text(&key)];
            SClient::start(&openssl, addr, &[&args[..], more].concat())
        };
        let ticket = scratch.path(&format!("ticket{version}"));
        ask("http/1.1", &["-sess_out", text(&ticket)]).with_ticket(&ticket).end();
        let again = || {
            let mut client = ask("http/1.1", &["-sess_in", text(&ticket)]).established();
            let facts = client.facts();
            (facts["resumed"].clone(), facts["client"].clone())
        };
        assert_eq!(again(), (true.into(), "CN=known".into()), "{version}");
        // Another protocol with the same certificates and another mode.
        let ended = ask("open", &["-sess_in", text(&ticket)]).established().end();
        assert!(ended.stdout.contains("New, TLSv1."), "{ended}");

        engine.handle().reload(builder(&server, required())).expect("a reload");
        assert_eq!(again(), (true.into(), "CN=known".into()), "{version}");
        let more = ClientRoots::from_der(vec![ca.der.clone(), other.der.clone()]).expect("roots");
        engine.handle().reload(builder(&server, ClientAuth::Required(more))).expect("a reload");
        assert_eq!(again(), (false.into(), "CN=known".into()), "{version}");
    }
}
