//! A server's configuration from a TOML file.
//!
//! [`Config::load`] reads a file, and every file that it names, and says all that is wrong at once: file, line, column,
//! key, and the mend. [`Config::builder`] makes a [`Builder`] of it. What can be written is what the builder can be
//! told, under the same names; `docs/CONFIGURATION.md` is the reference of all keys, which [`reference()`] makes from
//! the tables that the file is read by.
//!
//! ```
//! use handfast::config::Config;
//!
//! let text = r#"
//!     tls_versions = ["1.3"]
//!
//!     [[listen]]
//!     address = "127.0.0.1:0"
//!
//!     [limits]
//!     handshake_deadlin = "5s"
//! "#;
//! let error = Config::parse(text, "handfast.toml").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "handfast.toml:8:5: limits.handshake_deadlin: there is no such key; did you mean `handshake_deadline`?"
//! );
//! ```
//!
//! A program with protocols of its own names them in the file with `serve = "program"`, and serves them with
//! [`Config::serve`]; what the file says of their certificates and versions holds.
//!
//! ```no_run
//! use handfast::Protocol;
//! use handfast::config::Config;
//! # use tokio::io::AsyncWriteExt;
//!
//! let mut config = Config::load("handfast.toml")?;
//! config.serve(Protocol::alpn("hello/1").serve(|mut stream| async move {
//!     let _ = stream.write_all(b"hello").await;
//! }));
//! let engine = config.builder()?.start()?;
//! # drop(engine);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod choice;
mod error;
mod file;
mod options;
mod reference;
mod resolve;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::compress::CertCompressor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;

use crate::crypto::{Crypto, Shortfall, TicketOptions};
use crate::engine::{Builder, Engine, Pin, Placement, StartError};
use crate::files;
use crate::handshake::TlsVersions;
use crate::http::Http;
use crate::identity::{CertificateSet, ClientAuth};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::selection::Policy;
use crate::shard::Stream;
use crate::transport::tcp::{Endpoint, ListenOptions};
use crate::websocket;
use crate::worker::{http1, http2};
pub use error::{ConfigError, Finding, FindingKind, Severity};
pub use file::Serve;
pub use reference::{defaults, reference};
use resolve::Places;
use table::{At, Reader};
pub use value::parse_duration;

/// No configuration comes near it; a log file named by mistake does.
const FILE_LEN_MAX: usize = 1 << 20;

/// A configuration, read and checked; the default is that of an empty file.
///
/// Its fields may be changed before [`builder`](Self::builder) is called, as the command line of `handfast serve` does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen, each with its options.
    pub listen: Vec<Listen>,
    /// The number of shards; `None` for one per core that the process may use.
    pub shards: Option<usize>,
    /// Which cores the shards are pinned to.
    pub pin: Pin,
    /// Where workers run.
    pub workers: Placement,
    /// Who chooses among the protocols that both sides have.
    pub policy: Policy,
    /// The protocol for clients whose ALPN offer holds none of ours.
    pub fallback: Option<String>,
    /// What clients without ALPN get.
    pub without_alpn: WithoutAlpn,
    /// The TLS versions of protocols that do not say otherwise.
    pub versions: TlsVersions,
    /// Session tickets after each TLS 1.3 handshake, of protocols that do not say otherwise.
    pub tickets: usize,
    /// Whether key exchanges are computed together.
    pub crypto: Crypto,
    /// Whether nonces of ECDSA are drawn ahead.
    pub presign: Option<bool>,
    /// How long ClientHellos may be held back for others; zero is not at all.
    pub batch_wait: Duration,
    /// What session tickets are sealed with, and how long they live.
    pub ticket_options: TicketOptions,
    /// In which ways certificates are compressed.
    pub certificate_compressors: Vec<&'static dyn CertCompressor>,
    /// Whether clients show certificates, for protocols that do not say otherwise.
    pub client_auth: ClientAuth,
    /// The certificates of protocols that have none of their own.
    pub certificates: Option<Arc<CertificateSet>>,
    /// The protocols, the most preferred first.
    pub protocols: Vec<ServedProtocol>,
    /// The limits.
    pub limits: Limits,
    /// What connections of `http/1.1` are allowed that get the facts.
    pub http1: http1::Options,
    /// What connections of `h2` are allowed that get the facts.
    pub http2: http2::Options,
    /// What WebSockets are allowed that are echoed to.
    pub websocket: websocket::Options,
    programs: BTreeMap<String, Protocol>,
    places: Places,
}

/// An endpoint with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listen {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// How to listen there.
    pub options: ListenOptions,
}

impl Listen {
    /// An endpoint with the default options.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        Self { endpoint: endpoint.into(), options: ListenOptions::default() }
    }
}

