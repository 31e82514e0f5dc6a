//! rustls' buffered API against its unbuffered one, in memory and single-threaded: what the engine builds on.
//!
//! `cargo run --release -p handfast-bench --bin rustls_api`

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use handfast::handshake::Session;
use handfast::rustls::client::Resumption;
use handfast::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use handfast::rustls::server::NoServerSessionStorage;
use handfast::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, version};
use handfast_bench::figures::Spread;

const HANDSHAKES: usize = 2000;
const ROUNDS: usize = 7;
const HELD: usize = 2000;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    handfast_bench::exit_code(env!("CARGO_BIN_NAME"), run())
}

fn run() -> Result<(), Error> {
    let (server, client) = configs()?;
    let mut us = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for i in [round % 2, (round + 1) % 2] {
            let time = if i == 0 { time(&server, &client, buffered)? } else { time(&server, &client, unbuffered)? };
            us[i].push(time);
        }
    }
    let ratios: Vec<f64> = us[1].iter().zip(&us[0]).map(|(u, b)| u / b).collect();
    println!(
        "server's side of a full TLS 1.3 handshake in memory, us, min / median / max of {ROUNDS} rounds of {HANDSHAKES}"
    );
    for (name, values) in ["buffered", "unbuffered"].iter().zip(&us) {
        println!("{name:<12} {:>24}", Spread::of(values).map(|s| format!("{s:.1}")).unwrap_or_default());
    }
    println!("{:<12} {:>24}", "ratio", Spread::of(&ratios).map(|s| format!("{s:.3}")).unwrap_or_default());
    // Memory last and unbuffered first: what one leaves to the allocator must not help the other.
    let small = held(&server, &client, unbuffered)?;
    let large = held(&server, &client, buffered)?;
    println!("\nresident KiB per connection held after its handshake: buffered {large:.1}, unbuffered {small:.1}");
    Ok(())
}

fn configs() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), Error> {
    let made = rcgen::generate_simple_self_signed(["localhost".into()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(handfast::crypto::provider_with(|g| g == handfast::rustls::NamedGroup::X25519, |_| true));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Ok((Arc::new(server), Arc::new(client)))
}

/// The server's side: takes a flight, appends its answer.
trait Side {
    fn receive(&mut self, flight: &mut [u8], out: &mut Vec<u8>) -> Result<(), Error>;
}

impl Side for ServerConnection {
    fn receive(&mut self, flight: &mut [u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut rest = &flight[..];
        while !rest.is_empty() {
            self.read_tls(&mut rest)?;
            self.process_new_packets()?;
        }
        while self.wants_write() {
            self.write_tls(out)?;
        }
        Ok(())
    }
}

impl Side for Session {
    fn receive(&mut self, flight: &mut [u8], out: &mut Vec<u8>) -> Result<(), Error> {
        Self::receive(self, flight, &mut Vec::new(), out)?;
        Ok(())
    }
}

fn buffered(config: &Arc<ServerConfig>) -> Result<ServerConnection, Error> {
    Ok(ServerConnection::new(Arc::clone(config))?)
}

fn unbuffered(config: &Arc<ServerConfig>) -> Result<Session, Error> {
    Ok(Session::server(Arc::clone(config))?)
}

/// One handshake; the server's side of it and its time in us.
fn handshake<S: Side>(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    make: impl Fn(&Arc<ServerConfig>) -> Result<S, Error>,
    out: &mut Vec<u8>,
) -> Result<(S, f64), Error> {
    let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from("localhost")?)?;
    let mut flight = Vec::new();
    client.write_tls(&mut flight)?;
    out.clear();
    let start = Instant::now();
    let mut side = make(server)?;
    side.receive(&mut flight, out)?;
    let mut took = start.elapsed();
    let mut rest = &out[..];
    while !rest.is_empty() {
        client.read_tls(&mut rest)?;
        client.process_new_packets()?;
    }
    flight.clear();
    while client.wants_write() {
        client.write_tls(&mut flight)?;
    }
    client.writer().flush()?;
    out.clear();
    let start = Instant::now();
    side.receive(&mut flight, out)?;
    took += start.elapsed();
    Ok((side, took.as_secs_f64() * 1e6))
}

#[allow(clippy::cast_precision_loss, reason = "a few thousand")]
fn time<S: Side>(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    make: impl Fn(&Arc<ServerConfig>) -> Result<S, Error> + Copy,
) -> Result<f64, Error> {
    let mut out = Vec::with_capacity(16 * 1024);
    let mut sum = 0.0;
    for _ in 0..HANDSHAKES {
        sum += handshake(server, client, make, &mut out)?.1;
    }
    Ok(sum / HANDSHAKES as f64)
}

#[allow(clippy::cast_precision_loss, reason = "a few thousand")]
fn held<S: Side>(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    make: impl Fn(&Arc<ServerConfig>) -> Result<S, Error> + Copy,
) -> Result<f64, Error> {
    let mut out = Vec::with_capacity(16 * 1024);
    let mut sides = Vec::with_capacity(HELD);
    let before = resident_kib()?;
    for _ in 0..HELD {
        sides.push(Box::new(handshake(server, client, make, &mut out)?.0));
    }
    Ok((resident_kib()? - before) / HELD as f64)
}

fn resident_kib() -> Result<f64, Error> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|l| l.strip_prefix("Rss:")).ok_or("no Rss line")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
