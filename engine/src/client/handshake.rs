//! The handshake over any asynchronous I/O.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ClientStream;
use super::error::Failure;
use super::keys;
use crate::crypto::batch::Batch;
use crate::handshake::Session;
use crate::tls_stream::{Backlog, TlsStream};

/// Bytes read at a time: a server's flight is rarely more.
const READ_BYTES: usize = 4096;

pub(super) async fn handshake<IO: AsyncRead + AsyncWrite + Unpin>(
    tls: &Arc<ClientConfig>,
    batch: Option<Batch>,
    mut io: IO,
    name: &ServerName<'static>,
) -> Result<ClientStream<IO>, Failure> {
    let make = || UnbufferedClientConnection::new(Arc::clone(tls), name.clone());
    let (conn, mut exchange) = keys::with_pool(batch, make);
    let mut session = Session::new(conn.map_err(Failure::Config)?);
    let (mut backlog, mut out) = (Backlog::default(), Vec::new());
    let mut read = vec![0; READ_BYTES];
    let mut arrived = 0;
    loop {
        let received = session.receive(&mut read[..arrived], &mut backlog.received, &mut out);
        let sent = send(&mut io, &mut out).await;
        match received {
            // The alert tells the server why; it may be gone already.
            Err(error) => return Err(Failure::Tls(error)),
            Ok(received) => backlog.peer_closed |= received.peer_closed,
        }
        sent.map_err(Failure::Io)?;
        if !session.common().is_handshaking() {
            return Ok(TlsStream::new(io, session, backlog));
        }
        arrived = io.read(&mut read).await.map_err(Failure::Io)?;
        if arrived == 0 {
            return Err(Failure::Closed);
        }
        exchange.answered(&read[..arrived]).await;
    }
}

async fn send(io: &mut (impl AsyncWrite + Unpin), out: &mut Vec<u8>) -> std::io::Result<()> {
    if !out.is_empty() {
        io.write_all(out).await?;
        io.flush().await?;
        out.clear();
    }
    Ok(())
}
