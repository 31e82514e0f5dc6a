//! One slot: the states of the handshake that sits in it. Bytes in, bytes out; no socket, no clock.

use std::io;
use std::time::Duration;

use handfast::time::Instant64;
use handfast::transport::ConnId;
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion, SignatureScheme};

use super::hellos::{Hellos, Tls};
use super::talk::{After, Heard, Talk};
use crate::failure::{ErrorClass, Failure};
use crate::plan::Then;
use crate::record::{EarlyData, Facts, Phases, Record};

/// A record that is longer than this carries no alert (RFC 8446 section 6: two bytes, sealed).
const ALERT_RECORD_BYTES_MAX: usize = 64;
const RECORD_HEADER_BYTES: usize = 5;
/// A message without a body (RFC 8446 section 4.5), its content type, and the tag that all cipher suites have in common.
/// An alert takes less, any other message more.
const END_OF_EARLY_DATA_RECORD_BYTES: usize = 4 + 1 + 16;
/// A buffer goes back to the allocator when one handshake has made it larger than this.
const BUFFER_KEPT_BYTES: usize = 16 * 1024;

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
    /// The handshake is complete, and there is something to say. `said`: when the last of it went out.
    Talking { tls: Tls, phases: Phases, facts: Facts, talk: Box<Talk>, said: Instant64 },
    /// The handshake is complete and counted, and the connection stays.
    Held { tls: Tls },
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
    /// The handshake is complete: send the output, and do what comes next.
    Complete(Facts),
    /// The peer has said something that was waited for.
    Heard(Heard),
    /// The peer ended a connection that was held: send the output and FIN.
    Lost,
    /// It failed: send the alert, if there is one, and FIN.
    Failed(Failure),
}

/// How the peer's stream ended.
#[derive(Debug)]
pub(super) enum StreamEnd {
    Fin,
    Broken(io::Error),
}

/// Buffers that every connection of a shard uses in its turn.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Records to be sent.
    pub(super) out: Vec<u8>,
    /// Plaintext received, and to be sent.
    pub(super) plain: Vec<u8>,
    pub(super) reply: Vec<u8>,
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        for buffer in [&mut self.out, &mut self.plain, &mut self.reply] {
            buffer.clear();
        }
    }
}

/// One seat of the load.
pub(super) struct Slot {
    pub(super) conn: Option<ConnId>,
    pub(super) stage: Stage,
    /// To be sent when the transport takes it.
    pub(super) output: Vec<u8>,
    /// In an open loop, from when the handshake was due until it was started.
    pub(super) delay: Duration,
    /// In an open loop, whether it was due in the time that counts.
    pub(super) counts: bool,
    /// The index of the name that it asks for.
    pub(super) name: usize,
    /// Our key share, if it is from the shard's pool.
    pub(super) share: Option<[u8; 32]>,
    /// How many bytes of its request went as early data; `None` when none was offered.
    pub(super) early: Option<usize>,
    scheme: Option<SignatureScheme>,
}

impl Slot {
    pub(super) const fn new() -> Self {
        Self {
            conn: None,
            stage: Stage::Idle,
            output: Vec::new(),
            delay: Duration::ZERO,
            counts: false,
            name: 0,
            share: None,
            early: None,
            scheme: None,
        }
    }

    /// Our key share, while the server's answer to it has not come.
    pub(super) fn waits_with(&self) -> Option<[u8; 32]> {
        matches!(self.stage, Stage::Shaking { heard: false, .. }).then_some(self.share)?
    }

    pub(super) fn connecting(&mut self, conn: ConnId, tls: Tls, started: Instant64) {
        self.conn = Some(conn);
        self.stage = Stage::Connecting { tls, started };
    }

    /// The connection is up.
    pub(super) fn connected(&mut self, now: Instant64) {
        self.stage = match self.take_stage() {
            Stage::Connecting { tls, started } => Stage::Gated { tls, tcp_connect: now.since(started) },
            other => other,
        };
    }

    /// The ClientHello went out, from `now` on.
    pub(super) fn hello_sent(&mut self, now: Instant64) {
        self.stage = match self.take_stage() {
            Stage::Gated { tls, tcp_connect } => Stage::Shaking { tls, tcp_connect, hello_sent: now, heard: false },
            other => other,
        };
    }

