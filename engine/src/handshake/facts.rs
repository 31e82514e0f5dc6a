//! What a finished handshake has settled.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// An earlier session was resumed.
    pub resumed: bool,
    /// The client sent application data with its ClientHello, and it was accepted: only protocols with
    /// [`early_data`](crate::Protocol::early_data) have it.
    pub early_data: Option<EarlyData>,
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
    /// When its Finished was verified; with early data that a worker was given before, when that was.
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

/// The early data of a connection (RFC 8446 section 2.3): the first bytes that it brings.
///
/// Until the client's Finished is verified, whoever recorded the bytes may be sending them again. A worker on the shard
/// is given them before that, and whatever it does for them must be harmless when it is done twice: a server of HTTP
/// answers safe methods, and others with 425 (RFC 8470 section 5.2). All clones tell the same.
#[derive(Clone)]
pub struct EarlyData(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    bytes: AtomicU64,
    confirmed: AtomicBool,
}

impl EarlyData {
    pub(crate) fn new(bytes: usize) -> Self {
        let early = Self(Arc::default());
        early.more(bytes);
        early
    }

    /// How much has come so far: so many bytes of the connection's plaintext are early data.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// It may be a replay: the client has not yet shown that it is there. A request that is read while this is true
    /// may have come as early data, wholly or in part; one that is read later can be trusted as any other.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        !self.0.confirmed.load(Ordering::Acquire)
    }

    pub(crate) fn more(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn confirm(&self) {
        self.0.confirmed.store(true, Ordering::Release);
    }
}

impl fmt::Debug for EarlyData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, replayable) = (self.bytes(), self.is_replayable());
        f.debug_struct("EarlyData").field("bytes", &bytes).field("replayable", &replayable).finish()
    }
}

impl PartialEq for EarlyData {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for EarlyData {}

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
    pub(super) fn settle(self, conn: &CommonState, early_data: Option<EarlyData>, now: Instant64) -> HandshakeFacts {
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
            early_data,
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

/// Whether `conn`, a server's, has asked for another key share, and none is agreed with.
pub(crate) fn retrying(conn: &CommonState) -> bool {
    conn.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest) && group(conn).is_none()
}

/// Whether `conn` has resumed an earlier session.
pub(crate) fn resumed(conn: &CommonState) -> bool {
    conn.handshake_kind() == Some(HandshakeKind::Resumed)
}
