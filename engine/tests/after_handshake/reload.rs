//! Reloading a running engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use handfast::crypto::TicketSecrets;
use handfast::engine::{Fixed, ReloadError, StartError};
use handfast::handshake::{Blueprint, ProtocolTls, Sources};
use handfast::identity::{CertificateSet, Identity};
use handfast::rustls::pki_types::PrivateKeyDer;
use handfast::shard::{Reload, ShardConfig};
use handfast::{Builder, Mailbox, Pin, Placement, Protocol, Stream};
use tokio::io::AsyncWriteExt;

use crate::harness::{Certificate, PLACEMENTS, Server, builder, read_rest};

fn saying(id: &str, word: &'static str) -> Protocol {
    Protocol::alpn(id).serve(move |mut stream: Stream| async move {
        let _ = stream.write_all(word.as_bytes()).await;
    })
}

/// What `server` says to a client of `alpn` that trusts `certificate`.
fn says(server: &Server, certificate: &Certificate, alpn: &str) -> Result<String, handfast::client::ClientError> {
    let client = certificate.client().alpn([alpn]).build().unwrap();
    let mut connection = client.connect_to(server.addr(), "localhost")?;
    Ok(String::from_utf8(read_rest(&mut connection)).unwrap())
}

#[test]
fn certificates_protocols_and_workers_change_at_once() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [saying("chat/1", "old"), saying("gone/1", "gone")]);
        assert_eq!(says(&server, &server.certificate, "chat/1").unwrap(), "old");
        let new = Certificate::new();
        let protocols = [saying("more/1", "more"), saying("chat/1", "new")];
        server.handle().reload(builder(placement, &new, protocols)).unwrap();
        // Without waiting for anything.
        assert_eq!(says(&server, &new, "chat/1").unwrap(), "new");
        assert_eq!(says(&server, &new, "more/1").unwrap(), "more");
        says(&server, &new, "gone/1").expect_err("a protocol that was removed");
        says(&server, &server.certificate, "chat/1").expect_err("a certificate that was replaced");
        server.shutdown();
    }
}

#[test]
fn a_bad_reload_changes_nothing_and_says_why() {
    let placement = Placement::SharedCore;
    let server = Server::start(placement, [saying("chat/1", "old")]);
    let new = Certificate::new();
    let fresh = || builder(placement, &new, [saying("chat/1", "new")]);
    let other_limits = || {
        let mut limits = handfast::Limits::default();
        limits.mailbox_depth = 7;
        limits
    };
    for (builder, fixed) in [
        (fresh().listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0))), Fixed::Endpoints),
        (fresh().shards(2), Fixed::Shards),
        (fresh().pin(Pin::Cores(vec![0])), Fixed::Pin),
        (fresh().workers(Placement::Threads(1)), Fixed::Placement),
        (fresh().limits(other_limits()), Fixed::MailboxDepth),
    ] {
        let error = server.handle().reload(builder).unwrap_err();
        assert!(matches!(&error, ReloadError::Fixed(what) if what[..] == [fixed]), "{error:?}");
        assert!(error.to_string().contains(&fixed.to_string()), "{error}");
    }
    let error = server.handle().reload(fresh().shards(2).pin(Pin::Auto)).unwrap_err().to_string();
    assert!(error.starts_with("the number of shards, the cores of the shards cannot change"), "{error}");

    let error = server.handle().reload(fresh().fallback("spdy/3")).unwrap_err();
    assert!(matches!(&error, ReloadError::Invalid(StartError::UnknownProtocol { protocol }) if protocol == "spdy/3"));
    let error = server.handle().reload(fresh().protocol(saying("chat/1", "again"))).unwrap_err();
    assert!(matches!(error, ReloadError::Invalid(StartError::Selection(_))), "{error:?}");
    let error = server.handle().reload(fresh().certificates(expired())).unwrap_err();
    assert!(matches!(&error, ReloadError::Expired { set, .. } if set == "late"), "{error:?}");
    assert!(error.to_string().contains("localhost") && error.to_string().contains("renew"), "{error}");

    assert_eq!(says(&server, &server.certificate, "chat/1").unwrap(), "old");
    let handle = server.handle().clone();
    server.shutdown();
    assert!(matches!(handle.reload(fresh()), Err(ReloadError::Draining)));
}

