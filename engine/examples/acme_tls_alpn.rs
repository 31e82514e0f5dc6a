//! Answers ACME's TLS-ALPN-01 challenge (RFC 8737): `cargo run --example acme_tls_alpn`.
//!
//! A certificate authority that wants to know whether this host serves a name connects to it, offers the protocol
//! `acme-tls/1` and that name, and looks for a digest in the self-signed certificate that it is shown. Here such
//! certificates are in a set of their own, which is empty but for the challenges at hand; they are put there and taken
//! away while the engine runs, and other protocols go on with their own certificates.
//!
//! An ACME client (RFC 8555) would fetch the token from the authority. Here it is made up; the digest is printed, so that
//! somebody else can play the authority:
//!
//! `openssl s_client -connect 127.0.0.1:8443 -alpn acme-tls/1 -servername localhost | openssl x509 -noout -text`

mod common;

use aws_lc_rs::digest::{SHA256, digest};
use handfast::identity::{CertificateSet, Identity};
use handfast::rustls::pki_types::PrivateKeyDer;
use handfast::{Engine, Protocol};

/// What the authority has sent, and the account's key digest (RFC 8555 section 8.1).
const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

fn main() -> Result<(), common::Error> {
    let (certificates, _) = common::self_signed("default", "localhost")?;
    let engine = Engine::builder()
        .listen(common::address("127.0.0.1:8443")?)
        .certificates(certificates)
        .protocol(Protocol::h2())
        .protocol(Protocol::http1())
        // The authority closes after the handshake, and so do we; nothing of it is worth resuming.
        .protocol(Protocol::alpn("acme-tls/1").certificates(CertificateSet::empty("acme")).tickets(0).close())
        .start()?;

    let expected = digest(&SHA256, KEY_AUTHORIZATION.as_bytes());
    engine.handle().set_identity("acme", "localhost", Some(challenge("localhost", expected.as_ref())?))?;
    let hex: String = expected.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("listening on {}", engine.handle().endpoints()[0]);
    println!("the challenge for localhost has {hex}; Enter ends it");
    common::until_enter();
    // The authority has seen it.
    engine.handle().set_identity("acme", "localhost", None)?;
    engine.shutdown()?;
    Ok(())
}

/// A self-signed certificate for just this name, with the digest in the critical extension acmeIdentifier (RFC 8737
/// section 3).
fn challenge(name: &str, digest: &[u8]) -> Result<Identity, common::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new([name.to_owned()])?;
    params.custom_extensions.push(rcgen::CustomExtension::new_acme_identifier(digest));
    let chain = vec![params.self_signed(&key)?.der().clone()];
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(Identity::from_der(chain, key, &handfast::crypto::provider())?)
}
