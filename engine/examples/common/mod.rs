//! What the examples share: throw-away certificates, where a real program would read files.

#![allow(dead_code, reason = "no example needs all of it")]

use std::io::Read;
use std::net::SocketAddr;

use handfast::identity::{CertificateSet, Identity};
use handfast::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What may go wrong in an example.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A certificate set named `name`, for `host`, and the certificate that a client must trust to accept it.
pub(crate) fn self_signed(name: &str, host: &str) -> Result<(CertificateSet, CertificateDer<'static>), Error> {
    let made = rcgen::generate_simple_self_signed([host.to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let identity = Identity::from_der(vec![certificate.clone()], key, &handfast::crypto::provider())?;
    Ok((CertificateSet::new(name, vec![identity])?, certificate))
}

/// The address in the first argument, or else `default`; port 0 takes a free one.
pub(crate) fn address(default: &str) -> Result<SocketAddr, Error> {
    let text = std::env::args().nth(1).unwrap_or_else(|| default.to_owned());
    text.parse().map_err(|_| format!("`{text}` is no address: write it as {default}").into())
}

/// Waits for the end of standard input.
pub(crate) fn until_enter() {
    let _ = std::io::stdin().read(&mut [0; 64]);
}
