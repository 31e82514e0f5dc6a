//! A client's part of the opening (RFC 6455 section 4.1, RFC 8441 section 5), over a connection that is there already.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
#[cfg(feature = "h2")]
use std::pin::Pin;
use std::pin::pin;
use std::task::Poll;
#[cfg(feature = "h2")]
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
#[cfg(feature = "h2")]
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
#[cfg(feature = "h2")]
use hyper::client::conn::http2;
#[cfg(feature = "h2")]
use hyper::ext::Protocol;
use hyper::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::{request, response, uri};
#[cfg(feature = "h2")]
use hyper::rt::Executor;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use yawc::Role;

use super::io::Io;
use super::message::Text;
use super::options::Options;
use super::socket::{Agreed, WebSocket};
use super::{Timer, accept_key, deflate, elements, has_token};
use crate::error::Culprit;

/// How long the server's SETTINGS may take to say that it understands extended CONNECT, once the connection is there.
#[cfg(feature = "h2")]
const SETTINGS_WAIT: Duration = Duration::from_secs(2);
/// How often they are looked for: hyper does not say when they come.
#[cfg(feature = "h2")]
const SETTINGS_INTERVAL: Duration = Duration::from_millis(5);

/// What is wrong with a server's answer (RFC 6455 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerFault {
    /// It does not switch to `websocket` in so many words.
    Upgrade,
    /// It does not answer the key: the server, or something before it, does not know WebSocket.
    Accept,
    /// It chose a subprotocol that was not offered.
    Subprotocol,
    /// It chose an extension that was not offered, or parameters against RFC 7692 section 7.1.
    Extension,
}

/// Why an opening came to nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The request has no host in its target.
    NoHost,
    /// A subprotocol that is offered is no token (RFC 6455 section 4.1).
    Subprotocol {
        /// What was given.
        name: String,
    },
    /// The server answered with another status than 101, or 200 over HTTP/2. Headers tell more: a redirection has its
    /// `Location`, 401 its `WWW-Authenticate`.
    Refused(Box<response::Parts>),
    /// The answer breaks the rules.
    Answer(AnswerFault),
    /// The server does not take WebSockets over HTTP/2: its SETTINGS do not say so (RFC 8441 section 3). Try HTTP/1.1.
    NoExtendedConnect,
    /// The connection or the HTTP on it failed.
    Http(hyper::Error),
    /// This machine has no random numbers.
    Randomness,
}

/// Opens a WebSocket over a new connection that speaks `http/1.1`.
///
/// `request` has the target, as `wss://localhost/chat`, and headers of yours, as `Authorization` and `Origin`; what
/// makes it an opening is put in here. The response's head comes back with the WebSocket. There is no deadline: whoever
/// has a clock sets one. The connection is driven in here and afterwards by the WebSocket, so nothing is spawned.
///
/// # Errors
/// Why there is no WebSocket. The connection is gone in each case.
pub async fn open_http1<I>(
    io: I,
    request: Request<()>,
    options: &Options,
    timer: Timer,
) -> Result<(WebSocket, response::Parts), OpenError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut head, ()) = request.into_parts();
    let authority = head.uri.authority().cloned().ok_or(OpenError::NoHost)?;
    if !head.headers.contains_key(HOST) {
        let host = HeaderValue::from_str(host(&authority).as_str()).map_err(|_| OpenError::NoHost)?;
        head.headers.insert(HOST, host);
    }
    let path = head.uri.path_and_query().cloned();
    head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    (head.method, head.version) = (Method::GET, Version::HTTP_11);
    let key = new_key()?;
    head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    offer(&mut head, options)?;

    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(OpenError::Http)?;
    let exchange = async {
        let request = Request::from_parts(head, Empty::<Bytes>::new());
        let response = sender.send_request(request).await.map_err(OpenError::Http)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(OpenError::Refused(Box::new(response.into_parts().0)));
        }
        check_switch(&response, &key)?;
        let agreed = agreed(&response, options)?;
        upgraded(response).await.map(|(upgraded, head)| (upgraded, head, agreed))
    };
    let (upgraded, head, agreed) = driven(exchange, connection.with_upgrades()).await?;
    Ok((socket(upgraded, options, &agreed, timer)?, head))
}

