//! `h2` by hand-written frames (RFC 9113 section 4.1).

use std::convert::Infallible;
use std::io::{Read, Write};
use std::time::Duration;

use handfast::client::Connection;
use handfast::{Limits, Protocol, worker};
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::harness::{PLACEMENTS, Server, read_rest};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct H2(Connection);

impl H2 {
    fn new(mut connection: Connection) -> Self {
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut h2 = Self(connection);
        h2.send(SETTINGS, 0, 0, &[]);
        h2
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).unwrap();
    }

    /// A request with RFC 7541's static table alone.
    fn request(&mut self, stream: u32, path: &str) {
        let mut block = vec![0x82, 0x87, 0x01, 1, b'a', 0x04];
        block.push(u8::try_from(path.len()).unwrap());
        block.extend(path.bytes());
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block);
    }

    /// The next frame that is not housekeeping, which it does.
    fn next(&mut self) -> Frame {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).unwrap();
            let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            self.0.read_exact(&mut payload).unwrap();
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match (head[3], head[4] & ACK) {
                (kind @ (SETTINGS | PING), 0) => {
                    let echo = if kind == PING { payload } else { Vec::new() };
                    self.send(kind, ACK, 0, &echo);
                }
                (SETTINGS | PING | WINDOW_UPDATE, _) => {}
                (kind, _) => return Frame { kind, flags: head[4], stream, payload },
            }
        }
    }

    /// The content of a response to the only open stream.
    fn content(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            let frame = self.next();
            if frame.kind == DATA {
                content.extend(frame.payload);
            }
            if frame.flags & END_STREAM != 0 {
                return content;
            }
        }
    }
}

#[test]
fn facts_come_over_concurrent_streams() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::h2()]);
        let mut h2 = H2::new(server.connect("h2"));
        (0..20).for_each(|i| h2.request(2 * i + 1, "/"));
        let mut ended = 0;
        while ended < 20 {
            let frame = h2.next();
            if frame.kind == DATA {
                assert!(frame.payload.starts_with(b"{\"protocol\":\"h2\",\"alpn\":\"h2\""));
            }
            ended += usize::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
        }
        drop(h2);
        server.shutdown();
    }
}

#[test]
fn drain_says_goaway_and_closes() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::h2()]);
        let mut h2 = H2::new(server.connect("h2"));
        h2.request(1, "/");
        assert!(!h2.content().is_empty());
        server.handle().drain();
        // RFC 9113 section 6.8: first one that still lets streams in, then the last word.
        let first = h2.next();
        assert_eq!((first.kind, &first.payload[..4]), (GOAWAY, &[0x7f, 0xff, 0xff, 0xff][..]));
        let second = h2.next();
        assert_eq!((second.kind, &second.payload[..8]), (GOAWAY, &[0, 0, 0, 1, 0, 0, 0, 0][..]));
        assert_eq!(read_rest(&mut h2.0), b"");
        h2.0.close().unwrap();
        let metrics = server.join();
        assert_eq!((metrics.aborted, metrics.lingered_out), (0, 0), "{metrics}");
    }
}

#[test]
fn panicking_service_resets_its_stream_alone() {
    for placement in PLACEMENTS {
        let protocol = Protocol::alpn("h2").worker(worker::http2::serve(|_| {
            service_fn(|request: Request<worker::Body>| {
                let boom = || std::panic::resume_unwind(Box::new("on purpose"));
                if request.uri().path() == "/boom" {
                    boom();
                }
                async move {
                    if request.uri().path() == "/later" {
                        boom();
                    }
                    Ok::<_, Infallible>(Response::new("well".to_owned()))
                }
            })
        }));
        let server = Server::start(placement, [protocol]);
        let mut h2 = H2::new(server.connect("h2"));
        for (stream, path) in [(1, "/boom"), (3, "/later")] {
            h2.request(stream, path);
            let reset = h2.next();
            assert_eq!((reset.kind, reset.stream), (RST_STREAM, stream), "{path}");
        }
        h2.request(5, "/");
        assert_eq!(h2.content(), b"well");
        assert_eq!(server.metrics().handler_panics, 2);
        drop(h2);
        server.shutdown();
    }
}

#[test]
fn reader_that_opens_its_windows_and_stops_for_good_is_closed() {
    for placement in PLACEMENTS {
        let (mut options, mut limits) = (worker::http2::Options::default(), Limits::default());
        options.write_wait = Duration::from_millis(30);
        (limits.unsent_wait, limits.linger) = (Duration::from_millis(30), Duration::from_millis(30));
        let protocol = Protocol::alpn("h2").worker(worker::http2::serve_with(options, |_| {
            service_fn(|_: Request<worker::Body>| async { Ok::<_, Infallible>(Response::new("x".repeat(50 << 20))) })
        }));
        let server = Server::start_with(placement, [protocol], |b| b.limits(limits));
        let mut h2 = H2::new(server.connect("h2"));
        h2.send(WINDOW_UPDATE, 0, 0, &[0x70, 0, 0, 0]);
        h2.request(1, "/");
        h2.send(WINDOW_UPDATE, 0, 1, &[0x70, 0, 0, 0]);
        server.until(|metrics| metrics.lingered_out == 1);
        drop(h2);
        server.shutdown();
    }
}
