//! Which certificate a client gets.

use std::sync::Arc;

use handfast::identity::CertificateSet;
use handfast::rustls::{SignatureScheme, version};
use handfast::shard::Destination;
use handfast_tests::certificates::{Key, make, make_with};
use handfast_tests::client::{Options, Tls};
use handfast_tests::world::World;

use crate::setup::shard;

pub(crate) fn each_protocol_shows_its_own_certificate<W: World>() {
    let (for_h2, for_http1) = (make(&["localhost"]), make(&["localhost"]));
    let protocols =
        vec![("h2", for_h2.set("h2"), Destination::Close), ("http/1.1", for_http1.set("http/1.1"), Destination::Close)];
    let mut world = W::new(shard(protocols, |t| t));
    for tls in [&version::TLS12, &version::TLS13] {
        for (id, made) in [("h2", &for_h2), ("http/1.1", &for_http1)] {
            let mut options = Options::new(made.roots(), &[id]);
            options.versions = vec![tls];
            let mut client = Tls::new(world.connect(), &options.config(), "localhost");
            client.handshake(&mut world).expect("a handshake");
            assert_eq!(client.conn.peer_certificates().expect("a chain")[0], made.der);
            client.close();
        }
    }
    world.until_empty();
}

pub(crate) fn names_and_algorithms_choose_the_identity<W: World>() {
    let keys = [Key::P256, Key::Ed25519, Key::Rsa];
    let default = keys.map(|k| make_with(&["default.test"], k, |_| ()));
    let exact = keys.map(|k| make_with(&["www.site.test"], k, |_| ()));
    let wildcard = keys.map(|k| make_with(&["*.site.test"], k, |_| ()));
    let identities = [&default, &wildcard, &exact].into_iter().flatten().map(|m| m.identity()).collect();
    let set = Arc::new(CertificateSet::new("default", identities).expect("a set"));
    let mut world = W::new(shard(vec![("h2", set, Destination::Close)], |t| t));
    for tls in [&version::TLS12, &version::TLS13] {
        for (name, made) in [
            ("www.site.test", &exact),
            ("other.site.test", &wildcard),
            ("deep.other.site.test", &default),
            ("default.test", &default),
        ] {
            for (i, key) in keys.into_iter().enumerate() {
                let mut options = Options::new(made[i].roots(), &["h2"]);
                options.versions = vec![tls];
                let wanted = |s: &SignatureScheme| match key {
                    Key::P256 => *s == SignatureScheme::ECDSA_NISTP256_SHA256,
                    Key::Ed25519 => *s == SignatureScheme::ED25519,
                    Key::Rsa => matches!(*s, SignatureScheme::RSA_PSS_SHA256 | SignatureScheme::RSA_PKCS1_SHA256),
                };
                let mapping = options.provider.signature_verification_algorithms.mapping;
                let mapping: Vec<_> = mapping.iter().filter(|(s, _)| wanted(s)).copied().collect();
                options.provider.signature_verification_algorithms.mapping = Box::leak(mapping.into_boxed_slice());
                let mut client = Tls::new(world.connect(), &options.config(), name);
                let result = client.handshake(&mut world);
                // A name that no certificate has gets the default one, which the client then does not accept.
                let shown = client.conn.peer_certificates().map(|c| c[0].clone());
                if name == "deep.other.site.test" {
                    result.expect_err("a foreign name");
                } else {
                    result.unwrap_or_else(|e| panic!("{:?} {name} {key:?}: {e}", tls.version));
                    assert_eq!(shown.as_ref(), Some(&made[i].der), "{:?} {name} {key:?}", tls.version);
                }
                client.close();
            }
        }
    }
    world.until_empty();
}