/// Opens a WebSocket over a new connection that speaks `h2`, by extended CONNECT.
///
/// `executor` drives the connection, for as long as the WebSocket lives: hyper-util's `TokioExecutor`, or any other
/// that runs what it is given. For the rest see [`open_http1`].
///
/// # Errors
/// Why there is no WebSocket. The connection is gone in each case.
#[cfg(feature = "h2")]
pub async fn open_http2<I, E>(
    io: I,
    request: Request<()>,
    options: &Options,
    timer: Timer,
    executor: E,
) -> Result<(WebSocket, response::Parts), OpenError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    E: Executor<Driver> + Clone + Send + Sync + Unpin + 'static,
{
    let driver = executor.clone();
    let (mut sender, connection) = http2::Builder::new(Boxing(executor))
        // No stream is opened before the server's SETTINGS, and so they are noticed.
        .initial_max_send_streams(0)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(io))
        .await
        .map_err(OpenError::Http)?;
    let patience = timer.now() + SETTINGS_WAIT;
    while !connection.is_extended_connect_protocol_enabled() {
        if sender.is_closed() || connection.current_max_send_streams() > 0 || timer.now() >= patience {
            return Err(OpenError::NoExtendedConnect);
        }
        timer.sleep(SETTINGS_INTERVAL).await;
    }
    driver.execute(Box::pin(async move {
        // How it ends, the WebSocket learns by itself.
        let _ = connection.await;
    }));
    open_stream(&mut sender, request, options, timer).await
}

/// Opens a WebSocket as one stream of a connection that others use as well.
///
/// Whoever made the connection drives it, and knows that the server takes such streams:
/// [`is_extended_connect_protocol_enabled`](http2::Connection::is_extended_connect_protocol_enabled). For the rest see
/// [`open_http1`].
///
/// # Errors
/// Why there is no WebSocket; other streams of the connection go on.
#[cfg(feature = "h2")]
pub async fn open_stream<B>(
    sender: &mut http2::SendRequest<B>,
    request: Request<()>,
    options: &Options,
    timer: Timer,
) -> Result<(WebSocket, response::Parts), OpenError>
where
    B: Body + Default + 'static,
{
    let (mut head, ()) = request.into_parts();
    let authority = head.uri.authority().cloned().ok_or(OpenError::NoHost)?;
    let mut uri = uri::Builder::new().scheme("https").authority(host(&authority).as_str());
    uri = uri.path_and_query(head.uri.path_and_query().map_or("/", uri::PathAndQuery::as_str));
    head.uri = uri.build().map_err(|_| OpenError::NoHost)?;
    (head.method, head.version) = (Method::CONNECT, Version::HTTP_2);
    head.extensions.insert(Protocol::from_static("websocket"));
    offer(&mut head, options)?;

    sender.ready().await.map_err(OpenError::Http)?;
    let response = sender.send_request(Request::from_parts(head, B::default())).await.map_err(OpenError::Http)?;
    if response.status() != StatusCode::OK {
        return Err(OpenError::Refused(Box::new(response.into_parts().0)));
    }
    let agreed = agreed(&response, options)?;
    let (upgraded, head) = upgraded(response).await?;
    Ok((socket(upgraded, options, &agreed, timer)?, head))
}

/// What drives a connection or a stream of it.
#[cfg(feature = "h2")]
pub type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// hyper's own futures have no names.
#[cfg(feature = "h2")]
#[derive(Clone)]
struct Boxing<E>(E);

#[cfg(feature = "h2")]
impl<E: Executor<Driver>, F: Future<Output = ()> + Send + 'static> Executor<F> for Boxing<E> {
    fn execute(&self, future: F) {
        self.0.execute(Box::pin(future));
    }
}

fn socket(upgraded: Upgraded, options: &Options, agreed: &Agreed, timer: Timer) -> Result<WebSocket, OpenError> {
    let io = Io::of_client(upgraded);
    let socket = WebSocket::new(io, Role::Client, options, agreed, timer, None);
    // It has its extensions from `agreed`, which makes none up.
    socket.map_err(|_| OpenError::Answer(AnswerFault::Extension))
}

