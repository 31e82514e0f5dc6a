//! `http/1.1`: content, trailers, upgrades and ends, over the client.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use handfast::client::Connection;
use handfast::worker::http1::{Options, serve_with};
use handfast::{Limits, Local, Placement, Protocol, worker};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, TRAILER, UPGRADE};
use hyper::rt::{Read as _, ReadBuf, Write as _};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};

use crate::harness::{PLACEMENTS, Server, pattern, read_rest};
use crate::http1::{ask, read_answer};

/// More than any buffer on the way holds.
const LARGE: usize = (8 << 20) + 77;
const CHUNK: &[u8] = &[b'h'; 8 * 1024];

type Content = UnsyncBoxBody<Bytes, worker::BodyError>;

/// What the handlers and the test share.
#[derive(Default)]
struct Backstage {
    made: AtomicUsize,
    gate: Mutex<(bool, Option<Waker>)>,
}

impl Backstage {
    fn open_gate(&self) {
        let mut gate = self.gate.lock().unwrap();
        gate.0 = true;
        gate.1.take().into_iter().for_each(Waker::wake);
    }

    async fn pass(&self) {
        poll_fn(|cx| {
            let mut gate = self.gate.lock().unwrap();
            gate.1 = Some(cx.waker().clone());
            if gate.0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

struct Site {
    server: Server,
    backstage: Arc<Backstage>,
}

impl Site {
    fn with(placement: Placement, options: Options) -> Self {
        Self::within(placement, options, Limits::default())
    }

    fn within(placement: Placement, options: Options, limits: Limits) -> Self {
        let backstage = Arc::<Backstage>::default();
        let shared = Arc::clone(&backstage);
        let worker = serve_with(options, move |connection| {
            let (backstage, local) = (Arc::clone(&shared), connection.local().clone());
            service_fn(move |request| answer(request, Arc::clone(&backstage), local.clone()))
        });
        let protocols = [Protocol::alpn("http/1.1").worker(worker)];
        Self { server: Server::start_with(placement, protocols, |b| b.limits(limits)), backstage }
    }

    fn on(placement: Placement) -> Self {
        Self::with(placement, Options::default())
    }

    fn connect(&self) -> Connection {
        let connection = self.server.connect("http/1.1");
        connection.socket().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        connection
    }
}

async fn answer(
    mut request: Request<worker::Body>,
    backstage: Arc<Backstage>,
    local: Local,
) -> Result<Response<Content>, Infallible> {
    let path = request.uri().path().to_owned();
    let response = match &*path {
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        "/count" => text(StatusCode::OK, count(request.into_body()).await),
        "/limited" => match Limited::new(request.into_body(), 1000).collect().await {
            Ok(_) => text(StatusCode::OK, "all of it".into()),
            Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "too much".into()),
        },
        "/method" => text(StatusCode::OK, request.method().to_string()),
        "/later" => {
            backstage.pass().await;
            text(StatusCode::OK, "at last".into())
        }
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grade", HeaderValue::from_static("fine"));
            // Content whose length is told is not chunked, and so has no trailers.
            let content = Made { left: 4, backstage }.with_trailers(async { Some(Ok(trailers)) });
            let mut response = Response::new(content.boxed_unsync());
            response.headers_mut().insert(TRAILER, HeaderValue::from_static("grade"));
            response
        }
        "/shout" if request.method() == Method::GET => {
            let upgrade = hyper::upgrade::on(&mut request);
            local.spawn(async move { shout(upgrade.await.unwrap()).await });
            let mut response = Response::new(full("").boxed_unsync());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("shout/1"));
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response
        }
        path => match path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
            Some(left) => Response::new(Made { left, backstage }.boxed_unsync()),
            None => text(StatusCode::OK, "well".into()),
        },
    };
    Ok(response)
}

fn full(text: impl Into<Bytes>) -> impl Body<Data = Bytes, Error = worker::BodyError> + Send {
    Full::new(text.into()).map_err(|never: Infallible| match never {})
}

fn text(status: StatusCode, text: String) -> Response<Content> {
    let mut response = Response::new(full(text).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Bytes and trailers, or what kept them from coming.
async fn count(content: worker::Body) -> String {
    match content.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned().unwrap_or_default();
            format!("{} bytes {trailers:?}", collected.to_bytes().len())
        }
        Err(error) => error.to_string(),
    }
}

/// A protocol of one's own: says what it hears in capitals, until the peer ends.
async fn shout(mut upgraded: Upgraded) {
    let mut buffer = [0; 512];
    loop {
        let mut read = ReadBuf::new(&mut buffer);
        poll_fn(|cx| Pin::new(&mut upgraded).poll_read(cx, read.unfilled())).await.unwrap();
        let heard = read.filled().to_ascii_uppercase();
        if heard.is_empty() {
            return;
        }
        let mut left = &heard[..];
        while !left.is_empty() {
            let n = poll_fn(|cx| Pin::new(&mut upgraded).poll_write(cx, left)).await.unwrap();
            left = &left[n..];
        }
    }
}

