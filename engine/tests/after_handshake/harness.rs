//! An engine on a free port with a throw-away certificate, and clients that trust it.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use handfast::client::{Client, ClientBuilder, Connection, Roots};
use handfast::identity::{CertificateSet, Identity};
use handfast::metrics::Metrics;
use handfast::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use handfast::{Builder, Engine, Handle, Pin, Placement, Protocol};

pub(crate) const PLACEMENTS: [Placement; 2] = [Placement::SharedCore, Placement::Threads(2)];

/// A self-signed certificate for `localhost` and 127.0.0.1.
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Self {
            der: made.cert.der().clone(),
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            key: PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()),
        }
    }

    /// As a set of one.
    pub(crate) fn set(&self, name: &str) -> CertificateSet {
        let identity = Identity::from_der(vec![self.der.clone()], self.private_key(), &handfast::crypto::provider());
        CertificateSet::new(name, vec![identity.unwrap()]).unwrap()
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder().roots(Roots::certificates([self.der.clone()]))
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

pub(crate) struct Server {
    engine: Engine,
    pub(crate) certificate: Certificate,
}

impl Server {
    pub(crate) fn start(placement: Placement, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        Self::start_with(placement, protocols, |builder| builder)
    }

    pub(crate) fn start_with(
        placement: Placement,
        protocols: impl IntoIterator<Item = Protocol>,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let certificate = Certificate::new();
        let builder = builder(placement, &certificate, protocols);
        Self { engine: configure(builder).start().unwrap(), certificate }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.engine.handle()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.handle().local_addr().unwrap()
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.handle().metrics()
    }

    /// `builder` with the certificate of this server.
    pub(crate) fn certified(&self, builder: Builder) -> Builder {
        let (chain, key) = (vec![self.certificate.der.clone()], self.certificate.private_key());
        let identity = Identity::from_der(chain, key, &handfast::crypto::provider()).unwrap();
        builder.certificates(CertificateSet::new("default", vec![identity]).unwrap())
    }

    /// A client that trusts this server.
    pub(crate) fn trusting(&self) -> ClientBuilder {
        self.certificate.client()
    }

    pub(crate) fn client(&self, alpn: &str) -> Client {
        self.trusting().alpn([alpn]).build().unwrap()
    }

    pub(crate) fn connect(&self, alpn: &str) -> Connection {
        let connection = self.client(alpn).connect_to(self.addr(), "localhost").unwrap();
        assert_eq!(connection.alpn_protocol(), Some(alpn.as_bytes()));
        connection
    }

    /// Waits until the metrics say that `come` has.
    #[track_caller]
    pub(crate) fn until(&self, come: impl Fn(&Metrics) -> bool) {
        for _ in 0..30_000 {
            if come(&self.metrics()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it does not come: {}", self.metrics());
    }

    /// Waits for the end of a drain that must have been asked for.
    pub(crate) fn join(self) -> Metrics {
        self.engine.join().unwrap()
    }

    /// Drains; nothing may need the deadline for it.
    pub(crate) fn shutdown(self) -> Metrics {
        let metrics = self.engine.shutdown().unwrap();
        assert_eq!((metrics.aborted, metrics.open()), (0, 0), "{metrics}");
        metrics
    }
}

/// An engine of one shard that shows `certificate`.
pub(crate) fn builder(
    placement: Placement,
    certificate: &Certificate,
    protocols: impl IntoIterator<Item = Protocol>,
) -> Builder {
    let builder = Engine::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .shards(1)
        .pin(Pin::Off)
        .workers(placement)
        .certificates(certificate.set("default"));
    protocols.into_iter().fold(builder, Builder::protocol)
}

/// The rest of a connection, which must end with close_notify.
pub(crate) fn read_rest(connection: &mut Connection) -> Vec<u8> {
    let mut rest = Vec::new();
    connection.read_to_end(&mut rest).unwrap();
    rest
}

/// Sends `message` and reads as many bytes back.
pub(crate) fn exchange(connection: &mut Connection, message: &[u8]) -> Vec<u8> {
    connection.write_all(message).unwrap();
    let mut back = vec![0; message.len()];
    connection.read_exact(&mut back).unwrap();
    back
}

/// Bytes that show where they are out of place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0_u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).take(len).collect()
}

/// A file that is gone with the test.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn new(content: impl AsRef<[u8]>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("handfast-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A runtime with threads, I/O and time.
#[cfg(feature = "tokio")]
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
