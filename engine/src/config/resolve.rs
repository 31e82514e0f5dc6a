//! From what the file says to what it means: names are looked up and files are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;

use super::error::{Finding, FindingKind};
use super::file::{self, File, Preference, Serve};
use super::table::{At, Reader, join, nearest};
use super::tables::{Named, NamedFile};
use super::{Config, Listen, ServedProtocol, WithoutAlpn};
use crate::crypto::{Crypto, TicketOptions, TicketSecrets};
use crate::engine::StartError;
use crate::identity::{CertificateSet, ClientAuth, ClientAuthMode, ClientRoots, Identity, IdentityError, Place};
use crate::selection::{PROTOCOLS_MAX, Policy};
use crate::transport::tcp::Endpoint;

/// The set of protocols that name none.
const DEFAULT: &str = "default";
/// What `without_alpn` says when there is no such protocol.
const REFUSE: &str = "refuse";

/// Makes a configuration of a file. What is wrong is told to `reader`; the result is of use only if nothing is.
pub(super) fn resolve(file: File, provider: Option<&CryptoProvider>, reader: &mut Reader<'_>) -> Config {
    let provider = provider.cloned().unwrap_or_else(|| provider_of(&file, reader));
    let (sets, set_places) = certificate_sets(&file.certificates, &provider, reader);
    let protocols = protocols(&file, &sets, reader);
    for name in [&file.fallback, &file.without_alpn].into_iter().flatten() {
        registered(name, &protocols, reader);
    }
    let lacking = lacking_certificates(&sets, &protocols);
    let ticket_options = ticket_options(&file, reader);
    let mut places = Places::new(reader, set_places, unused_sets(&file, &protocols), lacking);
    places.auto = (file.crypto.0 == Crypto::Auto).then(|| file.crypto.1.clone());
    places.ticket_secrets = file.ticket_secrets.as_ref().map(|file| file.at.clone());
    Config {
        listen: listen(&file.listen, reader),
        shards: file.shards,
        pin: file.pin,
        workers: file.workers,
        policy: match file.prefer {
            Preference::Server => Policy::ServerPreference,
            Preference::Client => Policy::ClientPreference,
        },
        fallback: file.fallback.map(|name| name.text),
        without_alpn: match file.without_alpn {
            None => WithoutAlpn::Http1IfServed,
            Some(name) if name.text == REFUSE => WithoutAlpn::Refuse,
            Some(name) => WithoutAlpn::Protocol(name.text),
        },
        versions: file.tls_versions,
        tickets: file.tickets,
        certificate_compressors: file.certificate_compressors,
        client_auth: file.client_auth.as_ref().map(|table| client_auth(table, reader)).unwrap_or_default(),
        crypto: file.crypto.0,
        presign: file.presign.map(|(presign, _)| presign),
        batch_wait: file.batch_wait.0.unwrap_or_default(),
        ticket_options,
        certificates: sets.get(DEFAULT).and_then(Clone::clone),
        protocols,
        limits: file.limits,
        http1: file.http1,
        http2: file.http2,
        websocket: file.websocket,
        programs: BTreeMap::new(),
        places,
    }
}

fn client_auth(table: &file::ClientAuth, reader: &mut Reader<'_>) -> ClientAuth {
    let files = [&table.roots, &table.revocation_lists];
    let Some((mode, at)) = &table.mode else { return ClientAuth::None };
    let kind = match mode {
        ClientAuthMode::None => return ClientAuth::None,
        ClientAuthMode::Optional => ClientAuth::Optional,
        ClientAuthMode::Required => ClientAuth::Required,
    };
    let [Some(roots), revocation_lists] = files else {
        let table = at.key.rsplit_once('.').map_or("", |(table, _)| table);
        reader.wrong(&At { offset: at.offset, key: join(table, "roots") }, FindingKind::MissingKey);
        return ClientAuth::None;
    };
    let mut made = read_by(roots, reader, ClientRoots::from_file);
    if let Some(lists) = revocation_lists {
        made = made.and_then(|made| read_by(lists, reader, |path| made.with_revocation_lists_from_file(path)));
    }
    made.map_or(ClientAuth::None, kind)
}

