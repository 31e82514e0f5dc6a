//! The selection table joined with rustls configurations: what handshakes run on.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::compress::{CertCompressor, CompressionCache};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::foreseen::Foreseen;
use crate::crypto::{SessionStore, SessionsOf, TicketOptions, TicketSecrets, Ticketer};
use crate::identity::{CertificateSet, ClientAuth};
use crate::limits::Limits;
use crate::selection::{Decision, Table};

/// Identities whose compressed chains a shard keeps: rustls compares a chain with each of them, in every handshake that
/// compresses. With more, none is compressed.
const COMPRESSED_IDENTITIES_MAX: usize = 256;
/// Those that a chain is kept in: with a stapled OCSP response and without.
const FORMS_OF_A_CHAIN: usize = 2;

static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// The TLS versions that a protocol allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersions {
    /// TLS 1.3, and 1.2 for clients that have nothing newer.
    #[default]
    Tls12And13,
    /// TLS 1.3 only.
    Tls13,
    /// TLS 1.2 only.
    Tls12,
}

impl TlsVersions {
    const fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12And13 => BOTH,
            Self::Tls13 => BOTH.split_at(1).0,
            Self::Tls12 => BOTH.split_at(1).1,
        }
    }
}

/// How one protocol does TLS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProtocolTls {
    /// Its ALPN protocol ID.
    pub id: Arc<[u8]>,
    /// Its identities.
    pub certificates: Arc<CertificateSet>,
    /// The versions it allows.
    pub versions: TlsVersions,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// Session tickets sent after each TLS 1.3 handshake; 0 turns resumption off, also for TLS 1.2.
    pub tickets: usize,
    /// Early data that a resumed session of TLS 1.3 may bring, in bytes; 0 for none. With it such sessions are kept in
    /// the [`SessionStore`] and not in tickets.
    pub early_data: u32,
}

impl ProtocolTls {
    /// A protocol with TLS 1.2 and 1.3 and one ticket, which asks for no client certificate.
    #[must_use]
    pub fn new(id: impl Into<Arc<[u8]>>, certificates: Arc<CertificateSet>) -> Self {
        let (versions, client_auth) = (TlsVersions::default(), ClientAuth::None);
        Self { id: id.into(), certificates, versions, client_auth, tickets: 1, early_data: 0 }
    }
}

/// Where a configuration's cryptography and time come from; the simulator brings its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sources {
    /// The cryptography.
    pub provider: Arc<CryptoProvider>,
    /// The wall clock, for ticket ages and for certificates of clients.
    pub time: Arc<dyn TimeProvider>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { provider: Arc::new(crate::crypto::provider()), time: Arc::new(DefaultTimeProvider) }
    }
}

#[derive(Clone, Debug)]
struct Pair {
    id: Arc<[u8]>,
    /// Offers exactly this protocol's ID.
    with_alpn: ServerConfig,
    /// Offers none: for a client without ALPN and for a fallback.
    without_alpn: ServerConfig,
    versions: TlsVersions,
    early_data: u32,
    certificates: Arc<CertificateSet>,
    /// The domain of its tickets, if it has any.
    ticket_domain: Option<[u8; 32]>,
}

/// The checked configuration of all protocols; shared by the shards, each of which makes its [`Live`] from it.
#[derive(Clone, Debug)]
pub struct Blueprint {
    table: Arc<Table>,
    pairs: Vec<Pair>,
    tickets: TicketOptions,
    secrets: TicketSecrets,
    sessions: Arc<SessionStore>,
    compressors: Vec<&'static dyn CertCompressor>,
    sources: Sources,
}

