//! The peer that Handfast is measured against: a plain tokio + tokio-rustls acceptor on one thread, with the same
//! rustls, provider, tickets and allocator. It finishes handshakes, answers close_notify, and closes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use handfast::rustls::ServerConfig;
use handfast::rustls::crypto::aws_lc_rs::Ticketer;
use handfast::rustls::pki_types::pem::PemObject;
use handfast::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use handfast::rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Args {
    /// Certificate chain (PEM)
    #[arg(long)]
    cert: PathBuf,
    /// Private key (PEM)
    #[arg(long)]
    key: PathBuf,
    /// Session tickets after each full handshake
    #[arg(long, default_value_t = 2)]
    tickets: usize,
    /// The ALPN protocol IDs that it accepts
    #[arg(long, value_delimiter = ',', default_value = "h2,http/1.1")]
    alpn: Vec<String>,
    /// Pin to this core
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> ExitCode {
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(core) = args.core {
        handfast_bench::servers::pin_to(core)?;
    }
    let chain = CertificateDer::pem_file_iter(&args.cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(handfast::crypto::provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&args.key)?)?;
    config.alpn_protocols = args.alpn.iter().map(|id| id.as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = args.tickets;
    config.ticketer = Ticketer::new()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(4096)?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            // One that is gone before it is accepted is no reason to stop.
            if let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), tcp));
            }
        }
    })
}

async fn serve(acceptor: TlsAcceptor, tcp: TcpStream) {
    let _ = tcp.set_nodelay(true);
    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
    let mut byte = [0; 1];
    while matches!(tls.read(&mut byte).await, Ok(1..)) {}
    let _ = tls.shutdown().await;
}