/// What is made of a file; the file's key is blamed when it cannot be.
fn read_by<T>(
    named: &NamedFile,
    reader: &mut Reader<'_>,
    read: impl FnOnce(&Path) -> Result<T, IdentityError>,
) -> Option<T> {
    read(&named.path).map_err(|e| reader.wrong(&named.at, FindingKind::Identity(e))).ok()
}

fn ticket_options(file: &File, reader: &mut Reader<'_>) -> TicketOptions {
    let secrets = file.ticket_secrets.as_ref().and_then(|named| match TicketSecrets::from_file(&named.path) {
        Ok(secrets) => Some(secrets),
        Err(e) => {
            reader.wrong(&named.at, FindingKind::TicketSecrets(e));
            None
        }
    });
    TicketOptions { secrets, lifetime: file.ticket_lifetime, tls12: file.tls12_tickets }
}

fn listen(listen: &[file::Listen], reader: &mut Reader<'_>) -> Vec<Listen> {
    let mut all: Vec<Listen> = Vec::new();
    let mut lines = Vec::new();
    for entry in listen {
        let Some((endpoint, at)) = &entry.address else { continue };
        let any_port = matches!(endpoint, Endpoint::Tcp { addr, .. } if addr.port() == 0);
        if let Some(earlier) = all.iter().position(|l| l.endpoint == *endpoint && !any_port) {
            reader.wrong(at, FindingKind::Repeated { name: endpoint.to_string(), line: lines[earlier] });
        }
        lines.push(reader.position(at.offset).0);
        all.push(Listen { endpoint: endpoint.clone(), options: entry.options() });
    }
    if all.is_empty() {
        all.push(Listen::new(std::net::SocketAddr::from(([127, 0, 0, 1], 8443))));
    }
    all
}

/// What private keys are loaded by.
fn provider_of(file: &File, reader: &mut Reader<'_>) -> CryptoProvider {
    let presign = file.presign.as_ref();
    let (wait, wait_at) = &file.batch_wait;
    super::provider(file.crypto.0, presign.map(|(presign, _)| *presign), wait.unwrap_or_default()).unwrap_or_else(|e| {
        let at = match (&e, presign) {
            (StartError::PresignWithoutBatch, Some((_, at))) => at,
            (StartError::WaitWithoutBatch | StartError::BatchWait(_), _) => wait_at,
            _ => &file.crypto.1,
        };
        reader.wrong(at, FindingKind::Start(e));
        crate::crypto::provider()
    })
}

/// The sets by name, `None` for one with something wrong; and where their identities stand.
type Sets = BTreeMap<String, Option<Arc<CertificateSet>>>;

fn certificate_sets(
    sets: &[(Named, file::Set)],
    provider: &CryptoProvider,
    reader: &mut Reader<'_>,
) -> (Sets, Vec<SetPlaces>) {
    let (mut made, mut places) = (Sets::new(), Vec::new());
    for (name, set) in sets {
        let (mut identities, mut ats) = (Vec::new(), Vec::new());
        for entry in &set.identity {
            // What is missing has been said.
            if let (Some(certificate), Some(key)) = (&entry.certificate, &entry.key) {
                let identity = identity(certificate, key, provider, reader).map(|i| stapled(i, &entry.ocsp, reader));
                identities.extend(identity);
                ats.push(certificate.at.clone());
            }
        }
        if let Some(directory) = &set.directory {
            let read = |path: &Path| CertificateSet::from_directory(&name.text, path, provider);
            let found = read_by(directory, reader, read);
            identities.extend(found.iter().flat_map(|set| set.identities()).cloned());
            ats.resize(identities.len(), directory.at.clone());
        }
        let mut set_made = None;
        // Of a set in which something is wrong already, nothing more can be said.
        if reader.findings.iter().all(|finding| !finding.key.starts_with(&name.at.key)) {
            match CertificateSet::new(&name.text, identities) {
                Ok(set) => set_made = Some(Arc::new(set)),
                Err(e) => reader.wrong(&name.at, FindingKind::Identity(e)),
            }
        }
        places.extend(set_made.clone().map(|set| SetPlaces { set, identities: ats }));
        made.insert(name.text.clone(), set_made);
    }
    (made, places)
}

