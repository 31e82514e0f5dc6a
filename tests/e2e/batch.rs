//! Other people's clients at `handfast serve` that computes their key exchanges in batches.
//!
//! ClientHellos wait there until eight have come: those of eight clients that are started at once meet.

use std::collections::BTreeSet;

use handfast_tests::batch::batch;
use handfast_tests::peers::Peer;
use handfast_tests::process::{Scratch, run};

use crate::curl::{curl, url};
use crate::measuring::{SHORT, good_load};
use crate::s_client::{SClient, handshake};
use crate::server::{Localhost, Server, counter, text};
use crate::{chromium, facts, gnutls};

/// As many as wait for no more.
const EIGHT: usize = 8;
/// For so long they wait; one that starts later is left alone.
const LONG: &str = "1s";

/// `auto` on any machine, `batch`, which presigns, where the CPU can.
fn choices() -> Vec<&'static str> {
    if batch().is_some() { vec!["auto", "batch"] } else { vec!["auto"] }
}

fn start(crypto: &str, wait: &str) -> Localhost {
    Localhost::start(&["--crypto", crypto, "--batch-wait", wait, "--tickets", "2", "--stats"])
}

/// What a server did with key exchanges for X25519.
#[derive(Debug)]
struct Computed {
    together: u64,
    alone: u64,
    /// Nonces that signed nothing.
    unused: u64,
}

/// Ends a server, on which nothing must have gone wrong, and which must have used nonces with `batch`; `None` where the
/// CPU cannot, and nothing was computed.
#[track_caller]
fn computed(server: Server, crypto: &str) -> Option<Computed> {
    let stats = server.stop().stdout;
    let count = |name| counter(&stats, name);
    assert_eq!((count("batch_misses"), count("batch_panics")), (0, 0), "{stats}");
    let (nonces, presigned) = (count("batch_nonces"), count("batch_presigned"));
    assert_eq!((nonces > 0, presigned > 0), (crypto == "batch", crypto == "batch"), "{stats}");
    assert!(presigned <= nonces, "{stats}");
    let found =
        Computed { together: count("batch_lanes"), alone: count("batch_scalar_fallbacks"), unused: nonces - presigned };
    if batch().is_none() {
        assert_eq!((found.together, found.alone), (0, 0), "{stats}");
        return None;
    }
    Some(found)
}

/// Ends a server to which so many times eight clients with X25519 came at once, and others that have nothing computed.
#[track_caller]
fn assert_eights_computed(server: Localhost, crypto: &str, eights: usize) {
    let all = (eights * EIGHT) as u64;
    if let Some(found) = computed(server.server, crypto) {
        assert_eq!((found.together + found.alone, found.unused), (all, 0), "{found:?}");
        // Of those started at once a slow machine may leave some alone, and never all.
        assert!(found.together > all - EIGHT as u64, "{found:?}");
    }
}

#[test]
fn openssl_shakes_hands_in_every_way() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    for crypto in choices() {
        let (server, scratch) = (start(crypto, LONG), Scratch::new());
        let verify = ["-alpn", "h2", "-CAfile", server.ca(), "-verify_return_error", "-verify_hostname", "localhost"];
        let with = |args: &[&str]| SClient::start(&openssl, server.addr(), &[&verify[..], args].concat());
        let x25519 = ["-tls1_3", "-groups", "X25519"];
        let tickets: [_; EIGHT] = std::array::from_fn(|i| scratch.path(&i.to_string()));
        let full = tickets.each_ref().map(|ticket| with(&[&x25519[..], &["-sess_out", text(ticket)]].concat()));
        for (client, ticket) in full.into_iter().zip(&tickets) {
            let ended = client.with_ticket(ticket).end();
            assert!(ended.code() == 0 && ended.stdout.contains("Verify return code: 0 (ok)"), "{ended}");
        }
        let resumed = tickets.each_ref().map(|ticket| with(&[&x25519[..], &["-sess_in", text(ticket)]].concat()));
        for client in resumed {
            let ended = client.established().end();
            assert!(ended.code() == 0 && ended.stdout.contains("Reused, TLSv1.3"), "{ended}");
        }
        // A share that we cannot use: we ask for another one. What comes of that is not prepared for.
        let retried = with(&["-tls1_3", "-groups", "X448:X25519", "-msg"]).established().end();
        assert_eq!(retried.stdout.matches(", ClientHello").count(), 2, "{retried}");
        for others in [&["-tls1_3", "-groups", "P-256"][..], &["-tls1_2"]] {
            handshake(&openssl, server.addr(), &[&verify[..], others].concat());
        }
        assert_eights_computed(server, crypto, 2);
    }
}

