//! What WebSockets are told on either stack, and tokio's: yawc over the upgrade of `http/1.1`.

use std::future::Future;
use std::sync::LazyLock;

use bytes::Bytes;
use clap::ValueEnum;
use futures_util::SinkExt;
use handfast::websocket::Deflate;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::{Request, Response, StatusCode};
use yawc::{DeflatePool, OpCode, Options, WebSocket};

/// What the WebSocket library is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Settings {
    /// Nothing: its defaults, without permessage-deflate.
    Plain,
    /// Nothing but to compress when a client offers it.
    Deflate,
    /// The same, without context takeover on either side.
    DeflateNoContext,
    /// Small buffers.
    PlainLean,
    /// Small buffers, and a compressor that is borrowed for each message; what the client sends keeps its context.
    DeflateLean,
    /// Small buffers, and all state of compression borrowed for each message.
    DeflateNoContextLean,
}

/// Between messages, a lean socket keeps buffers of this size, which is Handfast's default; frames may be larger.
const LEAN_BUFFER_BYTES: usize = 1024;
/// Idle states of compression that are kept for all sockets.
const POOLED: usize = 8;

static POOL: LazyLock<DeflatePool> = LazyLock::new(|| DeflatePool::new(POOLED));

impl Settings {
    /// permessage-deflate in Handfast's terms. Its buffers are small unless it is told otherwise.
    pub(super) fn deflate(self) -> Option<Deflate> {
        let mut deflate = Deflate::default();
        match self {
            Self::Plain | Self::PlainLean => return None,
            Self::Deflate => {}
            Self::DeflateLean => deflate.server_no_context_takeover = true,
            Self::DeflateNoContext | Self::DeflateNoContextLean => deflate = Deflate::without_context_takeover(),
        }
        Some(deflate)
    }

    pub(crate) fn options(self) -> Options {
        let options = Options::default();
        let lean = |options: Options| {
            options.with_read_buffer_capacity(LEAN_BUFFER_BYTES).with_write_buffer_capacity(LEAN_BUFFER_BYTES)
        };
        let deflate = |options: Options| options.with_compression_level(yawc::CompressionLevel::default());
        match self {
            Self::Plain => options,
            Self::Deflate => deflate(options),
            Self::DeflateNoContext => deflate(options).server_no_context_takeover().client_no_context_takeover(),
            Self::PlainLean => lean(options),
            Self::DeflateLean => lean(deflate(options)).server_no_context_takeover().with_deflate_pool(POOL.clone()),
            Self::DeflateNoContextLean => lean(deflate(options))
                .server_no_context_takeover()
                .client_no_context_takeover()
                .with_deflate_pool(POOL.clone()),
        }
    }
}

/// The answer to a request for a WebSocket and the future that echoes on it; `None` for any other request.
pub(super) fn accept(
    request: &mut Request<Incoming>,
    settings: Settings,
) -> Option<(Response<Full<Bytes>>, Option<impl Future<Output = ()> + Send + 'static + use<>>)> {
    request.headers().get(UPGRADE)?;
    let Ok((response, upgrade)) = WebSocket::upgrade_with_options(request, settings.options()) else {
        return Some((super::status(StatusCode::BAD_REQUEST), None));
    };
    let echo = async move {
        let Ok(mut socket) = upgrade.await else { return };
        while let Ok(frame) = socket.next_frame().await {
            if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) && socket.send(frame).await.is_err() {
                return;
            }
        }
    };
    Some((response.map(|_| Full::default()), Some(echo)))
}
