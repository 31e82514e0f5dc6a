//! Starts the engine, says where it listens, and drains it on a signal.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handfast::crypto::batch::{Batch, Unavailable};
use handfast::crypto::{TicketSecretError, TicketSecrets};
use handfast::handshake::TlsVersions;
use handfast::identity::{CertificateSet, IdentityError};
use handfast::rustls::crypto::CryptoProvider;
use handfast::rustls::pki_types::UnixTime;
use handfast::selection::Policy;
use handfast::transport::tcp::{ListenOptions, raise_descriptor_limit};
use handfast::{Builder, Culprit, Engine, Limits, Pin, Placement, Protocol, StartError, Stream};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::io::AsyncWriteExt;

use super::args::{CryptoArg, Prefer, ProtocolArg, ServeArgs, Switch, Tls, Workers};
use super::identities;

/// Why the server did not start, or ended badly.
#[derive(Debug)]
pub(crate) enum ServeError {
    /// Certificates and keys do not pair up.
    UnpairedKeys { certs: usize, keys: usize },
    /// No built-in worker has this ID.
    UnknownProtocol(String),
    /// A certificate or key cannot be used.
    Identity(IdentityError),
    /// The secrets of session tickets cannot be used.
    TicketSecrets(TicketSecretError),
    /// No certificate could be made.
    SelfSigned(String),
    /// The engine refuses to start.
    Start(StartError),
    /// The system failed.
    System(io::Error),
}

impl ServeError {
    /// 2: the user can mend it. 1: this machine failed.
    pub(crate) const fn exit_status(&self) -> u8 {
        match self {
            Self::SelfSigned(_) | Self::System(_) => 1,
            Self::Start(e) => match e.culprit() {
                Culprit::Config => 2,
                _ => 1,
            },
            _ => 2,
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnpairedKeys { certs, keys } => {
                write!(f, "{certs} --cert but {keys} --key: give each certificate its key, in the same order")
            }
            Self::UnknownProtocol(id) => {
                write!(f, "no worker for protocol `{id}`: there are `h2`, `http/1.1`, `echo` and `close`")
            }
            Self::Identity(e) => e.fmt(f),
            Self::TicketSecrets(e) => e.fmt(f),
            Self::SelfSigned(e) => write!(f, "cannot make a certificate: {e}"),
            Self::Start(e) => e.fmt(f),
            Self::System(e) => e.fmt(f),
        }
    }
}

/// Runs the server until a signal ends it.
pub(crate) fn serve(args: &ServeArgs) -> Result<(), ServeError> {
    // With them the untouched halves of hyper's buffers are resident: an idle h2 connection has 40 KiB instead of 24.
    // A kernel that knows no such switch has no such pages.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    if let Err(e) = raise_descriptor_limit() {
        eprintln!("handfast: warning: cannot raise the limit on open files: {e}");
    }
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(ServeError::System)?;
    if args.crypto == CryptoArg::Auto
        && let Err(e @ Unavailable::SelfTest(_)) = Batch::detect()
    {
        eprintln!("handfast: warning: {e}; aws-lc computes everything");
    }
    let batch = crypto(args).batch().map_err(ServeError::Start)?;
    let provider = handfast::crypto::provider();
    let provider = match batch {
        Some(batch) => batch.provider(provider),
        None => provider,
    };
    let (builder, fingerprint) = builder(args, &provider)?;
    for (set, warning) in builder.warnings(UnixTime::now()) {
        eprintln!("handfast: warning: certificate set `{set}`: {warning}");
    }
    let engine = builder.start().map_err(ServeError::Start)?;
    announce(&engine, fingerprint.as_deref());

    let handle = engine.handle().clone();
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            handle.drain();
        }
        if signals.next().is_some() {
            std::process::exit(1);
        }
    });
    let metrics = engine.join().map_err(ServeError::System)?;
    if args.stats {
        say(&metrics.to_string());
    }
    Ok(())
}

fn announce(engine: &Engine, fingerprint: Option<&str>) {
    if let Some(fingerprint) = fingerprint {
        say(&format!("handfast: self-signed certificate, SHA-256 {fingerprint}\n"));
    }
    for endpoint in engine.handle().endpoints() {
        say(&format!("handfast: listening on {endpoint}\n"));
    }
}

/// Nobody may be reading any more, and the server goes on.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// A builder that knows which cryptography to use, and nothing else yet.
fn crypto(args: &ServeArgs) -> Builder {
    let builder = Engine::builder().crypto(args.crypto.into());
    match args.presign {
        None => builder,
        Some(switch) => builder.presign(switch == Switch::On),
    }
}

