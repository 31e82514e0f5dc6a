//! The servers that are compared: one service, on Handfast and on tokio with tokio-rustls.

mod handfast_stack;
mod tokio_stack;
mod websocket;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::{Method, Request, Response, StatusCode};

pub(crate) use websocket::Settings;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long the handler of `/sleep` blocks its thread.
const SLEEP: Duration = Duration::from_millis(50);

/// How long a connection of `http/1.1` may idle: longer than any bench.
const IDLE: Duration = Duration::from_secs(3600);

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stack {
    /// The engine of this workspace.
    Handfast,
    /// tokio's current-thread runtime with tokio-rustls.
    Tokio,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// What serves
    #[arg(long, value_enum)]
    pub(crate) stack: Stack,
    /// Certificate chain (PEM)
    #[arg(long)]
    pub(crate) cert: PathBuf,
    /// Private key (PEM)
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Pin the whole process to this core
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Worker threads of Handfast; 0 keeps connections on their shard
    #[arg(long, default_value_t = 0)]
    pub(crate) workers: usize,
    /// What the WebSocket library is told
    #[arg(long, value_enum, default_value_t = Settings::Plain)]
    pub(crate) websocket: Settings,
    /// Let the allocator have transparent huge pages, as it does when nobody says otherwise
    #[arg(long)]
    pub(crate) huge_pages: bool,
}

/// Serves until the process is ended.
pub(crate) fn serve(args: &ServeArgs) -> Result<(), Error> {
    if let Some(core) = args.core {
        handfast_bench::servers::pin_to(core)?;
    }
    if !args.huge_pages {
        rustix::thread::disable_transparent_huge_pages(true)?;
    }
    handfast::transport::tcp::raise_descriptor_limit()?;
    match args.stack {
        Stack::Handfast => handfast_stack::serve(args),
        Stack::Tokio => tokio_stack::serve(args),
    }
}

/// The service: a small body for a GET, its own content for a POST, and a handler that blocks.
async fn respond<B: Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, content) = request.into_parts();
    let body = match (&head.method, head.uri.path()) {
        (&Method::POST, _) => match content.collect().await {
            Ok(content) => content.to_bytes(),
            Err(_) => return Ok(status(StatusCode::BAD_REQUEST)),
        },
        (_, "/sleep") => {
            std::thread::sleep(SLEEP);
            Bytes::from_static(b"slept\n")
        }
        _ => Bytes::from_static(b"hello, world\n"),
    };
    Ok(Response::new(Full::new(body)))
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