/// What an opening has over either version of HTTP.
fn offer(head: &mut request::Parts, options: &Options) -> Result<(), OpenError> {
    head.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if !options.subprotocols.is_empty() {
        for name in &options.subprotocols {
            // The grammar of a token is that of a header's name (RFC 9110 sections 5.1 and 5.6.2).
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(OpenError::Subprotocol { name: name.clone() });
            }
        }
        if let Ok(value) = HeaderValue::from_str(&options.subprotocols.join(", ")) {
            head.headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    let offered = options.deflate.as_ref().map(|ours| deflate::offer(ours).to_string());
    if let Some(value) = offered.and_then(|text| HeaderValue::from_str(&text).ok()) {
        head.headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
    }
    Ok(())
}

/// Sixteen random bytes (RFC 6455 section 4.1).
fn new_key() -> Result<HeaderValue, OpenError> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).map_err(|_| OpenError::Randomness)?;
    HeaderValue::try_from(BASE64_STANDARD.encode(nonce)).map_err(|_| OpenError::Randomness)
}

/// Without the port that `wss` has anyway (RFC 6455 section 3), and without a name and password.
fn host(authority: &uri::Authority) -> String {
    match authority.port_u16() {
        Some(port) if port != 443 => format!("{}:{port}", authority.host()),
        _ => authority.host().to_owned(),
    }
}

fn check_switch<B>(response: &Response<B>, key: &HeaderValue) -> Result<(), OpenError> {
    let headers = response.headers();
    if !has_token(headers, UPGRADE, "websocket") || !has_token(headers, CONNECTION, "upgrade") {
        return Err(OpenError::Answer(AnswerFault::Upgrade));
    }
    let mut answers = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    let answer = answers.next().filter(|_| answers.next().is_none());
    if answer.is_none_or(|answer| *answer != accept_key(key.as_bytes())) {
        return Err(OpenError::Answer(AnswerFault::Accept));
    }
    Ok(())
}

fn agreed<B>(response: &Response<B>, options: &Options) -> Result<Agreed, OpenError> {
    let mut chosen = elements(response.headers(), SEC_WEBSOCKET_PROTOCOL);
    let subprotocol = chosen.next();
    let offered = subprotocol.is_none_or(|name| options.subprotocols.iter().any(|ours| ours == name));
    if !offered || chosen.next().is_some() {
        return Err(OpenError::Answer(AnswerFault::Subprotocol));
    }
    let extensions = deflate::agreed(response.headers(), options.deflate.as_ref())
        .map_err(|()| OpenError::Answer(AnswerFault::Extension))?;
    Ok(Agreed { subprotocol: subprotocol.map(Text::from), extensions: extensions.map(|p| p.to_string()) })
}

async fn upgraded(mut response: Response<Incoming>) -> Result<(Upgraded, response::Parts), OpenError> {
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(OpenError::Http)?;
    Ok((upgraded, response.into_parts().0))
}

/// `exchange`, while `connection` is driven beside it.
async fn driven<T>(
    exchange: impl Future<Output = Result<T, OpenError>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<T, OpenError> {
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    let mut driving = true;
    poll_fn(|cx| {
        if driving && let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            driving = false;
            if let Err(error) = ended {
                return Poll::Ready(Err(OpenError::Http(error)));
            }
        }
        exchange.as_mut().poll(cx)
    })
    .await
}

impl OpenError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        match self {
            Self::NoHost | Self::Subprotocol { .. } => Culprit::Config,
            Self::Randomness => Culprit::Local,
            Self::Refused(_) | Self::Answer(_) | Self::NoExtendedConnect | Self::Http(_) => Culprit::Peer,
        }
    }
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgrade => "does not switch to `websocket`",
            Self::Accept => "does not answer the key; does a server that knows WebSocket listen there?",
            Self::Subprotocol => "chooses a subprotocol that was not offered",
            Self::Extension => "chooses an extension that was not offered, or wrong parameters",
        })
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => f.write_str("the target of a WebSocket has no host: write `wss://host/path`"),
            Self::Subprotocol { name } => write!(f, "`{}` is no name of a subprotocol", name.escape_debug()),
            Self::Refused(head) => write!(f, "the server refused the WebSocket with status {}", head.status),
            Self::Answer(fault) => write!(f, "the server's answer to the WebSocket's opening {fault}"),
            Self::NoExtendedConnect => {
                f.write_str("the server takes no WebSockets over HTTP/2 (RFC 8441); try http/1.1")
            }
            Self::Http(error) => write!(f, "the WebSocket's opening failed: {error}"),
            Self::Randomness => f.write_str("there are no random numbers"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Http(error) => Some(error),
            _ => None,
        }
    }
}
