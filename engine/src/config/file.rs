//! The file as it is written: its own tables, before names and files are looked up.

use std::time::Duration;

use rustls::compress::CertCompressor;

use super::choice::{Choice, Compressors, Pinning, Proxies, Versions, Words, Workers};
use super::table::{At, keys};
use super::tables::{Address, FileName, Name, Named, NamedFile, NamedTables, Table, Tables};
use super::value::{Count, Flag, IfAny, Lifetime, Located, Positive, Required, TimeOrOff};
use crate::crypto::{Crypto, TicketOptions};
use crate::engine::{Pin, Placement};
use crate::handshake::TlsVersions;
use crate::identity::ClientAuthMode;
use crate::limits::Limits;
use crate::proxy::ProxyProtocol;
use crate::transport::tcp::{Endpoint, ListenOptions};
use crate::websocket::{self, Origins};
use crate::worker::{http1, http2};

/// All of it.
pub(super) struct File {
    pub(super) shards: Option<usize>,
    pub(super) pin: Pin,
    pub(super) workers: Placement,
    pub(super) prefer: Preference,
    pub(super) fallback: Option<Named>,
    pub(super) without_alpn: Option<Named>,
    pub(super) tls_versions: TlsVersions,
    pub(super) crypto: (Crypto, At),
    pub(super) presign: Option<(bool, At)>,
    pub(super) batch_wait: (Option<Duration>, At),
    pub(super) tickets: usize,
    pub(super) ticket_secrets: Option<NamedFile>,
    pub(super) ticket_lifetime: Duration,
    pub(super) tls12_tickets: Option<bool>,
    pub(super) certificate_compressors: Vec<&'static dyn CertCompressor>,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) listen: Vec<Listen>,
    pub(super) certificates: Vec<(Named, Set)>,
    pub(super) protocol: Vec<Protocol>,
    pub(super) limits: Limits,
    pub(super) http1: http1::Options,
    pub(super) http2: http2::Options,
    pub(super) websocket: websocket::Options,
}

impl Default for File {
    fn default() -> Self {
        Self {
            shards: None,
            pin: Pin::default(),
            workers: Placement::default(),
            prefer: Preference::default(),
            fallback: None,
            without_alpn: None,
            tls_versions: TlsVersions::default(),
            crypto: (Crypto::default(), At::default()),
            presign: None,
            batch_wait: (None, At::default()),
            tickets: 1,
            ticket_secrets: None,
            ticket_lifetime: TicketOptions::default().lifetime,
            tls12_tickets: TicketOptions::default().tls12,
            certificate_compressors: Vec::new(),
            client_auth: None,
            listen: Vec::new(),
            certificates: Vec::new(),
            protocol: Vec::new(),
            limits: Limits::default(),
            http1: http1::Options::default(),
            http2: http2::Options::default(),
            // An echo says what it was told, to whomever.
            websocket: websocket::Options { origins: Origins::Any, ..websocket::Options::default() },
        }
    }
}

