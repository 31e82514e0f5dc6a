//! The service on Handfast: one shard, and worker threads if asked for. It listens on 127.0.0.2 as well, with the same
//! port.

use std::sync::Arc;

use hyper::Request;
use hyper::header::UPGRADE;
use hyper::service::service_fn;

use handfast::identity::{CertificateSet, Identity};
use handfast::transport::tcp::Endpoint;
use handfast::websocket::{Options, Origins, WebSocket};
use handfast::{Engine, Pin, Placement, Protocol, worker};

use super::{Error, ServeArgs, respond};

/// A protocol of nothing but handshakes.
const CLOSE: &str = "close/1";

pub(super) fn serve(args: &ServeArgs) -> Result<(), Error> {
    let identity = Identity::from_files(&args.cert, &args.key, &handfast::crypto::provider())?;
    let mut options = Options::default();
    options.origins = Origins::Any;
    options.deflate = args.websocket.deflate();
    // The other stack sends no Pings either, and the client, which only counts, answers none.
    options.keep_alive = None;
    let options = Arc::new(options);
    let mut limits = worker::http1::Options::default();
    limits.header_read_timeout = super::IDLE;
    let http1 = worker::http1::serve_with(limits, move |connection| {
        let (connection, options) = (connection.clone(), Arc::clone(&options));
        service_fn(move |mut request: Request<worker::Body>| {
            let opening = request.headers().contains_key(UPGRADE);
            let upgraded = opening
                .then(|| worker::websocket::upgrade(&connection, &mut request, &options, |socket, _| echo(socket)));
            async move {
                match upgraded {
                    Some(response) => Ok(response),
                    None => respond(request).await,
                }
            }
        })
    });
    let placement = if args.workers == 0 { Placement::SharedCore } else { Placement::Threads(args.workers) };
    let port = free_port()?;
    let engine = Engine::builder()
        .listen(format!("127.0.0.1:{port}").parse::<Endpoint>()?)
        .listen(format!("127.0.0.2:{port}").parse::<Endpoint>()?)
        .shards(1)
        .pin(Pin::Off)
        .workers(placement)
        .certificates(CertificateSet::new("default", vec![identity])?)
        .protocol(Protocol::h2().worker(worker::http2::serve(|_| service_fn(respond))))
        .protocol(Protocol::alpn("http/1.1").worker(http1))
        .protocol(Protocol::alpn(CLOSE).close())
        .start()?;
    println!("listening on {}", engine.handle().endpoints()[0]);
    engine.join()?;
    Ok(())
}

async fn echo(mut socket: WebSocket) {
    while let Ok(Some(message)) = socket.receive().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// A port that both addresses can have. Somebody may take it meanwhile; then the engine says so.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
