//! What connecting costs `handfast::client` when one thread opens many connections: with key exchanges computed together,
//! one by one, and beside a plain tokio-rustls connector.
//!
//! `cargo run --release -p handfast-bench --bin client_connect`

use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use handfast::client::{Client, Roots};
use handfast::crypto::{Crypto, provider_with};
use handfast::handshake::TlsVersions;
use handfast::rustls::client::Resumption;
use handfast::rustls::crypto::CryptoProvider;
use handfast::rustls::pki_types::pem::PemObject;
use handfast::rustls::pki_types::{CertificateDer, ServerName};
use handfast::rustls::{ClientConfig, NamedGroup, RootCertStore, version};
use handfast_bench::figures::{Interval, Spread};
use handfast_bench::servers::{Certificate, RunError, Server, build, pin_to};
use handfast_load::cpu;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsConnector;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Client CPU per full TLS 1.3 handshake of one thread that has many under way
///
/// Tasks of one tokio thread on core 1 connect, close and connect again, against `handfast serve --crypto batch` on core
/// 0. X25519, ECDSA P-256; the client verifies the certificate. The three clients take turns in each round, and take
/// turns in going first.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(2..))]
    rounds: u16,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Tasks, each with one connection at a time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const NAMES: [&str; 3] = ["batch", "aws-lc", "tokio-rustls"];

/// One shard on core 0.
const SERVER: &str = "serve --listen 127.0.0.1:0 --shards 1 --cores 0 --close --tickets 2 --crypto batch";

/// What opens connections.
enum Opens {
    Ours(Client),
    Theirs(TlsConnector),
}

fn main() -> ExitCode {
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), RunError> {
    let bin = build()?;
    let certificate = Certificate::make()?;
    let files = certificate.options();
    let options: Vec<_> = SERVER.split(' ').chain(files.iter().map(String::as_str)).collect();
    let server = Server::start(&bin.join("handfast"), &options)?;
    pin_to(1).map_err(|e| RunError::Io("core 1".into(), e))?;
    let clients = clients(&certificate).map_err(|e| RunError::Failed("client".into(), e.to_string()))?;
    let mut us = [const { Vec::new() }; NAMES.len()];
    for round in 0..usize::from(args.rounds) {
        for i in (0..clients.len()).map(|i| (i + round) % clients.len()) {
            let measured = measure(args, server.addr, &clients[i]);
            us[i].push(measured.map_err(|e| RunError::Failed(NAMES[i].into(), e))?);
        }
    }
    report(args, &us);
    Ok(())
}

fn clients(certificate: &Certificate) -> Result<[Rc<Opens>; NAMES.len()], Box<dyn std::error::Error>> {
    let provider = || provider_with(|group| group == NamedGroup::X25519, |_| true);
    let ours = |crypto| {
        let client = Client::builder().alpn(["h2"]).roots(Roots::file(certificate.cert())).versions(TlsVersions::Tls13);
        client.provider(provider()).resumption(false).crypto(crypto).build()
    };
    let theirs = theirs(certificate, provider())?;
    Ok([Opens::Ours(ours(Crypto::Batch)?), Opens::Ours(ours(Crypto::AwsLc)?), Opens::Theirs(theirs)].map(Rc::new))
}

fn theirs(certificate: &Certificate, provider: CryptoProvider) -> Result<TlsConnector, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate.cert())?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config).into())
}

/// Microseconds of this thread's CPU per handshake.
fn measure(args: &Args, addr: SocketAddr, opens: &Rc<Opens>) -> Result<f64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let before = cpu::of_this_thread();
    let made: Result<u64, String> = LocalSet::new().block_on(&runtime, async {
        let mut tasks = JoinSet::<Result<u64, String>>::new();
        for _ in 0..args.connections {
            let opens = Rc::clone(opens);
            tasks.spawn_local(async move {
                let mut made = 0;
                while Instant::now() < until {
                    opens.connect(addr).await?;
                    made += 1;
                }
                Ok(made)
            });
        }
        let mut made = 0;
        while let Some(ended) = tasks.join_next().await {
            made += ended.map_err(|e| e.to_string())??;
        }
        Ok(made)
    });
    let used = cpu::of_this_thread().saturating_sub(before);
    #[allow(clippy::cast_precision_loss, reason = "some hundred thousand")]
    made.map(|made| used.as_secs_f64() * 1e6 / made.max(1) as f64)
}

impl Opens {
    /// A connection, from its handshake to close_notify.
    async fn connect(&self, addr: SocketAddr) -> Result<(), String> {
        let socket = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        match self {
            Self::Ours(client) => {
                let mut stream = client.handshake(socket, "localhost").await.map_err(|e| e.to_string())?;
                stream.shutdown().await.map_err(|e| e.to_string())
            }
            Self::Theirs(connector) => {
                let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
                let mut stream = connector.connect(name, socket).await.map_err(|e| e.to_string())?;
                stream.shutdown().await.map_err(|e| e.to_string())
            }
        }
    }
}

fn report(args: &Args, us: &[Vec<f64>; NAMES.len()]) {
    let ratios = [1, 2].map(|other: usize| us[0].iter().zip(&us[other]).map(|(a, b)| a / b).collect::<Vec<_>>());
    let [to_aws_lc, to_tokio_rustls] = ratios.each_ref().map(|ratios| Spread::of(ratios));
    let us = us.each_ref().map(|us| Spread::of(us));
    if args.json {
        let [batch, aws_lc, tokio_rustls] = us;
        let all = serde_json::json!({
            "client_cpu_us": { "batch": batch, "aws_lc": aws_lc, "tokio_rustls": tokio_rustls },
            "batch_to_aws_lc": to_aws_lc,
            "batch_to_tokio_rustls": to_tokio_rustls,
        });
        return println!("{all}");
    }
    println!("client CPU per handshake in us, min / median / max of {} rounds of {} s", args.rounds, args.seconds);
    println!("TLS 1.3, X25519, ECDSA P-256 verified, {} connections at a time on one thread\n", args.connections);
    for (name, spread) in NAMES.iter().zip(us) {
        if let Some(spread) = spread {
            println!("{name:<24} {:>24}", format!("{spread:.1}"));
        }
    }
    for (name, ratios) in ["batch / aws-lc", "batch / tokio-rustls"].iter().zip(&ratios) {
        if let (Some(spread), Some(interval)) = (Spread::of(ratios), Interval::of_ratios(ratios)) {
            println!("{name:<24} {:>24}   95 %: {interval:.3}", format!("{spread:.3}"));
        }
    }
}
