//! A server's part of the opening (RFC 6455 section 4.2, RFC 8441 section 5).

use std::fmt;

#[cfg(feature = "h2")]
use hyper::ext::Protocol;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::uri::Authority;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use yawc::Role;

use super::io::{Below, Io};
use super::message::Text;
use super::options::{Options, Origins};
use super::socket::{Agreed, WebSocket};
use super::{Timer, accept_key, deflate, elements, has_token};
use crate::error::Culprit;
use crate::shard::Draining;
#[cfg(feature = "h2")]
use crate::tunnel::OnTunnel;

/// Whether a request asks for a WebSocket, rightly or not.
#[must_use]
pub fn is_opening<B>(request: &Request<B>) -> bool {
    match request.version() {
        Version::HTTP_2 => connect_protocol(request).is_some_and(is_websocket),
        _ => has_token(request.headers(), UPGRADE, "websocket"),
    }
}

/// Why a request did not become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpeningRefusal {
    /// It asks for something else: 426 (RFC 9110 section 15.5.22), 400 over HTTP/2, which has no upgrade.
    NotWebSocket,
    /// It asks for another protocol by extended CONNECT: 501 (RFC 9220 section 3).
    OtherProtocol,
    /// It asks for another version than 13 (RFC 6455 section 4.4): 426, 400 over HTTP/2.
    WrongVersion,
    /// It breaks the rules of the opening (RFC 6455 section 4.2.1): 400.
    Malformed,
    /// It comes from a page that may not (RFC 6455 section 10.2): 403.
    Origin,
}

/// An opening that was found right, before its answer has left.
#[must_use = "a WebSocket that nobody opens is closed"]
pub struct Accepted {
    opening: Opening,
    agreed: Agreed,
    options: Options,
}

/// What becomes of the request once its answer has left.
enum Opening {
    Upgrade(OnUpgrade),
    #[cfg(feature = "h2")]
    Tunnel(OnTunnel),
}

impl Opening {
    #[cfg(feature = "h2")]
    fn of<B>(request: &mut Request<B>) -> Self {
        OnTunnel::of(request).map_or_else(|| Self::Upgrade(hyper::upgrade::on(request)), Self::Tunnel)
    }

    #[cfg(not(feature = "h2"))]
    fn of<B>(request: &mut Request<B>) -> Self {
        Self::Upgrade(hyper::upgrade::on(request))
    }

    async fn open(self) -> Option<Below> {
        match self {
            Self::Upgrade(upgrade) => Some(Below::Upgraded(TokioIo::new(upgrade.await.ok()?))),
            #[cfg(feature = "h2")]
            Self::Tunnel(tunnel) => Some(Below::Tunnel(tunnel.await?)),
        }
    }
}

/// Judges a request, and gives the answer to send with what becomes the WebSocket after it.
///
/// The server must be told to expect it: `with_upgrades` of hyper's HTTP/1.1 connections, `enable_connect_protocol` of
/// its HTTP/2 builder. Inside a service of Handfast's workers use [`upgrade`](crate::worker::websocket::upgrade),
/// which does the rest as well; this is for other runtimes:
///
/// ```
/// use std::sync::Arc;
///
/// use handfast::websocket::{Options, Timer, server};
/// use hyper::{Request, Response};
///
/// fn chat<B>(mut request: Request<B>, timer: Timer) -> Response<()> {
///     match server::accept(&mut request, &Options::default()) {
///         Ok((response, accepted)) => {
///             tokio::spawn(async move {
///                 if let Some(mut socket) = accepted.open(timer).await {
///                     let _ = socket.send("hello").await;
///                 }
///             });
///             response
///         }
///         Err(refusal) => refusal.response(request.version()),
///     }
/// }
/// ```
///
/// # Errors
/// Why not; [`OpeningRefusal::response`] is the answer to it.
pub fn accept<B>(request: &mut Request<B>, options: &Options) -> Result<(Response<()>, Accepted), OpeningRefusal> {
    let mut response = match request.version() {
        Version::HTTP_2 => connected(request)?,
        _ => switched(request)?,
    };
    let headers = request.headers();
    if !is_admitted(request.uri(), headers, &options.origins) {
        return Err(OpeningRefusal::Origin);
    }
    let mut agreed = Agreed::default();
    if let Some((chosen, value)) = subprotocol(headers, options) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        agreed.subprotocol = Some(chosen);
    }
    if let Some(parameters) = options.deflate.as_ref().and_then(|ours| deflate::answer(headers, ours)) {
        let text = parameters.to_string();
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, value);
            agreed.extensions = Some(text);
        }
    }
    Ok((response, Accepted { opening: Opening::of(request), agreed, options: options.clone() }))
}