keys! {
    File, "What is for the whole server. In the file these keys come first, before any table.";
    shards: IfAny<Positive> ["one per core that the process may use"] = "Shards: threads with a listener of their own \
        for each address.";
    pin: Pinning = "Which cores the shards are pinned to: `\"auto\"` is one core each when there are enough of them; \
        in a list, shard `i` goes to the `i`-th core, and around again.";
    workers: Workers = "Where workers run: `\"shared-core\"` on the shard that did the handshake, or on so many threads \
        of their own, so that a handler's work does not delay handshakes.";
    prefer: Choice = "Whose order of preference decides among the protocols that both sides have.";
    fallback: IfAny<Name> ["they are refused"] = "The protocol for clients whose ALPN offer holds none of ours. \
        Without it they are refused with `no_application_protocol` (RFC 7301 section 3.2).";
    without_alpn: IfAny<Name> ["`\"http/1.1\"` if it is served, else `\"refuse\"`"] = "The protocol for clients that \
        offer no ALPN, or `\"refuse\"`.";
    tls_versions: Versions = "The TLS versions of protocols that do not say otherwise.";
    crypto: Located<Choice> = "`\"batch\"`: the key exchanges of a turn are computed together, where the CPU has AVX-512 \
        IFMA; elsewhere it does not start. `\"auto\"`: the same if the CPU has it. `\"aws-lc\"`: one by one.";
    presign: IfAny<Located<Flag>> ["true with `crypto = \"batch\"`, else false"] = "Whether the nonces of ECDSA signatures are \
        drawn ahead in each turn: faster, but a copy of a running machine's memory (snapshot, rollback, clone) that is \
        taken at the wrong moment and run can give the key away.";
    batch_wait: Located<TimeOrOff> = "How long a ClientHello may be held back for others, a second at most, while fewer \
        than eight are there to be computed together: less CPU on a server that is not full, and handshakes there take so \
        much longer. Nothing else waits.";
    tickets: Count = "Session tickets after each TLS 1.3 handshake, of protocols that do not say otherwise; 0 turns \
        resumption off.";
    ticket_secrets: IfAny<FileName> ["a secret that only this process has"] = "Seals session tickets with the secrets \
        in this file, one per line, the first for new tickets and all for those that come: hosts with the same file \
        resume each other's sessions. `handfast ticket-secret FILE` makes one.";
    ticket_lifetime: Lifetime = "How long clients may keep a session ticket, from 1 second to 7 days (RFC 8446 section \
        4.6.1). Hosts with the same secrets must agree on it.";
    tls12_tickets: IfAny<Flag> ["only without `ticket_secrets`"] = "Whether sessions of TLS 1.2 get tickets too. Who \
        gets hold of the secrets can decrypt recorded ones that used tickets.";
    certificate_compressors: Compressors = "Compresses certificates for clients that can decompress them (RFC 8879), \
        the most preferred way first. A chain fits into the first flight of a connection as it is, so it is for those \
        who pay for bytes. With more than 256 identities nothing is compressed.";
    client_auth: IfAny<Table> ["they are not asked for any"] = "Whether clients show certificates, for protocols that \
        do not say otherwise.";
    listen: Tables ["`127.0.0.1:8443`"] = "Where to listen.";
    certificates: NamedTables ["`handfast serve` makes a self-signed one"] = "Certificate sets by name. The set \
        `default` is for protocols that name none.";
    protocol: Tables ["`h2` and `http/1.1`"] = "The protocols that are served, the most preferred first; at most 16.";
    limits: Table = "What the engine allows.";
    http1: Table = "What a connection of `http/1.1` is allowed.";
    http2: Table = "What a connection of `h2` is allowed.";
    websocket: Table = "What a WebSocket is allowed.";
}

/// Whose preference decides; a callback cannot be written in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Preference {
    #[default]
    Server,
    Client,
}

impl Words for Preference {
    const KIND: &'static str = "\"server\" or \"client\"";
    const WORDS: &'static [(&'static str, Self)] = &[("server", Self::Server), ("client", Self::Client)];
}

/// An address with its options.
pub(super) struct Listen {
    pub(super) address: Option<(Endpoint, At)>,
    backlog: u32,
    defer_accept: Option<Duration>,
    proxy_protocol: Option<ProxyProtocol>,
}

impl Default for Listen {
    fn default() -> Self {
        let ListenOptions { backlog, defer_accept, proxy_protocol } = ListenOptions::default();
        Self { address: None, backlog, defer_accept, proxy_protocol }
    }
}

impl Listen {
    /// How to listen there.
    pub(super) fn options(&self) -> ListenOptions {
        ListenOptions {
            backlog: self.backlog,
            defer_accept: self.defer_accept,
            proxy_protocol: self.proxy_protocol.clone(),
        }
    }
}

keys! {
    Listen, "An address to listen on; as many as are needed. Each shard has a socket of its own for each TCP address.";
    address: Address = "`ADDR:PORT`, `[V6]:PORT` (IPv6 only, unless `,v6only=off` follows), `:PORT` (all addresses of \
        both families) or `unix:PATH`. Port 0 takes a free one.";
    backlog: Positive = "Connections that the kernel holds before they are accepted; it may cap the number \
        (`somaxconn`). Met: the kernel drops what comes.";
    defer_accept: TimeOrOff = "Linux: a connection is not reported before its first byte or this time, in whole \
        seconds, and at most `limits.handshake_deadline` (`TCP_DEFER_ACCEPT`). Good against floods, wrong for health \
        checks that only connect.";
    proxy_protocol: Proxies = "Every connection comes through a proxy in these networks and begins with a PROXY \
        protocol header (version 1 or 2), which says who the client is. Met: connections from elsewhere are reset. On a \
        Unix-domain socket whoever can connect is trusted.";
}

/// A certificate set.
#[derive(Default)]
pub(super) struct Set {
    pub(super) identity: Vec<Identity>,
    pub(super) directory: Option<NamedFile>,
}

keys! {
    Set, "A certificate set. For a ClientHello, the identity is chosen by server name (exact, then wildcard for one \
        label, then the first of the set), then by signature scheme: ECDSA and Ed25519 before RSA, then as the client \
        prefers. Sessions resume only among protocols with the same set.";
    identity: Tables ["none"] = "The set's certificates with their keys; the first is the default. A set needs one, \
        here or in its `directory`.";
    directory: IfAny<FileName> ["none"] = "A directory with more of them, in the order of their names: `NAME.pem` or \
        `NAME.crt`, the chain, with `NAME.key`, its key, if that is not in the same file; or a directory with \
        `fullchain.pem` and `privkey.pem`, which it may also be itself. OCSP responses beside them are stapled: \
        `NAME.ocsp`, or `ocsp.der`. What begins with a dot and what has other names is passed over.";
}