    /// The last flight of a complete handshake went out, until `now`; the connection and its phases come back.
    pub(super) fn complete(&mut self, now: Instant64) -> Option<(Tls, Phases)> {
        match self.take_stage() {
            Stage::Shaking { tls, tcp_connect, hello_sent, .. } => {
                let tls_handshake = now.since(hello_sent);
                Some((tls, Phases { delay: self.delay, tcp_connect, tls_handshake, first_byte: None }))
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Our FIN is out, and the peer's is waited for. `reads_on`: tickets are wanted.
    pub(super) fn ending(&mut self, tls: Tls, phases: Phases, facts: Facts, reads_on: bool) {
        // In TLS 1.2 the server has the last word; in 1.3 it may still refuse our Finished.
        let reads_on = reads_on || facts.version == Some(ProtocolVersion::TLSv1_3);
        self.stage =
            Stage::Ending { outcome: Outcome::Complete(phases, facts), tls: reads_on.then_some(tls), heard: false };
    }

    pub(super) fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Idle)
    }

    /// Whether the time allowed for a handshake still runs.
    pub(super) const fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Idle | Stage::Held { .. } | Stage::Ending { .. })
    }

    /// The class of a handshake whose time has run out.
    pub(super) const fn timeout_class(&self) -> ErrorClass {
        match self.stage {
            Stage::Connecting { .. } => ErrorClass::ConnectTimeout,
            Stage::Talking { .. } => ErrorClass::ResponseTimeout,
            _ => ErrorClass::Timeout,
        }
    }

    /// Takes what the peer sent; what goes back is in `scratch.out`.
    pub(super) fn received(
        &mut self,
        bytes: &mut [u8],
        scratch: &mut Scratch,
        record: &mut Record,
        hellos: &Hellos,
        after: &After,
    ) -> Step {
        match &mut self.stage {
            Stage::Shaking { tls, heard, .. } => {
                let first = !std::mem::replace(heard, true);
                if first && !bytes.first().is_some_and(|b| is_record_type(*b)) {
                    return Step::Failed(ErrorClass::NotTls.into());
                }
                let result = tls.receive(bytes, &mut scratch.plain, &mut scratch.out);
                if let Some(scheme) = hellos.take_scheme() {
                    self.scheme = Some(scheme);
                }
                match result {
                    Err(error) => Step::Failed(Failure::tls(&error, first)),
                    Ok(_) if !tls.common().is_handshaking() => {
                        let offered = self.early.is_some();
                        let mut facts = facts(tls.common(), self.scheme, record);
                        facts.early_data = offered.then(|| early_data(&scratch.out));
                        if after.then == Then::Close {
                            close(tls, &mut scratch.out);
                        }
                        Step::Complete(facts)
                    }
                    Ok(seen) if seen.peer_closed => Step::Failed(ErrorClass::ClosedEarly.into()),
                    Ok(_) => Step::Wait,
                }
            }
            Stage::Talking { tls, talk, .. } => talking(tls, talk, bytes, scratch),
            Stage::Held { tls } => match tls.receive(bytes, &mut scratch.plain, &mut scratch.out) {
                Ok(seen) if !seen.peer_closed => {
                    // With keys that are exhausted there is no answer, and the peer will say what it thinks of that.
                    let _ = tls.answer_key_update(&mut scratch.out);
                    Step::Wait
                }
                Ok(_) => {
                    close(tls, &mut scratch.out);
                    Step::Lost
                }
                Err(_) => Step::Lost,
            },
            Stage::Ending { outcome, tls: kept, heard } => {
                let first = !std::mem::replace(heard, true);
                let Some(tls) = kept else { return Step::Wait };
                // A ticket says that the server took our Finished; only an alert would say that it did not.
                if first && !hellos.resumes() && record_bytes(bytes).is_some_and(|n| n > ALERT_RECORD_BYTES_MAX) {
                    *kept = None;
                    return Step::Wait;
                }
                if let Err(error) = tls.receive(bytes, &mut scratch.plain, &mut scratch.out) {
                    *kept = None;
                    if let (Error::AlertReceived(_), Outcome::Complete(..)) = (&error, &*outcome) {
                        *outcome = Outcome::Failed(Failure::tls(&error, false));
                    }
                }
                // After our close_notify nothing may follow, not even the answer to a KeyUpdate.
                scratch.out.clear();
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
            (Stage::Talking { .. }, StreamEnd::Fin) => failed(ErrorClass::NoResponse.into()),
            (Stage::Talking { .. }, StreamEnd::Broken(error)) => failed(Failure::talking(error)),
            (_, StreamEnd::Fin) => failed(ErrorClass::ClosedEarly.into()),
            (Stage::Connecting { .. }, StreamEnd::Broken(error)) => failed(Failure::connecting(error)),
            (_, StreamEnd::Broken(error)) => failed(Failure::shaking(error)),
        }
    }

    /// Back to idle, ready for the next.
    pub(super) fn reset(&mut self) {
        self.conn = None;
        self.stage = Stage::Idle;
        (self.scheme, self.early) = (None, None);
        self.output.clear();
        self.output.shrink_to(BUFFER_KEPT_BYTES);
    }
}

fn talking(tls: &mut Tls, talk: &mut Talk, bytes: &mut [u8], scratch: &mut Scratch) -> Step {
    let seen = match tls.receive(bytes, &mut scratch.plain, &mut scratch.out) {
        Ok(seen) => seen,
        Err(error) => return Step::Failed(Failure::tls(&error, false)),
    };
    let heard = match talk.hear(&scratch.plain, &mut scratch.reply) {
        Ok(heard) => heard,
        Err(class) => return Step::Failed(class.into()),
    };
    if !scratch.reply.is_empty() && tls.send(&scratch.reply, &mut scratch.out).is_err() {
        return Step::Failed(ErrorClass::TlsError.into());
    }
    if heard.over {
        close(tls, &mut scratch.out);
    } else if seen.peer_closed {
        return Step::Failed(ErrorClass::NoResponse.into());
    }
    Step::Heard(heard)
}

/// Says close_notify. When the keys are exhausted, FIN has to do.
fn close(tls: &mut Tls, out: &mut Vec<u8>) {
    let _ = tls.close(out);
}

fn facts(tls: &CommonState, scheme: Option<SignatureScheme>, record: &mut Record) -> Facts {
    Facts {
        alpn: record.alpn(tls.alpn_protocol()),
        version: tls.protocol_version(),
        suite: tls.negotiated_cipher_suite().map(|s| s.suite()),
        group: tls.negotiated_key_exchange_group().map(|g| g.name()),
        scheme,
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        early_data: None,
    }
}

/// What became of early data that was offered, by the `flight` that ended the handshake. rustls tells only users of its
/// buffered API; but a client sends EndOfEarlyData if the server has accepted, and only then (RFC 8446 section 4.5).
fn early_data(flight: &[u8]) -> EarlyData {
    if record_bytes(flight) == Some(END_OF_EARLY_DATA_RECORD_BYTES) { EarlyData::Accepted } else { EarlyData::Rejected }
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
