//! `handfast-load compare` on this machine, with the noise that it has.

use handfast_tests::binaries::handfast_load;
use handfast_tests::peers::{full, skipped};
use handfast_tests::process::{Scratch, run};
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

/// Of each side, in turn.
const ROUNDS: usize = 12;

/// Three further tickets are an eighth of the work of a handshake. Latencies and rates of a busy machine hide that, the
/// server's CPU time does not.
#[test]
fn a_server_that_does_more_for_each_handshake_is_found_out() {
    if !full() {
        skipped(&"a comparison of twelve rounds is for ./scripts/test --full");
        return;
    }
    let servers = ["1", "4"].map(|tickets| Localhost::start(&["--close", "--tickets", tickets]));
    let (scratch, mut rounds) = (Scratch::new(), [String::new(), String::new()]);
    for _ in 0..ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            let (target, pid) = (server.addr().to_string(), server.server.process().id().to_string());
            let how = ["--duration", "1s", "--warm-up", "200ms", "--tls", "1.3", "--json", "--quiet"];
            let ended = run(handfast_load().args(["run", &target, "--server-pid", &pid]).args(how));
            assert_eq!(ended.code(), 0, "{ended}");
            rounds.push_str(&ended.stdout);
        }
    }
    let [a, b] = [("a.json", &rounds[0]), ("b.json", &rounds[1])].map(|(name, rounds)| scratch.file(name, rounds));
    let ended = run(handfast_load().arg("compare").args([a, b]).args(["--json", "--metric", "server-cpu"]));
    let compared: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    assert_eq!((ended.code(), &compared["verdict"]), (1, &"worse".into()), "{ended}");
}
