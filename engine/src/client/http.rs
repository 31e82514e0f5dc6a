//! HTTP requests over one connection, `h2` or `http/1.1` as ALPN settles it, by hyper.
//!
//! ```no_run
//! use handfast::client::Client;
//! use http_body_util::{BodyExt, Empty};
//! use hyper::Request;
//! use hyper::body::Bytes;
//!
//! # async fn get() -> Result<(), Box<dyn std::error::Error>> {
//! let http = Client::builder().build()?.http("example.org:443").await?;
//! println!("{:?}", http.version());
//! let request = Request::get("/").body(Empty::<Bytes>::new())?;
//! let response = http.send(request).await?;
//! let content = response.into_body().collect().await?.to_bytes();
//! # drop(content);
//! # Ok(())
//! # }
//! ```
//!
//! This is one connection: no pool, no redirects, no cookies, no proxies. For those there is reqwest; this is for
//! whoever wants to know what a connection negotiated, and to keep it.
//!
//! A protocol that takes the connection over, such as WebSocket, begins with a request here (an upgrade, RFC 9110
//! section 7.8, or an extended CONNECT, RFC 8441) and goes on with [`hyper::upgrade::on`] the response, on both
//! versions alike.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::config::Config;
use super::error::ClientError;
use super::target::{Target, server_name};
use super::tokio::{open, resolve};
use super::{Client, ClientStream};

pub(super) const H2: &[u8] = b"h2";
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// A request's content, of whatever kind.
type Content = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Why a request has no response.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpError {
    /// The request cannot be written: its target or its host makes no sense.
    Request(http::Error),
    /// The connection had ended before the request was sent: the server has not seen it, and it may be sent again over
    /// another one.
    Closed,
    /// The connection ended before the response was complete: nobody knows how much the server has done.
    Interrupted(hyper::Error),
    /// The request's content, the server's response, or HTTP's rules between them failed.
    Failed(hyper::Error),
}

impl HttpError {
    fn of(error: hyper::Error) -> Self {
        if error.is_canceled() || error.is_closed() {
            Self::Closed
        } else if error.is_incomplete_message() || error.source().is_some_and(|e| e.is::<io::Error>()) {
            Self::Interrupted(error)
        } else {
            Self::Failed(error)
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(e) => write!(f, "the request cannot be sent: {e}; give it a path and a valid host"),
            Self::Closed => f.write_str("the connection ended before the request was sent: send it over another one"),
            Self::Interrupted(e) => write!(f, "the connection ended before the response was complete: {e}"),
            Self::Failed(e) => write!(f, "no response: {e}"),
        }
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Request(e) => Some(e),
            Self::Interrupted(e) | Self::Failed(e) => Some(e),
            Self::Closed => None,
        }
    }
}

/// One connection to an HTTP server.
///
/// A task on the current tokio runtime drives it. Dropping it lets the requests under way end, then closes: GOAWAY
/// (RFC 9113 section 6.8) on `h2`, close_notify on both.
pub struct HttpConnection {
    sender: Sender,
    authority: Authority,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

enum Sender {
    // One request after the other: whoever comes next waits for the lock.
    Http1(Mutex<http1::SendRequest<Content>>),
    Http2(http2::SendRequest<Content>),
}

/// In a tokio runtime with I/O and time enabled; outside of one they panic.
impl Client {
    /// Connects to `target`, `host:port` or `[v6]:port`, for HTTP. It offers `h2` and `http/1.1`, or what
    /// [`ClientBuilder::alpn`](super::ClientBuilder::alpn) says; a server that chooses nothing gets `http/1.1`.
    ///
    /// # Errors
    /// See [`ClientError`]; [`NotHttp`](ClientError::NotHttp) when the server chose something else that was offered.
    pub async fn http(&self, target: &str) -> Result<HttpConnection, ClientError> {
        let target = Target::parse(target)?;
        let (name, addresses) = (server_name(target.host)?, resolve(&target).await?);
        let stream = open(&self.config, &offering_http(&self.config), &addresses, name).await?;
        HttpConnection::new(stream, authority(target.host, target.port)?).await
    }