/// Content that is made as it is asked for, of a length that is not told.
struct Made {
    left: usize,
    backstage: Arc<Backstage>,
}

impl Body for Made {
    type Data = Bytes;
    type Error = worker::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, worker::BodyError>>> {
        let n = self.left.min(CHUNK.len());
        self.left -= n;
        self.backstage.made.fetch_add(n, Ordering::Relaxed);
        Poll::Ready((n > 0).then(|| Ok(Frame::data(Bytes::from_static(&CHUNK[..n])))))
    }
}

fn read_line(connection: &mut Connection) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).unwrap()
}

/// Chunked content and its trailers (RFC 9112 section 7.1).
fn read_chunked(connection: &mut Connection) -> (Vec<u8>, Vec<String>) {
    let mut content = Vec::new();
    loop {
        let size = usize::from_str_radix(&read_line(connection), 16).unwrap();
        if size == 0 {
            let trailers = std::iter::from_fn(|| Some(read_line(connection)).filter(|line| !line.is_empty()));
            return (content, trailers.collect());
        }
        let start = content.len();
        content.resize(start + size, 0);
        connection.read_exact(&mut content[start..]).unwrap();
        assert_eq!(read_line(connection), "");
    }
}

#[test]
fn chunked_content_goes_both_ways() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        write!(c, "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let head = read_answer(&mut c, false).head;
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        // Piece for piece: an echo that waited for the end would not come.
        for piece in ["one", "2 two", "three\r\n3"] {
            write!(c, "{:x};extension=\"ignored\"\r\n{piece}\r\n", piece.len()).unwrap();
            assert_eq!(read_line(&mut c), format!("{:X}", piece.len()));
            let mut back = vec![0; piece.len() + 2];
            c.read_exact(&mut back).unwrap();
            assert_eq!(back, [piece.as_bytes(), b"\r\n"].concat());
        }
        write!(c, "0\r\n\r\n").unwrap();
        assert_eq!(read_chunked(&mut c).0, b"");
        assert_eq!(ask(&mut c, "GET / HTTP/1.1\r\n").body, "well");
        drop(c);
        site.server.shutdown();
    }
}

#[test]
fn large_content_comes_up_and_goes_down() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        let sent = pattern(LARGE);
        write!(c, "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n").unwrap();
        c.write_all(&sent).unwrap();
        assert_eq!(read_answer(&mut c, true).body, format!("{LARGE} bytes {{}}"));
        write!(c, "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        for chunk in sent.chunks(100_000) {
            write!(c, "{:x}\r\n", chunk.len()).unwrap();
            c.write_all(chunk).unwrap();
            c.write_all(b"\r\n").unwrap();
        }
        c.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut c, true).body, format!("{LARGE} bytes {{}}"));
        write!(c, "GET /bytes/{LARGE} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        read_answer(&mut c, false);
        assert_eq!(read_chunked(&mut c).0.len(), LARGE);
        drop(c);
        site.server.shutdown();
    }
}

#[test]
fn content_comes_back_while_it_is_still_sent() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        let sent = pattern(LARGE);
        write!(c, "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n").unwrap();
        let mut back = vec![0; 100_000];
        for (i, chunk) in sent.chunks(100_000).enumerate() {
            c.write_all(chunk).unwrap();
            if i == 0 {
                assert!(read_answer(&mut c, false).head.contains(&format!("content-length: {LARGE}\r\n")));
            }
            c.read_exact(&mut back[..chunk.len()]).unwrap();
            assert!(back[..chunk.len()] == *chunk);
        }
        drop(c);
        site.server.shutdown();
    }
}

#[test]
fn slow_reader_holds_the_making_of_its_content_back() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        write!(c, "GET /bytes/1000000000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        read_answer(&mut c, false);
        // Others are served meanwhile; as soon as two looks find no more made, the pipe is full.
        let mut other = site.connect();
        let mut before = 0;
        let made = loop {
            (0..50).for_each(|_| assert_eq!(ask(&mut other, "GET / HTTP/1.1\r\n").status, 200));
            let made = site.backstage.made.load(Ordering::Relaxed);
            if made == before {
                break made;
            }
            before = made;
        };
        // The kernel's buffers hold a few megabytes, ours 64 KiB each.
        assert!(made < 50 << 20, "{made} bytes made");
        c.read_exact(&mut vec![0; 1 << 20]).unwrap();
        drop((c, other));
        site.server.shutdown();
    }
}

