//! TLS for the client's shards: configurations, and a connection driven over borrowed buffers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, version};

use crate::args::{Group, TlsVersions};
use crate::error::UsageError;
use crate::plan::{TlsShape, Verify};

/// rustls keeps up to eight tickets per server and forgets the oldest: enough for one slot.
const SESSIONS_PER_SLOT: usize = 8;
/// A sealed close_notify is smaller with every cipher suite.
const CLOSE_NOTIFY_BYTES_MAX: usize = 96;

/// Makes the client connections of one plan.
#[derive(Clone, Debug)]
pub struct TlsSource {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    resume: bool,
}

impl TlsSource {
    /// Builds the configuration; `own` is the embedded engine's certificate, for [`Verify::Embedded`].
    ///
    /// # Errors
    /// The CA file is no good, or the options exclude each other.
    pub fn new(shape: &TlsShape, own: &[CertificateDer<'static>]) -> Result<Self, UsageError> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = shape.groups.iter().map(|g| kx(*g)).collect();
        // As browsers do; and SHA-256 has instructions of its own where SHA-384 has none.
        provider.cipher_suites.sort_by_key(|s| !format!("{:?}", s.suite()).contains("AES_128_GCM"));
        let provider = Arc::new(provider);
        let versions: &[_] = match shape.versions {
            TlsVersions::Tls12 => &[&version::TLS12],
            TlsVersions::Tls13 => &[&version::TLS13],
            TlsVersions::Any => &[&version::TLS13, &version::TLS12],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(UsageError::Tls)?;
        let builder = match roots(&shape.verify, own)? {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAll(provider))),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols.clone_from(&shape.alpn);
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name: shape.server_name.clone(), resume: shape.resume })
    }

    /// The configurations of `slots` slots: one for all, or one with a session cache of its own for each.
    pub(super) fn configs(&self, slots: u32) -> Vec<Arc<ClientConfig>> {
        if !self.resume {
            return vec![Arc::clone(&self.config)];
        }
        let one = |_| {
            let mut config = ClientConfig::clone(&self.config);
            config.resumption = Resumption::in_memory_sessions(SESSIONS_PER_SLOT);
            Arc::new(config)
        };
        (0..slots).map(one).collect()
    }

    pub(super) const fn resumes(&self) -> bool {
        self.resume
    }

    pub(super) const fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

const fn kx(group: Group) -> &'static dyn SupportedKxGroup {
    match group {
        Group::X25519 => kx_group::X25519,
        Group::P256 => kx_group::SECP256R1,
        Group::X25519Mlkem768 => kx_group::X25519MLKEM768,
    }
}

fn roots(verify: &Verify, own: &[CertificateDer<'static>]) -> Result<Option<RootCertStore>, UsageError> {
    let mut roots = RootCertStore::empty();
    match verify {
        Verify::No => return Ok(None),
        Verify::PublicRoots => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Verify::Embedded => {
            roots.add_parsable_certificates(own.iter().cloned());
        }
        Verify::File(path) => {
            let unreadable = |source| UsageError::CaUnreadable { path: path.clone(), source };
            let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
            let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(UsageError::CaEmpty(path.clone()));
            }
        }
    }
    Ok(Some(roots))
}

/// Takes every certificate and every signature: a load generator spends its CPU on load.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Room for the records of one step, used again for every connection.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    len: usize,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 4096], len: 0 }
    }

    pub(super) const fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn spare(&mut self, need: usize) -> &mut [u8] {
        if self.bytes.len() - self.len < need {
            self.bytes.resize(self.len + need, 0);
        }
        &mut self.bytes[self.len..]
    }

    fn take<D>(&mut self, mut data: EncodeTlsData<'_, D>) {
        let mut need = 0;
        loop {
            match data.encode(self.spare(need)) {
                Ok(n) => {
                    self.len += n;
                    return;
                }
                Err(EncodeError::InsufficientSize(e)) if e.required_size > need => need = e.required_size,
                Err(_) => return,
            }
        }
    }

    fn take_close_notify<D>(&mut self, mut traffic: WriteTraffic<'_, D>) {
        let mut need = CLOSE_NOTIFY_BYTES_MAX;
        loop {
            match traffic.queue_close_notify(self.spare(need)) {
                Ok(n) => {
                    self.len += n;
                    return;
                }
                Err(EncryptError::InsufficientSize(e)) if e.required_size > need => need = e.required_size,
                // The keys are exhausted: FIN has to do.
                Err(_) => return,
            }
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It waits for the peer.
    Shaking,
    /// The handshake is complete, and close_notify is behind it if that was asked for.
    Complete,
    /// The peer closed before that.
    Closed,
}

/// What follows a complete handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// close_notify.
    CloseNotify,
    /// Nothing: it was sent already.
    Nothing,
}

/// A new connection; its ClientHello goes to `out`.
pub(super) fn begin(
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    out: &mut Output,
) -> Result<UnbufferedClientConnection, Error> {
    let mut tls = UnbufferedClientConnection::new(Arc::clone(config), name.clone())?;
    drive(&mut tls, &mut [], out, Then::Nothing).1?;
    Ok(tls)
}