    /// As [`http`](Self::http), at `addr`, from a server with a certificate for `name`, which is also the host of
    /// requests that name none.
    ///
    /// # Errors
    /// As for [`http`](Self::http).
    pub async fn http_to(&self, addr: SocketAddr, name: &str) -> Result<HttpConnection, ClientError> {
        let stream = open(&self.config, &offering_http(&self.config), &[addr], server_name(name)?).await?;
        HttpConnection::new(stream, authority(name, addr.port())?).await
    }
}

impl HttpConnection {
    /// Speaks HTTP over a connection whose handshake is over, in the version that it negotiated. `authority` is the
    /// host, with a port that is not 443, of requests that name none.
    ///
    /// # Errors
    /// The protocol is not HTTP, or the connection is broken already.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn new<IO>(stream: ClientStream<IO>, authority: Authority) -> Result<Self, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = match stream.alpn_protocol() {
            Some(H2) => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new());
                let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(ClientError::Http)?;
                (Sender::Http2(sender), tokio::spawn(driver))
            }
            Some(HTTP1) | None => {
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Http)?;
                (Sender::Http1(Mutex::new(sender)), tokio::spawn(driver.with_upgrades()))
            }
            Some(other) => return Err(ClientError::NotHttp { protocol: other.escape_ascii().to_string() }),
        };
        Ok(Self { sender, authority, driver })
    }

    /// Which version of HTTP it speaks: 2 or 1.1.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::HTTP_11,
            Sender::Http2(_) => Version::HTTP_2,
        }
    }

    /// Whether it can take no more requests.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(_) => self.driver.is_finished(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of its response; the content comes as it is read.
    ///
    /// Over `h2` any number go at once, as many as the server allows (RFC 9113 section 5.1.2); over `http/1.1` each
    /// waits until the content of the response before it was read or dropped. A target without scheme and host, and
    /// on `http/1.1` one with them, is put into the form of the version (RFC 9112 section 3.2, RFC 9113 section
    /// 8.3.1), with the host of the connection if there is none. Dropping the future gives
    /// the request up, and on `http/1.1` the connection with it.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut request = request.map(|content| content.map_err(Into::into).boxed_unsync());
        match &self.sender {
            Sender::Http1(sender) => {
                for_http1(&mut request, &self.authority).map_err(HttpError::Request)?;
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(|_| HttpError::Closed)?;
                let response = sender.send_request(request);
                response.await.map_err(HttpError::of)
            }
            Sender::Http2(sender) => {
                for_http2(&mut request, &self.authority).map_err(HttpError::Request)?;
                let mut sender = sender.clone();
                sender.ready().await.map_err(|_| HttpError::Closed)?;
                sender.send_request(request).await.map_err(HttpError::of)
            }
        }
    }

    /// Closes it as dropping does, and waits until that is done.
    ///
    /// # Errors
    /// It did not end as it should: requests under way were cut off, or the server broke HTTP's rules.
    pub async fn close(self) -> Result<(), HttpError> {
        let Self { sender, driver, .. } = self;
        drop(sender);
        // A driver that panicked or whose runtime has gone closes nothing any more.
        driver.await.map_err(|_| HttpError::Closed)?.map_err(HttpError::of)
    }
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnection")
            .field("version", &self.version())
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// The client's TLS, with HTTP's protocols if it names none of its own. Sessions are kept in the same place.
pub(super) fn offering_http(config: &Config) -> Arc<ClientConfig> {
    if !config.tls.alpn_protocols.is_empty() {
        return Arc::clone(&config.tls);
    }
    let mut tls = ClientConfig::clone(&config.tls);
    tls.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
    Arc::new(tls)
}

fn authority(host: &str, port: u16) -> Result<Authority, ClientError> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    // 443 is what `https` means anyway, and servers compare (RFC 9110 section 4.2.3).
    let text = if port == 443 { host } else { format!("{host}:{port}") };
    text.parse().map_err(|_| ClientError::Target { text })
}

/// Puts the target into origin form and the host into its field (RFC 9112 sections 3.2.1 and 3.2).
fn for_http1<B>(request: &mut Request<B>, own: &Authority) -> Result<(), http::Error> {
    *request.version_mut() = Version::HTTP_11;
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(host(request.uri().authority().unwrap_or(own)))?;
        request.headers_mut().insert(HOST, host);
    }
    if request.method() != Method::CONNECT && request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    Ok(())
}

/// Gives the target its scheme and host (RFC 9113 section 8.3.1), and takes them from the field if they are there.
fn for_http2<B>(request: &mut Request<B>, own: &Authority) -> Result<(), http::Error> {
    *request.version_mut() = Version::HTTP_2;
    let named = request.headers_mut().remove(HOST);
    if request.method() == Method::CONNECT && request.extensions().get::<hyper::ext::Protocol>().is_none() {
        return Ok(());
    }
    let mut parts = request.uri().clone().into_parts();
    let authority = match (&parts.authority, named) {
        (Some(authority), _) => host(authority).parse()?,
        (None, Some(named)) => Authority::try_from(named.as_bytes())?,
        (None, None) => own.clone(),
    };
    parts.authority = Some(authority);
    parts.scheme.get_or_insert(Scheme::HTTPS);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts)?;
    Ok(())
}

/// Without a user's name: that is not sent (RFC 9110 section 4.2.4).
fn host(authority: &Authority) -> &str {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, host: Option<&str>) -> Request<()> {
        let builder = Request::builder().method(method).uri(target);
        host.into_iter().fold(builder, |b, host| b.header(HOST, host)).body(()).unwrap()
    }

    #[test]
    fn targets_and_hosts_take_the_form_of_the_version() {
        let own = authority("own.example", 8443).unwrap();
        for (method, target, host, wanted, field, absolute) in [
            ("GET", "/a?b", None, "/a?b", "own.example:8443", "https://own.example:8443/a?b"),
            ("GET", "/", Some("field.example"), "/", "field.example", "https://field.example/"),
            ("GET", "https://u@uri.example/x", None, "/x", "uri.example", "https://uri.example/x"),
            ("GET", "https://uri.example", None, "/", "uri.example", "https://uri.example/"),
            ("OPTIONS", "*", None, "*", "own.example:8443", "https://own.example:8443*"),
        ] {
            let mut one = request(method, target, host);
            for_http1(&mut one, &own).unwrap();
            assert_eq!((&*one.uri().to_string(), &one.headers()[HOST]), (wanted, &HeaderValue::from_static(field)));
            let mut two = request(method, target, host);
            for_http2(&mut two, &own).unwrap();
            assert_eq!((&*two.uri().to_string(), two.headers().get(HOST)), (absolute, None));
        }
        let mut tunnel = request("CONNECT", "far.example:443", None);
        for_http1(&mut tunnel, &own).unwrap();
        assert_eq!(tunnel.uri(), "far.example:443");
        assert_eq!(authority("::1", 443).unwrap(), "[::1]");
    }
}
