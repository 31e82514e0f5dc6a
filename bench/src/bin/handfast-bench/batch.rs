//! Full handshakes in memory, some in flight at a time, with and without batches, in interleaved rounds.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast::Limits;
use handfast::crypto::batch::Batch;
use handfast::handshake::{
    Batched, Blueprint, Context, Handshake, Input, Live, Offered, Prepare, ProtocolTls, Sources, Step, Unprepared,
};
use handfast::identity::{CertificateSet, Identity};
use handfast::peer::PeerAddr;
use handfast::rustls::crypto::CryptoProvider;
use handfast::rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use handfast::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use handfast::rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, version};
use handfast::selection::Table;
use handfast::time::Instant64;
use handfast_bench::figures::Spread;
use serde_json::{Map, Value, json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds for each number of handshakes in flight
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Handshakes in flight, in as many comparisons
    #[arg(long, value_delimiter = ',', default_values_t = [8, 2, 1], value_parser = clap::value_parser!(u8).range(1..=64))]
    in_flight: Vec<u8>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

type Failure = Box<dyn Error>;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let batch = Batch::detect()?;
    let presigning = batch.with_presigning()?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let client = client(made.cert.der())?;
    let stock = handfast::crypto::provider();
    let mut servers = [
        Server::new(&made, stock.clone(), None)?,
        Server::new(&made, batch.provider(stock.clone()), Some(batch))?,
        Server::new(&made, presigning.provider(stock), Some(presigning))?,
    ];
    let mut json = Map::new();
    let mut lines = Vec::new();
    for &in_flight in &args.in_flight {
        let [stock, batched, presigned] = measure(args, &mut servers, &client, in_flight)?;
        let ratio = |of: &[f64]| middle(&of.iter().zip(&stock).map(|(a, b)| a / b).collect::<Vec<_>>());
        for (prefix, of) in [("", &batched), ("presign_", &presigned)] {
            json.insert(format!("{prefix}ratio_{in_flight}"), json!(ratio(of)));
        }
        let us = [&stock, &batched, &presigned].map(|of| middle(of));
        json.insert(format!("handshake_us_{in_flight}"), json!({"aws_lc": us[0], "batch": us[1], "presign": us[2]}));
        lines.push(format!(
            "{in_flight:>2} in flight  {:>8.1} {:>8.1} {:>8.1}   ratio {:.3}, presigned {:.3}",
            us[0],
            us[1],
            us[2],
            ratio(&batched),
            ratio(&presigned)
        ));
    }
    let operations = operations(&presigning, &made)?;
    for (name, [ours, theirs]) in &operations {
        json.insert((*name).to_owned(), json!({"batch_us": ours, "aws_lc_us": theirs}));
        lines.push(format!("{name:<22} {theirs:>8.2} {ours:>8.2}"));
    }
    if args.json {
        println!("{}", Value::Object(json));
    } else {
        println!("server CPU in us: aws-lc, batch, batch with presigning; full TLS 1.3 handshakes in memory");
        lines.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

fn middle(values: &[f64]) -> f64 {
    Spread::of(values).map_or(f64::NAN, |spread| spread.median)
}

/// What one side of a comparison serves with.
struct Server {
    live: Live,
    prepare: Box<dyn Prepare>,
}

impl Server {
    fn new(
        made: &rcgen::CertifiedKey<rcgen::KeyPair>,
        provider: CryptoProvider,
        batch: Option<Batch>,
    ) -> Result<Self, Failure> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let identity = Identity::from_der(vec![made.cert.der().clone()], key, &provider)?;
        let set = Arc::new(CertificateSet::new("default", vec![identity])?);
        let mut protocol = ProtocolTls::new(*b"h2", set);
        protocol.tickets = 0;
        let prepare: Box<dyn Prepare> = match batch {
            Some(batch) => Box::new(Batched::new(batch, &provider)?),
            None => Box::new(Unprepared),
        };
        let mut sources = Sources::default();
        sources.provider = Arc::new(provider);
        let table = Table::builder().protocol("h2").build()?;
        Ok(Self { live: Blueprint::new(table, &[protocol], &sources)?.live(), prepare })
    }

    /// The turn that has these ClientHellos: answers go to `out`.
    fn answer(
        &mut self,
        hellos: &mut [Vec<u8>],
        limits: &Limits,
        out: &mut [Vec<u8>],
    ) -> Result<Vec<Handshake>, Failure> {
        let (now, peer) = (Instant64::ZERO, PeerAddr::Unix);
        let mut handshakes = Vec::with_capacity(hellos.len());
        for hello in hellos.iter() {
            let mut handshake = Handshake::new(now);
            if handshake.offer(hello, limits)? != Offered::InPlace(0) {
                return Err("a ClientHello in one piece was kept".into());
            }
            handshakes.push(handshake);
        }
        for (handshake, hello) in handshakes.iter_mut().zip(hellos.iter()) {
            if let Some((view, foreseen)) = handshake.foresee(hello, peer, &self.live) {
                self.prepare.see(&view, &foreseen);
            }
        }
        self.prepare.prepare(now);
        let cx = Context { live: &self.live, limits, peer, now };
        let mut waiting = Vec::with_capacity(hellos.len());
        for ((handshake, bytes), out) in handshakes.into_iter().zip(hellos).zip(out) {
            match handshake.advance(Input { bytes, end: false }, cx, out) {
                Step::Wait(handshake) => waiting.push(handshake),
                other => return Err(format!("not answered: {other:?}").into()),
            }
        }
        self.prepare.finish();
        self.prepare.replenish(now);
        Ok(waiting)
    }

    /// The turn that has the clients' last flights.
    fn finish(&mut self, handshakes: Vec<Handshake>, flights: &mut [Vec<u8>], limits: &Limits) -> Result<(), Failure> {
        let cx = Context { live: &self.live, limits, peer: PeerAddr::Unix, now: Instant64::ZERO };
        for (handshake, bytes) in handshakes.into_iter().zip(flights) {
            match handshake.step(Input { bytes, end: false }, cx, &mut Vec::new()) {
                Step::Finished(finished) => drop(black_box(finished)),
                other => return Err(format!("not finished: {other:?}").into()),
            }
        }
        Ok(())
    }
}

/// Microseconds of the server for each handshake, by server and round.
fn measure(
    args: &Args,
    servers: &mut [Server; 3],
    client: &Arc<ClientConfig>,
    in_flight: u8,
) -> Result<[Vec<f64>; 3], Failure> {
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let mut figures = [const { Vec::new() }; 3];
    // Sixteen handshakes, or somewhat fewer, or those of one round.
    let rounds = (16 / in_flight).max(1);
    while Instant::now() < until {
        for (server, figures) in servers.iter_mut().zip(&mut figures) {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                spent += round(server, client, in_flight.into())?;
            }
            figures.push(spent.as_secs_f64() * 1e6 / f64::from(rounds * in_flight));
        }
    }
    Ok(figures)
}

