//! A small TLS server on plain threads, and servers that misbehave.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

/// What is said to each connection.
type Talk = Arc<dyn Fn(TcpStream, u64) + Send + Sync>;

/// A listener whose threads end with the test process.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicU64>,
    counts: Arc<Counts>,
    pem: String,
    key_pem: String,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Counts {
    completed: AtomicU64,
    answered: AtomicU64,
    names: Mutex<BTreeMap<String, u64>>,
}

/// How a [`Server::tls`] differs from the usual.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) alpn: &'static [&'static str],
    /// Ask for a client certificate and refuse clients without.
    pub(crate) wants_client_certificate: bool,
    /// Stop listening after so many connections.
    pub(crate) dies_after: Option<u64>,
    pub(crate) ipv6: bool,
    /// Never close after the handshake.
    pub(crate) keeps_open: bool,
    /// Say this to whatever comes after the handshake, and close.
    pub(crate) says: Option<&'static str>,
    /// Do so at once, whatever comes.
    pub(crate) leaves: bool,
}

/// A server of h2 as it should be.
pub(crate) const H2: Shape = Shape {
    alpn: &["h2"],
    wants_client_certificate: false,
    dies_after: None,
    ipv6: false,
    keeps_open: false,
    says: None,
    leaves: false,
};

/// The same of HTTP/1.1.
pub(crate) const HTTP1: Shape = Shape { alpn: &["http/1.1"], ..H2 };

impl Server {
    pub(crate) fn tls(shape: Shape) -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = Arc::new(config(shape, own.cert.der().clone(), own.signing_key.serialize_der()));
        let counts = Arc::<Counts>::default();
        let seen = Arc::clone(&counts);
        let talk = move |stream, _| {
            // A client that refuses us is what some tests want.
            let _ = shake(stream, &config, &seen, shape);
        };
        let mut server = Self::listen(shape.ipv6, shape.dies_after, Arc::new(talk));
        server.counts = counts;
        server.pem = own.cert.pem();
        server.key_pem = own.signing_key.serialize_pem();
        server
    }

    /// Runs `talk` on each connection, on a thread of its own.
    pub(crate) fn bare(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::listen(false, None, Arc::new(move |stream, _| talk(stream)))
    }

    fn listen(ipv6: bool, dies_after: Option<u64>, talk: Talk) -> Self {
        let listener = TcpListener::bind(if ipv6 { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&accepted);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
                let (talk, Ok(stream)) = (Arc::clone(&talk), stream) else { continue };
                thread::spawn(move || talk(stream, n));
                if dies_after == Some(n) {
                    return;
                }
            }
        });
        Self { addr, accepted, counts: Arc::default(), pem: String::new(), key_pem: String::new() }
    }

    /// `HOST:PORT`.
    pub(crate) fn target(&self) -> String {
        self.addr.to_string()
    }

    /// Handshakes that were complete for the server.
    pub(crate) fn completed(&self) -> u64 {
        self.counts.completed.load(Ordering::SeqCst)
    }

    /// Connections whose client answered close_notify with its own.
    pub(crate) fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::SeqCst)
    }

    /// Complete handshakes by the name that was asked for.
    pub(crate) fn names(&self) -> BTreeMap<String, u64> {
        self.counts.names.lock().unwrap().clone()
    }

    /// Connections accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The key of its certificate.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

fn config(shape: Shape, certificate: CertificateDer<'static>, key: Vec<u8>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if shape.wants_client_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::try_from(key).unwrap();
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = shape.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

/// A handshake, then close_notify for close_notify.
fn shake(mut stream: TcpStream, config: &Arc<ServerConfig>, counts: &Counts, shape: Shape) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        if let Err(error) = tls.complete_io(&mut stream) {
            // What is left to say is the alert.
            while tls.wants_write() {
                tls.write_tls(&mut stream)?;
            }
            drain(&mut stream);
            return Err(error);
        }
    }
    if let Some(name) = tls.server_name() {
        *counts.names.lock().unwrap().entry(name.to_owned()).or_default() += 1;
    }
    counts.completed.fetch_add(1, Ordering::SeqCst);
    if let Some(answer) = shape.says {
        let mut stream = rustls::Stream::new(&mut tls, &mut stream);
        if !shape.leaves {
            let _ = stream.read(&mut [0; 4096])?;
        }
        stream.write_all(answer.as_bytes())?;
        stream.conn.send_close_notify();
        stream.flush()?;
        // Without close_notify the end is an error.
        while stream.read(&mut [0; 64])? > 0 {}
        counts.answered.fetch_add(1, Ordering::SeqCst);
        return Ok(());
    }
    if shape.keeps_open {
        thread::sleep(Duration::from_secs(30));
    }
    let mut nothing = [0; 64];
    while rustls::Stream::new(&mut tls, &mut stream).read(&mut nothing)? > 0 {}
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut stream)?;
    }
    Ok(())
}

/// Reads to the end, so that closing sends no reset.
pub(crate) fn drain(stream: &mut TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = io::copy(stream, &mut io::sink());
}

/// Waits for the ClientHello.
fn hear(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
}

/// Answers a ClientHello with `answer` and ends the connection.
pub(crate) fn answering(answer: &'static [u8]) -> Server {
    Server::bare(move |mut stream| {
        hear(&mut stream);
        let _ = stream.write_all(answer);
        drain(&mut stream);
    })
}

/// Accepts and says nothing, for as long as the client stays.
pub(crate) fn silent() -> Server {
    Server::bare(|mut stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
        let _ = io::copy(&mut stream, &mut io::sink());
    })
}

/// A port on which nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
