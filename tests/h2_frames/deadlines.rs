//! The deadlines of a connection. Nothing here measures time: what must not have ended yet is compared with what has.

use std::time::Duration;

use handfast_tests::h2::{End, H2, PREFACE, WINDOW, code, flag, frame, kind, setting};

use crate::site::{PLACEMENTS, Site};

const SOON: Duration = Duration::from_millis(30);

#[test]
fn a_client_that_does_not_say_its_preface_is_closed() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| options.preface_deadline = SOON);
        let settings = frame(kind::SETTINGS, 0, 0, &[]);
        for said in [&b""[..], &PREFACE[..10], PREFACE, &[PREFACE, &settings[..8]].concat()] {
            let mut h2 = H2::silent(site.connect());
            h2.bytes(said);
            // An answer to the server's SETTINGS would be taken for a part of the preface.
            while let Some(frame) = h2.try_frame() {
                assert_ne!(frame.kind, kind::GOAWAY, "{said:?}");
            }
        }
        site.lives_on();
    }
}

#[test]
fn a_preface_in_pieces_is_in_time_and_ends_its_deadline() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| {
            options.preface_deadline = Duration::from_secs(3600);
            options.idle_deadline = SOON;
        });
        let mut h2 = H2::silent(site.connect());
        for byte in [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat() {
            h2.bytes(&[byte]);
        }
        // The deadline for idling runs now.
        assert_eq!(h2.end(), End::Goaway(code::NO_ERROR));
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn an_idle_connection_is_told_goodbye() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| options.idle_deadline = SOON);
        let mut unused = site.open();
        let mut used = site.open();
        for stream in [1, 3, 5] {
            used.get(stream, "/");
            assert_eq!(used.response().status, 200);
        }
        for h2 in [&mut unused, &mut used] {
            assert_eq!(h2.end(), End::Goaway(code::NO_ERROR));
            h2.connection().close().expect("our close_notify");
        }
        site.lives_on();
    }
}

#[test]
fn a_client_that_does_not_confirm_the_goodbye_is_closed() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| {
            options.idle_deadline = SOON;
            options.goaway_wait = SOON;
        });
        let mut h2 = site.open();
        let mut goaways = 0;
        // Its PING is not answered.
        while let Some(frame) = h2.try_frame() {
            goaways += usize::from(frame.kind == kind::GOAWAY);
        }
        assert_eq!(goaways, 1);
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_request_that_crosses_the_goodbye_is_answered() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| {
            options.idle_deadline = SOON;
            options.goaway_wait = Duration::from_secs(3600);
        });
        let mut h2 = site.open();
        while h2.frame().kind != kind::GOAWAY {}
        h2.get(1, "/");
        // Answers the PING that has come with the GOAWAY as well.
        let mut goaways = 1;
        let mut content = Vec::new();
        while let Some(frame) = h2.try_next() {
            goaways += usize::from(frame.kind == kind::GOAWAY);
            if frame.kind == kind::DATA {
                content.extend(frame.payload);
            }
        }
        assert_eq!((&content[..], goaways), (&b"well"[..], 2));
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_connection_with_an_open_stream_is_not_idle() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| options.idle_deadline = SOON);
        let mut busy = site.open();
        busy.get(1, "/later");
        busy.ping();
        // Two lives of idle connections later, one after the other.
        for _ in 0..2 {
            assert_eq!(site.open().end(), End::Goaway(code::NO_ERROR));
        }
        site.backstage.open_gate();
        assert_eq!(busy.response().content, b"at last");
        assert_eq!(busy.end(), End::Goaway(code::NO_ERROR));
        drop(busy);
        site.lives_on();
    }
}

#[test]
fn a_silent_client_is_asked_for_a_sign_of_life() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| {
            options.keep_alive_interval = SOON;
            options.keep_alive_timeout = Duration::from_secs(3600);
        });
        let mut h2 = site.open();
        h2.get(1, "/never");
        let mut answered = 0;
        while answered < 3 {
            let frame = h2.frame();
            if frame.kind == kind::PING && !frame.has(flag::ACK) {
                h2.send(kind::PING, flag::ACK, 0, &frame.payload);
                answered += 1;
            }
        }
        h2.get(3, "/");
        assert_eq!(h2.response().content, b"well");
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_client_without_a_sign_of_life_is_closed_with_its_streams() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| {
            options.keep_alive_interval = SOON;
            options.keep_alive_timeout = SOON;
        });
        let mut h2 = site.open();
        h2.get(1, "/never");
        let mut goaway = None;
        while let Some(frame) = h2.try_frame() {
            if frame.kind == kind::GOAWAY {
                goaway = Some(frame.u32_at(4));
            }
        }
        assert_eq!(goaway, Some(code::NO_ERROR));
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_client_that_opens_no_window_has_its_stream_reset_and_no_other() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| options.window_wait = SOON);
        let mut h2 = H2::open_with(site.connect(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        h2.get(1, "/bytes/10");
        assert_eq!(h2.next().kind, kind::HEADERS);
        assert_eq!(h2.reset_of(1), code::CANCEL);
        // A window that opens, and then no more.
        h2.settings(&[(setting::INITIAL_WINDOW_SIZE, u32::try_from(WINDOW).expect("31 bits"))]);
        h2.get(3, "/bytes/1000000");
        assert_eq!(h2.reset_of(3), code::CANCEL);
        // The connection's window is used up as well.
        h2.window_update(0, 100);
        h2.get(5, "/");
        loop {
            let frame = h2.next();
            if frame.has(flag::END_STREAM) {
                assert_eq!((frame.stream, &frame.payload[..]), (5, &b"well"[..]));
                break;
            }
        }
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn a_tunnel_whose_client_opens_no_window_is_reset() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| options.window_wait = SOON);
        let mut h2 = H2::open_with(site.connect(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        h2.headers(1, &[(":method", "CONNECT"), (":authority", "a:1")], false);
        assert_eq!(h2.next().kind, kind::HEADERS);
        h2.data(1, b"an echo", false);
        assert_eq!(h2.reset_of(1), code::CANCEL);
        h2.ping();
        drop(h2);
        site.lives_on();
    }
}

#[test]
fn content_that_does_not_come_is_not_waited_for() {
    for placement in PLACEMENTS {
        let site = Site::with(placement, |options| options.content_wait = SOON);
        let mut h2 = H2::open_with(site.connect(), &[(setting::HEADER_TABLE_SIZE, 0)]);
        h2.request(1, "POST", "/count", &[], false);
        h2.data(1, b"a beginning", false);
        // A service that looks for what was wrong may say so.
        assert_eq!(h2.response().content, b"nothing more of the request's content came for 30ms");
        assert_eq!(h2.reset_of(1), code::NO_ERROR);
        // One that fails does not.
        h2.request(3, "POST", "/whole", &[], false);
        assert_eq!(h2.reset_of(3), code::CANCEL);
        // Nor is there a hurry once the answer has begun.
        h2.request(5, "POST", "/echo", &[], false);
        assert_eq!(h2.next().kind, kind::HEADERS);
        h2.request(7, "POST", "/whole", &[], false);
        assert_eq!(h2.reset_of(7), code::CANCEL);
        h2.data(5, b"at leisure", true);
        let frame = h2.next();
        assert_eq!((frame.stream, &frame.payload[..]), (5, &b"at leisure"[..]));
        drop(h2);
        site.lives_on();
    }
}