fn expired() -> CertificateSet {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let chain = vec![params.self_signed(&key).unwrap().der().clone()];
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    CertificateSet::new("late", vec![Identity::from_der(chain, key, &handfast::crypto::provider()).unwrap()]).unwrap()
}

#[test]
fn a_certificate_that_expired_while_it_was_served_is_in_nobodys_way() {
    let late = Arc::new(expired());
    let placement = Placement::SharedCore;
    let server = Server::start_with(placement, [saying("chat/1", "old")], |b| b.certificates(Arc::clone(&late)));
    let again = builder(placement, &server.certificate, [saying("chat/1", "new")]).certificates(late);
    server.handle().reload(again).unwrap();
    server.shutdown();
}

#[test]
fn tickets_open_across_a_reload() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [saying("chat/1", "old")]);
        let client = server.certificate.client().alpn(["chat/1"]).resumption(true).build().unwrap();
        let resumed = || {
            let mut connection = client.connect_to(server.addr(), "localhost").unwrap();
            read_rest(&mut connection);
            connection.resumed()
        };
        assert_eq!((resumed(), resumed()), (false, true));
        server.handle().reload(builder(placement, &server.certificate, [saying("chat/1", "new")])).unwrap();
        assert!(resumed());
        server.shutdown();
    }
}

#[test]
fn ticket_secrets_rotate_by_reload() {
    let secrets = |list: &[u8]| TicketSecrets::new(list.iter().map(|b| [*b; 32])).unwrap();
    let placement = Placement::SharedCore;
    let start =
        |list: &[u8]| Server::start_with(placement, [saying("chat/1", "hi")], |b| b.ticket_secrets(secrets(list)));
    let server = start(&[1]);
    let client = server.certificate.client().alpn(["chat/1"]).resumption(true).build().unwrap();
    let resumed = || {
        let mut connection = client.connect_to(server.addr(), "localhost").unwrap();
        read_rest(&mut connection);
        connection.resumed()
    };
    let reload = |adjust: &dyn Fn(Builder) -> Builder| {
        let builder = builder(placement, &server.certificate, [saying("chat/1", "hi")]);
        server.handle().reload(adjust(builder)).unwrap();
    };
    assert_eq!((resumed(), resumed()), (false, true));
    // Each step's ticket was sealed before it.
    for (list, opens) in [(&[1, 2][..], true), (&[2, 1], true), (&[2], true), (&[3], false), (&[3], true)] {
        reload(&|builder| builder.ticket_secrets(secrets(list)));
        assert_eq!(resumed(), opens, "{list:?}");
    }
    // Shared secrets that are not named any more end; the process's own that takes their place stays.
    for opens in [false, true] {
        reload(&|builder| builder);
        assert_eq!(resumed(), opens);
    }
    server.shutdown();
}

#[test]
fn a_handle_that_stays_keeps_no_mailbox_open() {
    let (first, first_mail) = Mailbox::bounded(4);
    let (second, second_mail) = Mailbox::bounded(4);
    let placement = Placement::SharedCore;
    let server = Server::start(placement, [Protocol::alpn("chat/1").hand_off(first)]);
    let handle = server.handle().clone();
    let new = builder(placement, &server.certificate, [Protocol::alpn("chat/1").hand_off(second)]);
    handle.reload(new).unwrap();
    // The first one's last sender goes with the table that knew it, the second one's with the engine.
    first_mail.recv().unwrap_err();
    server.shutdown();
    second_mail.recv().unwrap_err();
    assert_eq!(handle.metrics().open(), 0);
}