#[test]
fn gnutls_shakes_hands_and_resumes() {
    let Some(program) = Peer::GnuTlsCli.installed() else { return };
    let resume = |version| [version, "--alpn=h2", "--resume", "--waitresumption"];
    for crypto in choices() {
        let server = start(crypto, LONG);
        let mut clients = Vec::new();
        clients.resize_with(EIGHT, || gnutls::start(&program, &server, &resume(gnutls::X25519)));
        // These have nothing computed: P-256 is what GnuTLS prefers.
        clients.extend([gnutls::TLS13, gnutls::TLS12].map(|other| gnutls::start(&program, &server, &resume(other))));
        for client in clients {
            let ended = gnutls::ended_after(client, "Resume Handshake was completed");
            assert!(ended.stdout.contains("This is a resumed session"), "{ended}");
        }
        assert_eights_computed(server, crypto, 2);
    }
}

#[test]
fn curl_shakes_hands_over_several_connections_at_once() {
    let Some(program) = Peer::Curl.installed() else { return };
    for crypto in choices() {
        let server = start(crypto, LONG);
        let eight = ["--http2", "--parallel", "--parallel-immediate", "--curves", "X25519"];
        let ended = run(curl(&program, &server, &eight).arg(url(&server, &format!("/?[1-{EIGHT}]"))));
        let facts = facts::all(&ended.stdout);
        let peers: BTreeSet<_> = facts.iter().map(|facts| facts["peer"].to_string()).collect();
        assert_eq!((ended.code(), facts.len(), peers.len()), (0, EIGHT, EIGHT), "{ended}");
        assert!(facts.iter().all(|facts| facts["group"] == "X25519"), "{ended}");
        let ended = run(curl(&program, &server, &["--http2", "--tls-max", "1.2"]).arg(url(&server, "/")));
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eights_computed(server, crypto, 1);
    }
}

#[test]
fn our_load_generator_shakes_hands_over_both_groups() {
    for crypto in choices() {
        for group in ["x25519", "x25519mlkem768"] {
            for how in [&[][..], &["--resume"]] {
                // Its last connections are alone, and wait.
                let server = start(crypto, "10ms");
                let target = server.addr().to_string();
                let args = [&[&target, "--groups", group, "--ca", server.ca(), "--sni", "localhost"], &SHORT[..], how];
                let (figures, _) = good_load(&args.concat());
                let all = figures["handshakes_all"].as_u64().expect("a number");
                // Those that it began and did not end were computed, too.
                if let Some(found) = computed(server.server, crypto) {
                    assert!(found.together > 0 && found.together + found.alone >= all, "{found:?} of {all}");
                }
            }
        }
    }
}

#[test]
fn chromium_opens_a_page_a_websocket_in_it_and_several_hosts_at_once() {
    for crypto in choices() {
        let args = ["--listen", "127.0.0.1:0", "--crypto", crypto, "--batch-wait", LONG, "--stats"];
        let server = Server::start(&args);
        let Some(seen) = chromium::visit_and_fetch(&server, EIGHT) else { return };
        assert_eq!((&seen["protocol"], &seen["status"]), (&"h2".into(), &200.into()), "{seen}");
        chromium::assert_conversed(&seen["socket"]);
        assert_eq!(seen["fetched"], EIGHT, "{seen}");
        let groups = seen["groups"].as_object().expect("a group for each host");
        assert!(groups.len() == EIGHT + 1 && groups.values().all(|group| group == "X25519MLKEM768"), "{seen}");
        if let Some(found) = computed(server, crypto) {
            assert!(found.together >= 2, "{found:?}");
        }
    }
}
