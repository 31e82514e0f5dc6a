//! Handshakes from the load generator, which runs in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use handfast_load::{Args, Outcome, Plan};

use super::Error;
use super::peers::CLIENT_CORE;

/// Makes handshakes of the protocol that does nothing else, for `time`.
pub(crate) fn make(addr: SocketAddr, connections: usize, time: Duration) -> Result<Outcome, Error> {
    let (addr, connections, time) = (addr.to_string(), connections.to_string(), format!("{}ms", time.as_millis()));
    let core = CLIENT_CORE.to_string();
    let fixed = ["--alpn", "close/1", "--tls", "1.3", "--groups", "x25519", "--shards", "1", "--quiet"];
    let varying = [
        "handfast-load",
        &addr,
        "--connections",
        &connections,
        "--duration",
        &time,
        "--warm-up",
        "300ms",
        "--pin-client",
        &core,
    ];
    let plan = Plan::new(Args::try_parse_from(varying.into_iter().chain(fixed))?).map_err(|e| e.to_string())?;
    let outcome = handfast_load::run(&plan, &Arc::default()).map_err(|e| e.to_string())?;
    if outcome.exit_status() == 0 { Ok(outcome) } else { Err("no handshake succeeded".into()) }
}

/// Handshakes in each second.
#[allow(clippy::cast_precision_loss, reason = "a few million")]
pub(crate) fn rate(outcome: &Outcome) -> f64 {
    outcome.record.handshakes() as f64 / outcome.record.wall.as_secs_f64()
}

/// A quantile of the time from connect to the end of the handshake, in milliseconds.
pub(crate) fn millis(outcome: &Outcome, quantile: f64) -> Result<f64, Error> {
    let time = outcome.record.total.quantile(quantile).ok_or("no handshake was timed")?;
    Ok(time.as_secs_f64() * 1e3)
}
