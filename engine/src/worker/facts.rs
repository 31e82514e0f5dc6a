//! The handshake's facts as an HTTP response: JSON, or a small page for people.

#[cfg(feature = "websocket")]
use std::convert::Infallible;
use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::pin::Pin;
#[cfg(feature = "websocket")]
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, VARY,
};
#[cfg(feature = "websocket")]
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use rustls::ProtocolVersion;

#[cfg(feature = "websocket")]
use super::HttpService;
use super::{Body, Connection};
use crate::handshake::HandshakeFacts;
#[cfg(feature = "websocket")]
use crate::websocket::Options;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// The page has its style inside and needs nothing else from anywhere.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Content that is read for nothing before a request is answered. Met: answered at once.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
/// How long it is read. Met: answered at once.
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// The facts, and an echo to WebSockets, for either version of HTTP.
#[cfg(feature = "websocket")]
pub(crate) fn facts_service(
    connection: &Connection,
    options: &Arc<Options>,
) -> impl HttpService<Body = Full<Bytes>> + use<> {
    let (connection, options) = (connection.clone(), Arc::clone(options));
    service_fn(move |mut request: Request<Body>| {
        let response = super::websocket::echo_with(&connection, &mut request, &options)
            .unwrap_or_else(|| respond(connection.facts(), &request));
        let discarded = discard(&connection, request.into_body());
        async move {
            discarded.await;
            Ok::<_, Infallible>(response)
        }
    })
}

