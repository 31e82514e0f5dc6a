//! What a client offers and whom it trusts, apart from how it connects.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{Resumption, danger::ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, KeyLog, RootCertStore, SupportedProtocolVersion, version};

use super::Client;
use super::error::{ClientError, RootsProblem};
use super::insecure::Unverified;
use super::key_log::KeyLogFile;
use crate::crypto::Crypto;
use crate::crypto::batch::Batch;
use crate::handshake::TlsVersions;
use crate::identity::Identity;

/// No list of roots comes near it; a device or a log file named by mistake does.
const ROOTS_FILE_BYTES_MAX: u64 = 16 << 20;

static TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];
static TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// Whom a client trusts to vouch for a server.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Roots {
    /// The public web's certificate authorities, as Mozilla lists them; part of the program.
    #[default]
    WebPki,
    /// Those in a PEM file.
    File(PathBuf),
    /// These.
    Certificates(Vec<CertificateDer<'static>>),
    /// Nobody, and the server is not verified at all: anyone on the way can take its place.
    InsecureNone,
}

impl Roots {
    /// The certificates in a PEM file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    /// These certificates.
    pub fn certificates(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        Self::Certificates(certificates.into_iter().collect())
    }

    /// Turns verification off: anyone on the way can take the server's place. For measuring and for servers with a
    /// throw-away certificate.
    #[must_use]
    pub const fn insecure_none() -> Self {
        Self::InsecureNone
    }
}

/// What a [`Client`] is made of.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    alpn: Vec<Vec<u8>>,
    roots: Roots,
    versions: TlsVersions,
    provider: Option<Arc<CryptoProvider>>,
    crypto: Crypto,
    resume: bool,
    identity: Option<Identity>,
    key_log: KeyLogTo,
    connect_timeout: Duration,
    handshake_timeout: Duration,
}

/// Where the secrets of connections go.
#[derive(Clone, Debug)]
enum KeyLogTo {
    Nowhere,
    File(PathBuf),
    Other(Arc<dyn KeyLog>),
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            alpn: Vec::new(),
            roots: Roots::default(),
            versions: TlsVersions::default(),
            provider: None,
            crypto: Crypto::default(),
            resume: true,
            identity: None,
            key_log: KeyLogTo::Nowhere,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

impl ClientBuilder {
    /// The ALPN protocol IDs to offer, the preferred first (RFC 7301 section 3.1); with none the extension is left
    /// out.
    pub fn alpn<I>(self, ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Vec<u8>>,
    {
        Self { alpn: ids.into_iter().map(Into::into).collect(), ..self }
    }

    /// Whom to trust.
    pub fn roots(self, roots: Roots) -> Self {
        Self { roots, ..self }
    }

    /// The TLS versions to offer.
    pub fn versions(self, versions: TlsVersions) -> Self {
        Self { versions, ..self }
    }

    /// Other cryptography than [`crypto::provider`](crate::crypto::provider): fewer groups or suites, for example.
    pub fn provider(self, provider: impl Into<Arc<CryptoProvider>>) -> Self {
        Self { provider: Some(provider.into()), ..self }
    }

    /// Whether key shares for X25519 and X25519MLKEM768 come from a pool of the thread, which makes eight at a time, and
    /// key exchanges of tasks that are ready together are computed together; see [`Crypto`]. It saves CPU time where one
    /// thread makes many connections. A blocking connection is alone with its server, and has its share from the pool.
    ///
    /// A pool stays until its thread ends. Its keys are used once, are not used when they are older than a minute, and
    /// are wiped in a forked child. It changes the groups of the [provider](Self::provider), and not their order.
    pub fn crypto(self, crypto: Crypto) -> Self {
        Self { crypto, ..self }
    }

    /// Whether to resume sessions (RFC 8446 section 2.2), as it does unless told not to.
    pub fn resumption(self, resume: bool) -> Self {
        Self { resume, ..self }
    }

    /// The certificate to show to servers that ask for one (RFC 8446 section 4.3.2); without it they are shown none.
    pub fn identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Tells the secrets of every connection to `key_log`. Whoever has them can read what was recorded of it.
    pub fn key_log(self, key_log: Arc<dyn KeyLog>) -> Self {
        Self { key_log: KeyLogTo::Other(key_log), ..self }
    }

    /// Appends the secrets of every connection to a file, as NSS, Wireshark and curl know it. Whoever has it can read
    /// what was recorded of them; a file that is made here is its owner's alone.
    pub fn key_log_file(self, path: impl Into<PathBuf>) -> Self {
        Self { key_log: KeyLogTo::File(path.into()), ..self }
    }

    /// As [`key_log_file`](Self::key_log_file), with the file that the environment variable `SSLKEYLOGFILE` names;
    /// nothing is logged when it names none. Nobody but this looks at that variable.
    pub fn key_log_from_env(self) -> Self {
        match std::env::var_os("SSLKEYLOGFILE") {
            Some(path) if !path.is_empty() => self.key_log_file(path),
            _ => self,
        }
    }

    /// How long connecting to one address may take: 10 seconds unless said otherwise.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: timeout, ..self }
    }

