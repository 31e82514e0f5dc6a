//! An engine with one h2 site, for clients that trust it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin as Pinned;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use handfast::client::{Client, Connection, Roots};
use handfast::metrics::Metrics;
use handfast::worker::http2::{OnTunnel, Options, serve_with, tunnel};
use handfast::{Engine, Handle, Pin, Placement, Protocol, worker};
use handfast_tests::certificates::make;
use handfast_tests::h2::H2;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncWriteExt, copy, split};

pub(crate) const PLACEMENTS: [Placement; 2] = [Placement::SharedCore, Placement::Threads(1)];
/// Content that `/limited` takes.
pub(crate) const LIMITED_BYTES: usize = 1000;
const CHUNK: &[u8] = &[b'h'; 8 * 1024];

type Content = UnsyncBoxBody<Bytes, worker::BodyError>;

/// What the site's handlers and the test share.
#[derive(Debug, Default)]
pub(crate) struct Backstage {
    /// Bytes of content that the site has made.
    pub(crate) made: AtomicUsize,
    /// How contents ended that were read to their end: those of `/count`, and of tunnels.
    ends: Mutex<Vec<String>>,
    ended: Condvar,
    gate: Mutex<(bool, Vec<Waker>)>,
}

impl Backstage {
    /// Waits for the end of one content, and says how it was.
    pub(crate) fn end(&self) -> String {
        let ends = self.ends.lock().expect("the ends");
        let wait = Duration::from_secs(30);
        let (mut ends, _) = self.ended.wait_timeout_while(ends, wait, |ends| ends.is_empty()).expect("the ends");
        ends.pop().expect("no content has ended")
    }

    fn note(&self, end: String) {
        self.ends.lock().expect("the ends").push(end);
        self.ended.notify_all();
    }

    /// Lets those who asked for `/later` have their answers.
    pub(crate) fn open_gate(&self) {
        let mut gate = self.gate.lock().expect("the gate");
        gate.0 = true;
        gate.1.drain(..).for_each(Waker::wake);
    }

    async fn pass(&self) {
        poll_fn(|cx| {
            let mut gate = self.gate.lock().expect("the gate");
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

pub(crate) struct Site {
    engine: Engine,
    client: Client,
    pub(crate) backstage: Arc<Backstage>,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::with(Placement::SharedCore, |_| ())
    }

    pub(crate) fn on(placement: Placement) -> Self {
        Self::with(placement, |_| ())
    }

    pub(crate) fn with(placement: Placement, configure: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        configure(&mut options);
        let backstage = Arc::<Backstage>::default();
        let shared = Arc::clone(&backstage);
        let worker = serve_with(options, move |connection| {
            let (backstage, connection) = (Arc::clone(&shared), connection.clone());
            service_fn(move |mut request| {
                if let Some(tunnel) = tunnel(&mut request) {
                    connection.local().spawn(echo(tunnel, Arc::clone(&backstage)));
                }
                answer(request, Arc::clone(&backstage))
            })
        });
        let made = make(&["localhost"]);
        let engine = Engine::builder()
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .shards(1)
            .pin(Pin::Off)
            .workers(placement)
            .certificates(Arc::into_inner(made.set("default")).expect("our own set"))
            .protocol(Protocol::alpn("h2").worker(worker))
            .start()
            .expect("an engine");
        let roots = Roots::certificates([made.der]);
        let client = Client::builder().alpn(["h2"]).roots(roots).build().expect("a client");
        Self { engine, client, backstage }
    }

    pub(crate) fn connect(&self) -> Connection {
        let addr = self.handle().local_addr().expect("an address");
        self.client.connect_to(addr, "localhost").expect("a connection")
    }

    /// A client that has said hello.
    pub(crate) fn open(&self) -> H2 {
        H2::open(self.connect())
    }

    pub(crate) const fn handle(&self) -> &Handle {
        self.engine.handle()
    }

    /// Waits for the end of a drain that must have been asked for.
    pub(crate) fn join(self) -> Metrics {
        self.engine.join().expect("metrics")
    }

    /// Whatever a client has done, the next one is served, nothing has panicked and nothing stays behind.
    #[track_caller]
    pub(crate) fn lives_on(self) {
        let mut next = self.open();
        next.get(1, "/");
        assert_eq!(next.response().content, b"well");
        drop(next);
        let metrics = self.engine.shutdown().expect("metrics");
        assert_eq!((metrics.handler_panics, metrics.aborted, metrics.open()), (0, 0, 0), "{metrics}");
    }
}

/// Sends back what comes through a tunnel.
async fn echo(tunnel: OnTunnel, backstage: Arc<Backstage>) {
    if let Some(tunnel) = tunnel.await {
        let (mut from, mut to) = split(tunnel);
        let copied = copy(&mut from, &mut to).await;
        backstage.note(copied.as_ref().map_or_else(|e| format!("{:?}", e.kind()), |n| format!("{n} bytes")));
        if copied.is_ok() {
            to.shutdown().await.expect("the end");
        }
    }
}

async fn answer(
    request: Request<worker::Body>,
    backstage: Arc<Backstage>,
) -> Result<Response<Content>, worker::BodyError> {
    let (head, content) = request.into_parts();
    let response = match head.uri.path() {
        "/echo" => Response::new(content.boxed_unsync()),
        "/count" => {
            let counted = count(content).await;
            backstage.note(counted.clone());
            text(StatusCode::OK, counted)
        }
        "/limited" => match Limited::new(content, LIMITED_BYTES).collect().await {
            Ok(_) => text(StatusCode::OK, "all of it".into()),
            Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "too much".into()),
        },
        "/whole" => text(StatusCode::OK, format!("{} bytes", content.collect().await?.to_bytes().len())),
        "/never" => {
            // What comes is not read.
            let _held = content;
            pending().await
        }
        "/later" => {
            backstage.pass().await;
            text(StatusCode::OK, "at last".into())
        }
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert(HeaderName::from_static("grade"), HeaderValue::from_static("fine"));
            let content = Full::from("well").map_err(|never: Infallible| match never {});
            Response::new(content.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync())
        }
        "/method" => text(StatusCode::OK, head.method.to_string()),
        path => match path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
            Some(left) => Response::new(Made { left, backstage }.boxed_unsync()),
            None => text(StatusCode::OK, "well".into()),
        },
    };
    Ok(response)
}

fn text(status: StatusCode, text: String) -> Response<Content> {
    let content = Full::from(text).map_err(|never: Infallible| match never {});
    let mut response = Response::new(content.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Bytes and trailers, for people; or what kept them from coming.
async fn count(content: worker::Body) -> String {
    match content.collect().await {
        Ok(collected) => {
            let named = |(n, v): (&HeaderName, &HeaderValue)| (n.to_string(), format!("{v:?}"));
            let trailers: BTreeMap<_, _> = collected.trailers().into_iter().flatten().map(named).collect();
            format!("{} bytes {trailers:?}", collected.to_bytes().len())
        }
        Err(error) => error.to_string(),
    }
}

/// Content that is made as it is asked for.
struct Made {
    left: usize,
    backstage: Arc<Backstage>,
}

impl Body for Made {
    type Data = Bytes;
    type Error = worker::BodyError;

    fn poll_frame(
        mut self: Pinned<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, worker::BodyError>>> {
        let n = self.left.min(CHUNK.len());
        self.left -= n;
        self.backstage.made.fetch_add(n, Ordering::Relaxed);
        Poll::Ready((n > 0).then(|| Ok(Frame::data(Bytes::from_static(&CHUNK[..n])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}
