//! The service on tokio's current-thread runtime with tokio-rustls: same rustls, provider, tickets, limits of hyper
//! and allocator.

use std::sync::Arc;

use handfast::rustls::ServerConfig;
use handfast::rustls::crypto::aws_lc_rs::Ticketer;
use handfast::rustls::pki_types::pem::PemObject;
use handfast::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use handfast::rustls::server::NoServerSessionStorage;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::websocket::Settings;
use super::{Error, ServeArgs, respond, websocket};

pub(super) fn serve(args: &ServeArgs) -> Result<(), Error> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(args)?));
    let settings = args.websocket;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(4096)?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            // One that is gone before it is accepted is no reason to stop.
            if let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(converse(acceptor.clone(), tcp, settings));
            }
        }
    })
}

fn tls(args: &ServeArgs) -> Result<ServerConfig, Error> {
    let chain = CertificateDer::pem_file_iter(&args.cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(handfast::crypto::provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&args.key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.ticketer = Ticketer::new()?;
    Ok(config)
}

async fn converse(acceptor: TlsAcceptor, tcp: TcpStream, settings: Settings) {
    let _ = tcp.set_nodelay(true);
    let Ok(tls) = acceptor.accept(tcp).await else { return };
    // How it ended is between hyper and the client.
    let _ = if tls.get_ref().1.alpn_protocol() == Some(b"h2") { h2(tls).await } else { h1(tls, settings).await };
}

async fn h2(tls: TlsStream<TcpStream>) -> hyper::Result<()> {
    let limits = handfast::worker::http2::Options::default();
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.concurrent_streams_max)
        .max_header_list_size(limits.header_list_bytes_max)
        .max_pending_accept_reset_streams(limits.pending_resets_max)
        .max_local_error_reset_streams(limits.local_resets_max)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_frame_size(limits.frame_bytes_max)
        .max_send_buf_size(limits.send_buffer_bytes_max)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        .serve_connection(TokioIo::new(tls), service_fn(respond))
        .await
}

/// hyper's own limit on the number of fields is ours too, and costs nothing unless it is set.
async fn h1(tls: TlsStream<TcpStream>, settings: Settings) -> hyper::Result<()> {
    let limits = handfast::worker::http1::Options::default();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let upgraded = websocket::accept(&mut request, settings).map(|(response, echo)| {
            echo.into_iter().for_each(|echo| drop(tokio::spawn(echo)));
            response
        });
        async move {
            match upgraded {
                Some(response) => Ok(response),
                None => respond(request).await,
            }
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(super::IDLE)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(limits.buffer_bytes_max)
        .serve_connection(TokioIo::new(tls), service)
        .with_upgrades()
        .await
}
