//! What stands between our TLS and peers that speak without it: takes connections in, and passes bytes on both ways.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use handfast::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use handfast::rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificates::Made;

/// A front on a port of its own; its connections end with it.
#[derive(Debug)]
pub struct Front {
    addr: SocketAddr,
    // Its threads end when it is dropped.
    _runtime: Runtime,
}

type Passed = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Front {
    /// Plain connections, each passed on over TLS to the server `to`, whose certificate is for `localhost`.
    #[must_use]
    pub fn to_tls(to: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let connector = TlsConnector::from(config);
        Self::start(move |near| {
            let connector = connector.clone();
            Box::pin(async move {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let far = connector.connect(name, connected(to).await?).await?;
                pass(near, far).await
            })
        })
    }

    /// Connections over TLS, each passed on in plain to the server `to`.
    ///
    /// # Panics
    /// When rustls refuses the certificate, which fails the test.
    #[must_use]
    pub fn from_tls(to: SocketAddr, made: &Made, alpn: &str) -> Self {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.key_der().to_vec()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(handfast::crypto::provider()))
            .with_safe_default_protocol_versions()
            .expect("versions that the provider can do")
            .with_no_client_auth()
            .with_single_cert(vec![made.der.clone()], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![alpn.into()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |near| {
            let acceptor = acceptor.clone();
            Box::pin(async move { pass(acceptor.accept(near).await?, connected(to).await?).await })
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn start(serve: impl Fn(TcpStream) -> Passed + Send + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_io().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let _ = near.set_nodelay(true);
                // How a connection ends is for those at its ends to judge.
                tokio::spawn(serve(near));
            }
        });
        Self { addr, _runtime: runtime }
    }
}

async fn connected(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn pass(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}