    /// How long the TLS handshake may take: 10 seconds unless said otherwise.
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        Self { handshake_timeout: timeout, ..self }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The roots cannot be read, the key log cannot be written, an ALPN protocol ID is empty or too long, this machine
    /// has no such cryptography, or rustls refuses the combination.
    pub fn build(self) -> Result<Client, ClientError> {
        if let Some(id) = self.alpn.iter().find(|id| !(1..=255).contains(&id.len())) {
            return Err(ClientError::AlpnId { len: id.len() });
        }
        let batch = self.crypto.resolve().map_err(ClientError::Crypto)?;
        let tls = Arc::new(self.tls(batch)?);
        let Self { connect_timeout, handshake_timeout, .. } = self;
        Ok(Client { config: Config { tls, batch, connect_timeout, handshake_timeout } })
    }

    fn tls(&self, batch: Option<Batch>) -> Result<ClientConfig, ClientError> {
        let provider = self.provider.clone().unwrap_or_else(|| Arc::new(crate::crypto::provider()));
        let provider = match batch {
            Some(batch) => Arc::new(batch.provider(CryptoProvider::clone(&provider))),
            None => provider,
        };
        let versions = match self.versions {
            TlsVersions::Tls12And13 => BOTH,
            TlsVersions::Tls13 => TLS13,
            TlsVersions::Tls12 => TLS12,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(ClientError::Config)?;
        let builder = match self.trusted()? {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified::new(provider)) as Arc<dyn ServerCertVerifier>),
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let shown = SingleCertAndKey::from(Arc::clone(identity.certified_key()));
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        };
        match &self.key_log {
            KeyLogTo::Nowhere => {}
            KeyLogTo::File(path) => config.key_log = Arc::new(KeyLogFile::open(path)?),
            KeyLogTo::Other(key_log) => config.key_log = Arc::clone(key_log),
        }
        config.alpn_protocols.clone_from(&self.alpn);
        if !self.resume {
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }

    /// The trusted roots; `None` when the server is not to be verified.
    fn trusted(&self) -> Result<Option<RootCertStore>, ClientError> {
        let mut store = RootCertStore::empty();
        match &self.roots {
            Roots::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::File(path) => add_file(&mut store, path)?,
            Roots::Certificates(certificates) => add(&mut store, certificates, None)?,
            Roots::InsecureNone => return Ok(None),
        }
        Ok(Some(store))
    }
}

/// A checked configuration: of blocking and of asynchronous connections.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) batch: Option<Batch>,
    pub(super) connect_timeout: Duration,
    pub(super) handshake_timeout: Duration,
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), ClientError> {
    let problem = |problem| ClientError::Roots { path: Some(path.into()), problem };
    let unreadable = |e: std::io::Error| problem(RootsProblem::Unreadable(e.kind()));
    let mut pem = Vec::new();
    File::open(path).map_err(unreadable)?.take(ROOTS_FILE_BYTES_MAX + 1).read_to_end(&mut pem).map_err(unreadable)?;
    if pem.len() as u64 > ROOTS_FILE_BYTES_MAX {
        return Err(problem(RootsProblem::TooLarge));
    }
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    add(store, &certificates.map_err(|_| problem(RootsProblem::Malformed))?, Some(path))
}

fn add(store: &mut RootCertStore, roots: &[CertificateDer<'static>], path: Option<&Path>) -> Result<(), ClientError> {
    let problem = |problem| ClientError::Roots { path: path.map(Into::into), problem };
    if roots.is_empty() {
        return Err(problem(RootsProblem::Empty));
    }
    // A system's list may hold a few that are of no use here; none at all is a mistake.
    let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
    if added == 0 { Err(problem(RootsProblem::Malformed)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::batch::Unavailable;
    use crate::crypto::batch::pretend::Machine;

    #[test]
    fn only_who_insists_on_batches_fails_where_there_are_none() {
        let _there = Machine::WithoutIfma.pretend();
        let build = |crypto| Client::builder().crypto(crypto).build();
        let refused = build(Crypto::Batch).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this CPU has no AVX-512 IFMA, which batched cryptography needs; `auto` or `aws-lc` do without"
        );
        assert!(matches!(refused, ClientError::Crypto(Unavailable::NoIfma)));
        assert!(build(Crypto::Auto).is_ok() && build(Crypto::AwsLc).is_ok());
    }
}
