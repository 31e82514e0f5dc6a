//! Content, trailers and the end of a connection, in both placements.

use std::time::Duration;

use handfast_tests::h2::{End, H2, Response, block, code, flag, frame, kind};

use crate::site::{LIMITED_BYTES, PLACEMENTS, Site};

/// A little over eight megabytes, which no window or buffer holds, and no whole number of frames.
const LARGE: usize = (8 << 20) + 77;
/// What the site says of its windows.
const STREAM_WINDOW: usize = 256 * 1024;
const CONNECTION_WINDOW: usize = 1024 * 1024;

fn pattern(len: usize) -> Vec<u8> {
    (0_u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).take(len).collect()
}

/// Sends `content` to `path` as fast as the server gives room for it, then `trailers`, and reads the response meanwhile.
/// The connection must be new.
#[track_caller]
fn post(h2: &mut H2, path: &str, content: &[u8], trailers: &[(&str, &str)]) -> Response {
    h2.request(1, "POST", path, &[], false);
    let mut response = Response::default();
    // What the connection's window is beyond the initial one, comes as a WINDOW_UPDATE.
    let mut windows = [65_535, STREAM_WINDOW];
    let mut left = content;
    let mut ended = false;
    loop {
        while !left.is_empty() && windows.iter().all(|&window| window > 0) {
            let n = windows.into_iter().min().expect("two").min(left.len()).min(16 * 1024);
            let last = n == left.len();
            h2.data(1, &left[..n], last && trailers.is_empty());
            left = &left[n..];
            windows = windows.map(|window| window - n);
            if last && !trailers.is_empty() {
                h2.headers(1, trailers, true);
            }
        }
        if ended {
            return response;
        }
        let frame = h2.frame();
        match frame.kind {
            kind::WINDOW_UPDATE => {
                let window = &mut windows[usize::from(frame.stream > 0)];
                *window += frame.u32_at(0) as usize;
                assert!(*window <= CONNECTION_WINDOW, "{window} bytes");
            }
            kind::HEADERS if response.status == 0 => {
                assert_eq!(h2.decode(&frame.payload)[0], (":status".to_owned(), "200".to_owned()));
                response.status = 200;
            }
            kind::HEADERS => response.trailers = h2.decode(&frame.payload),
            kind::DATA if !frame.payload.is_empty() => {
                response.content.extend(&frame.payload);
                h2.window_update(0, frame.payload.len());
                if !frame.has(flag::END_STREAM) {
                    h2.window_update(1, frame.payload.len());
                }
            }
            _ => {}
        }
        ended = frame.stream == 1 && matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.has(flag::END_STREAM);
    }
}

