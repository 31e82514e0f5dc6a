//! `http/1.1` by hand over the client.

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use handfast::client::Connection;
use handfast::{Placement, Protocol, worker};
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::harness::{PLACEMENTS, Server, read_rest};

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|l| l.split_once(": "));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).next()
    }
}

/// Reads one response; `content` says whether it has any.
pub(crate) fn read_answer(connection: &mut Connection, content: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body: String::new() };
    if content {
        let length: u64 = answer.header("content-length").unwrap().parse().unwrap();
        connection.take(length).read_to_string(&mut answer.body).unwrap();
    }
    answer
}

pub(crate) fn ask(connection: &mut Connection, request: &str) -> Answer {
    write!(connection, "{request}host: localhost\r\n\r\n").unwrap();
    read_answer(connection, !request.starts_with("HEAD"))
}

#[test]
fn facts_come_as_json_and_as_a_page_over_one_connection() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::http1()]);
        let mut c = server.connect("http/1.1");
        let json = ask(&mut c, "GET / HTTP/1.1\r\naccept: */*\r\n");
        assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")));
        for part in ["\"protocol\":\"http/1.1\",\"alpn\":\"http/1.1\",\"server_name\":\"localhost\"", "\"TLSv1.3\""] {
            assert!(json.body.contains(part), "{}", json.body);
        }
        let local = c.socket().local_addr().unwrap();
        assert!(json.body.contains(&format!("\"peer\":\"{local}\"")), "{}", json.body);
        let page = ask(&mut c, "GET / HTTP/1.1\r\naccept: text/html,*/*;q=0.8\r\n");
        assert!(page.body.starts_with("<!doctype html>") && page.body.contains("localhost"), "{}", page.body);
        let head = ask(&mut c, "HEAD / HTTP/1.1\r\n");
        assert_eq!(head.header("content-length"), Some(&*json.body.len().to_string()));
        assert_eq!(ask(&mut c, "GET /nothing HTTP/1.1\r\n").status, 404);
        let delete = ask(&mut c, "DELETE /facts.json HTTP/1.1\r\n");
        assert_eq!((delete.status, delete.header("allow")), (405, Some("GET, HEAD")));
        drop(c);
        assert_eq!(server.shutdown().handshakes(), 1);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::http1()]);
        let mut c = server.connect("http/1.1");
        let requests = ["/", "/missing", "/facts.json"].map(|p| format!("GET {p} HTTP/1.1\r\nhost: a\r\n\r\n"));
        c.write_all((requests.concat() + "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
        let statuses = [(); 4].map(|()| read_answer(&mut c, true).status);
        assert_eq!(statuses, [200, 404, 200, 200]);
        assert_eq!(read_rest(&mut c), b"");
        c.close().unwrap();
        server.shutdown();
    }
}

#[test]
fn drain_closes_idle_connections_at_once() {
    for placement in PLACEMENTS {
        let server = Server::start(placement, [Protocol::http1()]);
        let mut used = server.connect("http/1.1");
        assert_eq!(ask(&mut used, "GET / HTTP/1.1\r\n").status, 200);
        let mut unused = server.connect("http/1.1");
        server.handle().drain();
        for c in [&mut used, &mut unused] {
            assert_eq!(read_rest(c), b"");
            c.close().unwrap();
        }
        let metrics = server.join();
        assert_eq!((metrics.aborted, metrics.lingered_out), (0, 0), "{metrics}");
    }
}

#[test]
fn malformed_request_is_refused_and_closed() {
    let server = Server::start(Placement::SharedCore, [Protocol::http1()]);
    let mut c = server.connect("http/1.1");
    c.write_all(b"NONSENSE\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut c, true).status, 400);
    assert_eq!(read_rest(&mut c), b"");
    c.close().unwrap();
    server.shutdown();
}

fn limited(options: worker::http1::Options) -> Protocol {
    Protocol::alpn("http/1.1").worker(worker::http1::serve_with(options, |_| {
        service_fn(|_: Request<worker::Body>| async { Ok::<_, Infallible>(Response::new("well".to_owned())) })
    }))
}

#[test]
fn client_that_stops_in_its_headers_is_closed() {
    for placement in PLACEMENTS {
        let mut options = worker::http1::Options::default();
        options.header_read_timeout = Duration::from_millis(30);
        let server = Server::start(placement, [limited(options)]);
        let mut silent = server.connect("http/1.1");
        let mut slow = server.connect("http/1.1");
        slow.write_all(b"GET / HTTP/1.1\r\nhost: a").unwrap();
        for c in [&mut silent, &mut slow] {
            read_rest(c);
            c.close().unwrap();
        }
        server.shutdown();
    }
}

#[test]
fn too_many_header_bytes_are_refused() {
    let mut options = worker::http1::Options::default();
    options.buffer_bytes_max = 0;
    let server = Server::start(Placement::SharedCore, [limited(options)]);
    let mut c = server.connect("http/1.1");
    assert_eq!(ask(&mut c, &format!("GET / HTTP/1.1\r\nx: {}\r\n", "y".repeat(9000))).status, 431);
    assert_eq!(read_rest(&mut c), b"");
    c.close().unwrap();
    server.shutdown();
}

#[test]
fn refused_upload_is_read_and_the_connection_goes_on() {
    let server = Server::start(Placement::SharedCore, [Protocol::http1()]);
    let mut c = server.connect("http/1.1");
    write!(c, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 30000\r\n\r\n").unwrap();
    c.write_all(&[b'x'; 30_000]).unwrap();
    assert_eq!(read_answer(&mut c, true).status, 405);
    assert_eq!(ask(&mut c, "GET / HTTP/1.1\r\n").status, 200);
    drop(c);
    server.shutdown();
}

#[test]
fn panicking_service_resets_its_connection_and_no_other() {
    for placement in PLACEMENTS {
        let protocol = Protocol::alpn("http/1.1").worker(worker::http1::serve(|connection| {
            let name = connection.facts().protocol_name();
            service_fn(move |request: Request<worker::Body>| {
                let name = name.clone();
                async move {
                    if request.uri().path() == "/boom" {
                        std::panic::resume_unwind(Box::new("on purpose"));
                    }
                    Ok::<_, Infallible>(Response::new(name))
                }
            })
        }));
        let server = Server::start(placement, [protocol]);
        let mut other = server.connect("http/1.1");
        assert_eq!(ask(&mut other, "GET / HTTP/1.1\r\n").body, "http/1.1");
        let mut c = server.connect("http/1.1");
        c.write_all(b"GET /boom HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let kind = c.read(&mut [0; 9]).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{kind}");
        assert_eq!(ask(&mut other, "GET / HTTP/1.1\r\n").status, 200);
        assert_eq!(server.metrics().handler_panics, 1);
        drop(other);
        server.shutdown();
    }
}
