//! A rustls client that a test drives by hand over a [`Peer`].

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use handfast::rustls::client::Resumption;
use handfast::rustls::crypto::CryptoProvider;
use handfast::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use handfast::rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, SupportedProtocolVersion, version,
};

use crate::certificates::Made;
use crate::world::{Peer, World};

/// A client's configuration; the defaults offer all that the engine can do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The trusted roots.
    pub roots: Arc<RootCertStore>,
    /// Its cryptography.
    pub provider: CryptoProvider,
    /// TLS versions.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// ALPN protocol IDs.
    pub alpn: Vec<&'static str>,
    /// Keep sessions for resumption.
    pub resume: bool,
    /// Let [`Sealer`](crate::records::Sealer) take the secrets.
    pub extract: bool,
    /// The certificate that it shows when it is asked for one.
    pub certificate: Option<Arc<Made>>,
}

impl Options {
    /// Trusts `roots` and offers `alpn`.
    #[must_use]
    pub fn new(roots: Arc<RootCertStore>, alpn: &[&'static str]) -> Self {
        Self {
            roots,
            provider: handfast::crypto::provider(),
            versions: vec![&version::TLS13, &version::TLS12],
            alpn: alpn.to_vec(),
            resume: false,
            extract: false,
            certificate: None,
        }
    }

    /// The rustls configuration.
    ///
    /// # Panics
    /// When rustls refuses it, which fails the test.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&self.versions)
            .expect("versions that the provider can do")
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.certificate {
            Some(made) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.key_der().to_vec()));
                config.with_client_auth_cert(vec![made.der.clone()], key).expect("a key for the certificate")
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|id| id.as_bytes().to_vec()).collect();
        config.enable_secret_extraction = self.extract;
        config.resumption = if self.resume { Resumption::in_memory_sessions(16) } else { Resumption::disabled() };
        Arc::new(config)
    }
}

/// A TLS client over a raw end.
#[derive(Debug)]
pub struct Tls<P> {
    /// The raw end.
    pub peer: P,
    /// rustls.
    pub conn: ClientConnection,
    /// What rustls said, once it failed.
    pub error: Option<Error>,
    /// How often the direction of bytes turned: 1 is our first flight, 2 the server's answer, and so on.
    pub flights: usize,
    ours_last: bool,
    plain: Vec<u8>,
    /// Changes what is sent, to play a broken client.
    pub tamper: Option<fn(&mut Vec<u8>)>,
}

impl<P: Peer> Tls<P> {
    /// A client that has sent nothing yet.
    ///
    /// # Panics
    /// When rustls refuses the name, which fails the test.
    #[must_use]
    pub fn new(peer: P, config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let conn = ClientConnection::new(Arc::clone(config), name).expect("a client");
        Self { peer, conn, error: None, flights: 0, ours_last: false, plain: Vec::new(), tamper: None }
    }

    /// Takes from rustls what it wants to send.
    pub fn outgoing(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.conn.wants_write() {
            if self.conn.write_tls(&mut out).is_err() {
                break;
            }
        }
        out
    }

    /// Moves bytes both ways once.
    pub fn pump(&mut self) {
        let mut out = self.outgoing();
        if !out.is_empty() {
            if !std::mem::replace(&mut self.ours_last, true) {
                self.flights += 1;
            }
            if let Some(tamper) = self.tamper {
                tamper(&mut out);
            }
            self.peer.send(&out);
        }
        self.receive();
    }

    /// Takes what has arrived.
    pub fn receive(&mut self) {
        let bytes = self.peer.recv();
        let mut rest = &bytes[..];
        if !rest.is_empty() && std::mem::replace(&mut self.ours_last, false) {
            self.flights += 1;
        }
        while !rest.is_empty() && self.error.is_none() {
            if self.conn.read_tls(&mut rest).is_err() {
                break;
            }
            // Bit flips make this rustls assert that it sends no second alert.
            let processed = catch_unwind(AssertUnwindSafe(|| self.conn.process_new_packets().err()));
            self.error = processed.unwrap_or_else(|_| Some(Error::General("rustls panicked".into())));
            // rustls takes no more while plaintext waits. An error only says that nothing is there, or how it ended.
            let _ = self.conn.reader().read_to_end(&mut self.plain);
        }
    }

    /// Takes turns until the handshake is over on this side, and its last flight is sent.
    ///
    /// # Errors
    /// What rustls said, or the end of the stream as [`Error::General`].
    pub fn handshake<W: World<Peer = P>>(&mut self, world: &mut W) -> Result<(), Error> {
        world.until("a handshake", |_| {
            self.pump();
            !self.conn.is_handshaking() || self.error.is_some() || self.peer.is_eof() || self.peer.is_reset()
        });
        self.pump();
        match self.error.clone() {
            Some(error) => Err(error),
            None if self.conn.is_handshaking() => Err(Error::General("the server left".into())),
            None => Ok(()),
        }
    }

    /// Sends application data.
    ///
    /// # Panics
    /// When rustls takes no plaintext, which fails the test.
    pub fn send(&mut self, plain: &[u8]) {
        self.conn.writer().write_all(plain).expect("room for plaintext");
        self.pump();
    }

    /// Takes the application data that has arrived.
    pub fn recv(&mut self) -> Vec<u8> {
        self.pump();
        std::mem::take(&mut self.plain)
    }

    /// Sends close_notify.
    pub fn close(&mut self) {
        self.conn.send_close_notify();
        self.pump();
    }

    /// The ALPN protocol that was negotiated.
    #[must_use]
    pub fn alpn(&self) -> Option<String> {
        self.conn.alpn_protocol().map(|id| String::from_utf8_lossy(id).into_owned())
    }

    /// Whether the session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}
