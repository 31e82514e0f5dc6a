//! `http/1.1`: what a connection is allowed, and requests that try to be taken for two.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use handfast::worker::http1::{Options, serve_with};
use handfast::{Placement, Protocol, worker};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::harness::{PLACEMENTS, Server, read_rest};
use crate::http1::{ask, read_answer};

/// A server whose answer is how much content it has read.
fn start(placement: Placement, configure: impl FnOnce(&mut Options)) -> Server {
    let mut options = Options::default();
    configure(&mut options);
    let worker = serve_with(options, |_| {
        service_fn(|request: Request<worker::Body>| async {
            let read = request.into_body().collect().await.map(|content| content.to_bytes().len());
            Ok::<_, Infallible>(Response::new(read.map_or_else(|error| error.to_string(), |n| format!("{n} bytes"))))
        })
    });
    Server::start(placement, [Protocol::alpn("http/1.1").worker(worker)])
}

/// Sends `bytes` on a connection of its own, and asserts that they get one answer with `status` and then the end.
#[track_caller]
fn assert_refused(server: &Server, bytes: &str, status: u16) {
    let mut c = server.connect("http/1.1");
    c.socket().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    c.write_all(bytes.as_bytes()).unwrap();
    let answer = read_answer(&mut c, true);
    assert_eq!(answer.status, status, "{bytes:?}: {} {}", answer.head, answer.body);
    assert_eq!(read_rest(&mut c), b"", "{bytes:?}");
}

/// The server is in order after whatever came.
#[track_caller]
fn assert_lives_on(server: Server) {
    let mut c = server.connect("http/1.1");
    assert_eq!(ask(&mut c, "GET / HTTP/1.1\r\n").body, "0 bytes");
    drop(c);
    assert_eq!(server.shutdown().handler_panics, 0);
}

#[test]
fn requests_of_doubtful_length_are_refused() {
    for placement in PLACEMENTS {
        let server = start(placement, |_| ());
        let post = "POST / HTTP/1.1\r\nhost: a\r\n";
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        for fields in [
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: 5, 6\r\n",
            "content-length: -1\r\n",
            "content-length: +5\r\n",
            "content-length: 0x5\r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: gzip\r\n",
            "transfer-encoding: chunked, gzip\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding : chunked\r\n",
            "x: y\r\n transfer-encoding: chunked\r\n",
        ] {
            assert_refused(&server, &format!("{post}{fields}\r\n{smuggled}"), 400);
        }
        assert_lives_on(server);
    }
}

#[test]
fn transfer_encoding_beside_content_length_wins_and_ends_the_connection() {
    for placement in PLACEMENTS {
        let server = start(placement, |_| ());
        for fields in [
            "content-length: 50\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 50\r\n",
        ] {
            let mut c = server.connect("http/1.1");
            write!(c, "POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n2\r\nab\r\n0\r\n\r\n").unwrap();
            // RFC 9112 section 6.3: chunked is right, whatever the length says.
            assert_eq!(read_answer(&mut c, true).body, "2 bytes", "{fields}");
            drop(c);
        }
        assert_lives_on(server);
    }
}

#[test]
fn malformed_chunks_end_the_connection() {
    for placement in PLACEMENTS {
        let server = start(placement, |_| ());
        for chunks in
            ["xyz\r\n", "-2\r\nab\r\n", "2\r\nabc\r\n", "2\nab\n", "fffffffffffffffff\r\n", "2\r\nab\r\n0\r\nx\r\n\r\n"]
        {
            let mut c = server.connect("http/1.1");
            c.socket().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            write!(c, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}").unwrap();
            write!(c, "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let answers = String::from_utf8(read_rest(&mut c)).unwrap();
            assert!(answers.matches("HTTP/1.1 ").count() <= 1 && !answers.contains(" bytes"), "{chunks:?}: {answers}");
        }
        assert_lives_on(server);
    }
}

#[test]
fn malformed_requests_are_refused() {
    for placement in PLACEMENTS {
        let server = start(placement, |_| ());
        for request in [
            "GET / HTTP/3.0\r\n\r\n",
            "GET /\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "G\u{7f}T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nna me: x\r\n\r\n",
            "GET / HTTP/1.1\r\nname: \u{1}\r\n\r\n",
            "GET / HTTP/1.1\r\n: x\r\n\r\n",
            "\u{16}\u{3}\u{1}\r\n\r\n",
        ] {
            assert_refused(&server, request, 400);
        }
        assert_lives_on(server);
    }
}

#[test]
fn client_that_speaks_h2_after_all_is_closed() {
    let server = start(Placement::SharedCore, |_| ());
    let mut c = server.connect("http/1.1");
    c.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert_eq!(read_rest(&mut c), b"");
    drop(c);
    assert_lives_on(server);
}

#[test]
fn header_sections_beyond_the_limits_are_refused() {
    for placement in PLACEMENTS {
        let server = start(placement, |options| {
            options.header_bytes_max = 4000;
            options.headers_max = 20;
        });
        let get = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_refused(&server, &get(&format!("x: {}\r\n", "y".repeat(4000))), 431);
        assert_refused(&server, &get(&"x: y\r\n".repeat(21)), 431);
        // One that never ends.
        assert_refused(&server, &format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(4000)), 431);
        assert_refused(&server, &format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(4000)), 431);
        let mut c = server.connect("http/1.1");
        assert_eq!(ask(&mut c, &format!("GET / HTTP/1.1\r\nx: {}\r\n", "y".repeat(3000))).status, 200);
        assert_eq!(ask(&mut c, &format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(19))).status, 200);
        drop(c);
        assert_lives_on(server);
    }
}