#[test]
fn large_content_goes_both_ways_at_once() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        let content = pattern(LARGE);
        assert!(post(&mut h2, "/echo", &content, &[]).content == content);
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn large_content_comes_up_and_goes_down() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        assert_eq!(post(&mut h2, "/count", &pattern(LARGE), &[]).content, format!("{LARGE} bytes {{}}").as_bytes());
        h2.get(3, &format!("/bytes/{LARGE}"));
        let response = h2.response();
        assert_eq!(response.header("content-length"), Some(&*LARGE.to_string()));
        assert_eq!(response.content.len(), LARGE);
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn trailers_go_both_ways() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        let response = post(&mut h2, "/echo", b"content", &[("grade", "fine"), ("sum", "7")]);
        assert_eq!(response.content, b"content");
        assert_eq!(response.trailers, [("grade", "fine"), ("sum", "7")].map(|(n, v)| (n.to_owned(), v.to_owned())));
        h2.get(3, "/trailers");
        let response = h2.response();
        assert_eq!((&response.content[..], &*response.trailers[0].1), (&b"well"[..], "fine"));
        // Without content (RFC 9113 section 8.1).
        h2.request(5, "POST", "/echo", &[], false);
        h2.headers(5, &[("only", "this")], true);
        let response = h2.response();
        assert_eq!((&response.content[..], &*response.trailers[0].0), (&b""[..], "only"));
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn head_has_the_length_and_no_content() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        h2.request(1, "HEAD", "/method", &[], true);
        let response = h2.response();
        assert_eq!((response.status, response.header("content-length")), (200, Some("4")));
        assert_eq!(response.content, b"", "RFC 9110 section 9.3.2");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_client_that_expects_100_gets_it_when_its_content_is_read() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        for (stream, expected) in [(1, "100-continue"), (3, "100-Continue")] {
            h2.request(stream, "POST", "/count", &[("expect", expected)], false);
            // RFC 9110 section 10.1.1, RFC 9113 section 8.1.
            let interim = h2.next();
            assert_eq!((interim.kind, interim.stream, interim.has(flag::END_STREAM)), (kind::HEADERS, stream, false));
            assert_eq!(h2.decode(&interim.payload), [(":status".to_owned(), "100".to_owned())]);
            h2.data(stream, b"then", true);
            assert_eq!(h2.response().content, b"4 bytes {}");
        }
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_client_that_expects_100_in_vain_gets_a_final_answer_alone() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        // The service does not look at the content.
        h2.request(1, "POST", "/method", &[("expect", "100-continue")], false);
        let response = h2.response();
        assert_eq!((response.status, &response.content[..]), (200, &b"POST"[..]));
        assert_eq!(h2.reset_of(1), code::NO_ERROR);
        // It has come already, or there is none.
        let fields = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/count")];
        let head = block(&[&fields[..], &[("expect", "100-continue")]].concat());
        let request = [frame(kind::HEADERS, flag::END_HEADERS, 3, &head), frame(kind::DATA, 1, 3, b"anyway")].concat();
        h2.bytes(&request);
        assert_eq!(h2.response().content, b"6 bytes {}");
        h2.request(5, "GET", "/count", &[("expect", "100-continue")], true);
        assert_eq!(h2.response().content, b"0 bytes {}");
        // Other expectations are the service's (RFC 9110 section 10.1.1).
        h2.request(7, "POST", "/count", &[("expect", "200-ok")], false);
        h2.ping();
        h2.data(7, b"x", true);
        assert_eq!(h2.response().content, b"1 bytes {}");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_tunnel_carries_bytes_both_ways_and_ends_each_way_apart() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        h2.headers(1, &[(":method", "CONNECT"), (":authority", "a:1")], false);
        let opened = h2.next();
        assert_eq!((opened.kind, opened.has(flag::END_STREAM)), (kind::HEADERS, false));
        let fields = h2.decode(&opened.payload);
        assert_eq!(fields[0].1, "200", "{fields:?}");
        // RFC 9110 section 9.3.6.
        assert!(fields.iter().all(|(name, _)| name != "content-length"), "{fields:?}");
        let content = pattern(200_000);
        let mut echoed = Vec::new();
        for piece in content.chunks(16 * 1024) {
            h2.data(1, piece, false);
            let upto = echoed.len() + piece.len();
            while echoed.len() < upto {
                let frame = h2.next();
                h2.window_update(0, frame.payload.len());
                h2.window_update(1, frame.payload.len());
                echoed.extend(frame.payload);
            }
        }
        assert!(echoed == content);
        h2.data(1, b"", true);
        let last = h2.next();
        assert_eq!((last.kind, last.payload.len(), last.has(flag::END_STREAM)), (kind::DATA, 0, true));
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn content_beyond_the_services_limit_is_answered_with_413_and_the_connection_goes_on() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        h2.request(1, "POST", "/limited", &[], false);
        h2.data(1, &[0; LIMITED_BYTES], false);
        h2.data(1, &[0], false);
        let response = h2.response();
        assert_eq!((response.status, &response.content[..]), (413, &b"too much"[..]));
        // RFC 9113 section 8.1: the client need not send the rest.
        assert_eq!(h2.reset_of(1), code::NO_ERROR);
        h2.request(3, "POST", "/limited", &[], false);
        h2.data(3, &[0; LIMITED_BYTES], true);
        assert_eq!(h2.response().status, 200);
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_stream_whose_content_is_not_read_leaves_room_for_others() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        h2.request(1, "POST", "/never", &[], false);
        for chunk in vec![0; 65_535].chunks(16 * 1024) {
            h2.data(1, chunk, false);
        }
        h2.request(3, "POST", "/echo", &[], false);
        h2.data(3, b"passes by", true);
        assert_eq!(h2.response().content, b"passes by");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_drain_lets_open_streams_end() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        h2.get(1, "/later");
        h2.request(3, "POST", "/count", &[], false);
        h2.data(3, b"the first half, ", false);
        h2.ping();
        site.handle().drain();
        // RFC 9113 section 6.8: a first GOAWAY that takes no stream back.
        let first = h2.next();
        assert_eq!((first.kind, first.u32_at(0), first.u32_at(4)), (kind::GOAWAY, (1 << 31) - 1, code::NO_ERROR));
        let second = h2.next();
        assert_eq!((second.kind, second.u32_at(0), second.u32_at(4)), (kind::GOAWAY, 3, code::NO_ERROR));
        // Too late for a new one, which is ignored, and early enough for the old.
        h2.get(5, "/");
        h2.data(3, b"the second half", true);
        assert_eq!(h2.response().content, b"31 bytes {}");
        site.backstage.open_gate();
        assert_eq!(h2.response().content, b"at last");
        assert_eq!(h2.end(), End::Closed);
        h2.connection().close().expect("our close_notify");
        let metrics = site.join();
        assert_eq!((metrics.aborted, metrics.lingered_out), (0, 0), "{metrics}");
    }
}

#[test]
fn content_that_is_cut_off_is_not_taken_for_whole() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        // RFC 9113 section 8.1 lets servers reset with NO_ERROR, for content that they do not want; clients have no such.
        h2.request(1, "POST", "/count", &[], false);
        h2.data(1, b"half of", false);
        h2.send(kind::RST_STREAM, 0, 1, &code::NO_ERROR.to_be_bytes());
        let end = site.backstage.end();
        assert!(end.contains("not whole"), "{placement:?}: {end}");
        h2.headers(3, &[(":method", "CONNECT"), (":authority", "a:1")], false);
        assert_eq!(h2.next().kind, kind::HEADERS);
        h2.data(3, b"half of", false);
        h2.send(kind::RST_STREAM, 0, 3, &code::NO_ERROR.to_be_bytes());
        // Which of its two directions is told of it first is open.
        let end = site.backstage.end();
        assert!(["ConnectionAborted", "BrokenPipe"].contains(&&*end), "{placement:?}: {end}");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn content_of_a_client_that_vanishes_is_not_taken_for_whole() {
    for placement in PLACEMENTS {
        let wait = Duration::from_millis(20);
        let site = Site::with(placement, |options| {
            options.keep_alive_interval = wait;
            options.keep_alive_timeout = wait;
        });
        let mut h2 = site.open();
        h2.request(1, "POST", "/count", &[], false);
        h2.data(1, b"half of", false);
        // The PING that comes is not answered.
        let end = site.backstage.end();
        assert!(end.contains("not whole"), "{placement:?}: {end}");
        drop(h2);
        site.lives_on();
    }
}