/// What clients get that offer no ALPN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WithoutAlpn {
    /// `http/1.1` if it is served; else they are refused.
    #[default]
    Http1IfServed,
    /// This protocol.
    Protocol(String),
    /// The alert `no_application_protocol`.
    Refuse,
}

/// A registered protocol.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServedProtocol {
    /// Its ALPN protocol ID.
    pub id: String,
    /// What its connections get.
    pub serve: Serve,
    /// Its own certificates.
    pub certificates: Option<Arc<CertificateSet>>,
    /// Its own TLS versions.
    pub versions: Option<TlsVersions>,
    /// Its own number of session tickets.
    pub tickets: Option<usize>,
    /// Early data that its resumed sessions may bring, in bytes.
    pub early_data: u32,
    /// Whether its own clients show certificates.
    pub client_auth: Option<ClientAuth>,
    at: At,
}

impl ServedProtocol {
    /// A protocol with nothing of its own.
    #[must_use]
    pub fn new(id: impl Into<String>, serve: Serve) -> Self {
        let (id, at) = (id.into(), At::default());
        Self { id, serve, certificates: None, versions: None, tickets: None, early_data: 0, client_auth: None, at }
    }
}

impl Default for Config {
    fn default() -> Self {
        resolve::resolve(file::File::default(), None, &mut Reader::new(Path::new(""), ""))
    }
}

