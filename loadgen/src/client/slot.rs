//! One slot: the states of the handshake that sits in it. Bytes in, bytes out; no socket, no clock.

use std::io;
use std::time::Duration;

use handfast::time::Instant64;
use handfast::transport::ConnId;
use rustls::client::UnbufferedClientConnection;
use rustls::{Error, HandshakeKind, ProtocolVersion};

use super::tls::{Output, Reached, Then, drive};
use crate::failure::{ErrorClass, Failure};
use crate::record::{Facts, Phases, Record};

/// A record that is longer than this carries no alert (RFC 8446 section 6: two bytes, sealed).
const ALERT_RECORD_BYTES_MAX: usize = 64;
const RECORD_HEADER_BYTES: usize = 5;
/// A slot's buffer goes back to the allocator when one handshake has made it larger than this.
const BUFFER_KEPT_BYTES: usize = 16 * 1024;

type Tls = Box<UnbufferedClientConnection>;

/// Where a slot is.
pub(super) enum Stage {
    /// Nothing is under way.
    Idle,
    /// The ClientHello waits for the connection.
    Connecting { tls: Tls, started: Instant64 },
    /// The connection is up; the ClientHello waits for those of the others.
    Gated { tls: Tls, tcp_connect: Duration },
    /// The ClientHello is out. `heard`: something has come back.
    Shaking { tls: Tls, tcp_connect: Duration, hello_sent: Instant64, heard: bool },
    /// The last flight and FIN are out; the peer's FIN ends it. `tls` stays for as long as anybody wants to know
    /// what the peer says meanwhile.
    Ending { outcome: Outcome, tls: Option<Tls>, heard: bool },
}

/// How a handshake came out.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Complete(Phases, Facts),
    Failed(Failure),
}

/// What follows from bytes received.
#[derive(Debug)]
pub(super) enum Step {
    /// Send the output, if there is some, and wait.
    Wait,
    /// The handshake is complete: send the output and FIN.
    Complete(Facts),
    /// It failed: send the alert, if there is one, and FIN.
    Failed(Failure),
}

/// How the peer's stream ended.
#[derive(Debug)]
pub(super) enum StreamEnd {
    Fin,
    Broken(io::Error),
}

/// One seat of the load.
pub(super) struct Slot {
    pub(super) conn: Option<ConnId>,
    pub(super) stage: Stage,
    /// Received, and too little to be used up yet.
    input: Vec<u8>,
    /// To be sent when the transport takes it.
    pub(super) output: Vec<u8>,
}

impl Slot {
    pub(super) const fn new() -> Self {
        Self { conn: None, stage: Stage::Idle, input: Vec::new(), output: Vec::new() }
    }

    pub(super) fn connecting(&mut self, conn: ConnId, tls: Tls, started: Instant64) {
        self.conn = Some(conn);
        self.stage = Stage::Connecting { tls, started };
    }