#[test]
fn trailers_beyond_the_limit_are_an_error_to_the_service() {
    for placement in PLACEMENTS {
        let server = start(placement, |options| options.header_bytes_max = 1000);
        let mut c = server.connect("http/1.1");
        let trailer = "x".repeat(1000);
        write!(
            c,
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\ny: {trailer}\r\n\r\n"
        )
        .unwrap();
        let answers = String::from_utf8(read_rest(&mut c)).unwrap();
        assert!(!answers.contains("2 bytes"), "{answers}");
        drop(c);
        assert_lives_on(server);
    }
}

#[test]
fn target_of_more_than_64_kib_is_refused_as_too_long() {
    let server = start(Placement::SharedCore, |options| {
        options.buffer_bytes_max = 200_000;
        options.header_bytes_max = 200_000;
    });
    // RFC 9110 section 15.5.15.
    assert_refused(&server, &format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(70_000)), 414);
    assert_lives_on(server);
}

#[test]
fn connection_that_is_idle_after_a_request_meets_the_header_timeout() {
    for placement in PLACEMENTS {
        let server = start(placement, |options| options.header_read_timeout = Duration::from_millis(30));
        let mut c = server.connect("http/1.1");
        assert_eq!(ask(&mut c, "GET / HTTP/1.1\r\n").status, 200);
        assert_eq!(read_rest(&mut c), b"");
        c.close().unwrap();
        assert_lives_on(server);
    }
}

#[test]
fn content_that_takes_its_time_does_not_meet_the_header_timeout() {
    for placement in PLACEMENTS {
        let server = start(placement, |options| options.header_read_timeout = Duration::from_millis(30));
        let mut c = server.connect("http/1.1");
        write!(c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nwe").unwrap();
        // Two lives of idle connections later, one after the other.
        for _ in 0..2 {
            let mut idle = server.connect("http/1.1");
            assert_eq!(read_rest(&mut idle), b"");
        }
        c.write_all(b"ll").unwrap();
        assert_eq!(read_answer(&mut c, true).body, "4 bytes");
        drop(c);
        assert_lives_on(server);
    }
}

#[test]
fn connection_without_keep_alive_serves_one_request() {
    for placement in PLACEMENTS {
        let server = start(placement, |options| options.keep_alive = false);
        let mut c = server.connect("http/1.1");
        c.write_all(&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2)).unwrap();
        let answer = read_answer(&mut c, true);
        assert!(answer.head.contains("connection: close\r\n"), "RFC 9112 section 9.6: {}", answer.head);
        assert_eq!(read_rest(&mut c), b"");
        c.close().unwrap();
        assert_lives_on(server);
    }
}

#[test]
fn http_1_0_is_answered_and_closed_unless_it_asks_to_stay() {
    for placement in PLACEMENTS {
        let server = start(placement, |_| ());
        assert_refused(&server, "GET / HTTP/1.0\r\n\r\n", 200);
        let mut c = server.connect("http/1.1");
        for _ in 0..2 {
            let answer = ask(&mut c, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n");
            assert!(answer.head.contains("connection: keep-alive\r\n"), "{}", answer.head);
        }
        drop(c);
        assert_lives_on(server);
    }
}

#[test]
fn pipelined_answers_come_whether_they_wait_for_each_other_or_not() {
    for (placement, pipeline_flush) in PLACEMENTS.into_iter().flat_map(|p| [(p, true), (p, false)]) {
        let server = start(placement, |options| options.pipeline_flush = pipeline_flush);
        let mut c = server.connect("http/1.1");
        let posts =
            (0..500).map(|n| format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {n}\r\n\r\n{}", "x".repeat(n)));
        c.write_all(posts.collect::<String>().as_bytes()).unwrap();
        (0..500).for_each(|n| assert_eq!(read_answer(&mut c, true).body, format!("{n} bytes")));
        drop(c);
        assert_lives_on(server);
    }
}

#[test]
fn options_out_of_range_are_brought_into_it() {
    let server = start(Placement::SharedCore, |options| {
        options.header_read_timeout = Duration::MAX;
        options.buffer_bytes_max = usize::MAX;
        options.header_bytes_max = usize::MAX;
    });
    assert_lives_on(server);
}

#[test]
fn content_that_does_not_come_is_not_waited_for() {
    for placement in PLACEMENTS {
        let server = start(placement, |options| options.content_wait = Duration::from_millis(30));
        let mut c = server.connect("http/1.1");
        c.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\na beginning").unwrap();
        assert_eq!(read_answer(&mut c, true).body, "nothing more of the request's content came for 30ms");
        assert_eq!(read_rest(&mut c), b"");
        assert_lives_on(server);
    }
}
