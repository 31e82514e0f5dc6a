//! A program with its own loop takes finished connections over: `cargo run --example hand_off`.
//!
//! The engine accepts, shakes hands and lets go: socket, TLS session, what was received already and what must still be
//! sent come out of a queue, for any threads that care to look.

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;

use handfast::client::{Client, Roots};
use handfast::{Engine, Mailbox, Negotiated, Parts, Protocol};

/// Sends everything back in capitals until the client has said its goodbye.
fn converse(connection: Negotiated) -> Result<(), common::Error> {
    let Parts { socket, mut session, received, peer_closed, unsent, .. } = connection.into_parts();
    let mut socket = socket.into_tcp().map_err(|_| "this example listens on TCP")?;
    socket.set_nonblocking(false)?;
    // Session tickets may wait to be sent, and data may have come with the client's Finished.
    let (mut plain, mut records, mut ended) = (received, unsent, peer_closed);
    let mut buffer = [0; 16 * 1024];
    loop {
        if !plain.is_empty() {
            session.send(&plain.to_ascii_uppercase(), &mut records)?;
            plain.clear();
        }
        if ended {
            session.close(&mut records)?;
        }
        socket.write_all(&records)?;
        records.clear();
        if ended {
            return Ok(());
        }
        let n = socket.read(&mut buffer)?;
        if n == 0 {
            return Err("the client went away without close_notify".into());
        }
        ended = session.receive(&mut buffer[..n], &mut plain, &mut records)?.peer_closed;
    }
}

fn main() -> Result<(), common::Error> {
    let (certificates, certificate) = common::self_signed("default", "localhost")?;
    let (mailbox, receiver) = Mailbox::bounded(1024);
    let engine = Engine::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .shards(1)
        .certificates(certificates)
        .protocol(Protocol::alpn("shout/1").hand_off(mailbox))
        .start()?;
    let addr = engine.handle().local_addr().ok_or("no address")?;
    let own = thread::spawn(move || {
        // Ends when the engine does.
        for connection in receiver {
            println!("taken over: {} from {}", connection.facts().protocol_name(), connection.facts().peer);
            if let Err(error) = converse(connection) {
                eprintln!("{error}");
            }
        }
    });

    let client = Client::builder().alpn(["shout/1"]).roots(Roots::certificates([certificate])).build()?;
    let mut connection = client.connect_to(addr, "localhost")?;
    connection.write_all(b"hello")?;
    connection.close()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    println!("the answer: {answer}");
    let metrics = engine.shutdown()?;
    own.join().map_err(|_| "the program's own thread panicked")?;
    println!("handed off: {}", metrics.handed_off);
    Ok(())
}