/// The server's time for one round of handshakes.
fn round(server: &mut Server, config: &Arc<ClientConfig>, in_flight: usize) -> Result<Duration, Failure> {
    let limits = Limits::default();
    let mut clients = Vec::with_capacity(in_flight);
    let mut flights = Vec::with_capacity(in_flight);
    for _ in 0..in_flight {
        let mut client = ClientConnection::new(Arc::clone(config), "localhost".try_into()?)?;
        flights.push(written(&mut client)?);
        clients.push(client);
    }
    let mut answers: Vec<_> = (0..in_flight).map(|_| Vec::with_capacity(4096)).collect();
    let start = Instant::now();
    let handshakes = server.answer(&mut flights, &limits, &mut answers)?;
    let mut spent = start.elapsed();
    for ((client, answer), flight) in clients.iter_mut().zip(&answers).zip(&mut flights) {
        client.read_tls(&mut &answer[..])?;
        client.process_new_packets()?;
        *flight = written(client)?;
    }
    let start = Instant::now();
    server.finish(handshakes, &mut flights, &limits)?;
    spent += start.elapsed();
    Ok(spent)
}

fn written(client: &mut ClientConnection) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

/// TLS 1.3, X25519, AES-128-GCM, no resumption.
fn client(certificate: &CertificateDer<'static>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..handfast::crypto::provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = handfast::rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

type Operation = (&'static str, [f64; 2]);

/// Microseconds of one operation, ours and aws-lc's, all lanes of a kernel filled.
fn operations(batch: &Batch, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Result<[Operation; 4], Failure> {
    const TIMES: u32 = 500;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let key = handfast::crypto::provider().key_provider.load_private_key(key)?;
    let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).ok_or("a key of another kind")?;
    let (secrets, peers) = ([[7; 32]; 8], [[9; 32]; 8]);
    let (mut ours, mut theirs) = ([const { Vec::new() }; 4], [const { Vec::new() }; 4]);
    for _ in 0..TIMES {
        let mut time = |of: usize, lanes: f64, run: &mut dyn FnMut()| {
            let start = Instant::now();
            run();
            ours[of].push(start.elapsed().as_secs_f64() * 1e6 / lanes);
        };
        time(0, 8.0, &mut || drop(black_box(batch.x25519(&secrets, &peers))));
        time(1, 2.0, &mut || drop(black_box(batch.x25519_of_two(&[[7; 32]; 2], &[[9; 32]; 2]))));
        time(2, 8.0, &mut || {
            black_box(batch.x25519_public(&secrets));
        });
        time(3, 8.0, &mut || drop(black_box(batch.ecdsa_p256(&[3; 32], &[[5; 32]; 8]))));
        let start = Instant::now();
        let exchange = kx_group::X25519.start()?;
        theirs[2].push(start.elapsed().as_secs_f64() * 1e6);
        let start = Instant::now();
        black_box(exchange.complete(&peers[0])?);
        let agreed = start.elapsed().as_secs_f64() * 1e6;
        theirs[0].push(agreed);
        theirs[1].push(agreed);
        let start = Instant::now();
        black_box(signer.sign(b"message")?);
        theirs[3].push(start.elapsed().as_secs_f64() * 1e6);
    }
    let names = ["x25519_agree", "x25519_agree_of_two", "x25519_key_generation", "p256_sign"];
    Ok(core::array::from_fn(|i| (names[i], [middle(&ours[i]), middle(&theirs[i])])))
}
