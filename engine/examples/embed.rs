//! A server with three protocols on one port, one of them its own: `embed chain.pem key.pem`.

use std::path::Path;

use handfast::identity::{CertificateSet, Identity};
use handfast::transport::tcp::Endpoint;
use handfast::{Engine, Protocol, Stream};
use tokio::io::AsyncWriteExt;

async fn shout(mut stream: Stream) {
    while let Ok(bytes) = stream.received().await {
        if bytes.is_empty() || stream.write_all(&bytes.to_ascii_uppercase()).await.is_err() {
            return;
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<_> = std::env::args().skip(1).collect();
    let [chain, key] = &files[..] else { return Err("usage: embed CHAIN.PEM KEY.PEM".into()) };
    let identity = Identity::from_files(Path::new(chain), Path::new(key), &handfast::crypto::provider())?;
    let engine = Engine::builder()
        .listen("127.0.0.1:8443".parse::<Endpoint>()?)
        .certificates(CertificateSet::new("default", vec![identity])?)
        .protocol(Protocol::h2())
        .protocol(Protocol::http1())
        .protocol(Protocol::alpn("shout/1").serve(shout))
        .without_alpn("http/1.1")
        .start()?;
    println!("listening on {}; Enter ends it", engine.handle().endpoints()[0]);
    std::io::stdin().read_line(&mut String::new())?;
    println!("{} handshakes so far", engine.handle().metrics().handshakes());
    print!("{}", engine.shutdown()?);
    Ok(())
}
