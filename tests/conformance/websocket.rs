//! kosoku, Autobahn's cases (RFC 6455, RFC 7692), against our WebSockets over TLS, through a front that adds the TLS.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use handfast::websocket::{Deflate, Options, Origins, WebSocket};
use handfast::{Engine, HandshakeFacts, Pin, Placement, Protocol, worker};
use handfast_tests::certificates::make;
use handfast_tests::client;
use handfast_tests::front::Front;
use handfast_tests::peers::{Peer, Program, say, skipped};
use handfast_tests::process::{Process, Scratch};

/// How long a group of cases may take; the compressed ones take minutes.
const BOUND: Duration = Duration::from_secs(1200);
/// The suite's largest messages have 16 MiB.
const MESSAGE_BYTES_MAX: usize = 17 << 20;

/// What the suite says of a case: of the messages, and of the close.
type Verdict = (String, String);

fn options() -> Options {
    let mut options = Options::default();
    options.frame_bytes_max = MESSAGE_BYTES_MAX;
    options.message_bytes_max = MESSAGE_BYTES_MAX;
    options.origins = Origins::Any;
    options.deflate = Some(Deflate::default());
    options
}

async fn echo(mut socket: WebSocket, _: Arc<HandshakeFacts>) {
    while let Ok(Some(message)) = socket.receive().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// What kosoku says of our server in these cases.
fn judged(kosoku: &Program, placement: Placement, cases: &[&str]) -> BTreeMap<String, Verdict> {
    let made = make(&["localhost"]);
    let engine = Engine::builder()
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .shards(1)
        .pin(Pin::Off)
        .workers(placement)
        .certificates(made.set("default"))
        .protocol(Protocol::alpn("http/1.1").worker(worker::websocket::serve(options(), echo)))
        .start()
        .expect("an engine");
    let to = engine.handle().local_addr().expect("an address");
    let front = Front::to_tls(to, client::Options::new(made.roots(), &["http/1.1"]).config());
    let scratch = Scratch::new();
    let mut command = kosoku.command();
    command.args(["-p", "2"]).args(cases).arg("-o").arg(scratch.path("report")).arg(front.addr().to_string());
    let ended = Process::start(&mut command).end_within(BOUND);
    let verdicts = report(&scratch).unwrap_or_else(|| panic!("no report: {ended}"));
    drop(front);
    assert_eq!(engine.shutdown().expect("an end").handler_panics, 0);
    verdicts
}

/// The verdicts of the report's only agent.
fn report(scratch: &Scratch) -> Option<BTreeMap<String, Verdict>> {
    let text = fs::read_to_string(scratch.path("report").join("index.json")).ok()?;
    let index: serde_json::Value = serde_json::from_str(&text).ok()?;
    let (_, cases) = index.as_object()?.iter().next()?;
    let word = |case: &serde_json::Value, name: &str| case[name].as_str().unwrap_or_default().to_owned();
    let cases = cases.as_object()?.iter();
    Some(cases.map(|(id, case)| (id.clone(), (word(case, "behavior"), word(case, "behaviorClose")))).collect())
}

#[test]
fn x() {
    let Some(kosoku) = Peer::Kosoku.installed() else { return };
    for cases in [&["-x", "9.*", "-x", "12.*", "-x", "13.*"][..], &["-i", "9.*"], &["-i", "12.1.*"], &["-i", "13.*"]] {
        let t = std::time::Instant::now();
        let v = judged(&kosoku, Placement::SharedCore, cases);
        println!("{cases:?} {} {:?}", v.len(), t.elapsed());
        let mut c: BTreeMap<Verdict, Vec<String>> = BTreeMap::new();
        for (id, v) in v {
            c.entry(v).or_default().push(id);
        }
        for (v, ids) in c {
            println!("  {v:?} {} {:?}", ids.len(), &ids[..ids.len().min(20)]);
        }
    }
}