impl Accepted {
    /// The WebSocket, once the answer has left; `None` when the connection ended before.
    pub async fn open(self, timer: Timer) -> Option<WebSocket> {
        self.open_until(timer, None).await
    }

    /// As [`open`](Self::open); a drain of the shard closes it.
    pub(crate) async fn open_until(self, timer: Timer, draining: Option<Draining>) -> Option<WebSocket> {
        let below = self.opening.open().await?;
        WebSocket::new(Io::of_server(below), Role::Server, &self.options, &self.agreed, timer, draining).ok()
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}

impl OpeningRefusal {
    /// The answer to a request of this version of HTTP; its body is for you to fill.
    #[must_use]
    pub fn response(self, version: Version) -> Response<()> {
        let http2 = version == Version::HTTP_2;
        let mut response = Response::new(());
        *response.status_mut() = match self {
            Self::NotWebSocket | Self::WrongVersion if !http2 => StatusCode::UPGRADE_REQUIRED,
            Self::NotWebSocket | Self::WrongVersion | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::OtherProtocol => StatusCode::NOT_IMPLEMENTED,
            Self::Origin => StatusCode::FORBIDDEN,
        };
        let headers = response.headers_mut();
        if matches!(self, Self::NotWebSocket | Self::WrongVersion) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            if !http2 {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
        }
        response
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(self) -> Culprit {
        Culprit::Peer
    }
}

impl fmt::Display for OpeningRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWebSocket => "this is a WebSocket: ask for it by upgrade, or by extended CONNECT over HTTP/2",
            Self::OtherProtocol => "extended CONNECT leads to `websocket` alone",
            Self::WrongVersion => "the version of WebSocket spoken here is 13",
            Self::Malformed => "no WebSocket handshake",
            Self::Origin => "WebSockets are not for pages of this origin",
        })
    }
}

impl std::error::Error for OpeningRefusal {}

fn is_websocket(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case("websocket")
}

/// What extended CONNECT asks for (RFC 8441 section 4).
#[cfg(feature = "h2")]
fn connect_protocol<B>(request: &Request<B>) -> Option<&str> {
    let extensions = request.extensions();
    // Ours, and those of a hyper server.
    let protocol = extensions.get().map(h2::ext::Protocol::as_str).or_else(|| extensions.get().map(Protocol::as_str));
    protocol.filter(|_| *request.method() == Method::CONNECT)
}

#[cfg(not(feature = "h2"))]
const fn connect_protocol<B>(_: &Request<B>) -> Option<&str> {
    None
}

/// RFC 8441 section 5.
fn connected<B>(request: &Request<B>) -> Result<Response<()>, OpeningRefusal> {
    if !is_websocket(connect_protocol(request).ok_or(OpeningRefusal::NotWebSocket)?) {
        return Err(OpeningRefusal::OtherProtocol);
    }
    check_version(request.headers())?;
    Ok(Response::new(()))
}