    /// The connection is up.
    pub(super) fn connected(&mut self, now: Instant64) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Connecting { tls, started } => Stage::Gated { tls, tcp_connect: now.since(started) },
            other => other,
        };
    }

    /// The ClientHello went out, from `now` on.
    pub(super) fn hello_sent(&mut self, now: Instant64) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Gated { tls, tcp_connect } => Stage::Shaking { tls, tcp_connect, hello_sent: now, heard: false },
            other => other,
        };
    }

    /// The last flight of a complete handshake went out, until `now`. `reads_on`: tickets are wanted.
    pub(super) fn complete(&mut self, facts: Facts, now: Instant64, reads_on: bool) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Shaking { tls, tcp_connect, hello_sent, .. } => {
                let phases = Phases { tcp_connect, tls_handshake: now.since(hello_sent) };
                // In TLS 1.2 the server has the last word; in 1.3 it may still refuse our Finished.
                let reads_on = reads_on || facts.version == Some(ProtocolVersion::TLSv1_3);
                let tls = reads_on.then_some(tls);
                Stage::Ending { outcome: Outcome::Complete(phases, facts), tls, heard: false }
            }
            other => other,
        };
    }

    /// Whether the time allowed for a handshake still runs.
    pub(super) const fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Connecting { .. } | Stage::Gated { .. } | Stage::Shaking { .. })
    }

    /// The class of a handshake whose time has run out.
    pub(super) const fn timeout_class(&self) -> ErrorClass {
        match self.stage {
            Stage::Connecting { .. } => ErrorClass::ConnectTimeout,
            _ => ErrorClass::Timeout,
        }
    }

    /// Takes what the peer sent; what goes back is in `out`.
    pub(super) fn received(
        &mut self,
        bytes: &mut [u8],
        out: &mut Output,
        record: &mut Record,
        wants_tickets: bool,
    ) -> Step {
        match &mut self.stage {
            Stage::Shaking { tls, heard, .. } => {
                let first = !std::mem::replace(heard, true);
                if first && !bytes.first().is_some_and(|b| is_record_type(*b)) {
                    return Step::Failed(ErrorClass::NotTls.into());
                }
                match feed(tls, &mut self.input, bytes, out, Then::CloseNotify) {
                    Ok(Reached::Shaking) => Step::Wait,
                    Ok(Reached::Complete) => Step::Complete(facts(tls, record)),
                    Ok(Reached::Closed) => Step::Failed(ErrorClass::ClosedEarly.into()),
                    Err(error) => Step::Failed(Failure::tls(&error, first)),
                }
            }
            Stage::Ending { outcome, tls: kept, heard } => {
                let first = !std::mem::replace(heard, true);
                let Some(tls) = kept else { return Step::Wait };
                // A ticket says that the server took our Finished; only an alert would say that it did not.
                if first && !wants_tickets && record_bytes(bytes).is_some_and(|n| n > ALERT_RECORD_BYTES_MAX) {
                    *kept = None;
                    return Step::Wait;
                }
                if let Err(error) = feed(tls, &mut self.input, bytes, out, Then::Nothing) {
                    *kept = None;
                    if let (Error::AlertReceived(_), Outcome::Complete(..)) = (&error, &*outcome) {
                        *outcome = Outcome::Failed(Failure::tls(&error, false));
                    }
                }
                // After our close_notify nothing may follow, not even the answer to a KeyUpdate.
                out.clear();
                Step::Wait
            }
            // A server that speaks before it is spoken to speaks no TLS.
            Stage::Idle | Stage::Connecting { .. } | Stage::Gated { .. } => Step::Failed(ErrorClass::NotTls.into()),
        }
    }

    /// The outcome now that the peer's stream has ended.
    pub(super) fn outcome_at(&self, end: &StreamEnd) -> Outcome {
        let failed = |failure| Outcome::Failed(failure);
        match (&self.stage, end) {
            (Stage::Ending { outcome, .. }, _) => outcome.clone(),
            (_, StreamEnd::Fin) => failed(ErrorClass::ClosedEarly.into()),
            (Stage::Connecting { .. }, StreamEnd::Broken(error)) => failed(Failure::connecting(error)),
            (_, StreamEnd::Broken(error)) => failed(Failure::shaking(error)),
        }
    }

    /// Back to idle, ready for the next.
    pub(super) fn reset(&mut self) {
        self.conn = None;
        self.stage = Stage::Idle;
        for buffer in [&mut self.input, &mut self.output] {
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT_BYTES);
        }
    }
}

/// Gives `tls` the new bytes, behind those that were too few before. What is kept is less than a message, whose
/// size rustls bounds.
fn feed(
    tls: &mut UnbufferedClientConnection,
    input: &mut Vec<u8>,
    bytes: &mut [u8],
    out: &mut Output,
    then: Then,
) -> Result<Reached, Error> {
    if input.is_empty() {
        let (used, reached) = drive(tls, bytes, out, then);
        input.extend_from_slice(&bytes[used..]);
        return reached;
    }
    input.extend_from_slice(bytes);
    let (used, reached) = drive(tls, input, out, then);
    input.drain(..used);
    reached
}

fn facts(tls: &UnbufferedClientConnection, record: &mut Record) -> Facts {
    Facts {
        alpn: record.alpn(tls.alpn_protocol()),
        version: tls.protocol_version(),
        suite: tls.negotiated_cipher_suite().map(|s| s.suite()),
        group: tls.negotiated_key_exchange_group().map(|g| g.name()),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// RFC 8446 section 5.1: change_cipher_spec, alert, handshake, application_data.
const fn is_record_type(byte: u8) -> bool {
    matches!(byte, 20..=23)
}

/// The length of the record that `bytes` begin with.
fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    Some(usize::from(u16::from_be_bytes([header[3], header[4]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_from_other_talk() {
        assert!(is_record_type(22));
        assert!(b"HTTP".iter().chain(b"SSH-").all(|b| !is_record_type(*b)));
        assert_eq!(record_bytes(&[23, 3, 3, 1, 2, 9]), Some(258));
        assert_eq!(record_bytes(&[23, 3, 3, 1]), None);
    }

    #[test]
    fn a_stream_that_ends_is_judged_by_how_far_it_came() {
        let slot = Slot::new();
        let class = |end: &StreamEnd| match slot.outcome_at(end) {
            Outcome::Failed(failure) => failure.class,
            Outcome::Complete(..) => unreachable!("nothing was begun"),
        };
        assert_eq!(class(&StreamEnd::Fin), ErrorClass::ClosedEarly);
        assert_eq!(class(&StreamEnd::Broken(io::ErrorKind::ConnectionReset.into())), ErrorClass::Reset);
    }
}
