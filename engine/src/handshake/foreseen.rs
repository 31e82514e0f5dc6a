//! What is known of an answer before it is computed.

use rustls::crypto::CryptoProvider;
use rustls::{ProtocolVersion, ServerConfig, SignatureScheme, SupportedCipherSuite};

use super::hello::ClientHelloView;
use crate::identity::CertificateSet;

/// How a ClientHello will be answered: its protocol is chosen, and rustls has not seen it yet.
#[derive(Clone, Copy, Debug)]
pub struct Foreseen<'a> {
    pub(super) config: &'a ServerConfig,
    pub(super) certificates: &'a CertificateSet,
    /// The protocol allows TLS 1.3.
    pub(super) tls13: bool,
}

impl Foreseen<'_> {
    /// The cryptography of the protocol's configuration.
    #[must_use]
    pub fn provider(&self) -> &CryptoProvider {
        self.config.crypto_provider()
    }

    /// Whether the answer will be a ServerHello of TLS 1.3, or a request for another share (HelloRetryRequest).
    #[must_use]
    pub fn is_tls13(&self, hello: &ClientHelloView<'_>) -> bool {
        self.tls13 && meets_in_tls13(hello, self.provider())
    }

    /// Whether the certificate that will be shown can sign with `scheme`, and the client verify it.
    #[must_use]
    pub fn may_sign_with(&self, hello: &ClientHelloView<'_>, scheme: SignatureScheme) -> bool {
        if !hello.signature_schemes().any(|offered| offered == scheme) {
            return false;
        }
        let identity = self.certificates.choose(hello.server_name(), hello.signature_schemes());
        identity.is_some_and(|identity| identity.signature_schemes().contains(&scheme))
    }
}

/// Whether the client and `provider` both have TLS 1.3 and a cipher suite of it.
pub(super) fn meets_in_tls13(hello: &ClientHelloView<'_>, provider: &CryptoProvider) -> bool {
    let known = |offered| provider.cipher_suites.iter().any(|suite| is_of_tls13(suite) && suite.suite() == offered);
    hello.offers(ProtocolVersion::TLSv1_3) && hello.cipher_suites().any(known)
}

const fn is_of_tls13(suite: &SupportedCipherSuite) -> bool {
    matches!(suite, SupportedCipherSuite::Tls13(_))
}
