//! Other people's clients at `handfast serve` that computes their key exchanges in batches.
//!
//! ClientHellos wait for a second there, so that those of several clients come together; a client that is alone has
//! its key exchange computed by itself.

use handfast::crypto::batch::Batch;
use handfast_tests::peers::{Peer, skipped};
use handfast_tests::process::{Scratch, run};

use crate::curl::{curl, url};
use crate::measuring::{SHORT, good_load};
use crate::s_client::{SClient, handshake};
use crate::server::{Localhost, counter, text};
use crate::{chromium, gnutls};

/// `auto` on any machine, `batch` where the CPU can.
fn choices() -> Vec<&'static str> {
    match Batch::detect() {
        Ok(_) => vec!["auto", "batch"],
        Err(e) => {
            skipped(&format!("--crypto batch: {e}"));
            vec!["auto"]
        }
    }
}

fn start(crypto: &str, wait: &str) -> Localhost {
    Localhost::start(&["--crypto", crypto, "--batch-wait", wait, "--tickets", "2", "--stats"])
}

/// Ends the server: so many key exchanges for X25519 were computed together or left alone, and none was missed.
#[track_caller]
fn assert_computed(server: Localhost, x25519: u64) {
    let stats = server.server.stop().stdout;
    let count = |name| counter(&stats, name);
    assert_eq!((count("batch_misses"), count("batch_panics")), (0, 0), "{stats}");
    let computed = if Batch::detect().is_ok() { x25519 } else { 0 };
    assert_eq!(count("batch_lanes") + count("batch_scalar_fallbacks"), computed, "{stats}");
    assert_eq!(count("batch_presigned"), count("batch_nonces"), "{stats}");
}

#[test]
fn openssl_shakes_hands_in_every_way() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let ticket = scratch.path("ticket");
    for crypto in choices() {
        let server = start(crypto, "1s");
        let verify = ["-alpn", "h2", "-CAfile", server.ca(), "-verify_return_error", "-verify_hostname", "localhost"];
        let with = |args: &[&str]| SClient::start(&openssl, server.addr(), &[&verify[..], args].concat());
        let together: Vec<_> = (0..4).map(|_| with(&["-tls1_3", "-groups", "X25519"])).collect();
        for client in together {
            let ended = client.established().end();
            assert!(ended.code() == 0 && ended.stdout.contains("Verify return code: 0 (ok)"), "{ended}");
        }
        // A share that we cannot use: we ask for another one.
        let retried = with(&["-tls1_3", "-groups", "X448:X25519", "-msg"]).established().end();
        assert_eq!(retried.stdout.matches(", ClientHello").count(), 2, "{retried}");
        with(&["-tls1_3", "-groups", "P-256"]).established().end();
        with(&["-tls1_2"]).established().end();
        with(&["-tls1_3", "-groups", "X25519", "-sess_out", text(&ticket)]).with_ticket(&ticket).end();
        let args = ["-alpn", "h2", "-tls1_3", "-groups", "X25519", "-sess_in", text(&ticket)];
        let resumed = handshake(&openssl, server.addr(), &args);
        assert!(resumed.stdout.contains("Reused, TLSv1.3"), "{resumed}");
        // What comes of a retry is not prepared for: it is the second ClientHello that is answered.
        assert_computed(server, 6);
    }
}

#[test]
fn gnutls_and_curl_shake_hands() {
    for crypto in choices() {
        let server = start(crypto, "1ms");
        if let Some(gnutls) = Peer::GnuTlsCli.installed() {
            for version in [gnutls::TLS13, gnutls::TLS12] {
                let args = [version, "--alpn=h2", "--resume", "--waitresumption"];
                let ended = gnutls::until_its_end(&gnutls, &server, &args, "Resume Handshake was completed");
                assert!(ended.stdout.contains("This is a resumed session"), "{ended}");
            }
        }
        if let Some(program) = Peer::Curl.installed() {
            for version in ["1.3", "1.2"] {
                let ended = run(curl(&program, &server, &["--http2", "--tls-max", version]).arg(url(&server, "/")));
                assert_eq!(ended.code(), 0, "{ended}");
            }
        }
        let stats = server.server.stop().stdout;
        assert_eq!((counter(&stats, "batch_misses"), counter(&stats, "batch_panics")), (0, 0), "{stats}");
    }
}

#[test]
fn our_load_generator_shakes_hands_over_both_groups() {
    for crypto in choices() {
        for group in ["x25519", "x25519mlkem768"] {
            for how in [&[][..], &["--resume"]] {
                let server = start(crypto, "100us");
                let target = server.addr().to_string();
                let args = [&[&target, "--groups", group, "--ca", server.ca(), "--sni", "localhost"], &SHORT[..], how];
                let (figures, _) = good_load(&args.concat());
                let all = figures["handshakes_all"].as_u64().expect("a number");
                // Those that it began and did not end were computed, too.
                let stats = server.server.stop().stdout;
                assert_eq!((counter(&stats, "batch_misses"), counter(&stats, "batch_panics")), (0, 0), "{stats}");
                let computed = counter(&stats, "batch_lanes") + counter(&stats, "batch_scalar_fallbacks");
                assert!(computed >= all || Batch::detect().is_err(), "{stats}");
            }
        }
    }
}

#[test]
fn chromium_opens_a_page_and_a_websocket_in_it() {
    for crypto in choices() {
        let server = crate::server::Server::start(&["--listen", "127.0.0.1:0", "--crypto", crypto]);
        let Some(seen) = chromium::visit(&server) else { return };
        assert_eq!((&seen["protocol"], &seen["status"]), (&"h2".into(), &200.into()), "{seen}");
        chromium::assert_conversed(&seen["socket"]);
    }
}