impl Config {
    /// Reads a file and all files that it names; relative names in it are relative to its directory.
    ///
    /// # Errors
    /// All that is wrong, each with its line. If the file is not TOML, only that is said.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::load_by(path.as_ref(), None)
    }

    /// As [`load`](Self::load), with private keys loaded by this provider, whatever the file says of `crypto`.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_with(path: impl AsRef<Path>, provider: &CryptoProvider) -> Result<Self, ConfigError> {
        Self::load_by(path.as_ref(), Some(provider))
    }

    fn load_by(path: &Path, provider: Option<&CryptoProvider>) -> Result<Self, ConfigError> {
        let whole = |kind| {
            ConfigError::new(vec![Finding { file: path.to_owned(), line: 0, column: 0, key: String::new(), kind }])
        };
        let unreadable = |e: std::io::Error| whole(FindingKind::Unreadable(e.kind()));
        let bytes = files::read(path, FILE_LEN_MAX).map_err(unreadable)?.bytes;
        if bytes.len() > FILE_LEN_MAX {
            return Err(whole(FindingKind::TooLarge));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse_by(text, path, provider),
            Err(e) => {
                let text = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
                let at = At { offset: text.len(), key: String::new() };
                Err(ConfigError::new(vec![Reader::new(path, &text).finding(&at, FindingKind::NotUtf8)]))
            }
        }
    }

    /// As [`load`](Self::load), for a text that would be the content of the file `path`.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::parse_by(text, path.as_ref(), None)
    }

    fn parse_by(text: &str, path: &Path, provider: Option<&CryptoProvider>) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(path, text);
        let (document, errors) = toml::de::DeTable::parse_recoverable(text);
        for error in &errors {
            let at = At { offset: error.span().map_or(text.len(), |span| span.start), key: String::new() };
            reader.wrong(&at, FindingKind::Syntax(error.message().to_owned()));
        }
        if !errors.is_empty() {
            // What could be read of it may not be what was meant.
            return Err(ConfigError::new(reader.findings));
        }
        let mut file = file::File::default();
        reader.table(&mut file, document.get_ref(), &At::default());
        let config = resolve::resolve(file, provider, &mut reader);
        if reader.findings.is_empty() { Ok(config) } else { Err(ConfigError::new(reader.findings)) }
    }

    /// Sends the connections of the protocol with this ID where `protocol` does. The certificates, versions and tickets
    /// that the file gives it hold; if the file has no such protocol, it is registered last, as it is.
    pub fn serve(&mut self, protocol: Protocol) -> &mut Self {
        let id = String::from_utf8_lossy(&protocol.id).into_owned();
        match self.protocols.iter_mut().find(|p| p.id == id) {
            Some(known) => known.serve = Serve::Program,
            None => self.protocols.push(ServedProtocol::new(id.clone(), Serve::Program)),
        }
        self.programs.insert(id, protocol);
        self
    }

    /// Whether there is a protocol without certificates, so that an engine would not start.
    #[must_use]
    pub fn lacks_certificates(&self) -> bool {
        self.certificates.is_none() && self.protocols.iter().any(|p| !self.has_own_certificates(p))
    }

    /// What certificates that are added to it should load their keys by.
    ///
    /// # Errors
    /// It asks for cryptography that this machine does not have.
    pub fn provider(&self) -> Result<CryptoProvider, StartError> {
        provider(self.crypto, self.presign, self.batch_wait)
    }

    pub(crate) fn shortfall(&self) -> Option<Shortfall> {
        cryptography(self.crypto, self.presign, self.batch_wait).shortfall()
    }

    /// What an operator should know although the configuration can be used.
    #[must_use]
    pub fn warnings(&self, now: UnixTime) -> Vec<Finding> {
        self.places.warnings(self, now)
    }

    /// A builder that has been told all of it.
    ///
    /// # Errors
    /// The file says `serve = "program"` of a protocol that [`serve`](Self::serve) was not called for.
    pub fn builder(&self) -> Result<Builder, ConfigError> {
        let mut builder = Engine::builder()
            .pin(self.pin.clone())
            .workers(self.workers)
            .policy(self.policy.clone())
            .versions(self.versions)
            .tickets(self.tickets)
            .crypto(self.crypto)
            .batch_wait(self.batch_wait)
            .certificate_compressors(self.certificate_compressors.iter().copied())
            .client_auth(self.client_auth.clone())
            .ticket_options(self.ticket_options.clone())
            .limits(self.limits.clone());
        for listen in &self.listen {
            builder = builder.listen_with(listen.endpoint.clone(), self.bounded(&listen.options));
        }
        if let Some(shards) = self.shards {
            builder = builder.shards(shards);
        }
        if let Some(presign) = self.presign {
            builder = builder.presign(presign);
        }
        if let Some(set) = &self.certificates {
            builder = builder.certificates(Arc::clone(set));
        }
        if let Some(id) = &self.fallback {
            builder = builder.fallback(id.as_bytes());
        }
        let http1_served = || self.protocols.iter().any(|p| p.id == "http/1.1");
        builder = match &self.without_alpn {
            WithoutAlpn::Protocol(id) => builder.without_alpn(id.as_bytes()),
            WithoutAlpn::Http1IfServed if http1_served() => builder.without_alpn("http/1.1"),
            WithoutAlpn::Http1IfServed | WithoutAlpn::Refuse => builder,
        };
        let http =
            Http::facts(self.websocket.clone()).http1_options(self.http1.clone()).http2_options(self.http2.clone());
        for served in &self.protocols {
            builder = builder.protocol(self.protocol(served, &http)?);
        }
        Ok(builder)
    }

    fn protocol(&self, served: &ServedProtocol, http: &Http) -> Result<Protocol, ConfigError> {
        let mut protocol = match served.serve {
            Serve::Facts if served.id == "h2" => http.h2(),
            // The file allows it for no other.
            Serve::Facts => http.http1(),
            Serve::Echo => Protocol::alpn(served.id.as_bytes()).serve(echo),
            Serve::Close => Protocol::alpn(served.id.as_bytes()).close(),
            Serve::Program => match self.programs.get(&served.id) {
                Some(program) => program.clone(),
                None => {
                    let kind = FindingKind::NoProgram { protocol: served.id.clone() };
                    return Err(ConfigError::new(vec![self.places.finding(&served.at, kind)]));
                }
            },
        };
        if let Some(set) = &served.certificates {
            protocol = protocol.certificates(Arc::clone(set));
        }
        if let Some(versions) = served.versions {
            protocol = protocol.versions(versions);
        }
        if let Some(tickets) = served.tickets {
            protocol = protocol.tickets(tickets);
        }
        protocol = protocol.early_data(served.early_data);
        if let Some(client_auth) = &served.client_auth {
            protocol = protocol.client_auth(client_auth.clone());
        }
        Ok(protocol)
    }

    /// A connection that the kernel holds back for longer than a handshake may take could only be closed.
    fn bounded(&self, options: &ListenOptions) -> ListenOptions {
        let longest = self.limits.handshake_deadline.max(Duration::from_secs(1));
        ListenOptions { defer_accept: options.defer_accept.map(|wait| wait.min(longest)), ..options.clone() }
    }

    fn has_own_certificates(&self, served: &ServedProtocol) -> bool {
        let program = self.programs.get(&served.id).filter(|_| served.serve == Serve::Program);
        served.certificates.is_some() || program.is_some_and(|p| p.certificates.is_some())
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        self.places.file()
    }
}

/// A builder that knows nothing else.
fn cryptography(crypto: Crypto, presign: Option<bool>, wait: Duration) -> Builder {
    let builder = Engine::builder().crypto(crypto).batch_wait(wait);
    match presign {
        Some(presign) => builder.presign(presign),
        None => builder,
    }
}

fn provider(crypto: Crypto, presign: Option<bool>, wait: Duration) -> Result<CryptoProvider, StartError> {
    let batch = cryptography(crypto, presign, wait).batch()?;
    let provider = crate::crypto::provider();
    Ok(match batch {
        Some(batch) => batch.provider(provider),
        None => provider,
    })
}

/// Sends back what comes, until the client closes.
async fn echo(mut stream: Stream) {
    use tokio::io::AsyncWriteExt;
    while let Ok(bytes) = stream.received().await {
        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
