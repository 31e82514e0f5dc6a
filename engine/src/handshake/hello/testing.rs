//! ClientHellos for tests: real ones from rustls, and hand-made ones.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

/// What a client offers; the defaults are those of rustls.
pub(crate) struct Offer<'a> {
    pub(crate) server_name: Option<&'a str>,
    pub(crate) alpn: &'a [&'a [u8]],
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    pub(crate) groups: Vec<&'static dyn SupportedKxGroup>,
}

impl Default for Offer<'_> {
    fn default() -> Self {
        Self {
            server_name: Some("www.example.org"),
            alpn: &[],
            versions: rustls::ALL_VERSIONS,
            groups: aws_lc_rs::default_provider().kx_groups,
        }
    }
}

impl Offer<'_> {
    /// The records that rustls sends for it.
    pub(crate) fn records(&self) -> Vec<u8> {
        let provider = CryptoProvider { kx_groups: self.groups.clone(), ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = self.alpn.iter().map(|id| id.to_vec()).collect();
        config.enable_sni = self.server_name.is_some();
        let name = ServerName::try_from(self.server_name.unwrap_or("unused.example")).unwrap().to_owned();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut records = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut records).unwrap();
        }
        records
    }
}

/// A vector with its length in front, in `width` bytes.
pub(crate) fn vector(width: usize, contents: &[u8]) -> Vec<u8> {
    let len = contents.len().to_be_bytes();
    [&len[len.len() - width..], contents].concat()
}

/// An extension.
pub(crate) fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, body)].concat()
}

/// The ALPN extension.
pub(crate) fn alpn<T: AsRef<[u8]>>(ids: &[T]) -> Vec<u8> {
    let list: Vec<u8> = ids.iter().flat_map(|id| vector(1, id.as_ref())).collect();
    extension(16, &vector(2, &list))
}

/// A ClientHello with these extensions and one cipher suite.
pub(crate) fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &vector(2, &extensions.concat())].concat();
    [&[1][..], &vector(3, &body)].concat()
}

/// A message in records of at most `fragment_len` bytes each.
pub(crate) fn records(message: &[u8], fragment_len: usize) -> Vec<u8> {
    message.chunks(fragment_len).flat_map(|fragment| [&[22, 3, 1][..], &vector(2, fragment)].concat()).collect()
}
