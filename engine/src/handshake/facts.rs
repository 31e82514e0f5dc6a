//! What a finished handshake has settled.

use std::sync::Arc;
use std::time::Duration;

use rustls::{CipherSuite, CommonState, HandshakeKind, NamedGroup, ProtocolVersion};

use crate::identity::ClientIdentity;
use crate::peer::PeerAddr;
use crate::time::Instant64;

/// What a finished handshake has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeFacts {
    /// The registered protocol that the connection was selected for: its ALPN protocol ID.
    pub protocol: Arc<[u8]>,
    /// The ALPN protocol ID that the ServerHello named (RFC 7301); `None` when the client offered none, or none of
    /// ours and a fallback took it.
    pub alpn: Option<Arc<[u8]>>,
    /// The host name that the client asked for (RFC 6066 section 3).
    pub server_name: Option<Box<str>>,
    /// TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// The cipher suite.
    pub cipher_suite: CipherSuite,
    /// The key exchange group; `None` for a resumed TLS 1.2 session, which has no key exchange.
    pub group: Option<NamedGroup>,
    /// The session was resumed from a ticket.
    pub resumed: bool,
    /// Who the client is, by a certificate that was verified. `None` when it was not asked for one, or had none to show
    /// where that is [optional](crate::identity::ClientAuth::Optional).
    pub client: Option<Arc<ClientIdentity>>,
    /// Where the client is: the other end of the connection, or whom a trusted proxy has named.
    pub peer: PeerAddr,
    /// The proxy that named the client ([`ProxyProtocol`](crate::ProxyProtocol)); `None` where none did.
    pub proxy: Option<PeerAddr>,
    /// When the connection was accepted, on the shard's clock.
    pub accepted_at: Instant64,
    /// When its ClientHello was complete.
    pub hello_at: Instant64,
    /// When its Finished was verified.
    pub finished_at: Instant64,
    /// Which of the registered protocols it is, in the order of registration.
    pub(crate) index: usize,
}

impl HandshakeFacts {
    /// From accept to the verified Finished.
    #[must_use]
    pub const fn handshake_time(&self) -> Duration {
        self.finished_at.since(self.accepted_at)
    }

    /// The protocol's ID as text, with anything unprintable escaped.
    #[must_use]
    pub fn protocol_name(&self) -> String {
        self.protocol.escape_ascii().to_string()
    }
}

/// Everything about a handshake that rustls does not keep.
#[derive(Debug)]
pub(super) struct Background {
    pub(super) index: usize,
    pub(super) protocol: Arc<[u8]>,
    pub(super) server_name: Option<Box<str>>,
    pub(super) peer: PeerAddr,
    pub(super) proxy: Option<PeerAddr>,
    pub(super) accepted_at: Instant64,
    pub(super) hello_at: Instant64,
}

impl Background {
    /// The facts of `conn`, which has finished its handshake.
    pub(super) fn settle(self, conn: &CommonState, now: Instant64) -> HandshakeFacts {
        let alpn = conn.alpn_protocol().map(|id| {
            // The same bytes in every case but that of a bug; then the connection's word counts.
            if *id == *self.protocol { Arc::clone(&self.protocol) } else { Arc::from(id) }
        });
        HandshakeFacts {
            alpn,
            protocol: self.protocol,
            server_name: self.server_name,
            version: conn.protocol_version().unwrap_or(ProtocolVersion::Unknown(0)),
            cipher_suite: cipher_suite(conn).unwrap_or(CipherSuite::Unknown(0)),
            group: group(conn),
            resumed: resumed(conn),
            // A ticket brings back what the full handshake has verified.
            client: conn.peer_certificates().and_then(|c| c.first()).map(|c| Arc::new(ClientIdentity::of(c))),
            peer: self.peer,
            proxy: self.proxy,
            accepted_at: self.accepted_at,
            hello_at: self.hello_at,
            finished_at: now,
            index: self.index,
        }
    }
}

/// The cipher suite of `conn`, once it is settled.
pub(crate) fn cipher_suite(conn: &CommonState) -> Option<CipherSuite> {
    conn.negotiated_cipher_suite().map(|s| s.suite())
}

/// The key exchange group of `conn`, once it is settled; a resumed TLS 1.2 session has none.
pub(crate) fn group(conn: &CommonState) -> Option<NamedGroup> {
    conn.negotiated_key_exchange_group().map(|g| g.name())
}

/// Whether `conn` has resumed an earlier session.
pub(crate) fn resumed(conn: &CommonState) -> bool {
    conn.handshake_kind() == Some(HandshakeKind::Resumed)
}
