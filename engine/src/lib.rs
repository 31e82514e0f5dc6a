//! A TLS handshake engine: it accepts connections, settles which ALPN protocol each will speak, and hands it, with
//! its finished TLS session, to whatever speaks that protocol.
//!
//! One thread per core, a *shard*, has its own listener, poller, connections, timers and counters. The ClientHello is
//! read by the engine before rustls sees it; it selects the [`Protocol`], and the protocol its certificates, TLS
//! versions and destination, so one port can show one certificate to a client of `h2` and another to a client of
//! `http/1.1`. rustls does the TLS, aws-lc-rs the cryptography. What follows the handshake runs on the same shard, on
//! worker threads, or in the embedding program.
//!
//! - [`Engine`] and its [`Builder`]: a server in a few lines, below.
//! - [`worker`]: `h2` and `http/1.1` by hyper, with a service of yours; a protocol of your own is an async function
//!   over a [`Stream`] ([`Protocol::serve`]).
//! - [`Protocol::hand_off`]: negotiated connections for a program with its own threads or loop; [`Parts`] is the
//!   socket, the TLS session, and what was received and not yet sent.
//! - [`handshake`] and [`shard`]: the machinery without sockets, and the loop over any [`Transport`]; see [the driving
//!   contract](#the-driving-contract).
//! - `interop` (feature `tokio`): negotiated connections arrive in a tokio runtime, as streams, for axum, hyper and
//!   tonic; [`TlsStream`] is the same for any other asynchronous I/O.
//! - [`client`]: a TLS client with ALPN, blocking and asynchronous, and HTTP requests on it.
//!
//! # A server
//!
#![cfg_attr(all(feature = "h1", feature = "h2"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "h1", feature = "h2")), doc = "```ignore")]
//! use std::path::Path;
//!
//! use handfast::identity::{CertificateSet, Identity};
//! use handfast::transport::tcp::Endpoint;
//! use handfast::{Engine, Protocol, Stream};
//! use tokio::io::AsyncWriteExt;
//!
//! async fn shout(mut stream: Stream) {
//!     while let Ok(bytes) = stream.received().await {
//!         if bytes.is_empty() || stream.write_all(&bytes.to_ascii_uppercase()).await.is_err() {
//!             return;
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let files: Vec<_> = std::env::args().skip(1).collect();
//!     let [chain, key] = &files[..] else { return Err("usage: embed CHAIN.PEM KEY.PEM".into()) };
//!     let identity = Identity::from_files(Path::new(chain), Path::new(key), &handfast::crypto::provider())?;
//!     let engine = Engine::builder()
//!         .listen("127.0.0.1:8443".parse::<Endpoint>()?)
//!         .certificates(CertificateSet::new("default", vec![identity])?)
//!         .protocol(Protocol::h2())
//!         .protocol(Protocol::http1())
//!         .protocol(Protocol::alpn("shout/1").serve(shout))
//!         .without_alpn("http/1.1")
//!         .start()?;
//!     println!("listening on {}; Enter ends it", engine.handle().endpoints()[0]);
//!     std::io::stdin().read_line(&mut String::new())?;
//!     println!("{} handshakes so far", engine.handle().metrics().handshakes());
//!     print!("{}", engine.shutdown()?);
//!     Ok(())
//! }
//! ```
//!
//! It is `engine/examples/embed.rs`. [`Stream`] implements tokio's `AsyncRead` and `AsyncWrite`; no tokio runtime is
//! needed, unless handlers use its timers, sockets or `spawn`: then see the feature `tokio`.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `h1` | yes | [`worker::http1`] and [`Protocol::http1`], by hyper |
//! | `h2` | yes | [`worker::http2`] and [`Protocol::h2`], by hyper |
//! | `websocket` | yes | [`websocket`] for servers and clients, over `http/1.1` and `h2`; implies `h1` |
//! | `client` | yes | [`client`], blocking and over any asynchronous I/O, with the public web's roots |
//! | `config` | no | `config`: the builder's options from a TOML file; implies `h1`, `h2` and `websocket` |
//! | `cli` | yes | the program `handfast`; implies `config` |
//! | `tokio` | no | `Builder::runtime`: enters a tokio runtime on every shard and worker thread; `interop`; with `client`, `Client::connect_async` |
//! | `axum` | no | `interop::Incoming` is what `axum::serve` listens on; implies `tokio` |
//! | `client-http` | no | `client::http`: requests over `h2` and `http/1.1`, by hyper; implies `client`, `tokio`, `h1` and `h2` |
//!
//! With none of them there is the engine with the hand-off, protocols as async functions, and no hyper.
//!
//! # The driving contract
//!
//! Three parts that know little of each other: [`handshake`] turns bytes into bytes and knows no socket, no clock and
//! no randomness of its own; a [`Transport`] moves bytes and knows no TLS; [`Shard`](shard::Shard) joins them. So a
//! program may drive the handshake itself, or bring another transport and keep the rest.
//!
//! ## Driving a handshake
//!
//! ```text
//!             bytes of one connection                     bytes of the others in this turn
//!                       |                                                 |
//!            2 offer    v                                                 v
//!                 +-----------+   3 hello   +---------------------------------+
//!                 | Handshake |------------>| Prepare: see .. see, prepare    |
//!                 +-----------+             +---------------------------------+
//!            4 advance  |
//!        +--------------+---------------+
//!        v              v               v
//!    Step::Wait    Step::Finished   Step::Refused      5: send `out` in each case
//!    (again at 2)       |               |
//!                       v               +--> 6: FIN, discard until the peer's end, close
//!            7: Session, facts, received
//! ```
//!
//! 1. Make a [`Blueprint`](handshake::Blueprint) once: table, protocols, sources. Take a [`Live`](handshake::Live)
//!    from it for each thread. For each accepted connection make [`Handshake::new`](handshake::Handshake::new) with
//!    the time of accept. Deadlines are yours: nothing in here waits.
//! 2. Show what arrived: [`offer`](handshake::Handshake::offer). [`Offered::InPlace`](handshake::Offered::InPlace):
//!    give the same bytes to `advance`, from the place that it names on. [`Offered::Kept`](handshake::Offered::Kept):
//!    give it none. An error is the end of the connection; [`handshake::refuse`] says what to send. Each `offer` is
//!    followed by an `advance` before the next.
//! 3. Optional, for work that pays in batches: [`hello`](handshake::Handshake::hello) gives the ClientHello once it
//!    is complete and not yet acted on. Show all of them to a [`Prepare`](handshake::Prepare) before the first
//!    `advance`, and tell it when the last one is over.
//! 4. [`advance`](handshake::Handshake::advance) consumes the handshake and answers with a
//!    [`Step`](handshake::Step). `Input::end` says that the peer's FIN is behind these bytes. Whoever needs no step 3
//!    calls [`step`](handshake::Handshake::step), which is 2 and 4 together.
//! 5. Whatever `out` holds must be sent, in order, whatever the step is: flights, alerts, session tickets.
//! 6. After [`Step::Refused`](handshake::Step::Refused) end your direction first, read and discard until the peer's
//!    end or a limit of yours, then close: closing a socket with unread bytes resets it and throws the alert away.
//! 7. [`Finished`](handshake::Finished) has the [`Session`](handshake::Session), the
//!    [`HandshakeFacts`], and plaintext that came with the last flight. From there on
//!    [`receive`](handshake::Session::receive) takes records in and gives plaintext and what must be sent;
//!    [`send`](handshake::Session::send) and [`close`](handshake::Session::close) append records to `out`.
//!    `peer_closed` means close_notify: nothing follows. A FIN without it means that something may be missing.
//!
//! ```
//! use handfast::Limits;
//! use handfast::handshake::{
//!     Blueprint, Context, Handshake, Input, Offered, ProtocolTls, Sources, Step,
//! };
//! use handfast::peer::PeerAddr;
//! use handfast::selection::Table;
//! use handfast::time::Instant64;
//! # use std::io::{Read, Write};
//! # use std::sync::Arc;
//! # use handfast::identity::{CertificateSet, Identity};
//! # use handfast::rustls::{ClientConfig, ClientConnection, RootCertStore};
//! # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
//! # let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
//! # let identity = Identity::from_pem(pem.as_bytes(), key.as_bytes(), &handfast::crypto::provider())?;
//! # let mut roots = RootCertStore::empty();
//! # roots.add(made.cert.der().clone())?;
//! # let mut config = ClientConfig::builder_with_provider(Arc::new(handfast::crypto::provider()))
//! #     .with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
//! # config.alpn_protocols = vec![b"chat/1".to_vec()];
//! # let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into()?)?;
//! # let certificates = Arc::new(CertificateSet::new("default", vec![identity])?);
//! // 1. Once, and once for each connection. `certificates` is a CertificateSet, `client` rustls' own.
//! let chat = ProtocolTls::new(*b"chat/1", certificates);
//! let table = Table::builder().protocol("chat/1").build()?;
//! let live = Blueprint::new(table, &[chat], &Sources::default())?.live();
//! let (limits, peer, mut now) = (Limits::default(), PeerAddr::Unix, Instant64::ZERO);
//! let mut handshake = Handshake::new(now);
//!
//! let mut out = Vec::new();
//! let mut finished = loop {
//!     let mut bytes = Vec::new();
//!     while client.wants_write() {
//!         client.write_tls(&mut bytes)?;
//!     }
//!     now = now + std::time::Duration::from_micros(50);
//!     // 2. A refusal is an error here.
//!     match handshake.offer(&bytes, &limits)? {
//!         Offered::InPlace(from) => drop(bytes.drain(..from)),
//!         Offered::Kept => bytes.clear(),
//!     }
//!     // 3. All of a turn together, before the first advances.
//!     if let Some(hello) = handshake.hello(&bytes, peer) {
//!         assert_eq!(hello.server_name(), Some("localhost"));
//!     }
//!     // 4.
//!     let input = Input { bytes: &mut bytes, end: false };
//!     let cx = Context { live: &live, limits: &limits, peer, now };
//!     let step = handshake.advance(input, cx, &mut out);
//!     // 5.
//!     client.read_tls(&mut &out[..])?;
//!     client.process_new_packets()?;
//!     out.clear();
//!     match step {
//!         Step::Wait(next) => handshake = next,
//!         Step::Finished(finished) => break finished,
//!         Step::Refused(refusal) => return Err(refusal.into()),
//!     }
//! };
//!
//! // 7.
//! assert_eq!(finished.facts.alpn.as_deref(), Some(&b"chat/1"[..]));
//! client.writer().write_all(b"ping")?;
//! let (mut records, mut plain) = (Vec::new(), Vec::new());
//! client.write_tls(&mut records)?;
//! finished.session.receive(&mut records, &mut plain, &mut out)?;
//! assert_eq!(plain, b"ping");
//! finished.session.send(b"pong", &mut out)?;
//! client.read_tls(&mut &out[..])?;
//! client.process_new_packets()?;
//! let mut answer = [0; 4];
//! client.reader().read_exact(&mut answer)?;
//! assert_eq!(&answer, b"pong");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Writing a transport
//!
//! ```text
//!    +--------------------------------- one turn of a shard ----------------------------------+
//!    |  poll ---> recv, recv, .. of each ready one ---> send .. ---> close .. ---> flush      |
//!    +----------------------------------------------------------------------------------------+
//!        ^ accepted, readable, writable, read_closed: one event for each connection
//! ```
//!
//! Implement [`Transport`] and nothing else; then `Shard::new(transport, ShardConfig::new(live, destinations))`, and
//! [`turn`](shard::Shard::turn) or [`run`](shard::Shard::run) on the thread that made it.
//!
//! 1. [`now`](transport::Transport::now) is the only clock: nanoseconds since a zero of yours, never backwards.
//! 2. [`poll`](transport::Transport::poll) waits until something is ready, the deadline is reached, or a
//!    [`Wake`](transport::Wake) was called meanwhile; then it appends at most one [`Event`](transport::Event) for each
//!    connection. A deadline in the past means: look, do not wait.
//! 3. A new connection is announced by its first event, with `accepted`. Say `readable` too: it may hold bytes, and
//!    the shard reads at once. Name connections by [`Slab`](transport::Slab): the shard keeps its own table by
//!    [`ConnId::slot`](transport::ConnId::slot), so slots must be dense, and a slot that is used again has another
//!    generation.
//! 4. Readiness is told once per edge. After `readable` the shard calls [`recv`](transport::Transport::recv) until it
//!    is told [`More::No`](transport::More::No), [`More::End`](transport::More::End), `Eof` or `WouldBlock`, or has
//!    read its fill, in which case it comes back in the next turn unasked. `More::No` is a promise: the next byte or
//!    FIN brings a new event. Where data and FIN share an edge, say `More::End` with the last bytes.
//! 5. The closure of `recv` takes all that it is shown, at most `max` bytes, and may change them in place.
//! 6. [`send`](transport::Transport::send) takes what it can from the front. Less than all: report `writable` later,
//!    once. [`Push::BeforeClose`](transport::Push::BeforeClose): a FIN follows in this turn.
//! 7. [`shutdown`](transport::Transport::shutdown) sends FIN behind what was sent, and reading goes on.
//!    [`close`](transport::Transport::close) forgets the connection: `Graceful` delivers what was sent, `Abort`
//!    resets. Afterwards its `ConnId` finds nothing, and no event names it.
//! 8. Errors of `recv` and `send` are one connection's, and the shard closes it; errors of `poll` and `flush` are the
//!    whole transport's, and end the shard.
//! 9. [`accepting(false)`](transport::Transport::accepting) leaves new connections where they wait;
//!    [`stop_listening`](transport::Transport::stop_listening) is for good, and accepts what waits.
//! 10. [`release`](transport::Transport::release) may answer `None`, when connections cannot leave (a
//!     userspace TCP): then workers run on the shard, and a protocol with
//!     [`hand_off`](Protocol::hand_off) cannot be served.
//!
//! The simulator, [`transport::sim`], is the smallest complete one. The behaviour tests in `tests/behaviour` are
//! generic over their world: a new transport is one more `World`.
//!
//! [`Transport`]: transport::Transport

