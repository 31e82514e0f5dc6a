//! The server under measurement: one shard that finishes handshakes and closes.

use std::error::Error;
use std::num::NonZeroU32;
use std::path::PathBuf;

use handfast::identity::{CertificateSet, Identity};
use handfast::limits::{Limits, SourceRate};
use handfast::transport::tcp::{Endpoint, ListenOptions};
use handfast::{Engine, Pin, Protocol, ProxyProtocol};
use handfast_bench::servers::{Certificate, RunError, Server};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
    /// Connections a second of one source, and twice as many at once; as many handshakes under way
    #[arg(long)]
    source_rate: Option<NonZeroU32>,
    /// Demand a PROXY protocol header
    #[arg(long)]
    proxy_protocol: bool,
}

/// Starts it as a child process.
pub(crate) fn start(certificate: &Certificate, args: &[&str]) -> Result<Server, RunError> {
    let program = std::env::current_exe().map_err(|e| RunError::Io("current executable".into(), e))?;
    let files = certificate.options();
    let files = files.each_ref().map(String::as_str);
    Server::start(&program, &[&["serve"][..], &files, args].concat())
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    handfast::transport::tcp::raise_descriptor_limit()?;
    let mut limits = Limits::default();
    if let Some(rate) = args.source_rate {
        let double = rate.saturating_add(rate.get());
        limits.source.rate = Some(SourceRate { per_second: rate, burst: double });
        limits.source.handshakes = Some(rate);
        limits.source.connections = Some(double);
    }
    let mut options = ListenOptions::default();
    if args.proxy_protocol {
        options.proxy_protocol = Some(ProxyProtocol::from_sources(["127.0.0.0/8".parse()?]));
    }
    let identity = Identity::from_files(&args.cert, &args.key, &handfast::crypto::provider())?;
    let engine = Engine::builder()
        .listen_with("127.0.0.1:0".parse::<Endpoint>()?, options)
        .shards(1)
        .pin(Pin::Cores(vec![0]))
        .limits(limits)
        .certificates(CertificateSet::new("default", vec![identity])?)
        .protocol(Protocol::alpn("h2").close())
        .start()?;
    println!("listening on {}", engine.handle().endpoints()[0]);
    // Until the parent ends this process.
    engine.join()?;
    Ok(())
}
