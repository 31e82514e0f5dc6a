//! gRPC by tonic over connections from the engine: `tonic chain.pem key.pem`. It serves the standard health service;
//! `grpcurl -insecure 127.0.0.1:8443 grpc.health.v1.Health/Check` asks it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use handfast::identity::{CertificateSet, Identity};
use handfast::interop::{Accepted, Incoming};
use handfast::transport::tcp::Endpoint;
use handfast::{Engine, HandshakeFacts, Protocol};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A connection as tonic wants it: it also says what is known of it. Neither type is ours here, hence the new one.
struct Io(Accepted);

impl Connected for Io {
    /// What handlers find in a request's extensions.
    type ConnectInfo = Arc<HandshakeFacts>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(self.0.facts())
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Serves the health service until `stop`, or until the engine has ended; calls under way end first.
pub(crate) async fn serve(incoming: Incoming, stop: impl Future<Output = ()>) -> Result<(), tonic::transport::Error> {
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    server.serve_with_incoming_shutdown(incoming.map(|accepted| accepted.map(Io)), stop).await
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<_> = std::env::args().skip(1).collect();
    let [chain, key] = &files[..] else { return Err("usage: tonic CHAIN.PEM KEY.PEM".into()) };
    let identity = Identity::from_files(Path::new(chain), Path::new(key), &handfast::crypto::provider())?;
    let (mailbox, incoming) = Incoming::bounded(1024);
    let engine = Engine::builder()
        .listen("127.0.0.1:8443".parse::<Endpoint>()?)
        .certificates(CertificateSet::new("default", vec![identity])?)
        .protocol(Protocol::alpn("h2").hand_off(mailbox))
        .start()?;
    println!("listening on {}; Enter ends it", engine.handle().endpoints()[0]);
    let handle = engine.handle().clone();
    std::thread::spawn(move || {
        // At the end of the input as well.
        let _ = io::stdin().read_line(&mut String::new());
        handle.drain();
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // It ends with the engine: then no more connections come.
    runtime.block_on(serve(incoming, std::future::pending()))?;
    print!("{}", engine.join()?);
    Ok(())
}