mod buffer;
mod chunks;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "config")]
pub mod config;
pub mod crypto;
pub mod engine;
pub mod error;
mod files;
pub mod handshake;
#[cfg(any(feature = "h1", feature = "h2"))]
mod http;
pub mod identity;
#[cfg(feature = "tokio")]
pub mod interop;
pub mod limits;
pub mod metrics;
pub mod peer;
mod protocol;
mod proxy;
pub mod selection;
pub mod shard;
pub mod time;
mod tls_stream;
pub mod transport;
#[cfg(feature = "h2")]
mod tunnel;
#[cfg(feature = "websocket")]
pub mod websocket;
#[cfg(any(feature = "h1", feature = "h2"))]
pub mod worker;

#[cfg(feature = "client")]
pub use client::Client;
#[cfg(feature = "config")]
pub use config::Config;
pub use engine::{Builder, Engine, Handle, Pin, Placement, ReloadError, StartError};
pub use error::{Culprit, Refusal};
pub use handshake::{EarlyData, HandshakeFacts};
#[cfg(any(feature = "h1", feature = "h2"))]
pub use http::Http;
pub use ipnet::IpNet;
pub use limits::Limits;
pub use protocol::Protocol;
pub use proxy::ProxyProtocol;
pub use rustls;
pub use shard::{Local, Mailbox, Negotiated, Parts, Stream, Worker};
pub use tls_stream::{Backlog, TlsStream};
