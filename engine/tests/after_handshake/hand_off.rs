//! The bare hand-off: a program with its own loop over socket and session.

use std::io::{Read, Write};

use handfast::{Mailbox, Negotiated, Parts, Placement, Protocol};

use crate::harness::{Server, exchange, read_rest};

/// Echoes until the peer's close_notify, with blocking calls.
fn serve_by_hand(negotiated: Negotiated) -> String {
    let Parts { socket, mut session, facts, received, peer_closed, unsent, .. } = negotiated.into_parts();
    let mut socket = socket.into_tcp().unwrap();
    socket.set_nonblocking(false).unwrap();
    let (mut plain, mut out, mut ended) = (received, unsent, peer_closed);
    let mut buf = [0; 4096];
    loop {
        if !plain.is_empty() {
            session.send(&plain, &mut out).unwrap();
            plain.clear();
        }
        if ended {
            session.close(&mut out).unwrap();
        }
        socket.write_all(&out).unwrap();
        out.clear();
        if ended {
            return facts.protocol_name();
        }
        let n = socket.read(&mut buf).unwrap();
        assert!(n > 0, "ended without close_notify");
        ended = session.receive(&mut buf[..n], &mut plain, &mut out).unwrap().peer_closed;
    }
}

#[test]
fn parts_of_a_negotiated_connection_are_driven_by_hand() {
    let (mailbox, receiver) = Mailbox::bounded(4);
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("own").hand_off(mailbox)]);
    let own = std::thread::spawn(move || serve_by_hand(receiver.recv().unwrap()));
    let mut c = server.connect("own");
    assert_eq!(exchange(&mut c, b"over to you"), b"over to you");
    c.close().unwrap();
    assert_eq!(read_rest(&mut c), b"");
    assert_eq!(own.join().unwrap(), "own");
    assert_eq!(server.shutdown().handed_off, 1);
}

#[test]
fn receiver_that_is_gone_resets_the_connection() {
    let (mailbox, receiver) = Mailbox::bounded(4);
    drop(receiver);
    let server = Server::start(Placement::SharedCore, [Protocol::alpn("own").hand_off(mailbox)]);
    let mut c = server.connect("own");
    assert!(c.read(&mut [0; 9]).is_err());
    server.shutdown();
}