fn identity(
    certificate: &NamedFile,
    key: &NamedFile,
    provider: &CryptoProvider,
    reader: &mut Reader<'_>,
) -> Option<Identity> {
    match Identity::from_files(&certificate.path, &key.path, provider) {
        Ok(identity) => Some(identity),
        Err(e) => {
            let at = if is_about(&e, &certificate.path) { &certificate.at } else { &key.at };
            reader.wrong(at, FindingKind::Identity(e));
            None
        }
    }
}

/// With the OCSP response in the file, if there is one; without it if that cannot be used, which is said.
fn stapled(identity: Identity, ocsp: &Option<NamedFile>, reader: &mut Reader<'_>) -> Identity {
    let made = ocsp.as_ref().and_then(|ocsp| read_by(ocsp, reader, |path| identity.clone().with_ocsp_file(path)));
    made.unwrap_or(identity)
}

/// Whether an error concerns the certificate rather than its key.
fn is_about(error: &IdentityError, certificate: &Path) -> bool {
    match error {
        IdentityError::FileUnreadable { path, .. } | IdentityError::FileTooLarge { path } => path == certificate,
        IdentityError::NoCertificate { .. } | IdentityError::CertificateMalformed { .. } => true,
        IdentityError::NoPrivateKey { at: Place::File(path) } => path == certificate,
        _ => false,
    }
}

fn protocols(file: &File, sets: &Sets, reader: &mut Reader<'_>) -> Vec<ServedProtocol> {
    if file.protocol.is_empty() {
        return ["h2", "http/1.1"].map(|id| ServedProtocol::new(id, Serve::Facts)).into();
    }
    let mut protocols: Vec<ServedProtocol> = Vec::new();
    for entry in &file.protocol {
        let Some(id) = &entry.id else { continue };
        if let Some(earlier) = protocols.iter().find(|p| p.id == id.text) {
            let line = reader.position(earlier.at.offset).0;
            reader.wrong(&id.at, FindingKind::Repeated { name: id.text.clone(), line });
            continue;
        }
        if protocols.len() == PROTOCOLS_MAX {
            reader.wrong(&id.at, FindingKind::TooManyProtocols);
            break;
        }
        let protocol = || id.text.clone();
        let serve = entry.serve.or_else(|| Serve::by_default(&id.text));
        match serve {
            None => reader.wrong(&id.at, FindingKind::NoWorker { protocol: protocol() }),
            Some(Serve::Facts) if Serve::by_default(&id.text) != Some(Serve::Facts) => {
                reader.wrong(&id.at, FindingKind::FactsWithoutHttp { protocol: protocol() });
            }
            Some(_) => {}
        }
        let certificates = entry.certificates.as_ref().and_then(|name| match sets.get(&name.text) {
            Some(set) => set.clone(),
            None => {
                let meant = nearest(&name.text, sets.keys().map(String::as_str));
                reader.wrong(&name.at, FindingKind::UnknownSet { name: name.text.clone(), meant });
                None
            }
        });
        protocols.push(ServedProtocol {
            id: protocol(),
            serve: serve.unwrap_or_default(),
            certificates,
            versions: entry.tls_versions,
            tickets: entry.tickets,
            early_data: entry.early_data,
            client_auth: entry.client_auth.as_ref().map(|table| client_auth(table, reader)),
            at: id.at.clone(),
        });
    }
    protocols
}

fn registered(name: &Named, protocols: &[ServedProtocol], reader: &mut Reader<'_>) {
    let may_refuse = name.at.key == "without_alpn";
    if (may_refuse && name.text == REFUSE) || protocols.iter().any(|p| p.id == name.text) {
        return;
    }
    let ids = protocols.iter().map(|p| p.id.as_str()).chain(may_refuse.then_some(REFUSE));
    let meant = nearest(&name.text, ids);
    reader.wrong(&name.at, FindingKind::UnknownProtocol { name: name.text.clone(), meant });
}

