//! What the command line says instead of the configuration: each option beats its key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use handfast::config::{Config, Listen, Serve, ServedProtocol, WithoutAlpn};
use handfast::crypto::TicketSecrets;
use handfast::handshake::TlsVersions;
use handfast::identity::{BROTLI, CertificateSet};
use handfast::rustls::crypto::CryptoProvider;
use handfast::selection::Policy;
use handfast::{Pin, Placement};

use super::args::{Prefer, ProtocolArg, ServeArgs, Switch, Tls, Workers};
use super::identities;
use super::serve::ServeError;

/// Changes `config` as the command line says; returns the certificate sets that it names.
pub(crate) fn apply(args: &ServeArgs, config: &mut Config) -> Result<Vec<Arc<CertificateSet>>, ServeError> {
    let mut sets = Vec::new();
    cryptography(args, config);
    if let Some(wait) = args.batch_wait {
        config.batch_wait = wait;
    }
    let provider = &config.provider().map_err(ServeError::Start)?;
    listen(args, config);
    threads(args, config);
    if let Some(prefer) = args.prefer {
        config.policy = match prefer {
            Prefer::Server => Policy::ServerPreference,
            Prefer::Client => Policy::ClientPreference,
        };
    }
    if !args.protocol.is_empty() {
        config.protocols = protocols(&args.protocol, provider, &mut sets)?;
    }
    if args.cert.len() != args.key.len() {
        return Err(ServeError::UnpairedKeys { certs: args.cert.len(), keys: args.key.len() });
    }
    if !args.cert.is_empty() || args.cert_dir.is_some() {
        let files: Vec<_> = args.cert.iter().cloned().zip(args.key.iter().cloned()).collect();
        let set = identities::from_files("default", &files, args.cert_dir.as_deref(), provider)?;
        config.certificates = Some(Arc::clone(&set));
        sets.push(set);
    }
    if let Some(compress) = args.compress_certs {
        config.certificate_compressors = if compress == Switch::On { vec![BROTLI] } else { Vec::new() };
    }
    config.fallback = args.fallback.clone().or_else(|| config.fallback.take());
    match args.without_alpn.as_deref() {
        Some("refuse") => config.without_alpn = WithoutAlpn::Refuse,
        Some(id) => config.without_alpn = WithoutAlpn::Protocol(id.to_owned()),
        None => {}
    }
    if let Some(tls) = args.tls {
        config.versions = match tls {
            Tls::V12 => TlsVersions::Tls12,
            Tls::V13 => TlsVersions::Tls13,
            Tls::Any => TlsVersions::Tls12And13,
        };
        config.protocols.iter_mut().for_each(|p| p.versions = None);
    }
    if let Some(tickets) = args.tickets {
        config.tickets = tickets;
        config.protocols.iter_mut().for_each(|p| p.tickets = None);
    }
    if let Some(bytes) = args.early_data {
        config.protocols.iter_mut().for_each(|p| p.early_data = bytes);
    }
    tickets(args, config)?;
    if args.close {
        config.protocols.iter_mut().for_each(|p| p.serve = Serve::Close);
    }
    Ok(sets)
}

/// What private keys are loaded for.
pub(crate) fn cryptography(args: &ServeArgs, config: &mut Config) {
    if let Some(crypto) = args.crypto {
        config.crypto = crypto.into();
    }
    if let Some(presign) = args.presign {
        config.presign = Some(presign == Switch::On);
    }
}

fn listen(args: &ServeArgs, config: &mut Config) {
    if !args.listen.is_empty() {
        config.listen = args.listen.iter().cloned().map(Listen::new).collect();
    }
    for listen in &mut config.listen {
        if let Some(backlog) = args.backlog {
            listen.options.backlog = backlog;
        }
        if args.no_defer_accept {
            listen.options.defer_accept = None;
        }
    }
    if let Some(deadline) = args.handshake_timeout {
        config.limits.handshake_deadline = deadline;
    }
    if let Some(deadline) = args.drain_timeout {
        config.limits.drain_deadline = deadline;
    }
}

fn tickets(args: &ServeArgs, config: &mut Config) -> Result<(), ServeError> {
    if let Some(file) = &args.ticket_secret {
        let secrets = TicketSecrets::from_file(file).map_err(ServeError::TicketSecrets)?;
        if let Some(warning) = secrets.warning() {
            eprintln!("handfast: warning: {warning}");
        }
        config.ticket_options.secrets = Some(secrets);
    }
    if let Some(lifetime) = args.ticket_lifetime {
        config.ticket_options.lifetime = lifetime;
    }
    if args.tls12_tickets {
        config.ticket_options.tls12 = Some(true);
    }
    Ok(())
}

fn threads(args: &ServeArgs, config: &mut Config) {
    config.shards = args.shards.or(config.shards);
    match args.workers {
        Some(Workers::SharedCore) => config.workers = Placement::SharedCore,
        Some(Workers::Threads(n)) => config.workers = Placement::Threads(n),
        None => {}
    }
    if args.no_pin {
        config.pin = Pin::Off;
    } else if !args.cores.is_empty() {
        config.pin = Pin::Cores(args.cores.clone());
    }
}

/// The protocols in their order; one that is named again brings a further identity.
fn protocols(
    named: &[ProtocolArg],
    provider: &CryptoProvider,
    sets: &mut Vec<Arc<CertificateSet>>,
) -> Result<Vec<ServedProtocol>, ServeError> {
    let mut files: BTreeMap<&str, Vec<(PathBuf, PathBuf)>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for p in named {
        if !order.contains(&p.id.as_str()) {
            order.push(&p.id);
        }
        files.entry(&p.id).or_default().extend(p.files.clone());
    }
    let mut protocols = Vec::new();
    for id in order {
        let serve = Serve::by_default(id).ok_or_else(|| ServeError::UnknownProtocol(id.to_owned()))?;
        let mut protocol = ServedProtocol::new(id, serve);
        if !files[id].is_empty() {
            let set = identities::from_files(id, &files[id], None, provider)?;
            protocol.certificates = Some(Arc::clone(&set));
            sets.push(set);
        }
        protocols.push(protocol);
    }
    Ok(protocols)
}
