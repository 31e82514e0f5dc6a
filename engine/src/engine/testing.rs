//! What the tests of engines share.

use std::net::SocketAddr;

use rustls::pki_types::PrivateKeyDer;

use super::{Builder, Engine};
use crate::identity::{CertificateSet, Identity};

/// Two shards that show a certificate of their own making, for protocols yet to be added.
pub(super) fn builder() -> Builder {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let identity = Identity::from_der(vec![made.cert.der().clone()], key, &crate::crypto::provider()).unwrap();
    Engine::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .shards(2)
        .certificates(CertificateSet::new("default", vec![identity]).unwrap())
}
