//! Honest clients: one full handshake after the other, each closed properly.

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use handfast::rustls::client::Resumption;
use handfast::rustls::pki_types::pem::PemObject;
use handfast::rustls::pki_types::{CertificateDer, ServerName};
use handfast::rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, version};
use handfast_bench::servers::Certificate;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// TLS 1.3 with X25519, without resumption.
pub(crate) fn config(certificate: &Certificate) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate.cert())?)?;
    let mut provider = handfast::crypto::provider();
    provider.kx_groups.retain(|g| g.name() == NamedGroup::X25519);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A header of version 2 that names this client.
pub(crate) fn header(client: Ipv4Addr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&client.octets());
    header.extend_from_slice(&[127, 0, 0, 1, 0x1f, 0x90, 1, 0xbb]);
    header
}

/// A connection from `source`.
pub(crate) fn connected(source: Ipv4Addr, to: SocketAddr) -> io::Result<std::net::TcpStream> {
    let fd: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddr::from((source, 0)))?;
    connect(&fd, &to)?;
    Ok(fd.into())
}

/// One handshake, from connect to the server's close_notify. `header` goes out with the ClientHello.
pub(crate) fn handshake(
    config: &Arc<ClientConfig>,
    source: Ipv4Addr,
    to: SocketAddr,
    header: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let mut stream = connected(source, to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut first = header.to_vec();
    tls.write_tls(&mut first)?;
    stream.write_all(&first)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    tls.send_close_notify();
    tls.complete_io(&mut stream)?;
    loop {
        if tls.read_tls(&mut stream)? == 0 {
            return Ok(());
        }
        if tls.process_new_packets().map_err(io::Error::other)?.peer_has_closed() {
            return Ok(());
        }
    }
}
