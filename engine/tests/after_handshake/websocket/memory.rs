//! Both ends in one thread over memory, with no runtime of any kind.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast::websocket::client::open_http1;
use handfast::websocket::{CloseCode, Options, Timer, server};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper::{Request, rt};
use hyper_util::rt::TokioIo;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// A clock that stands still: nothing in here may need time to pass.
struct Still;

struct Never;

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl rt::Sleep for Never {}

impl rt::Timer for Still {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Never)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Never)
    }
}

#[test]
fn needs_no_runtime() {
    let timer: Timer = Arc::new(Still);
    let (near, far) = tokio::io::duplex(1000);
    let (tell, told) = std::sync::mpsc::channel();
    let service = service_fn(|mut request: Request<hyper::body::Incoming>| {
        let (response, accepted) = server::accept(&mut request, &Options::default()).unwrap();
        tell.send(accepted).unwrap();
        async { Ok::<_, Infallible>(response.map(|()| Empty::<Bytes>::new())) }
    });
    let serving = async {
        let http = hyper::server::conn::http1::Builder::new();
        http.serve_connection(TokioIo::new(far), service).with_upgrades().await.unwrap();
        let mut socket = told.recv().unwrap().open(Arc::clone(&timer)).await.unwrap();
        while let Some(message) = socket.receive().await.unwrap() {
            socket.send(message).await.unwrap();
        }
    };
    let asking = async {
        let request = Request::builder().uri("wss://localhost/").body(()).unwrap();
        let (mut socket, _) = open_http1(near, request, &Options::default(), Arc::clone(&timer)).await.unwrap();
        socket.send("a".repeat(900)).await.unwrap();
        assert_eq!(socket.receive().await, Ok(Some("a".repeat(900).into())));
        socket.close(CloseCode::NORMAL, "").await.unwrap();
    };
    block_on(async { futures_util::join!(serving, asking) });
}
