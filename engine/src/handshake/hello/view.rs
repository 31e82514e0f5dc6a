//! What selection sees of a ClientHello.

use core::{fmt, iter};
use std::net::SocketAddr;

use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme};

use super::MESSAGE_HEADER_LEN;
use super::cursor::{Cursor, Span};
use super::index::Index;

/// A ClientHello, borrowed; cheap to copy.
///
/// It shows what the client sent, in the client's order: values that nobody has assigned and GREASE (RFC 8701) are
/// passed through. Nothing allocates.
#[derive(Clone, Copy)]
pub struct ClientHelloView<'a> {
    message: &'a [u8],
    index: &'a Index,
    peer: Option<SocketAddr>,
}

impl<'a> ClientHelloView<'a> {
    pub(super) const fn new(message: &'a [u8], index: &'a Index, peer: Option<SocketAddr>) -> Self {
        Self { message, index, peer }
    }

    /// The handshake message, with its four bytes of type and length (RFC 8446 section 4).
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.message
    }

    /// Where the client is, as far as the transport knows.
    #[must_use]
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// `legacy_version`: 1.2 from every client of TLS 1.3 (RFC 8446 section 4.1.2).
    #[must_use]
    pub fn legacy_version(&self) -> ProtocolVersion {
        ProtocolVersion::from(Cursor::new(self.body()).u16().unwrap_or_default())
    }

    /// The client's random.
    #[must_use]
    pub fn random(&self) -> &'a [u8; 32] {
        self.body().get(2..).and_then(|bytes| bytes.first_chunk()).unwrap_or(&[0; 32])
    }

    /// `legacy_session_id`: up to 32 bytes.
    #[must_use]
    pub fn session_id(&self) -> &'a [u8] {
        self.part(self.index.session_id).rest()
    }

    /// The cipher suites that the client offers.
    pub fn cipher_suites(&self) -> impl ExactSizeIterator<Item = CipherSuite> + Clone + use<'a> {
        self.values(self.index.cipher_suites).map(CipherSuite::from)
    }

    /// The host name that the client wants to reach (RFC 6066 section 3), in the case that it was written
    /// in and without a final dot. `None` when there is none, or none that is a DNS name.
    #[must_use]
    pub fn server_name(&self) -> Option<&'a str> {
        let name = self.index.server_name;
        if !name.is_present() {
            return None;
        }
        core::str::from_utf8(self.part(name).rest()).ok()
    }

    /// Whether the ALPN extension is there (RFC 7301 section 3.1); it then holds at least one protocol ID.
    #[must_use]
    pub const fn offers_alpn(&self) -> bool {
        self.index.alpn.is_present()
    }

    /// The ALPN protocol IDs that the client offers, none of them empty (RFC 7301 section 3.1).
    pub fn alpn_protocols(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let mut list = self.part(self.index.alpn);
        iter::from_fn(move || list.vector8().map(|id| id.rest()))
    }

    /// The signature schemes that the client verifies (RFC 8446 section 4.2.3).
    pub fn signature_schemes(&self) -> impl ExactSizeIterator<Item = SignatureScheme> + Clone + use<'a> {
        self.values(self.index.signature_schemes).map(SignatureScheme::from)
    }

    /// The versions in the `supported_versions` extension (RFC 8446 section 4.2.1); none if it is absent.
    pub fn supported_versions(&self) -> impl ExactSizeIterator<Item = ProtocolVersion> + Clone + use<'a> {
        self.values(self.index.supported_versions).map(ProtocolVersion::from)
    }

    /// Whether the client offers a version of TLS: by `supported_versions`, and without that by all up to its
    /// `legacy_version`, and 1.2 at most (RFC 8446 section 4.2.1).
    #[must_use]
    pub fn offers(&self, version: ProtocolVersion) -> bool {
        if self.index.supported_versions.is_present() {
            return self.supported_versions().any(|offered| offered == version);
        }
        let newest = u16::from(self.legacy_version()).min(u16::from(ProtocolVersion::TLSv1_2));
        (u16::from(ProtocolVersion::SSLv3)..=newest).contains(&u16::from(version))
    }

    /// The key exchange groups that the client supports (RFC 8446 section 4.2.7).
    pub fn groups(&self) -> impl ExactSizeIterator<Item = NamedGroup> + Clone + use<'a> {
        self.values(self.index.groups).map(NamedGroup::from)
    }

    /// The key shares that the client sent along (RFC 8446 section 4.2.8).
    pub fn key_shares(&self) -> impl Iterator<Item = (NamedGroup, &'a [u8])> + Clone + use<'a> {
        let mut list = self.part(self.index.key_shares);
        iter::from_fn(move || Some((NamedGroup::from(list.u16()?), list.vector16()?.rest())))
    }

    /// The client's key share of a group: the first, should there be several (which rustls then refuses).
    #[must_use]
    pub fn key_share(&self, group: NamedGroup) -> Option<&'a [u8]> {
        self.key_shares().find(|(offered, _)| *offered == group).map(|(_, share)| share)
    }

    /// Whether the client offers to resume, or has another pre-shared key (RFC 8446 section 4.2.11).
    #[must_use]
    pub const fn has_psk(&self) -> bool {
        self.index.psk
    }

    /// Whether the client sends early data (RFC 8446 section 4.2.10).
    #[must_use]
    pub const fn offers_early_data(&self) -> bool {
        self.index.early_data
    }

    /// All extensions in the client's order, as type and body.
    pub fn extensions(&self) -> impl Iterator<Item = (u16, &'a [u8])> + Clone + use<'a> {
        let mut list = self.part(self.index.extensions);
        iter::from_fn(move || Some((list.u16()?, list.vector16()?.rest())))
    }

    fn body(&self) -> &'a [u8] {
        self.message.get(MESSAGE_HEADER_LEN..).unwrap_or_default()
    }

    fn part(&self, span: Span) -> Cursor<'a> {
        Cursor::within(self.body(), span)
    }

    fn values(&self, span: Span) -> impl ExactSizeIterator<Item = u16> + Clone + use<'a> {
        self.part(span).rest().chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }
}

impl fmt::Debug for ClientHelloView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHelloView")
            .field("server_name", &self.server_name())
            .field("alpn_protocols", &self.alpn_protocols().map(<[u8]>::escape_ascii).map(Shown).collect::<Vec<_>>())
            .field("peer_addr", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Shows in `Debug` what the other shows in `Display`.
struct Shown<T>(T);

impl<T: fmt::Display> fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