impl Blueprint {
    /// Builds the configurations of `protocols`, which stand in the order of `table`'s indices.
    ///
    /// Protocols with the same certificate set, client authentication and client CAs share a ticket domain; a
    /// session never resumes across domains.
    ///
    /// # Errors
    /// rustls refuses a combination of provider and versions, or the system gives no randomness.
    pub fn new(table: Table, protocols: &[ProtocolTls], sources: &Sources) -> Result<Self, rustls::Error> {
        let mut pairs = Vec::with_capacity(protocols.len());
        for protocol in protocols {
            let without_alpn = config(protocol, sources)?;
            let mut with_alpn = without_alpn.clone();
            with_alpn.alpn_protocols = vec![protocol.id.to_vec()];
            let domain = || protocol.client_auth.ticket_domain(protocol.certificates.name());
            let ticket_domain = (protocol.tickets > 0).then(domain);
            let ProtocolTls { versions, early_data, .. } = *protocol;
            let (id, certificates) = (Arc::clone(&protocol.id), Arc::clone(&protocol.certificates));
            pairs.push(Pair { id, with_alpn, without_alpn, versions, early_data, certificates, ticket_domain });
        }
        let (tickets, secrets) = (TicketOptions::default(), TicketSecrets::random()?);
        let limits = Limits::default();
        let sessions = Arc::new(SessionStore::new(limits.early_sessions, limits.early_session_bytes));
        let (table, compressors, sources) = (Arc::new(table), Vec::new(), sources.clone());
        Ok(Self { table, pairs, tickets, secrets, sessions, compressors, sources })
    }

    /// Seals tickets as `options` say; where they name no secrets, this process's own stay.
    #[must_use]
    pub fn with_tickets(mut self, options: TicketOptions) -> Self {
        if let Some(secrets) = &options.secrets {
            self.secrets = secrets.clone();
        }
        Self { tickets: options, ..self }
    }

    /// Keeps sessions that may bring early data there.
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<SessionStore>) -> Self {
        Self { sessions, ..self }
    }

    /// Compresses certificates for clients that can do one of these (RFC 8879), the most preferred first; see
    /// [`Builder::certificate_compressors`](crate::Builder::certificate_compressors).
    #[must_use]
    pub fn with_certificate_compressors(self, compressors: Vec<&'static dyn CertCompressor>) -> Self {
        Self { compressors, ..self }
    }

    /// What tickets are sealed with, for the next blueprint of a process that goes on.
    #[must_use]
    pub const fn ticket_secrets(&self) -> &TicketSecrets {
        &self.secrets
    }

    /// One shard's own copy, so that handshakes of different shards share no lock, and no reference count but those of
    /// the certificates and their keys.
    #[must_use]
    pub fn live(&self) -> Live {
        let mut ticketers = HashMap::new();
        let mut ticketer = |domain: [u8; 32]| {
            let make = || {
                let time = Arc::clone(&self.sources.time);
                Arc::new(Ticketer::new(self.secrets.clone(), self.tickets.lifetime, domain, time))
            };
            Arc::clone(ticketers.entry(domain).or_insert_with(make))
        };
        let identities = self.identities();
        let compress = !self.compressors.is_empty() && identities <= COMPRESSED_IDENTITIES_MAX;
        let cache = Arc::new(CompressionCache::new(identities * self.compressors.len() * FORMS_OF_A_CHAIN));
        // A shared secret leaks more easily, and TLS 1.2 has no key exchange of its own when it resumes.
        let tls12_tickets = self.tickets.tls12.unwrap_or_else(|| !self.secrets.is_shared());
        let protocols = self.pairs.iter().map(|p| {
            let mut resuming = |by: Resuming| {
                let (mut with_alpn, mut without_alpn) = (p.with_alpn.clone(), p.without_alpn.clone());
                for config in [&mut with_alpn, &mut without_alpn] {
                    config.cert_compressors = if compress { self.compressors.clone() } else { Vec::new() };
                    config.cert_compression_cache = Arc::clone(&cache);
                    match (by, p.ticket_domain) {
                        (Resuming::Tickets, Some(domain)) => config.ticketer = ticketer(domain),
                        (Resuming::Store, Some(domain)) => self.accept_early_data(config, p.early_data, domain),
                        (Resuming::Never, _) | (_, None) => {}
                    }
                }
                Configurations { with_alpn: Arc::new(with_alpn), without_alpn: Arc::new(without_alpn) }
            };
            let by12 = if tls12_tickets { Resuming::Tickets } else { Resuming::Never };
            let by13 = match p.versions {
                TlsVersions::Tls12 => by12,
                _ if p.early_data > 0 => Resuming::Store,
                _ => Resuming::Tickets,
            };
            let newest = resuming(by13);
            let tls12 = if by12 == by13 { newest.clone() } else { resuming(by12) };
            let (certificates, tls13) = (Arc::clone(&p.certificates), p.versions != TlsVersions::Tls12);
            LiveProtocol { id: Arc::from(&*p.id), newest, tls12, certificates, tls13 }
        });
        let (table, time) = (Arc::clone(&self.table), Arc::clone(&self.sources.time));
        Live { table, protocols: protocols.collect(), time }
    }

    /// rustls accepts early data only of sessions that it takes out of a store. A worker may answer it before the
    /// client's Finished.
    fn accept_early_data(&self, config: &mut ServerConfig, bytes_max: u32, domain: [u8; 32]) {
        let (store, time) = (Arc::clone(&self.sessions), Arc::clone(&self.sources.time));
        config.session_storage = Arc::new(SessionsOf { domain, store, time });
        config.max_early_data_size = bytes_max;
        config.send_half_rtt_data = true;
    }

    /// How many there are in all certificate sets.
    fn identities(&self) -> usize {
        let mut sets: Vec<_> = self.pairs.iter().map(|p| &p.certificates).collect();
        sets.sort_unstable_by_key(|set| Arc::as_ptr(set));
        sets.dedup_by(|a, b| Arc::ptr_eq(a, b));
        sets.into_iter().map(|set| set.all_identities().count()).sum()
    }
}

