//! kosoku, Autobahn's cases (RFC 6455, RFC 7692), against our WebSockets over TLS. It speaks without TLS, so a front
//! stands between.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use handfast::websocket::client::open_http1;
use handfast::websocket::{Deflate, Options, Origins, WebSocket};
use handfast::{Engine, HandshakeFacts, Pin, Placement, Protocol, worker};
use handfast_tests::certificates::{Made, make};
use handfast_tests::client;
use handfast_tests::front::Front;
use handfast_tests::peers::{Peer, Program, say, skipped};
use handfast_tests::process::{Ended, Pipe, Process, Scratch};
use hyper::Request;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const PLACEMENTS: [Placement; 2] = [Placement::SharedCore, Placement::Threads(2)];

/// How long a group of cases may take; the compressed ones take minutes.
const BOUND: Duration = Duration::from_secs(1800);

/// The suite's largest messages have 16 MiB.
const MESSAGE_BYTES_MAX: usize = 17 << 20;

const CORE: &[&str] = &["-x", "9.*", "-x", "12.*", "-x", "13.*"];
const LARGE: &[&str] = &["-i", "9.*"];
/// Of each kind of message, and of each offer, the first case.
const COMPRESSED_SAMPLE: &[&str] = &[
    "-i", "12.1.1", "-i", "12.2.1", "-i", "12.3.1", "-i", "12.4.1", "-i", "12.5.1", "-i", "13.1.1", "-i", "13.2.1",
    "-i", "13.3.1", "-i", "13.4.1", "-i", "13.5.1", "-i", "13.6.1", "-i", "13.7.1",
];
const COMPRESSED: &[&str] = &["-i", "12.*", "-i", "13.*"];

/// Verdicts other than OK that the suite's own rules allow, and why we have them.
const ACCEPTED: &[(&str, &str, &str)] = &[
    ("6.4.1", "NON-STRICT", LATE),
    ("6.4.2", "NON-STRICT", LATE),
    ("6.4.3", "NON-STRICT", LATE),
    ("6.4.4", "NON-STRICT", LATE),
    ("7.1.6", "INFORMATIONAL", "a large message, a Close and a Ping at once: no rule says which of them are answered"),
    ("7.13.1", "INFORMATIONAL", "close code 5000: RFC 6455 defines nothing for it"),
    ("7.13.2", "INFORMATIONAL", "close code 65536: RFC 6455 defines nothing for it"),
];
const LATE: &str = "text that is not UTF-8 is refused when its message is whole, not at its first wrong byte";

fn options(mut deflate: Deflate) -> Options {
    // The suite cannot read an answer that is not compressed where it might be.
    deflate.message_bytes_min = 0;
    let mut options = Options::default();
    options.frame_bytes_max = MESSAGE_BYTES_MAX;
    options.message_bytes_max = MESSAGE_BYTES_MAX;
    options.origins = Origins::Any;
    options.deflate = Some(deflate);
    options
}

/// Sends every message back until the end.
async fn echo(mut socket: WebSocket) {
    while let Ok(Some(message)) = socket.receive().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// What the suite says of our server in these cases.
fn of_server(kosoku: &Program, placement: Placement, cases: &[&str]) -> Report {
    let made = make(&["localhost"]);
    let handler = |socket, _: Arc<HandshakeFacts>| echo(socket);
    let engine = Engine::builder()
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .shards(1)
        .pin(Pin::Off)
        .workers(placement)
        .certificates(made.set("default"))
        .protocol(Protocol::alpn("http/1.1").worker(worker::websocket::serve(options(Deflate::default()), handler)))
        .start()
        .expect("an engine");
    let to = engine.handle().local_addr().expect("an address");
    let front = Front::to_tls(to, client::Options::new(made.roots(), &["http/1.1"]).config());
    let scratch = Scratch::new();
    let mut command = kosoku.command();
    command.args(["-p", "2"]).args(cases).arg("-o").arg(scratch.path("report")).arg(front.addr().to_string());
    let ended = Process::start(&mut command).end_within(BOUND);
    drop(front);
    assert_eq!(engine.shutdown().expect("an end").handler_panics, 0);
    Report::read(&scratch, &ended)
}

/// What the suite says of our client in these cases.
fn of_client(kosoku: &Program, cases: &[&str]) -> Report {
    // In the cases 13.2, 13.5 and 13.6 the suite compresses only for a client that offers this; our server's tests
    // cover the default.
    let mut deflate = Deflate::default();
    deflate.client_no_context_takeover = true;
    let options = options(deflate);
    let scratch = Scratch::new();
    let mut command = kosoku.command();
    command.args(["-m", "fuzzingserver"]).args(cases).arg("-o").arg(scratch.path("report")).arg("127.0.0.1:0");
    let process = Process::start(&mut command);
    let to = process.wait_for("its address", Pipe::Stderr, |text| {
        text.strip_prefix("fuzzingserver listening on ws://")?.strip_suffix('\n')?.parse().ok()
    });
    let made = make(&["localhost"]);
    let front = Front::from_tls(to, &made, "http/1.1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut first = open(&front, &made, "/getCaseCount", &options).await;
        let count = first.receive().await.expect("a message").expect("the number of cases");
        let count: u32 = count.as_text().and_then(|text| text.parse().ok()).expect("a number");
        for case in 1..=count {
            echo(open(&front, &made, &format!("/runCase?case={case}&agent=handfast"), &options).await).await;
        }
        echo(open(&front, &made, "/updateReports?agent=handfast", &options).await).await;
    });
    Report::read(&scratch, &process.end_within(BOUND))
}