fn unused_sets(file: &File, protocols: &[ServedProtocol]) -> Vec<At> {
    let mut used: BTreeSet<&str> =
        file.protocol.iter().filter_map(|p| p.certificates.as_ref()).map(|name| name.text.as_str()).collect();
    if protocols.iter().any(|p| p.certificates.is_none()) {
        used.insert(DEFAULT);
    }
    file.certificates
        .iter()
        .filter(|(name, _)| !used.contains(name.text.as_str()))
        .map(|(name, _)| name.at.clone())
        .collect()
}

/// The protocols that have no certificates, though the file has some.
fn lacking_certificates(sets: &Sets, protocols: &[ServedProtocol]) -> Vec<At> {
    // With no certificates at all, that is said once and for the whole file.
    if sets.is_empty() || sets.contains_key(DEFAULT) {
        return Vec::new();
    }
    protocols.iter().filter(|p| p.certificates.is_none()).map(|p| p.at.clone()).collect()
}

/// Where things stand in the file, for what is found out about them later.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    file: PathBuf,
    /// The file's text, to count lines in.
    text: Arc<str>,
    sets: Vec<SetPlaces>,
    unused: Vec<At>,
    lacking: Vec<At>,
    /// Where the file says that `crypto` is "auto".
    auto: Option<At>,
    ticket_secrets: Option<At>,
}

#[derive(Clone, Debug)]
struct SetPlaces {
    set: Arc<CertificateSet>,
    /// In the order of the set's identities.
    identities: Vec<At>,
}

impl Places {
    fn new(reader: &Reader<'_>, sets: Vec<SetPlaces>, unused: Vec<At>, lacking: Vec<At>) -> Self {
        Self {
            file: reader.file().to_owned(),
            text: Arc::from(reader.text()),
            sets,
            unused,
            lacking,
            auto: None,
            ticket_secrets: None,
        }
    }

    pub(super) fn file(&self) -> Option<&PathBuf> {
        Some(&self.file).filter(|file| !file.as_os_str().is_empty())
    }

    pub(super) fn finding(&self, at: &At, kind: FindingKind) -> Finding {
        Reader::new(&self.file, &self.text).finding(at, kind)
    }

    /// What is about no line of the file, which there may not even be.
    fn unplaced(&self, key: &str, kind: FindingKind) -> Finding {
        Finding { file: self.file.clone(), line: 0, column: 0, key: key.to_owned(), kind }
    }

    pub(super) fn warnings(&self, config: &Config, now: UnixTime) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            self.unused.iter().map(|at| self.finding(at, FindingKind::UnusedSet)).collect();
        if config.lacks_certificates() {
            findings.extend(self.lacking.iter().map(|at| self.finding(at, FindingKind::SelfSigned)));
            if self.file().is_some() && self.lacking.is_empty() {
                findings.push(self.unplaced("", FindingKind::SelfSigned));
            }
        }
        if let Some(shortfall) = config.shortfall() {
            let kind = FindingKind::Shortfall(shortfall);
            findings.push(match &self.auto {
                Some(at) => self.finding(at, kind),
                // The program chose it, or its command line.
                None => self.unplaced("crypto", kind),
            });
        }
        for places in &self.sets {
            for (identity, at) in places.set.identities().iter().zip(&places.identities) {
                let warnings = identity.warnings(now).into_iter();
                findings.extend(warnings.map(|w| self.finding(at, FindingKind::IdentityWarning(w))));
            }
        }
        let exposed = config.ticket_options.secrets.as_ref().and_then(TicketSecrets::warning);
        if let (Some(exposed), Some(at)) = (exposed, &self.ticket_secrets) {
            findings.push(self.finding(at, FindingKind::TicketSecretsExposed(exposed.clone())));
        }
        findings.sort_by_key(|finding| (finding.line, finding.column));
        findings
    }
}
