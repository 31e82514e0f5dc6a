//! RFC 9113 section 6.5: SETTINGS.

use handfast::Placement;
use handfast_tests::h2::{End, H2, code, flag, frame, kind, setting, setting_bytes};

use crate::site::Site;

#[track_caller]
fn ends(flags: u8, stream: u32, payload: &[u8]) -> End {
    let site = Site::start();
    let mut h2 = site.open();
    h2.send(kind::SETTINGS, flags, stream, payload);
    let end = h2.end();
    drop(h2);
    site.lives_on();
    end
}

#[test]
fn s6_5_settings_on_a_stream_are_a_protocol_error() {
    assert_eq!(ends(0, 1, &[]), End::Goaway(code::PROTOCOL_ERROR));
}

#[test]
fn s6_5_settings_of_the_wrong_length_end_the_connection() {
    // A fault of the library: FRAME_SIZE_ERROR would be the right code.
    assert_eq!(ends(flag::ACK, 0, &setting_bytes(setting::ENABLE_PUSH, 0)), End::Goaway(code::PROTOCOL_ERROR));
    assert_eq!(ends(0, 0, &[0, 3, 0, 0, 0]), End::Goaway(code::PROTOCOL_ERROR));
}

#[test]
fn s6_5_2_values_out_of_range_end_the_connection() {
    for (id, value) in [
        (setting::ENABLE_PUSH, 2),
        // A fault of the library: FLOW_CONTROL_ERROR would be the right code for this one.
        (setting::INITIAL_WINDOW_SIZE, 1 << 31),
        (setting::MAX_FRAME_SIZE, (1 << 14) - 1),
        (setting::MAX_FRAME_SIZE, 1 << 24),
    ] {
        assert_eq!(ends(0, 0, &setting_bytes(id, value)), End::Goaway(code::PROTOCOL_ERROR), "{id}={value}");
    }
}

#[test]
fn s6_5_2_unknown_settings_are_ignored() {
    let site = Site::start();
    let mut h2 = H2::open_with(site.connect(), &[(0xbeef, 7), (0, 1)]);
    h2.get(1, "/");
    assert_eq!(h2.response().status, 200);
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_5_3_each_settings_frame_is_acknowledged() {
    let site = Site::start();
    let mut h2 = site.open();
    (0..3).for_each(|_| h2.settings(&[(setting::MAX_CONCURRENT_STREAMS, 5)]));
    let mut acknowledged = 0;
    // The hello's own is the fourth.
    while acknowledged < 4 {
        let frame = h2.frame();
        assert!(!frame.has(flag::ACK) || frame.payload.is_empty(), "{frame:?}");
        acknowledged += usize::from(frame.kind == kind::SETTINGS && frame.has(flag::ACK));
    }
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_5_3_an_acknowledgement_of_nothing_ends_the_connection() {
    // The RFC says nothing of it.
    assert_eq!(ends(flag::ACK, 0, &[]), End::Goaway(code::PROTOCOL_ERROR));
}

#[test]
fn s6_5_2_the_largest_frame_of_the_client_is_kept_to() {
    for size in [1 << 14, 40_000] {
        let site = Site::start();
        let mut h2 =
            H2::open_with(site.connect(), &[(setting::MAX_FRAME_SIZE, size), (setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
        h2.window_update(0, 1 << 20);
        h2.get(1, "/bytes/300000");
        let mut taken = 0;
        while taken < 300_000 {
            let frame = h2.next();
            assert!(frame.payload.len() <= size as usize, "{} bytes", frame.payload.len());
            taken += if frame.kind == kind::DATA { frame.payload.len() } else { 0 };
        }
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn s6_5_2_a_smaller_header_table_of_the_client_is_kept_to() {
    let site = Site::start();
    let mut h2 = H2::open_with(site.connect(), &[(setting::HEADER_TABLE_SIZE, 0)]);
    for stream in [1, 3, 5] {
        h2.get(stream, "/");
        // The decoder would not find what an encoder had put into the table.
        assert_eq!(h2.response().content, b"well");
    }
    drop(h2);
    site.lives_on();
}

#[test]
fn s6_5_2_what_the_site_allows_is_what_it_says() {
    let site = Site::with(Placement::SharedCore, |options| {
        options.concurrent_streams_max = 7;
        options.header_list_bytes_max = 5000;
        options.stream_window_bytes = 70_000;
        options.frame_bytes_max = 20_000;
    });
    let mut h2 = H2::silent(site.connect());
    h2.bytes(handfast_tests::h2::PREFACE);
    h2.settings(&[]);
    let told = h2.frame().settings();
    for expected in [
        (setting::MAX_CONCURRENT_STREAMS, 7),
        (setting::MAX_HEADER_LIST_SIZE, 5000),
        (setting::INITIAL_WINDOW_SIZE, 70_000),
        (setting::MAX_FRAME_SIZE, 20_000),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
    h2.send(kind::SETTINGS, flag::ACK, 0, &[]);
    h2.request(1, "POST", "/count", &[], false);
    h2.data(1, &[0; 20_000], true);
    assert_eq!(h2.response().content, b"20000 bytes {}");
    h2.bytes(&frame(kind::DATA, 0, 3, &[0; 20_001]));
    assert_eq!(h2.end(), End::Goaway(code::FRAME_SIZE_ERROR));
    drop(h2);
    site.lives_on();
}

#[test]
fn options_out_of_range_are_brought_into_it() {
    let site = Site::with(Placement::SharedCore, |options| {
        options.stream_window_bytes = u32::MAX;
        options.connection_window_bytes = u32::MAX;
        options.frame_bytes_max = u32::MAX;
        options.send_buffer_bytes_max = usize::MAX;
        options.preface_deadline = std::time::Duration::MAX;
        options.idle_deadline = std::time::Duration::MAX;
        options.keep_alive_interval = std::time::Duration::from_secs(u64::MAX);
        options.keep_alive_timeout = std::time::Duration::MAX;
    });
    let mut h2 = site.open();
    h2.get(1, "/");
    assert_eq!(h2.response().status, 200);
    drop(h2);
    site.lives_on();
    let site = Site::with(Placement::SharedCore, |options| {
        options.connection_window_bytes = 0;
        options.frame_bytes_max = 0;
        options.send_buffer_bytes_max = 0;
        options.keep_alive_interval = std::time::Duration::MAX;
    });
    let mut h2 = site.open();
    h2.request(1, "POST", "/echo", &[], false);
    h2.data(1, b"all the same", true);
    assert_eq!(h2.response().content, b"all the same");
    drop(h2);
    site.lives_on();
}