/// Answers `GET` and `HEAD` of `/` and `/facts.json`.
pub(super) fn respond<B>(facts: &HandshakeFacts, request: &Request<B>) -> Response<Full<Bytes>> {
    let page = match request.uri().path() {
        "/" => prefers_html(request.headers()),
        "/facts.json" => false,
        _ => return text(StatusCode::NOT_FOUND, request.method(), "not found: try / or /facts.json\n"),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, request.method(), "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let (kind, body) = if page { (HTML, html(facts)) } else { (JSON, json(facts)) };
    let mut response = whole(StatusCode::OK, request.method(), kind, body);
    let headers = response.headers_mut();
    // The next connection has other facts.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if page {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    }
    response
}

/// Takes a request's content in, so that a client that is still sending it reads the answer and may go on
/// (RFC 9112 section 9.3, RFC 9113 section 8.1). Beyond the limits it is left alone.
pub(super) fn discard(connection: &Connection, mut content: Body) -> impl Future<Output = ()> + use<> {
    let mut wait = (!content.is_end_stream()).then(|| connection.local().sleep(DISCARD_WAIT));
    let mut taken = 0;
    poll_fn(move |cx| {
        let Some(wait) = &mut wait else { return Poll::Ready(()) };
        loop {
            if taken >= DISCARDED_BYTES_MAX || Pin::new(&mut *wait).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match ready!(Pin::new(&mut content).poll_frame(cx)) {
                Some(Ok(frame)) => taken += frame.data_ref().map_or(0, Bytes::len),
                _ => return Poll::Ready(()),
            }
        }
    })
}

/// A short plain text.
pub(super) fn text(status: StatusCode, method: &Method, body: &'static str) -> Response<Full<Bytes>> {
    whole(status, method, TEXT, body.to_owned())
}

fn whole(status: StatusCode, method: &Method, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let length = body.len();
    // RFC 9110 section 9.3.2: a HEAD is answered as a GET would be, without the content.
    let body = if *method == Method::HEAD { Bytes::new() } else { Bytes::from(body) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Whether the Accept header (RFC 9110 section 12.5.1) prefers a page to JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    quality(headers, "text", "html") > quality(headers, "application", "json")
}

/// The weight, in thousandths, of the most specific media range that fits.
fn quality(headers: &HeaderMap, kind: &str, subtype: &str) -> u16 {
    let mut best = (0, 0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    for range in values.flat_map(|v| v.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let Some((range_kind, range_subtype)) = parts.next().and_then(|r| r.split_once('/')) else { continue };
        let specificity = match (range_kind, range_subtype) {
            ("*", "*") => 1,
            (k, "*") if k.eq_ignore_ascii_case(kind) => 2,
            (k, s) if k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => 3,
            _ => continue,
        };
        if specificity > best.0 {
            best = (specificity, parts.find_map(weight).unwrap_or(1000));
        }
    }
    best.1
}

/// The value of a `q` parameter in thousandths; `None` for any other parameter.
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let thousandths = digits.map(|d| u16::from(d.saturating_sub(b'0').min(9))).fold(0, |sum, d| sum * 10 + d);
    Some(if whole == "0" { thousandths } else { 1000 })
}

/// A fact's value before it is written down.
enum Value {
    Text(String),
    Flag(bool),
    Number(u128),
    None,
}

impl Value {
    fn of(text: Option<String>) -> Self {
        text.map_or(Self::None, Self::Text)
    }
}

/// Names as in JSON, names for people, values.
fn rows(facts: &HandshakeFacts) -> [(&'static str, &'static str, Value); 10] {
    let alpn = facts.alpn.as_ref().map(|id| id.escape_ascii().to_string());
    let group = facts.group.map(|g| g.as_str().map_or_else(|| format!("{g:?}"), str::to_owned));
    [
        ("protocol", "Protocol", Value::Text(facts.protocol_name())),
        ("alpn", "ALPN", Value::of(alpn)),
        ("server_name", "Server name", Value::of(facts.server_name.as_deref().map(str::to_owned))),
        ("tls_version", "TLS version", Value::Text(version(facts.version))),
        ("cipher_suite", "Cipher suite", Value::Text(suite(facts))),
        ("group", "Key exchange group", Value::of(group)),
        ("resumed", "Resumed", Value::Flag(facts.resumed)),
        ("client", "Your certificate", Value::of(facts.client.as_ref().map(|c| c.subject.to_string()))),
        ("peer", "Your address", Value::Text(facts.peer.to_string())),
        ("handshake_us", "Handshake, in microseconds", Value::Number(facts.handshake_time().as_micros())),
    ]
}

fn version(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2".into(),
        ProtocolVersion::TLSv1_3 => "TLSv1.3".into(),
        other => format!("{other:?}"),
    }
}

/// The suite's name in the IANA registry.
fn suite(facts: &HandshakeFacts) -> String {
    let suite = facts.cipher_suite;
    let name = suite.as_str().map_or_else(|| format!("{suite:?}"), str::to_owned);
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

fn json(facts: &HandshakeFacts) -> String {
    let mut out = String::with_capacity(320);
    for (i, (name, _, value)) in rows(facts).into_iter().enumerate() {
        out.push_str(if i == 0 { "{\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":");
        match value {
            Value::Text(text) => json_string(&mut out, &text),
            Value::Flag(flag) => out.push_str(if flag { "true" } else { "false" }),
            Value::Number(n) => out.push_str(&n.to_string()),
            Value::None => out.push_str("null"),
        }
    }
    out.push_str("}\n");
    out
}

/// RFC 8259 section 7.
fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a string cannot fail; control characters all have four digits.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

const PAGE_HEAD: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<title>Your TLS handshake</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; vertical-align: top }
th { font-weight: normal; opacity: .7 }
td { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
</style>
<h1>Your TLS handshake</h1>
<table>
";

fn html(facts: &HandshakeFacts) -> String {
    let mut out = String::with_capacity(2048);
    out.push_str(PAGE_HEAD);
    for (_, label, value) in rows(facts) {
        let text = match value {
            Value::Text(text) => text,
            Value::Flag(flag) => (if flag { "yes" } else { "no" }).into(),
            Value::Number(n) => n.to_string(),
            Value::None => "none".into(),
        };
        let _ = writeln!(out, "<tr><th scope=row>{label}<td>{}", escaped(&text));
    }
    out.push_str("</table>\n<p><a href=/facts.json>As JSON</a>\n");
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rustls::{CipherSuite, NamedGroup};

    use super::*;
    use crate::peer::PeerAddr;
    use crate::time::Instant64;

    fn facts(server_name: &str) -> HandshakeFacts {
        HandshakeFacts {
            protocol: (*b"h2").into(),
            alpn: None,
            server_name: Some(server_name.into()),
            version: ProtocolVersion::TLSv1_3,
            cipher_suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
            group: Some(NamedGroup::X25519),
            resumed: false,
            client: None,
            peer: PeerAddr::Ip(([127, 0, 0, 1], 9).into()),
            proxy: None,
            accepted_at: Instant64::from_nanos(1_000),
            hello_at: Instant64::from_nanos(2_000),
            finished_at: Instant64::from_nanos(78_000),
            index: 0,
        }
    }

    fn ask(method: Method, path: &str, accept: &str) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(path).header(ACCEPT, accept).body(()).unwrap();
        respond(&facts("localhost"), &request)
    }

    #[test]
    fn json_has_every_fact_and_escapes_its_strings() {
        assert_eq!(
            json(&facts("a\"\\\u{1}")),
            "{\"protocol\":\"h2\",\"alpn\":null,\"server_name\":\"a\\\"\\\\\\u0001\",\"tls_version\":\"TLSv1.3\",\
             \"cipher_suite\":\"TLS_AES_128_GCM_SHA256\",\"group\":\"X25519\",\"resumed\":false,\
             \"client\":null,\"peer\":\"127.0.0.1:9\",\"handshake_us\":77}\n"
        );
    }

    #[test]
    fn page_escapes_what_comes_from_the_client() {
        let page = html(&facts("<script>&'\""));
        assert!(page.contains("&lt;script&gt;&amp;&#39;&quot;") && !page.contains("<script"), "{page}");
    }

    #[test]
    fn accept_header_chooses_between_json_and_page() {
        let page_for = |accept| {
            let response = ask(Method::GET, "/", accept);
            response.headers()[CONTENT_TYPE].to_str().unwrap().starts_with("text/html")
        };
        assert!(page_for("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(page_for("TEXT/*; q=0.5, application/json;q=0.499"));
        assert!(page_for("text/html;level=1;q=0.3, */*;q=0.1"));
        for accept in ["*/*", "application/json", "text/html;q=0", "text/html;q=0.8, application/json", "", ";;/"] {
            assert!(!page_for(accept), "{accept}");
        }
    }

    #[test]
    fn head_has_the_length_and_no_content_and_other_methods_are_refused() {
        let head = ask(Method::HEAD, "/", "text/html");
        assert!(head.body().is_end_stream());
        let get = ask(Method::GET, "/", "text/html");
        assert_eq!(head.headers()[CONTENT_LENGTH], get.headers()[CONTENT_LENGTH]);
        assert_eq!(
            get.body().size_hint().exact().unwrap().to_string(),
            get.headers()[CONTENT_LENGTH].to_str().unwrap()
        );
        let post = ask(Method::POST, "/", "*/*");
        assert_eq!(
            (post.status(), post.headers()[ALLOW].as_bytes()),
            (StatusCode::METHOD_NOT_ALLOWED, &b"GET, HEAD"[..])
        );
        assert_eq!(ask(Method::POST, "/x", "*/*").status(), StatusCode::NOT_FOUND);
        assert_eq!(ask(Method::GET, "/facts.json", "text/html").headers()[CONTENT_TYPE], JSON);
    }
}
