//! RFC 9113 section 10.5: denial of service.

use std::iter::repeat_n;
use std::time::Duration;

use handfast::Placement;
use handfast_tests::h2::{End, H2, block, code, flag, frame, kind, setting, setting_bytes};

use crate::site::{PLACEMENTS, Site};

fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block(&fields))
}

/// Sends frames while nothing is read, until the connection takes no more or they are over; says whether they were.
fn all_taken(h2: &mut H2, frames: impl IntoIterator<Item = Vec<u8>>) -> bool {
    // A wait that ends too early on a slow machine makes the flood shorter, and nothing else.
    h2.connection().socket().set_write_timeout(Some(Duration::from_millis(500))).expect("a time limit");
    frames.into_iter().all(|some| h2.try_bytes(&some))
}

/// Streams that a client opens and then spoils with `frame`, a hundred at a time.
fn spoilt(frame: impl Fn(u32) -> Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    let spoil = move |stream| [get(stream, "/never"), frame(stream)].concat();
    (0..100).map(move |i| (0..100).flat_map(|j| spoil(200 * i + 2 * j + 1)).collect())
}

#[test]
fn s10_5_a_rapid_reset_flood_is_told_to_calm_down() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        all_taken(&mut h2, spoilt(|stream| frame(kind::RST_STREAM, 0, stream, &code::CANCEL.to_be_bytes())));
        assert_eq!(h2.end(), End::Goaway(code::ENHANCE_YOUR_CALM), "CVE-2023-44487");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn s10_5_a_client_that_makes_us_reset_its_streams_is_told_to_calm_down() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        let mut h2 = site.open();
        let overflow = [0x7f, 0xff, 0xff, 0xff];
        all_taken(&mut h2, spoilt(|stream| frame(kind::WINDOW_UPDATE, 0, stream, &overflow)));
        assert_eq!(h2.end(), End::Goaway(code::ENHANCE_YOUR_CALM), "CVE-2025-8671");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn s10_5_a_continuation_flood_is_told_to_calm_down() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        for piece in [&b""[..], &block(&[("x", "y")])] {
            let mut h2 = site.open();
            let continuation = frame(kind::CONTINUATION, 0, 1, piece);
            let headers = frame(kind::HEADERS, 0, 1, &[0x82, 0x87, 0x84]);
            all_taken(&mut h2, [headers, continuation.repeat(10_000)]);
            assert_eq!(h2.end(), End::Goaway(code::ENHANCE_YOUR_CALM), "CVE-2024-27316");
        }
        site.lives_on();
    }
}

#[test]
fn s10_5_1_a_header_section_far_beyond_the_limit_ends_the_connection() {
    let site = Site::start();
    let mut h2 = site.open();
    // RFC 7541 section 6.2.1: one field of 4000 bytes into the table, then ten thousand bytes that name it as often.
    let mut bomb = vec![0x82, 0x87, 0x84, 0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    bomb.extend([b'y'; 4000]);
    bomb.extend([0xbe; 10_000]);
    h2.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &bomb);
    assert_eq!(h2.end(), End::Goaway(code::ENHANCE_YOUR_CALM));
    drop(h2);
    site.lives_on();
}

#[test]
fn s10_5_a_flood_of_tiny_data_that_nobody_reads_is_told_to_calm_down() {
    for placement in PLACEMENTS {
        let site = Site::on(placement);
        for content in [&b""[..], b"x"] {
            let mut h2 = site.open();
            h2.request(1, "POST", "/never", &[], false);
            // Without a limit each frame would take up a hundred times its content.
            all_taken(&mut h2, repeat_n(frame(kind::DATA, 0, 1, content).repeat(1000), 65));
            match h2.end() {
                End::Goaway(reason) => assert_eq!(reason, code::ENHANCE_YOUR_CALM, "{content:?}"),
                End::Closed => panic!("{content:?}"),
            }
        }
        site.lives_on();
    }
}

#[test]
fn s10_5_answers_to_pings_and_settings_do_not_pile_up() {
    for placement in PLACEMENTS {
        let floods = [
            (kind::PING, frame(kind::PING, 0, 0, b"01234567")),
            (kind::SETTINGS, frame(kind::SETTINGS, 0, 0, &setting_bytes(setting::ENABLE_PUSH, 0))),
        ];
        for (kind, one) in floods {
            let site = Site::on(placement);
            let mut h2 = site.open();
            // Beyond what the buffers of two sockets hold, the server stops reading until its answers are read.
            let thousands = (64 << 20) / one.len() / 1000;
            assert!(!all_taken(&mut h2, repeat_n(one.repeat(1000), thousands)), "type {kind}");
            drop(h2);
            site.lives_on();
        }
    }
}

#[test]
fn s10_5_frames_that_ask_for_nothing_are_taken_and_leave_nothing() {
    let site = Site::start();
    let mut h2 = site.open();
    let floods = [
        frame(kind::PRIORITY, 0, 3, &[0, 0, 0, 5, 1]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(0xbe, 0, 0, b"unknown"),
        frame(kind::PING, flag::ACK, 0, b"01234567"),
    ];
    for flood in floods {
        assert!(all_taken(&mut h2, [flood.repeat(10_000)]));
        h2.ping();
    }
    drop(h2);
    site.lives_on();
}

#[test]
fn s10_5_limits_on_resets_can_be_set() {
    let site = Site::with(Placement::SharedCore, |options| options.local_resets_max = 2);
    let mut h2 = site.open();
    for stream in [1, 3] {
        h2.request(stream, "GET", "no slash", &[], true);
        assert_eq!(h2.reset_of(stream), code::PROTOCOL_ERROR);
    }
    h2.request(5, "GET", "no slash", &[], true);
    assert_eq!(h2.end(), End::Goaway(code::ENHANCE_YOUR_CALM));
    drop(h2);
    site.lives_on();
}
