//! Chromium opens a page and a WebSocket, and says itself over which protocol.

use std::path::Path;

use handfast_tests::peers::{Peer, full, skipped, tools};
use handfast_tests::process::{Scratch, run};
use serde_json::{Value, json};

use crate::server::Server;

/// What the browser says of a page, and of a WebSocket that the page opens.
pub(crate) fn visit(server: &Server) -> Option<Value> {
    visit_and_fetch(server, 0)
}

/// The same, and what it says of as many further hosts, from all of which the page fetches something at once.
pub(crate) fn visit_and_fetch(server: &Server, hosts: usize) -> Option<Value> {
    if !full() {
        skipped(&"Chromium is a peer of ./scripts/test --full");
        return None;
    }
    let (chromium, node) = (Peer::Chromium.installed()?, Peer::Node.installed()?);
    let scratch = Scratch::new();
    let mut command = node.command();
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/chromium.js"));
    command.arg(tools().join("node/node_modules/puppeteer-core")).arg(chromium.path());
    command.arg(scratch.path("profile")).arg(format!("https://{}/", server.addr())).arg(hosts.to_string());
    let ended = run(&mut command);
    assert_eq!(ended.code(), 0, "{ended}");
    Some(serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}")))
}

/// Every message came back, and the close handshake went both ways.
#[track_caller]
pub(crate) fn assert_conversed(socket: &Value) {
    for message in ["text", "binary", "mebibyte"] {
        assert_eq!(socket[message], true, "{message}: {socket}");
    }
    assert_eq!(socket["close"], json!({ "code": 1000, "reason": "done", "wasClean": true }));
}

#[test]
fn chromium_opens_a_page_over_h2_and_a_websocket_in_it() {
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let Some(seen) = visit(&server) else { return };
    assert_eq!(seen["protocol"], "h2", "{seen}");
    // RFC 8441 section 5: extended CONNECT is answered with 200, an upgrade with 101.
    assert_eq!(seen["status"], 200, "{seen}");
    assert_conversed(&seen["socket"]);
}

#[test]
fn chromium_opens_a_websocket_over_http_1_1() {
    let server = Server::start(&["--listen", "127.0.0.1:0", "--protocol", "http/1.1"]);
    let Some(seen) = visit(&server) else { return };
    assert_eq!((&seen["protocol"], &seen["status"]), (&json!("http/1.1"), &json!(101)), "{seen}");
    assert_conversed(&seen["socket"]);
}
