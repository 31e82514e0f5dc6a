//! Which real peers this run has met.

use handfast_tests::peers::{Peer, full, required, say};

#[test]
fn the_real_peers_of_this_run() {
    let (mut met, mut missing) = (Vec::new(), Vec::new());
    for peer in Peer::ALL.into_iter().chain(Peer::FULL.into_iter().filter(|_| full())) {
        match peer.find() {
            Ok(_) => met.push(peer.version()),
            Err(why) => missing.push(why),
        }
    }
    if !met.is_empty() {
        say(&format!("real peers: {}", met.join("; ")));
    }
    if !missing.is_empty() {
        say(&format!("skipped, as real peers are missing: {} (./scripts/test installs them)", missing.join("; ")));
    }
    assert!(missing.is_empty() || !required(), "HANDFAST_PEERS=required, but {}", missing.join("; "));
}