#[test]
fn reader_that_stops_for_good_is_closed() {
    for placement in PLACEMENTS {
        let (mut options, mut limits) = (Options::default(), Limits::default());
        options.write_wait = Duration::from_millis(30);
        (limits.unsent_wait, limits.linger) = (Duration::from_millis(30), Duration::from_millis(30));
        let site = Site::within(placement, options, limits);
        let mut c = site.connect();
        write!(c, "GET /bytes/1000000000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        site.server.until(|metrics| metrics.lingered_out == 1);
        assert!(site.backstage.made.load(Ordering::Relaxed) < 1_000_000_000);
        drop(c);
        site.server.shutdown();
    }
}

#[test]
fn trailers_go_both_ways() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        write!(c, "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: grade\r\n\r\n").unwrap();
        write!(c, "4\r\nwell\r\n0\r\ngrade: fine\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut c, true).body, "4 bytes {\"grade\": \"fine\"}");
        write!(c, "GET /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n").unwrap();
        read_answer(&mut c, false);
        assert_eq!(read_chunked(&mut c), (b"hhhh".to_vec(), vec!["grade: fine".to_owned()]));
        // RFC 9110 section 6.5.1: not for a client that has not said that it wants them.
        write!(c, "GET /trailers HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        read_answer(&mut c, false);
        assert_eq!(read_chunked(&mut c), (b"hhhh".to_vec(), vec![]));
        drop(c);
        site.server.shutdown();
    }
}

#[test]
fn who_expects_100_gets_it_when_the_content_is_wanted() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        write!(c, "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut c, false).head, "HTTP/1.1 100 Continue\r\n\r\n");
        c.write_all(b"well").unwrap();
        assert_eq!(read_answer(&mut c, true).body, "4 bytes {}");
        // RFC 9110 section 10.1.1: a service that does not want it answers at once.
        write!(c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut c, true).status, 200);
        assert_eq!(read_rest(&mut c), b"", "what comes next could be the content");
        drop(c);
        site.server.shutdown();
    }
}

#[test]
fn head_and_options_are_answered_by_their_rules() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        let head = ask(&mut c, "HEAD /method HTTP/1.1\r\n").head;
        assert!(head.contains("content-length: 4\r\n"), "RFC 9110 section 9.3.2: {head}");
        assert_eq!(ask(&mut c, "OPTIONS /method HTTP/1.1\r\n").body, "OPTIONS");
        assert_eq!(ask(&mut c, "OPTIONS * HTTP/1.1\r\n").status, 200);
        drop(c);
        site.server.shutdown();
    }
}

#[test]
fn connection_is_switched_to_a_protocol_of_ones_own() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        // What comes with the request belongs to the new protocol.
        write!(c, "GET /shout HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout/1\r\n\r\nearly").unwrap();
        let switched = read_answer(&mut c, false);
        assert_eq!(switched.status, 101);
        assert!(switched.head.contains("upgrade: shout/1\r\n"), "{}", switched.head);
        let mut heard = [0; 5];
        c.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"EARLY");
        c.write_all(b"later").unwrap();
        c.close().unwrap();
        assert_eq!(read_rest(&mut c), b"LATER");
        site.server.shutdown();
    }
}

#[test]
fn content_beyond_the_services_limit_is_answered_with_413() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        write!(c, "POST /limited HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").unwrap();
        c.write_all(&[0; 100_000]).unwrap();
        let refused = read_answer(&mut c, true);
        assert_eq!((refused.status, &*refused.body), (413, "too much"));
        drop(c);
        let mut next = site.connect();
        assert_eq!(ask(&mut next, "GET / HTTP/1.1\r\n").status, 200);
        drop(next);
        site.server.shutdown();
    }
}

#[test]
fn drain_lets_the_answer_under_way_through() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut c = site.connect();
        // The upload is under way when its echo begins.
        write!(c, "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirst").unwrap();
        read_answer(&mut c, false);
        let mut waiting = site.connect();
        write!(waiting, "GET /later HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        // It has been read when one that was sent later on the same thread is answered.
        let mut idle = [site.connect(), site.connect()];
        idle.iter_mut().for_each(|c| assert_eq!(ask(c, "GET / HTTP/1.1\r\n").status, 200));
        site.server.handle().drain();
        idle.iter_mut().for_each(|c| assert_eq!(read_rest(c), b""));
        c.write_all(b" last").unwrap();
        assert_eq!(read_rest(&mut c), b"first last");
        site.backstage.open_gate();
        let answer = read_answer(&mut waiting, true);
        assert_eq!(answer.body, "at last");
        assert!(answer.head.contains("connection: close\r\n"), "{}", answer.head);
        assert_eq!(read_rest(&mut waiting), b"");
        drop((c, waiting, idle));
        let metrics = site.server.join();
        assert_eq!(metrics.aborted, 0, "{metrics}");
    }
}

#[test]
fn client_that_ends_its_direction_gets_its_answer_where_that_is_allowed() {
    for placement in PLACEMENTS {
        for half_close in [true, false] {
            let mut options = Options::default();
            options.half_close = half_close;
            let site = Site::with(placement, options);
            let mut c = site.connect();
            write!(c, "GET /later HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            c.close().unwrap();
            if !half_close {
                assert_eq!(read_rest(&mut c), b"");
            }
            site.backstage.open_gate();
            if half_close {
                assert_eq!(read_answer(&mut c, true).body, "at last");
                assert_eq!(read_rest(&mut c), b"");
            }
            site.server.shutdown();
        }
    }
}
