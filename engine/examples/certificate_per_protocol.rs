//! Each protocol with certificates of its own: `cargo run --example certificate_per_protocol`.
//!
//! RFC 7301 lets a server choose its certificate by the protocol that it accepts. Here devices speak `telemetry/1` and
//! trust a private authority, while browsers speak HTTP and trust a public one, on the same port and host name.

mod common;

use std::net::SocketAddr;

use handfast::client::{Client, Roots};
use handfast::{Engine, Protocol};

fn main() -> Result<(), common::Error> {
    let (public, public_root) = common::self_signed("public", "localhost")?;
    let (devices, device_root) = common::self_signed("devices", "localhost")?;
    let engine = Engine::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .shards(1)
        // For all protocols that have none of their own.
        .certificates(public)
        .protocol(Protocol::h2())
        .protocol(Protocol::http1())
        .protocol(Protocol::alpn("telemetry/1").certificates(devices))
        .start()?;
    let addr = engine.handle().local_addr().ok_or("no address")?;

    for (alpn, trusts) in [("h2", "public"), ("telemetry/1", "devices"), ("telemetry/1", "public")] {
        let root = if trusts == "public" { &public_root } else { &device_root };
        let client = Client::builder().alpn([alpn]).roots(Roots::certificates([root.clone()])).build()?;
        match client.connect_to(addr, "localhost") {
            Ok(connection) => {
                let shown = if connection.peer_certificates() == [device_root.clone()] { "devices" } else { "public" };
                println!("{alpn}, trusting {trusts}: the server shows the certificate of `{shown}`");
            }
            Err(error) => println!("{alpn}, trusting {trusts}: {error}"),
        }
    }
    engine.shutdown()?;
    Ok(())
}