/// RFC 6455 section 4.2.1.
fn switched<B>(request: &Request<B>) -> Result<Response<()>, OpeningRefusal> {
    let headers = request.headers();
    if !has_token(headers, UPGRADE, "websocket") {
        return Err(OpeningRefusal::NotWebSocket);
    }
    check_version(headers)?;
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    // Sixteen bytes in base64.
    let key = keys.next().filter(|k| keys.next().is_none() && k.len() == 24 && k.as_bytes().ends_with(b"=="));
    let right = *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, CONNECTION, "upgrade");
    let key = key.filter(|_| right).ok_or(OpeningRefusal::Malformed)?;
    let accept = HeaderValue::try_from(accept_key(key.as_bytes())).map_err(|_| OpeningRefusal::Malformed)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// RFC 6455 section 4.4.
fn check_version(headers: &HeaderMap) -> Result<(), OpeningRefusal> {
    let right = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if right { Ok(()) } else { Err(OpeningRefusal::WrongVersion) }
}

/// The first of ours that the client offers as well.
fn subprotocol(headers: &HeaderMap, options: &Options) -> Option<(Text, HeaderValue)> {
    let is_offered = |ours: &&String| elements(headers, SEC_WEBSOCKET_PROTOCOL).any(|theirs| theirs == ours.as_str());
    let chosen = options.subprotocols.iter().find(is_offered)?;
    Some((Text::from(chosen.as_str()), HeaderValue::from_str(chosen).ok()?))
}

fn is_admitted(uri: &Uri, headers: &HeaderMap, origins: &Origins) -> bool {
    if *origins == Origins::Any {
        return true;
    }
    let mut given = headers.get_all(ORIGIN).iter();
    let Some(origin) = given.next() else { return true };
    let Some(origin) = origin.to_str().ok().filter(|_| given.next().is_none()) else { return false };
    match origins {
        Origins::Any => true,
        Origins::List(list) => list.iter().any(|one| one.eq_ignore_ascii_case(origin)),
        Origins::SameHost => {
            // HTTP/2 has the host in the request's target (RFC 9113 section 8.3.1).
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
            let asked = uri.authority().cloned().or(host);
            let origin = origin.strip_prefix("https://").and_then(|rest| rest.parse::<Authority>().ok());
            asked.zip(origin).is_some_and(|(asked, origin)| place(&asked) == place(&origin))
        }
    }
}

/// Host and port of an `https` authority (RFC 6454 section 4).
fn place(authority: &Authority) -> (String, u16) {
    (authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(443))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(origins: &Origins, uri: &str, host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        is_admitted(&uri.parse().unwrap(), &headers, origins)
    }

    #[test]
    fn only_pages_of_the_same_host_and_port_are_admitted_by_default() {
        let origins = Options::default().origins;
        for (uri, host, origin, expected) in [
            ("/ws", Some("a.example"), Some("https://a.example"), true),
            ("/ws", Some("A.example:443"), Some("https://a.example"), true),
            ("/ws", Some("a.example:8443"), Some("https://a.example:8443"), true),
            ("https://a.example/ws", None, Some("https://a.example"), true),
            ("https://[::1]:7/ws", None, Some("https://[::1]:7"), true),
            ("/ws", Some("a.example"), None, true),
            ("/ws", Some("a.example"), Some("http://a.example"), false),
            ("/ws", Some("a.example"), Some("https://a.example:8443"), false),
            ("/ws", Some("a.example"), Some("https://a.example.evil"), false),
            ("/ws", Some("a.example"), Some("null"), false),
            ("/ws", None, Some("https://a.example"), false),
        ] {
            assert_eq!(admitted(&origins, uri, host, origin), expected, "{uri} {host:?} {origin:?}");
        }
    }

    #[test]
    fn listed_origins_are_admitted_and_others_are_not() {
        let origins = Origins::List(vec!["https://a.example".into()]);
        assert!(admitted(&origins, "/", Some("b"), Some("https://A.example")));
        assert!(!admitted(&origins, "/", Some("b.example"), Some("https://b.example")));
        assert!(admitted(&Origins::Any, "/", None, Some("null")));
    }
}
