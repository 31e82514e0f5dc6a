//! Shards with the protocols that the behaviours need.

use std::sync::Arc;
use std::time::Duration;

use handfast::Limits;
use handfast::Protocol;
use handfast::handshake::{Blueprint, ProtocolTls, Sources, TlsVersions};
use handfast::identity::CertificateSet;
use handfast::selection::{Policy, Table, TableBuilder};
use handfast::shard::{Destination, Reload, ShardConfig};
use handfast_tests::certificates::{Made, make};
use handfast_tests::client::Options;

/// One protocol: its ID, its certificates, where it goes.
pub(crate) type Registered = (&'static str, Arc<CertificateSet>, Destination);

/// A shard's configuration over `protocols`, with what `rules` adds to the table.
pub(crate) fn shard(protocols: Vec<Registered>, rules: impl FnOnce(TableBuilder) -> TableBuilder) -> ShardConfig {
    shard_with(protocols, rules, &Sources::default(), 2)
}

pub(crate) fn shard_with(
    protocols: Vec<Registered>,
    rules: impl FnOnce(TableBuilder) -> TableBuilder,
    sources: &Sources,
    tickets: usize,
) -> ShardConfig {
    let (blueprint, destinations) = blueprint(protocols, rules, sources, tickets);
    let mut config = ShardConfig::new(blueprint.live(), destinations);
    config.limits = limits();
    config
}

/// What a shard over `protocols` reloads.
pub(crate) fn reload(protocols: Vec<Registered>) -> Reload {
    let (blueprint, destinations) = blueprint(protocols, |table| table, &Sources::default(), 2);
    Reload::new(blueprint, Some(destinations), limits())
}

fn blueprint(
    protocols: Vec<Registered>,
    rules: impl FnOnce(TableBuilder) -> TableBuilder,
    sources: &Sources,
    tickets: usize,
) -> (Blueprint, Vec<Destination>) {
    let mut table = Table::builder();
    let mut tls = Vec::new();
    let mut destinations = Vec::new();
    for (id, certificates, destination) in protocols {
        table = table.protocol(id);
        let mut protocol = ProtocolTls::new(id.as_bytes(), certificates);
        protocol.tickets = tickets;
        tls.push(protocol);
        destinations.push(destination);
    }
    let table = rules(table).build().expect("a table");
    (Blueprint::new(table, &tls, sources).expect("configurations"), destinations)
}

/// Short waits, so that tests of deadlines are quick.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.handshake_deadline = Duration::from_secs(5);
    limits.linger = Duration::from_millis(300);
    limits.close_wait = Duration::from_millis(300);
    limits.drain_deadline = Duration::from_millis(300);
    limits
}

/// `h2` and `http/1.1`, which both only close, for `localhost`; and a client's options for them.
pub(crate) fn closing() -> (ShardConfig, Options, Made) {
    let made = make(&["localhost"]);
    let set = made.set("default");
    let config =
        shard(vec![("h2", set.clone(), Destination::Close), ("http/1.1", set, Destination::Close)], |table| table);
    let options = Options::new(made.roots(), &["h2", "http/1.1"]);
    (config, options, made)
}

/// One protocol `chat/1`, served by what `protocol` says.
pub(crate) fn serving(protocol: impl FnOnce(Protocol) -> Protocol) -> (ShardConfig, Options) {
    let made = make(&["localhost"]);
    let destination = protocol(Protocol::alpn("chat/1")).destination().clone();
    let config = shard(vec![("chat/1", made.set("default"), destination)], |table| table);
    (config, Options::new(made.roots(), &["chat/1"]))
}

fn one_protocol(made: &Made, versions: TlsVersions, sources: &Sources) -> ShardConfig {
    one_protocol_over(made.set("default"), versions, sources)
}

fn one_protocol_over(set: Arc<CertificateSet>, versions: TlsVersions, sources: &Sources) -> ShardConfig {
    one_protocol_under(Policy::default(), set, versions, sources)
}

fn one_protocol_under(
    policy: Policy,
    set: Arc<CertificateSet>,
    versions: TlsVersions,
    sources: &Sources,
) -> ShardConfig {
    let table = Table::builder().protocol("h2").policy(policy).build().expect("a table");
    let mut tls = ProtocolTls::new(*b"h2", set);
    tls.versions = versions;
    let blueprint = Blueprint::new(table, &[tls], sources).expect("configurations");
    let mut config = ShardConfig::new(blueprint.live(), vec![Destination::Close]);
    config.limits = limits();
    config
}

/// `h2` for clients with TLS 1.3 only.
pub(crate) fn only_tls13(made: &Made) -> ShardConfig {
    one_protocol(made, TlsVersions::Tls13, &Sources::default())
}

/// `h2` with this cryptography, TLS 1.3 only.
pub(crate) fn with_provider(made: &Made, provider: handfast::rustls::crypto::CryptoProvider) -> ShardConfig {
    let mut sources = Sources::default();
    sources.provider = Arc::new(provider);
    one_protocol(made, TlsVersions::Tls13, &sources)
}

/// `h2` with these versions and this cryptography, if `policy` chooses it.
pub(crate) fn one_protocol_by(
    made: &Made,
    versions: TlsVersions,
    policy: Policy,
    provider: handfast::rustls::crypto::CryptoProvider,
) -> ShardConfig {
    let mut sources = Sources::default();
    sources.provider = Arc::new(provider);
    one_protocol_under(policy, made.set("default"), versions, &sources)
}

/// `h2` with these certificates, this cryptography and every version.
pub(crate) fn one_protocol_of(
    set: Arc<CertificateSet>,
    provider: handfast::rustls::crypto::CryptoProvider,
) -> ShardConfig {
    let mut sources = Sources::default();
    sources.provider = Arc::new(provider);
    one_protocol_over(set, TlsVersions::Tls12And13, &sources)
}

/// `h2` with this cryptography and every version.
pub(crate) fn one_protocol_with(made: &Made, provider: handfast::rustls::crypto::CryptoProvider) -> ShardConfig {
    one_protocol_of(made.set("default"), provider)
}
