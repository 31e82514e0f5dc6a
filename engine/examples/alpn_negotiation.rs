//! Server and client agree on a protocol: `cargo run --example alpn_negotiation`.
//!
//! The server lists its protocols in order of preference, the client offers some, and says after connecting which one
//! was accepted (RFC 7301).

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;

use handfast::client::{Client, Roots};
use handfast::{Engine, Protocol, Stream};
use tokio::io::AsyncWriteExt;

/// Says which protocol it was chosen for.
async fn greet(mut stream: Stream) {
    let greeting = format!("this is {}", stream.facts().protocol_name());
    let _ = stream.write_all(greeting.as_bytes()).await;
}

fn main() -> Result<(), common::Error> {
    let (certificates, certificate) = common::self_signed("default", "localhost")?;
    let engine = Engine::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .shards(1)
        .certificates(certificates)
        .protocol(Protocol::alpn("chat/2").serve(greet))
        .protocol(Protocol::alpn("chat/1").serve(greet))
        .protocol(Protocol::alpn("status/1").serve(greet))
        // Clients that offer no ALPN at all get this one; without the line they are refused.
        .without_alpn("status/1")
        .start()?;
    let addr = engine.handle().local_addr().ok_or("no address")?;

    let offers: [&[&str]; 4] = [&["chat/1", "chat/2"], &["chat/1"], &["spdy/3"], &[]];
    for offer in offers {
        let roots = Roots::certificates([certificate.clone()]);
        let client = Client::builder().alpn(offer.iter().copied()).roots(roots).build()?;
        match client.connect_to(addr, "localhost") {
            Ok(mut connection) => {
                let accepted = connection.alpn_protocol().unwrap_or(b"none").escape_ascii().to_string();
                let mut greeting = String::new();
                connection.read_to_string(&mut greeting)?;
                println!("offered {offer:?}: accepted {accepted}, and the server says `{greeting}`");
            }
            Err(error) => println!("offered {offer:?}: {error}"),
        }
    }
    std::io::stdout().flush()?;
    engine.shutdown()?;
    Ok(())
}
