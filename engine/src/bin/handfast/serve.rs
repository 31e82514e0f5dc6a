//! Starts the engine, says where it listens, and drains it on a signal.

use std::fmt;
use std::io::{self, Write};

use handfast::config::ConfigError;
use handfast::crypto::TicketSecretError;
use handfast::identity::IdentityError;
use handfast::rustls::pki_types::UnixTime;
use handfast::transport::tcp::raise_descriptor_limit;
use handfast::{Config, Culprit, Engine, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::ServeArgs;
use super::{identities, overrides};

/// Why the server did not start, or ended badly.
#[derive(Debug)]
pub(crate) enum ServeError {
    /// Certificates and keys do not pair up.
    UnpairedKeys { certs: usize, keys: usize },
    /// No built-in worker has this ID.
    UnknownProtocol(String),
    /// The configuration file is wrong.
    Config(ConfigError),
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
            Self::Config(e) => e.fmt(f),
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
    let (config, fingerprint) = config(args)?;
    let engine = config.builder().map_err(ServeError::Config)?.start().map_err(ServeError::Start)?;
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

/// The file's configuration, if there is a file, with what the command line says instead.
fn config(args: &ServeArgs) -> Result<(Config, Option<String>), ServeError> {
    let mut config = match &args.config {
        None => Config::default(),
        Some(file) if args.crypto.is_none() && args.presign.is_none() => {
            Config::load(file).map_err(ServeError::Config)?
        }
        Some(file) => {
            // The file's keys are to be used as the command line says, which leaves a part of that to the file.
            let mut chosen = Config::load_with(file, &handfast::crypto::provider()).map_err(ServeError::Config)?;
            overrides::cryptography(args, &mut chosen);
            let provider = chosen.provider().map_err(ServeError::Start)?;
            Config::load_with(file, &provider).map_err(ServeError::Config)?
        }
    };
    let sets = overrides::apply(args, &mut config)?;
    for warning in config.warnings(UnixTime::now()) {
        eprintln!("handfast: {warning}");
    }
    for set in sets {
        for warning in set.identities().iter().flat_map(|identity| identity.warnings(UnixTime::now())) {
            eprintln!("handfast: warning: certificate set `{}`: {warning}", set.name());
        }
    }
    let mut fingerprint = None;
    if config.lacks_certificates() {
        let provider = config.provider().map_err(ServeError::Start)?;
        let (set, its_fingerprint) = identities::self_signed(&provider)?;
        config.certificates = Some(set);
        fingerprint = Some(its_fingerprint);
    }
    Ok((config, fingerprint))
}

/// Nobody may be reading any more, and the server goes on.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
