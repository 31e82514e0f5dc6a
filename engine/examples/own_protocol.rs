//! A protocol of your own beside HTTP on one port: `cargo run --example own_protocol [ADDR]`.
//!
//! `lines/1` answers each line with its number and its length. Try it with
//! `openssl s_client -connect 127.0.0.1:8443 -alpn lines/1 -quiet`; Enter in the server ends it.

mod common;

use handfast::{Engine, Protocol, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// A line may be this long. Met: the connection is closed.
const LINE_BYTES_MAX: u64 = 1024;

/// Runs on the connection's own thread, as a future: it must not block, and ends with its connection.
async fn lines(stream: Stream) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        match (&mut stream).take(LINE_BYTES_MAX).read_line(&mut line).await {
            Ok(n) if n > 0 && line.ends_with('\n') => {}
            _ => return,
        }
        let answer = format!("{number}: {} bytes\n", line.trim_end().len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn main() -> Result<(), common::Error> {
    let (certificates, _) = common::self_signed("default", "localhost")?;
    let engine = Engine::builder()
        .listen(common::address("127.0.0.1:8443")?)
        .certificates(certificates)
        .protocol(Protocol::h2())
        .protocol(Protocol::http1())
        .protocol(Protocol::alpn("lines/1").serve(lines))
        .without_alpn("http/1.1")
        .start()?;
    println!("listening on {}", engine.handle().endpoints()[0]);
    common::until_enter();
    print!("{}", engine.shutdown()?);
    Ok(())
}