/// The files of an identity.
#[derive(Default)]
pub(super) struct Identity {
    pub(super) certificate: Option<NamedFile>,
    pub(super) key: Option<NamedFile>,
    pub(super) ocsp: Option<NamedFile>,
}

keys! {
    Identity, "A certificate with its key. Names of files are relative to the directory of the configuration.";
    certificate: Required<FileName> = "The certificate chain (PEM): the leaf first, then what leads to its root.";
    key: Required<FileName> = "Its private key (PEM: PKCS #8, SEC 1 or PKCS #1; not encrypted).";
    ocsp: IfAny<FileName> ["nothing is stapled"] = "An OCSP response (DER) about it, for clients that ask for one (RFC \
        6066 section 8). It is read at start and at each reload; one that is out of date, or says that the certificate \
        is revoked, gets a warning.";
}

/// Whether clients show certificates.
#[derive(Default)]
pub(super) struct ClientAuth {
    pub(super) mode: Option<(ClientAuthMode, At)>,
    pub(super) roots: Option<NamedFile>,
    pub(super) revocation_lists: Option<NamedFile>,
}

keys! {
    ClientAuth, "Client certificates. A session resumes only where mode, roots and revocation lists are the same.";
    mode: Required<Located<Choice>> = "`\"none\"`: clients are not asked for a certificate. `\"optional\"`: they are asked, and \
        one that is shown must verify. `\"required\"`: they must show one that verifies (RFC 8446 section 4.4.2.4).";
    roots: IfAny<FileName> ["needed unless the mode is `\"none\"`"] = "The certificates (PEM) of those who vouch for \
        clients.";
    revocation_lists: IfAny<FileName> ["none"] = "Revocation lists (PEM, RFC 5280 section 5). With them every \
        certificate of a chain below its root must be covered by one that has not expired.";
}

/// A registered protocol.
#[derive(Default)]
pub(super) struct Protocol {
    pub(super) id: Option<Named>,
    pub(super) serve: Option<Serve>,
    pub(super) certificates: Option<Named>,
    pub(super) tls_versions: Option<TlsVersions>,
    pub(super) tickets: Option<usize>,
    pub(super) early_data: u32,
    pub(super) client_auth: Option<ClientAuth>,
}

keys! {
    Protocol, "A protocol, by its ALPN protocol ID. Without any of these tables `h2` and `http/1.1` are served.";
    id: Required<Name> = "Its ALPN protocol ID (RFC 7301 section 3.1).";
    serve: IfAny<Choice> ["`\"facts\"` for `h2` and `http/1.1`, `\"echo\"` for `echo`, `\"close\"` for `close`"] =
        "What its connections get: `\"facts\"`, what the handshake has settled as a page or JSON, and an echo to \
        WebSockets; `\"echo\"`, every byte back; `\"close\"`, nothing after the handshake, for measuring it; \
        `\"program\"`, what the embedding program gives it.";
    certificates: IfAny<Name> ["`\"default\"`"] = "The name of its certificate set.";
    tls_versions: IfAny<Versions> ["those of the server"] = "The TLS versions it allows.";
    tickets: IfAny<Count> ["those of the server"] = "Session tickets after each TLS 1.3 handshake; 0 turns resumption \
        off.";
    early_data: Count = "Bytes of early data (0-RTT) that a resumed session may bring; 0 for none. A request in it may \
        be a replay, and sessions of TLS 1.3 then resume in this process only.";
    client_auth: IfAny<Table> ["as for the server"] = "Whether its clients show certificates. The client chooses the \
        protocol: what must not be reached without a certificate must not be served by another protocol either.";
}

/// What a protocol's connections get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Serve {
    /// Over `h2` and `http/1.1`: a page with what the handshake has settled, and an echo to WebSockets.
    #[default]
    Facts,
    /// Every byte back.
    Echo,
    /// Nothing after the handshake; see [`Protocol::close`](crate::Protocol::close).
    Close,
    /// What the program gives it; see [`Config::serve`](super::Config::serve).
    Program,
}

impl Serve {
    /// What a protocol of this ID gets if nothing else is said; `None` for one that is not built in.
    #[must_use]
    pub fn by_default(id: &str) -> Option<Self> {
        match id {
            "h2" | "http/1.1" => Some(Self::Facts),
            "echo" => Some(Self::Echo),
            "close" => Some(Self::Close),
            _ => None,
        }
    }
}

impl Words for Serve {
    const KIND: &'static str = "\"facts\", \"echo\", \"close\" or \"program\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("facts", Self::Facts), ("echo", Self::Echo), ("close", Self::Close), ("program", Self::Program)];
}
