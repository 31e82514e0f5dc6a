//! RFC 9113 sections 5.2 and 6.9: flow control.

use std::sync::atomic::Ordering;

use handfast::Placement;
use handfast_tests::h2::{End, H2, WINDOW, code, flag, kind, setting};

use crate::site::Site;

/// Reads content of `stream` until the server has sent `wanted` bytes of it.
#[track_caller]
fn take(h2: &mut H2, wanted: usize) {
    let mut taken = 0;
    while taken < wanted {
        let frame = h2.next();
        taken += if frame.kind == kind::DATA { frame.payload.len() } else { 0 };
    }
    assert_eq!(taken, wanted);
}

#[test]
fn s6_9_1_the_server_keeps_to_the_windows_of_stream_and_connection() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(1, "/bytes/1000000");
    take(&mut h2, WINDOW);
    // Only PING's answer comes: the window is closed.
    h2.ping();
    h2.window_update(1, 1000);
    h2.ping();
    h2.window_update(0, 400);
    take(&mut h2, 400);
    h2.ping();
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_9_2_a_window_of_nothing_holds_content_back_and_nothing_else() {
    let site = Site::start();
    let mut h2 = H2::open_with(site.connect(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    h2.get(1, "/bytes/10");
    assert_eq!(h2.next().kind, kind::HEADERS);
    h2.ping();
    h2.settings(&[(setting::INITIAL_WINDOW_SIZE, 4)]);
    take(&mut h2, 4);
    // Section 6.9.2: a change counts for open streams, which may leave less than nothing.
    h2.settings(&[(setting::INITIAL_WINDOW_SIZE, 1)]);
    h2.window_update(1, 3);
    h2.ping();
    h2.window_update(1, 6);
    take(&mut h2, 6);
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_9_an_increment_of_zero_is_a_protocol_error() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.window_update(0, 0);
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    let mut h2 = site.open();
    h2.get(1, "/never");
    h2.window_update(1, 0);
    // Of the stream, and section 5.4.1 lets it be one of the connection.
    assert_eq!(h2.end(), End::Goaway(code::PROTOCOL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_9_1_a_window_beyond_31_bits_is_a_flow_control_error() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.window_update(0, (1 << 31) - 1);
    assert_eq!(h2.end(), End::Goaway(code::FLOW_CONTROL_ERROR));
    let mut h2 = site.open();
    h2.get(1, "/never");
    h2.window_update(1, (1 << 31) - 1);
    assert_eq!(h2.reset_of(1), code::FLOW_CONTROL_ERROR);
    h2.ping();
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_9_2_settings_that_overflow_the_window_of_an_open_stream_end_the_connection() {
    let site = Site::start();
    let mut h2 = site.open();
    h2.get(1, "/never");
    h2.window_update(1, 1 << 30);
    h2.settings(&[(setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    assert_eq!(h2.end(), End::Goaway(code::FLOW_CONTROL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_9_1_content_beyond_the_streams_window_resets_it() {
    let site = Site::with(Placement::SharedCore, |options| options.stream_window_bytes = 20_000);
    let mut h2 = site.open();
    h2.request(1, "POST", "/never", &[], false);
    h2.data(1, &[0; 16_000], false);
    h2.data(1, &[0; 4000], false);
    h2.ping();
    h2.data(1, &[0], false);
    assert_eq!(h2.reset_of(1), code::FLOW_CONTROL_ERROR);
    h2.ping();
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_9_1_content_beyond_the_connections_window_ends_it() {
    let site = Site::with(Placement::SharedCore, |options| {
        options.stream_window_bytes = 60_000;
        options.connection_window_bytes = 100_000;
    });
    let mut h2 = site.open();
    for stream in [1, 3] {
        h2.request(stream, "POST", "/never", &[], false);
        (0..5).for_each(|_| h2.data(stream, &[0; 10_000], false));
    }
    h2.ping();
    h2.data(1, &[0], false);
    assert_eq!(h2.end(), End::Goaway(code::FLOW_CONTROL_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_9_windows_open_again_as_content_is_read_and_not_before() {
    let site = Site::with(Placement::SharedCore, |options| options.stream_window_bytes = 20_000);
    let mut h2 = site.open();
    h2.request(1, "POST", "/never", &[], false);
    h2.data(1, &[0; 16_000], false);
    h2.request(3, "POST", "/count", &[], false);
    h2.data(3, &[0; 16_000], false);
    // The one that is read gets its window back.
    let updated = loop {
        let frame = h2.frame();
        if frame.kind == kind::WINDOW_UPDATE && frame.stream > 0 {
            break frame;
        }
    };
    assert_eq!(updated.stream, 3, "{updated:?}");
    h2.data(3, &[0; 16_000], true);
    loop {
        let frame = h2.frame();
        assert!(frame.kind != kind::WINDOW_UPDATE || frame.stream != 1, "{frame:?}");
        if frame.stream == 3 && frame.has(flag::END_STREAM) {
            assert_eq!(frame.payload, b"32000 bytes {}");
            break;
        }
    }
    drop(h2);
    site.lives_on();
}

#[test]
fn s5_2_a_slow_reader_holds_the_making_of_its_content_back() {
    for placement in crate::site::PLACEMENTS {
        let site = Site::with(placement, |options| options.send_buffer_bytes_max = 32 * 1024);
        let mut h2 = site.open();
        h2.get(1, "/bytes/100000000");
        take(&mut h2, WINDOW);
        h2.ping();
        let made = site.backstage.made.load(Ordering::Relaxed);
        // What was sent, what waits, and a piece of content that is on its way.
        assert!(made <= WINDOW + 32 * 1024 + 16 * 1024, "{made} bytes made");
        drop(h2);
        site.lives_on();
    }
}