#[test]
fn one_identity_changes_for_one_name() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [saying("chat/1", "here")]);
        let handle = server.handle();
        let new = Certificate::new();
        let identity = || Some(new.set("any").identities()[0].clone());
        handle.set_identity("default", "localhost", identity()).unwrap();
        assert_eq!(says(&server, &new, "chat/1").unwrap(), "here");
        says(&server, &server.certificate, "chat/1").expect_err("the one before");
        // Any other name is shown what it was.
        let client = server.trusting().alpn(["chat/1"]).build().unwrap();
        assert_eq!(read_rest(&mut client.connect_to(server.addr(), "127.0.0.1").unwrap()), b"here");
        handle.set_identity("default", "localhost", None).unwrap();
        assert_eq!(says(&server, &server.certificate, "chat/1").unwrap(), "here");

        let error = handle.set_identity("another", "localhost", identity()).unwrap_err();
        assert!(matches!(&error, ReloadError::UnknownSet { set } if set == "another"), "{error:?}");
        let error = handle.set_identity("default", "a b", identity()).unwrap_err();
        assert!(matches!(&error, ReloadError::ServerName { name } if name == "a b"), "{error:?}");
        let late = Some(expired().identities()[0].clone());
        let error = handle.set_identity("default", "localhost", late).unwrap_err();
        assert!(matches!(&error, ReloadError::Expired { set, .. } if set == "default"), "{error:?}");
        assert_eq!(says(&server, &server.certificate, "chat/1").unwrap(), "here");
        // A reload by a builder has what the builder has.
        handle.set_identity("default", "localhost", identity()).unwrap();
        handle.reload(builder(placement, &server.certificate, [saying("chat/1", "again")])).unwrap();
        assert_eq!(says(&server, &server.certificate, "chat/1").unwrap(), "again");
        server.shutdown();
    }
}

#[test]
fn debug_of_all_that_has_a_key_shows_none() {
    let certificate = Certificate::new();
    let server = Server::start(Placement::SharedCore, [saying("chat/1", "here")]);
    let set = Arc::new(certificate.set("default"));
    let tls = ProtocolTls::new(*b"chat/1", Arc::clone(&set));
    let table = handfast::selection::Table::builder().protocol("chat/1").build().unwrap();
    let blueprint = Blueprint::new(table, std::slice::from_ref(&tls), &Sources::default()).unwrap();
    let reload = Reload::new(blueprint.clone(), None, handfast::Limits::default());
    let live = blueprint.live();
    let config = ShardConfig::new(blueprint.live(), Vec::new());
    let builder = builder(Placement::SharedCore, &certificate, [saying("chat/1", "here")]);
    let client = certificate.client().identity(set.identities()[0].clone());
    server.handle().set_identity("default", "localhost", Some(set.identities()[0].clone())).unwrap();
    let public: [&dyn std::fmt::Debug; 11] = [
        &set.identities()[0],
        &*set,
        &tls,
        &blueprint,
        &reload,
        &live,
        &config,
        &builder,
        server.handle(),
        &saying("chat/1", "here").certificates(Arc::clone(&set)),
        &client,
    ];
    let PrivateKeyDer::Pkcs8(key) = certificate.private_key() else { panic!("PKCS #8") };
    let pem: String = certificate.key_pem.lines().filter(|l| !l.starts_with("--")).collect();
    // The private scalar begins at byte 36 of a P-256 key in PKCS #8.
    let secret = &key.secret_pkcs8_der()[36..44];
    let written = |f: &dyn Fn(&u8) -> String, between: &str| secret.iter().map(f).collect::<Vec<_>>().join(between);
    let forms = [
        written(&|b| b.to_string(), ", "),
        written(&|b| format!("{b:02x}"), ""),
        written(&|b| format!("{b:02X}"), ":"),
        written(&|b| format!("0x{b:02x}"), ", "),
        pem[56..72].to_owned(),
    ];
    assert!(format!("{:?}", key.secret_pkcs8_der()).contains(&forms[0]), "the test looks for the wrong bytes");
    for value in public {
        for shown in [format!("{value:?}"), format!("{value:#?}").replace([' ', '\n'], "").replace(',', ", ")] {
            for form in &forms {
                assert!(!shown.contains(form), "{form} in {shown}");
            }
        }
    }
    server.shutdown();
}

#[test]
fn no_handshake_fails_under_reloads() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [saying("chat/1", "0")]);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let clients = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut served = 0_u32;
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(says(&server, &server.certificate, "chat/1").unwrap().len(), 1);
                        served += 1;
                    }
                    served
                })
            });
            for i in 0..200 {
                // The protocol's index moves, and workers of every table serve.
                let chat = saying("chat/1", ["1", "2", "3"][i % 3]);
                let protocols = if i % 2 == 0 { vec![saying("more/1", "more"), chat] } else { vec![chat] };
                server.handle().reload(builder(placement, &server.certificate, protocols)).unwrap();
                let opened = server.metrics().opened;
                server.until(|m| m.opened > opened);
            }
            stop.store(true, Ordering::Relaxed);
            assert!(clients.into_iter().map(|c| c.join().unwrap()).sum::<u32>() >= 200);
        });
        server.shutdown();
    }
}
