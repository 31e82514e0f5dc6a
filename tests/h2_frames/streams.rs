//! RFC 9113 section 5: streams, their states, numbers and priorities.

use std::sync::atomic::Ordering;

use handfast::Placement;
use handfast_tests::h2::{End, code, flag, kind};

use crate::site::Site;

#[test]
fn s5_1_idle_a_frame_for_a_stream_that_was_never_opened_is_a_protocol_error() {
    for (kind, payload) in [(kind::DATA, &b"x"[..]), (kind::RST_STREAM, &[0; 4]), (kind::WINDOW_UPDATE, &[0, 0, 0, 1])]
    {
        let site = Site::start();
        let mut h2 = site.open();
        h2.send(kind, 0, 1, payload);
        assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR), "{kind}");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn s5_1_idle_a_priority_may_come_before_its_stream() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.send(kind::PRIORITY, 0, 5, &[0, 0, 0, 3, 9]);
    h2.get(7, "/");
    assert_eq!(h2.response().status, 200);
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_half_closed_data_after_the_end_of_the_request_is_refused() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(1, "/never");
    h2.data(1, b"more", false);
    // Section 5.4.1 lets a stream error be one of the connection; STREAM_CLOSED would be the right code.
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_half_closed_headers_after_the_end_of_the_request_are_refused() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(1, "/never");
    h2.headers(1, &[("more", "of it")], true);
    // As for data.
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_closed_a_stream_that_has_ended_is_not_opened_again() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(1, "/");
    h2.response();
    h2.get(1, "/");
    // As a number that does not grow (section 5.1.1), which comes to the same.
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_closed_late_frames_after_our_reset_are_ignored() {
    let site = Site::start();
    let mut h2 = site.open();
    // A malformed request: the server resets the stream, and the client does not know it yet.
    h2.request(1, "POST", "no slash", &[], false);
    assert_eq!(h2.reset_of(1), code::PROTOCOL_ERROR);
    h2.data(1, b"sent before the reset came", false);
    h2.window_update(1, 1);
    h2.headers(1, &[("trailers", "too")], true);
    h2.send(kind::RST_STREAM, 0, 1, &code::CANCEL.to_be_bytes());
    h2.get(3, "/");
    assert_eq!(h2.response().status, 200);
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_closed_a_reset_by_the_client_ends_the_handler() {
    let site = Site::start();
    let mut h2 = site.open();
    for stream in (1..300).step_by(2) {
        // More than may be open at a time, were any left.
        h2.get(stream, "/never");
        h2.send(kind::RST_STREAM, 0, stream, &code::CANCEL.to_be_bytes());
        h2.ping();
    }
    h2.get(301, "/");
    assert_eq!(h2.response().status, 200);
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_1_clients_open_odd_streams() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(2, "/");
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_1_stream_numbers_only_grow() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(5, "/");
    h2.response();
    h2.get(3, "/");
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_2_more_streams_than_allowed_are_refused_and_may_come_again() {
    let site = Site::with(Placement::SharedCore, |options| options.concurrent_streams_max = 3);
    let mut h2 = site.open();
    (0..3).for_each(|i| h2.get(2 * i + 1, "/later"));
    h2.get(7, "/");
    assert_eq!(h2.reset_of(7), code::REFUSED_STREAM);
    site.backstage.open_gate();
    (0..3).for_each(|_| while !h2.next().has(flag::END_STREAM) {});
    h2.get(9, "/");
    assert_eq!(h2.response().status, 200);
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_1_2_an_empty_response_frees_its_stream() {
    let site = Site::with(Placement::SharedCore, |options| options.concurrent_streams_max = 1);
    let mut h2 = site.open();
    for stream in (1..100).step_by(2) {
        h2.get(stream, "/bytes/0");
        assert_eq!(h2.response().content, b"");
    }
    assert_eq!(site.backstage.made.load(Ordering::Relaxed), 0);
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_3_2_priorities_are_read_and_change_nothing() {
    let site = Site::start();
    let mut h2 = site.open();
    let mut prioritized = vec![0x80, 0, 0, 0, 200];
    prioritized.extend([0x82, 0x87, 0x84, 0x41, 1, b'a']);
    h2.send(kind::HEADERS, flag::PRIORITY | flag::END_HEADERS | flag::END_STREAM, 1, &prioritized);
    assert_eq!(h2.response().status, 200);
    h2.send(kind::PRIORITY, 0, 1, &[0, 0, 0, 9, 1]);
    h2.ping();
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_3_1_a_stream_that_depends_on_itself_is_reset() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.send(kind::PRIORITY, 0, 3, &[0, 0, 0, 3, 9]);
    // As in RFC 7540; RFC 9113 has deprecated priorities and the rule with them.
    assert_eq!(h2.reset_of(3), code::PROTOCOL_ERROR);
    h2.get(5, "/");
    assert_eq!(h2.response().status, 200);
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_3_a_priority_of_the_wrong_length_ends_the_connection() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.send(kind::PRIORITY, 0, 3, &[0, 0, 0, 1]);
    // Section 5.4.1 lets a stream error be one of the connection; FRAME_SIZE_ERROR would be the right code.
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_8_after_the_clients_goaway_its_streams_end_and_the_connection_does() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(1, "/later");
    h2.send(kind::GOAWAY, 0, 0, &[0; 8]);
    site.backstage.open_gate();
    assert_eq!(h2.response().content, b"at last");
    assert_eq!(h2.end(), End::Goaway(code::NO_ERROR));
    drop(h2);
    site.lives_on();
}
