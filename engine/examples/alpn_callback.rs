//! The program chooses the protocol itself: `cargo run --example alpn_callback`.
//!
//! The callback sees the whole ClientHello: server name, offered protocols, versions, groups, signature schemes and
//! the client's address. It runs on the shard, between the handshakes of others, and so must not block.

mod common;

use std::net::SocketAddr;

use handfast::client::{Client, Roots};
use handfast::handshake::hello::ClientHelloView;
use handfast::rustls::{AlertDescription, ProtocolVersion};
use handfast::selection::{Policy, Selection};
use handfast::{Engine, Protocol};

fn choose(hello: &ClientHelloView<'_>) -> Selection {
    match hello.server_name() {
        // One host is being moved to the new protocol: its clients get it whenever they can.
        Some("beta.localhost") if hello.alpn_protocols().any(|id| id == b"chat/2") => Selection::protocol("chat/2"),
        // Another one has been closed.
        Some("closed.localhost") => Selection::Refuse(AlertDescription::UnrecognisedName),
        // Old clients have what they know.
        _ if !hello.offers(ProtocolVersion::TLSv1_3) => Selection::protocol("chat/1"),
        _ => Selection::Table,
    }
}

fn main() -> Result<(), common::Error> {
    let (certificates, _) = common::self_signed("default", "localhost")?;
    let engine = Engine::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .shards(1)
        .certificates(certificates)
        .protocol(Protocol::alpn("chat/1"))
        .protocol(Protocol::alpn("chat/2"))
        .policy(Policy::callback(choose))
        .start()?;
    let addr = engine.handle().local_addr().ok_or("no address")?;

    // The names are not in the certificate, and what matters here is what is chosen.
    let client = Client::builder().alpn(["chat/2", "chat/1"]).roots(Roots::insecure_none()).build()?;
    for name in ["localhost", "beta.localhost", "closed.localhost"] {
        match client.connect_to(addr, name) {
            Ok(connection) => {
                let accepted = connection.alpn_protocol().unwrap_or_default().escape_ascii();
                println!("{name}: {accepted}");
            }
            Err(error) => println!("{name}: {error}"),
        }
    }
    engine.shutdown()?;
    Ok(())
}