/// Lets `tls` take what it can from `input`; what it has to send goes to `out`, an alert too. The number says how
/// many bytes of `input` are used up; the caller keeps the others and puts them in front of what comes next.
pub(super) fn drive(
    tls: &mut UnbufferedClientConnection,
    input: &mut [u8],
    out: &mut Output,
    then: Then,
) -> (usize, Result<Reached, Error>) {
    let mut used = 0;
    let mut peer_closed = false;
    loop {
        let UnbufferedStatus { discard, state, .. } = tls.process_tls_records(&mut input[used..]);
        let mut reached = None;
        let mut inside = 0;
        match state {
            Ok(ConnectionState::EncodeTlsData(data)) => out.take(data),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                // What the server says after the handshake is none of our business.
                while let Some(Ok(record)) = traffic.next_record() {
                    inside += record.discard;
                }
            }
            Ok(ConnectionState::PeerClosed) => peer_closed = true,
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                if then == Then::CloseNotify {
                    out.take_close_notify(traffic);
                }
                reached = Some(Reached::Complete);
            }
            Ok(ConnectionState::BlockedHandshake) => {
                reached = Some(if peer_closed { Reached::Closed } else { Reached::Shaking });
            }
            Ok(_) => reached = Some(Reached::Closed),
            Err(error) => {
                collect_alert(tls, out);
                return (used, Err(error));
            }
        }
        used += discard + inside;
        if let Some(reached) = reached {
            return (used, Ok(reached));
        }
    }
}

/// After an error, what is still to be sent is the alert about it. rustls is asked for no more than that: shown the
/// same input again it would find the same fault and panic, and shown none it would miss the rest of the input.
fn collect_alert(tls: &mut UnbufferedClientConnection, out: &mut Output) {
    while tls.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = tls.process_tls_records(&mut []).state else { return };
        out.take(data);
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::UnbufferedServerConnection;

    use super::*;

    fn shape() -> TlsShape {
        use clap::Parser;
        let args = crate::args::Args::try_parse_from(["handfast-load", "a:1"]).unwrap();
        crate::plan::Plan::new(args).unwrap().tls
    }

    fn server(alpn: &[&[u8]]) -> UnbufferedServerConnection {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        UnbufferedServerConnection::new(Arc::new(config)).unwrap()
    }

    /// The server's answer to `input`, which it takes whole.
    fn answer(tls: &mut UnbufferedServerConnection, input: &mut [u8]) -> Vec<u8> {
        let mut out = Output::new();
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } = tls.process_tls_records(&mut input[used..]);
            let waits = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    out.take(data);
                    false
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => false,
                Ok(_) => true,
                Err(_) => {
                    while let Ok(ConnectionState::EncodeTlsData(data)) = tls.process_tls_records(&mut []).state {
                        out.take(data);
                    }
                    true
                }
            };
            used += discard;
            if waits {
                return out.filled().to_vec();
            }
        }
    }

    #[test]
    fn a_handshake_in_memory_ends_with_close_notify_whatever_the_cuts() {
        let source = TlsSource::new(&shape(), &[]).unwrap();
        for cut in [1, 7, 100_000] {
            let (mut out, mut server) = (Output::new(), server(&[b"h2"]));
            let mut tls = begin(&source.configs(1)[0], source.server_name(), &mut out).unwrap();
            let flight = answer(&mut server, &mut out.filled().to_vec());
            out.clear();
            let mut pending = Vec::new();
            let mut reached = Reached::Shaking;
            for bytes in flight.chunks(cut) {
                pending.extend_from_slice(bytes);
                let (used, result) = drive(&mut tls, &mut pending, &mut out, Then::CloseNotify);
                pending.drain(..used);
                reached = result.unwrap();
            }
            assert_eq!(reached, Reached::Complete);
            assert_eq!(tls.alpn_protocol(), Some(&b"h2"[..]));
            assert!(!answer(&mut server, &mut out.filled().to_vec()).is_empty(), "tickets come back");
        }
    }

    #[test]
    fn a_refusal_comes_out_as_the_alert_of_the_peer() {
        let source = TlsSource::new(&shape(), &[]).unwrap();
        let (mut out, mut server) = (Output::new(), server(&[b"foreign"]));
        let mut tls = begin(&source.configs(1)[0], source.server_name(), &mut out).unwrap();
        let mut flight = answer(&mut server, &mut out.filled().to_vec());
        let result = drive(&mut tls, &mut flight, &mut out, Then::CloseNotify).1;
        assert_eq!(result, Err(Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)));
    }

    #[test]
    fn our_own_refusal_leaves_an_alert_to_send() {
        let mut shape = shape();
        shape.verify = Verify::PublicRoots;
        let source = TlsSource::new(&shape, &[]).unwrap();
        let (mut out, mut server) = (Output::new(), server(&[b"h2"]));
        let mut tls = begin(&source.configs(1)[0], source.server_name(), &mut out).unwrap();
        let mut flight = answer(&mut server, &mut out.filled().to_vec());
        out.clear();
        let result = drive(&mut tls, &mut flight, &mut out, Then::CloseNotify).1;
        assert!(matches!(result, Err(Error::InvalidCertificate(_))), "{result:?}");
        assert!(!out.filled().is_empty());
    }
}
