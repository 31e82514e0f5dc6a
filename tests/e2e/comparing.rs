//! `handfast-load compare` on this machine, with the noise that it has.

use handfast_tests::binaries::handfast_load;
use handfast_tests::peers::{full, skipped};
use handfast_tests::process::run;
use serde_json::Value;

use crate::server::Localhost;

const COMPARISONS: usize = 40;
/// At most 5 % of them.
const FALSE_VERDICTS_MAX: usize = 2;

/// Minutes long, so only in a full run.
#[test]
fn a_server_is_no_better_than_itself() {
    if !full() {
        skipped(&"forty comparisons are for ./scripts/test --full");
        return;
    }
    let server = Localhost::start(&["--close"]);
    let target = server.addr().to_string();
    let how = ["--rounds", "5", "--duration", "400ms", "--warm-up", "100ms", "--connections", "16"];
    let mut differences = Vec::new();
    for _ in 0..COMPARISONS {
        let ended =
            run(handfast_load().args(["compare", "--interleave", &target, &target, "--json", "--quiet"]).args(how));
        let compared: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
        match compared["verdict"].as_str() {
            Some("no_difference") => assert_eq!(ended.code(), 0, "{ended}"),
            Some("better" | "worse") => differences.push(compared),
            _ => panic!("{ended}"),
        }
    }
    assert!(differences.len() <= FALSE_VERDICTS_MAX, "{differences:#?}");
}

/// Each further ticket is a twentieth of the work of a handshake.
#[test]
fn a_server_that_does_more_for_each_handshake_is_found_out() {
    if !full() {
        skipped(&"a comparison of ten rounds is for ./scripts/test --full");
        return;
    }
    let servers = ["1", "4"].map(|tickets| Localhost::start(&["--close", "--tickets", tickets]));
    let [a, b] = servers.each_ref().map(|server| server.addr().to_string());
    let how = ["--rounds", "12", "--duration", "1s", "--warm-up", "200ms", "--tls", "1.3", "--metric", "p50"];
    let ended = run(handfast_load().args(["compare", "--interleave", &a, &b, "--json", "--quiet"]).args(how));
    let compared: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    assert_eq!((ended.code(), &compared["verdict"]), (1, &"worse".into()), "{ended}");
}