async fn open(front: &Front, made: &Made, target: &str, options: &Options) -> WebSocket {
    let connector = TlsConnector::from(client::Options::new(made.roots(), &["http/1.1"]).config());
    let socket = TcpStream::connect(front.addr()).await.expect("a connection");
    socket.set_nodelay(true).expect("an option of the socket");
    let stream = connector.connect("localhost".try_into().expect("a name"), socket).await.expect("a handshake");
    let request = Request::builder().uri(format!("wss://localhost{target}")).body(()).expect("a request");
    open_http1(stream, request, options, Arc::new(TokioTimer::new())).await.expect("an opening").0
}

/// What the suite says: of each case's messages, and of its close.
struct Report(BTreeMap<String, [String; 2]>);

impl Report {
    fn read(scratch: &Scratch, ended: &Ended) -> Self {
        let read = || {
            let text = fs::read_to_string(scratch.path("report").join("index.json")).ok()?;
            let index: serde_json::Value = serde_json::from_str(&text).ok()?;
            let (_agent, cases) = index.as_object()?.iter().next()?;
            let words = |case: &serde_json::Value| {
                ["behavior", "behaviorClose"].map(|name| case[name].as_str().unwrap_or_default().to_owned())
            };
            Some(Self(cases.as_object()?.iter().map(|(id, case)| (id.clone(), words(case))).collect()))
        };
        let report = read().unwrap_or_else(|| panic!("no report: {ended}"));
        // The suite has an opinion of the whole, too.
        let fine =
            report.0.values().flatten().all(|word| ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&word.as_str()));
        // Its process has been seen to abort at its very end, with the report written: there is no opinion then.
        assert!(ended.status.code().is_none_or(|code| (code == 0) == fine), "{ended}");
        report
    }

    /// Says how they went; fails the test for any that is not [`ACCEPTED`].
    #[track_caller]
    fn check(&self, who: &str, cases: usize) {
        let accepted = |id: &str, word: &str| {
            let allowed = |&&(case, verdict, _): &&(&str, &str, &str)| case == id && verdict == word;
            ACCEPTED.iter().find(allowed).map(|&(_, _, why)| why)
        };
        let mut failed = Vec::new();
        let mut passed = 0;
        for (id, words) in &self.0 {
            let odd: Vec<&str> = words.iter().map(String::as_str).filter(|&word| word != "OK").collect();
            let whys: Option<Vec<&str>> = odd.iter().map(|word| accepted(id, word)).collect();
            match whys.as_deref() {
                Some([]) => passed += 1,
                Some([why, ..]) => say(&format!("kosoku, {who}: {id} {}: {why}", odd[0])),
                None => failed.push(format!("{id}: {}, close {}", words[0], words[1])),
            }
        }
        say(&format!("kosoku, {who}: {passed} of {} cases OK, {} failed", self.0.len(), failed.len()));
        assert!(failed.is_empty(), "{who} fails\n{}", failed.join("\n"));
        assert_eq!(self.0.len(), cases, "{who}: the suite has other cases than are known here");
    }
}

/// Whether the minutes are spent that all the compressed cases take.
fn in_full() -> bool {
    match env::var("HANDFAST_CONFORMANCE").as_deref() {
        Ok("full") => true,
        Ok("") | Err(_) => false,
        Ok(other) => panic!("HANDFAST_CONFORMANCE={other}: write HANDFAST_CONFORMANCE=full, or leave it out"),
    }
}

#[test]
fn server_passes_the_core() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    for placement in PLACEMENTS {
        of_server(&kosoku, placement, CORE).check(&format!("server's core, {placement:?}"), 247);
    }
}

#[test]
fn server_passes_large_messages() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    for placement in PLACEMENTS {
        of_server(&kosoku, placement, LARGE).check(&format!("server's large messages, {placement:?}"), 54);
    }
}

#[test]
fn server_passes_compression() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    for placement in PLACEMENTS {
        let who = format!("server's compression, {placement:?}");
        of_server(&kosoku, placement, COMPRESSED_SAMPLE).check(&who, 12);
    }
}

#[test]
fn client_passes_the_core() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    of_client(&kosoku, CORE).check("client's core", 247);
}

#[test]
fn client_passes_large_messages() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    of_client(&kosoku, LARGE).check("client's large messages", 54);
}

#[test]
fn client_passes_compression() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    of_client(&kosoku, COMPRESSED_SAMPLE).check("client's compression", 12);
}

#[test]
fn all_of_compression_passes() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    if !in_full() {
        return skipped(&"the compressed cases; HANDFAST_CONFORMANCE=full runs them all");
    }
    for placement in PLACEMENTS {
        of_server(&kosoku, placement, COMPRESSED).check(&format!("server's compression, {placement:?}"), 216);
    }
    of_client(&kosoku, COMPRESSED).check("client's compression", 216);
}
