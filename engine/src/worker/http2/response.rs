//! The head of a response as HTTP/2 wants it.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http_body::Body;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Response, StatusCode};

/// What follows the head of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// What the service gives.
    Given,
    /// None; its length is said nevertheless (RFC 9110 sections 9.3.2 and 8.6).
    Length,
    /// None, and nothing is to be said of it (RFC 9110 sections 15.3.5 and 15.4.5).
    None,
    /// A tunnel (RFC 9110 section 9.3.6).
    Tunnel,
}

impl Content {
    pub(super) const fn of(head: bool, status: StatusCode) -> Self {
        match status {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Self::None,
            _ if head => Self::Length,
            _ => Self::Given,
        }
    }
}

/// The head, and the body if there is one to be sent.
pub(super) fn prepare<B: Body>(response: Response<B>, content: Content) -> (Response<()>, Option<B>) {
    let (mut head, body) = response.into_parts();
    let headers = &mut head.headers;
    remove_connection_specific(headers);
    headers.entry(DATE).or_insert_with(date);
    match content {
        Content::Given | Content::Length => {
            if let Some(length) = body.size_hint().exact()
                && (content == Content::Given || length > 0)
                && !body.is_end_stream()
            {
                headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
            }
        }
        Content::Tunnel => {
            headers.remove(CONTENT_LENGTH);
        }
        Content::None => {
            if head.status == StatusCode::NO_CONTENT {
                headers.remove(CONTENT_LENGTH);
            }
        }
    }
    let body = Some(body).filter(|body| content == Content::Given && !body.is_end_stream());
    (Response::from_parts(head, ()), body)
}

/// RFC 9113 section 8.2.2.
fn remove_connection_specific(headers: &mut HeaderMap) {
    static NAMES: [HeaderName; 5] = [
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        TRANSFER_ENCODING,
        UPGRADE,
        TE,
    ];
    if let Some(named) = headers.remove(CONNECTION) {
        for name in named.to_str().unwrap_or_default().split(',') {
            headers.remove(name.trim());
        }
    }
    for name in &NAMES {
        headers.remove(name);
    }
}

/// Now (RFC 9110 section 6.6.1), written down once a second.
fn date() -> HeaderValue {
    thread_local!(static WRITTEN: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) });
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    WRITTEN.with_borrow_mut(|(written, value)| {
        if *written != second
            && let Ok(new) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            (*written, *value) = (second, new);
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    fn prepared(
        status: u16,
        body: &'static str,
        headers: &[(&'static str, &'static str)],
        content: Content,
    ) -> HeaderMap {
        let mut response = Response::new(Full::<Bytes>::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let (head, body) = prepare(response, content);
        assert_eq!(body.is_some(), content == Content::Given);
        head.headers().clone()
    }

    #[test]
    fn fields_of_a_connection_are_left_out_with_those_they_name() {
        let given = [("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "5"), ("upgrade", "x"), ("y", "2")];
        let headers = prepared(200, "four", &given, Content::Given);
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(["y", "date", "content-length"].iter().all(|name| names.contains(name)), "{names:?}");
    }

    #[test]
    fn length_and_date_are_said_unless_the_service_has() {
        let headers = prepared(200, "four", &[], Content::Given);
        assert_eq!(headers[CONTENT_LENGTH], "4");
        assert!(headers[DATE].to_str().unwrap().ends_with(" GMT"));
        let headers = prepared(200, "four", &[("date", "then"), ("content-length", "9")], Content::Length);
        assert_eq!((&headers[DATE], &headers[CONTENT_LENGTH]), (&"then".parse().unwrap(), &"9".parse().unwrap()));
    }

    #[test]
    fn answers_without_content_say_no_length_where_they_must_not() {
        assert!(Content::of(false, StatusCode::NO_CONTENT) == Content::None);
        assert!(Content::of(true, StatusCode::OK) == Content::Length);
        assert_eq!(prepared(204, "four", &[("content-length", "4")], Content::None).get(CONTENT_LENGTH), None);
        assert_eq!(prepared(304, "", &[("content-length", "4")], Content::None)[CONTENT_LENGTH], "4");
        assert_eq!(prepared(200, "four", &[("content-length", "4")], Content::Tunnel).get(CONTENT_LENGTH), None);
        let (head, body) = prepare(Response::new(Empty::<Bytes>::new()), Content::Given);
        assert!(body.is_none() && head.headers().get(CONTENT_LENGTH).is_none());
    }
}