fn builder(args: &ServeArgs, provider: &CryptoProvider) -> Result<(Builder, Option<String>), ServeError> {
    let mut builder = crypto(args).limits(limits(args)).listen_options(listen_options(args)).tickets(args.tickets);
    for endpoint in &args.listen {
        builder = builder.listen(endpoint.clone());
    }
    if let Some(shards) = args.shards {
        builder = builder.shards(shards);
    }
    if let Workers::Threads(n) = args.workers {
        builder = builder.workers(Placement::Threads(n));
    }
    if args.no_pin {
        builder = builder.pin(Pin::Off);
    } else if !args.cores.is_empty() {
        builder = builder.pin(Pin::Cores(args.cores.clone()));
    }
    if args.prefer == Prefer::Client {
        builder = builder.policy(Policy::ClientPreference);
    }
    builder = tickets(args, builder)?;
    let protocols = protocols(args, provider)?;
    let (set, fingerprint) = default_certificates(args, provider)?;
    if let Some(set) = set {
        builder = builder.certificates(set);
    }
    let without_alpn = match args.without_alpn.as_deref() {
        Some("refuse") => None,
        Some(id) => Some(id.to_owned()),
        None => protocols.iter().any(|(id, _)| id == "http/1.1").then(|| "http/1.1".to_owned()),
    };
    for (_, protocol) in protocols {
        builder = builder.protocol(protocol);
    }
    if let Some(id) = without_alpn {
        builder = builder.without_alpn(id);
    }
    Ok((builder, fingerprint))
}

/// How tickets are sealed; a file that others can read is complained about.
fn tickets(args: &ServeArgs, mut builder: Builder) -> Result<Builder, ServeError> {
    builder = builder.ticket_lifetime(args.ticket_lifetime);
    if let Some(file) = &args.ticket_secret {
        let secrets = TicketSecrets::from_file(file).map_err(ServeError::TicketSecrets)?;
        if let Some(warning) = secrets.warning() {
            eprintln!("handfast: warning: {warning}");
        }
        builder = builder.ticket_secrets(secrets);
    }
    if args.tls12_tickets {
        builder = builder.tls12_tickets(true);
    }
    Ok(builder)
}

/// The certificates for protocols without their own; with no file named, one made on the spot.
fn default_certificates(
    args: &ServeArgs,
    provider: &CryptoProvider,
) -> Result<(Option<Arc<CertificateSet>>, Option<String>), ServeError> {
    if args.cert.len() != args.key.len() {
        return Err(ServeError::UnpairedKeys { certs: args.cert.len(), keys: args.key.len() });
    }
    if !args.cert.is_empty() {
        let files: Vec<_> = args.cert.iter().cloned().zip(args.key.iter().cloned()).collect();
        return Ok((Some(identities::from_files("default", &files, provider)?), None));
    }
    if !args.protocol.is_empty() && args.protocol.iter().all(|p| p.files.is_some()) {
        return Ok((None, None));
    }
    let (set, fingerprint) = identities::self_signed(provider)?;
    Ok((Some(set), Some(fingerprint)))
}

/// The protocols in their order, each with its ID.
fn protocols(args: &ServeArgs, provider: &CryptoProvider) -> Result<Vec<(String, Protocol)>, ServeError> {
    let default = ["h2", "http/1.1"].map(|id| ProtocolArg { id: id.to_owned(), files: None });
    let named = if args.protocol.is_empty() { &default[..] } else { &args.protocol };
    // A protocol named again brings a further identity.
    let mut files: BTreeMap<&str, Vec<(PathBuf, PathBuf)>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for p in named {
        if !order.contains(&p.id.as_str()) {
            order.push(&p.id);
        }
        files.entry(&p.id).or_default().extend(p.files.clone());
    }
    let versions = match args.tls {
        Tls::V12 => TlsVersions::Tls12,
        Tls::V13 => TlsVersions::Tls13,
        Tls::Any => TlsVersions::Tls12And13,
    };
    let mut protocols = Vec::new();
    for id in order {
        let mut protocol = worker(id)?.versions(versions);
        if args.close {
            protocol = protocol.close();
        }
        let own = &files[id];
        if !own.is_empty() {
            protocol = protocol.certificates(identities::from_files(id, own, provider)?);
        }
        protocols.push((id.to_owned(), protocol));
    }
    Ok(protocols)
}

fn worker(id: &str) -> Result<Protocol, ServeError> {
    match id {
        "h2" => Ok(Protocol::h2()),
        "http/1.1" => Ok(Protocol::http1()),
        "echo" => Ok(Protocol::alpn("echo").serve(echo)),
        "close" => Ok(Protocol::alpn("close").close()),
        _ => Err(ServeError::UnknownProtocol(id.to_owned())),
    }
}

/// Sends back what comes, until the client closes.
async fn echo(mut stream: Stream) {
    while let Ok(bytes) = stream.received().await {
        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn limits(args: &ServeArgs) -> Limits {
    let mut limits = Limits::default();
    limits.handshake_deadline = args.handshake_timeout;
    limits.drain_deadline = args.drain_timeout;
    limits
}

fn listen_options(args: &ServeArgs) -> ListenOptions {
    let mut options = ListenOptions::default();
    options.backlog = args.backlog;
    if args.no_defer_accept {
        options.defer_accept = None;
    }
    options.defer_accept = options.defer_accept.map(|d| d.min(args.handshake_timeout.max(Duration::from_secs(1))));
    options
}