/// How the sessions of a configuration resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resuming {
    Never,
    Tickets,
    Store,
}

fn config(protocol: &ProtocolTls, sources: &Sources) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_details(Arc::clone(&sources.provider), Arc::clone(&sources.time))
        .with_protocol_versions(protocol.versions.list())?
        .with_client_cert_verifier(protocol.client_auth.verifier(&sources.provider)?)
        .with_cert_resolver(Arc::clone(&protocol.certificates) as Arc<_>);
    // The default store preallocates behind a mutex; tickets are stateless.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = protocol.tickets;
    Ok(config)
}

#[derive(Debug)]
struct LiveProtocol {
    id: Arc<[u8]>,
    /// For clients of TLS 1.3, if they meet with it.
    newest: Configurations,
    /// For clients that have nothing newer than 1.2: the same ones, unless the versions differ in how they resume.
    tls12: Configurations,
    certificates: Arc<CertificateSet>,
    /// It allows TLS 1.3.
    tls13: bool,
}

#[derive(Clone, Debug)]
struct Configurations {
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
}

/// One shard's table and configurations.
#[derive(Debug)]
pub struct Live {
    table: Arc<Table>,
    protocols: Vec<LiveProtocol>,
    time: Arc<dyn TimeProvider>,
}

impl Live {
    /// The selection table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The wall clock's time, if it has one.
    pub(super) fn wall_time(&self) -> Option<UnixTime> {
        self.time.current_time()
    }

    /// What `decision` leads to.
    pub(super) fn foreseen(&self, decision: Decision) -> Option<Foreseen<'_>> {
        let LiveProtocol { newest, certificates, tls13, .. } = self.protocols.get(usize::from(decision.protocol))?;
        Some(Foreseen { config: &newest.with_alpn, certificates, tls13: *tls13 })
    }

    /// The configuration and the protocol ID that `decision` names, for a client that offers TLS 1.3 or does not.
    #[must_use]
    pub(super) fn configuration(&self, decision: Decision, tls13: bool) -> Option<(&Arc<ServerConfig>, &Arc<[u8]>)> {
        let p = self.protocols.get(usize::from(decision.protocol))?;
        let c = if tls13 { &p.newest } else { &p.tls12 };
        Some((if decision.alpn { &c.with_alpn } else { &c.without_alpn }, &p.id))
    }
}
