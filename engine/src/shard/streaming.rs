//! Connections with a worker on this thread: ciphertext to and from the wire, plaintext to and from the stream.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use super::gather::Item;
use super::services::lock;
use super::slots::{Conn, ControlRecords, Slot, Streaming};
use super::stream::{Ended, Left, Shared, Stream};
use super::{Shard, Worker, advance};
use crate::error::Refusal;
use crate::handshake::{EarlyData, Finished, Received};
use crate::time::Instant64;
use crate::transport::{Close, ConnId, Push, Transport};

/// What a session may keep of what is not yet whole: a record (RFC 5246 section 6.2.3; those of TLS 1.3 are shorter),
/// and before it a part of a handshake message. A KeyUpdate is five bytes, and a ClientHello that asks for a
/// renegotiation is refused whatever it says; but rustls would wait for the 65535 bytes that a header may announce.
const PENDING_BYTES_MAX: usize = 5 + 16 * 1024 + 2048 + 4096;

impl<T: Transport> Shard<T> {
    /// Gives a negotiated connection to a worker here. Session tickets in `self.out` leave with its first bytes.
    pub(super) fn start_worker(
        &mut self,
        id: ConnId,
        mut slot: Slot,
        finished: Finished,
        worker: &dyn Worker,
        now: Instant64,
    ) {
        let Finished { session, facts, received, peer_closed, end } = finished;
        let shared = Shared::new(&self.services, id, received, &self.limits);
        if peer_closed {
            shared.end(Ended::Clean);
        } else if end {
            shared.end(Ended::Truncated);
        }
        slot.unsent.back().append(&mut self.out);
        let early = facts.early_data.clone().filter(EarlyData::is_replayable);
        if early.is_none() {
            self.set_timer(id, &mut slot, now + self.limits.idle_deadline);
        }
        slot.conn = Conn::Streaming(Streaming {
            session,
            shared: Arc::clone(&shared),
            closed: false,
            fin_sent: false,
            early,
            left: false,
            active_at: now,
            control: ControlRecords::new(now),
        });
        self.slots.put(id, slot);
        let stream = Stream::new(shared, Arc::new(facts));
        if catch_unwind(AssertUnwindSafe(|| worker.start(stream))).is_err() {
            self.counters.handler_panics.add(1);
        }
        self.services.post(id);
    }

    /// Ciphertext has come for a worker. The slot stays where it is unless that ends the connection.
    pub(super) fn advance_stream(&mut self, item: &Item, bytes: &mut [u8], now: Instant64) {
        let id = item.conn;
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.gathered = false;
        let Conn::Streaming(streaming) = &mut slot.conn else { return };
        streaming.active_at = now;
        let heard = if item.broken { Err(Refusal::Reset) } else { decrypt(streaming, item.end, bytes, &mut self.out) };
        let closed = streaming.closed;
        let refusal = match heard {
            Ok(heard)
                if !streaming.control.count(heard.control_records, self.limits.control_records, now)
                    || streaming.session.pending_len() > PENDING_BYTES_MAX =>
            {
                self.counters.control_floods.add(1);
                self.out.clear();
                Refusal::Reset
            }
            Ok(heard) => {
                if heard.finished {
                    self.counters.handshakes_resumed.add(1);
                    slot.handshake_over();
                    let idle = self.timers.insert(now + self.limits.idle_deadline, id);
                    if let Some(deadline) = slot.timer.replace(idle) {
                        self.timers.cancel(deadline);
                    }
                }
                if closed {
                    // Tickets, for one: nothing follows our close_notify (RFC 8446 section 6.1).
                    self.out.clear();
                }
                match advance::send(&mut self.transport, &mut self.out, id, slot, Push::Now) {
                    Ok(()) => return,
                    Err(_) => Refusal::Reset,
                }
            }
            Err(refusal) => refusal,
        };
        let Some(slot) = self.slots.take(id) else { return };
        match refusal {
            Refusal::Reset => self.broken(id, slot),
            refusal if is_early(&slot) => self.refused(id, slot, &refusal, now),
            _ => {
                self.counters.faults_after_handshake.add(1);
                self.last_words(id, slot, now);
            }
        }
    }

    /// Workers have read, written, shut down or left: does what follows from it.
    pub(super) fn serve_posted(&mut self, posted: &[ConnId], now: Instant64) {
        // As in `advance_batch`, and the workers' own wakers are called here; but one guard for all until it is needed, as
        // this is the way of every message.
        let mut served = 0;
        while let Some(left) = posted.get(served..).filter(|left| !left.is_empty()) {
            let serve = AssertUnwindSafe(|| {
                for id in left {
                    served += 1;
                    self.serve(*id, now);
                }
            });
            if catch_unwind(serve).is_err() {
                self.contain(posted[served - 1]);
            }
        }
    }

    fn serve(&mut self, id: ConnId, now: Instant64) {
        let served = self.serve_in_place(id, now);
        if served == Served::Stays {
            return;
        }
        let Some(mut slot) = self.slots.take(id) else { return };
        // With early data it may have ended before.
        slot.handshake_over();
        match served {
            Served::Broken => self.broken(id, slot),
            Served::Waits => {
                if let Conn::Streaming(streaming) = &mut slot.conn {
                    // Nobody is left to wait for its Finished.
                    streaming.early = None;
                    streaming.left = true;
                }
                self.set_timer(id, &mut slot, now + self.limits.unsent_wait);
                self.slots.put(id, slot);
            }
            Served::Stays | Served::Left => self.linger(id, slot, now),
        }
    }

    /// Nothing has moved on a connection since `idle_deadline` was set, or less than it is ago.
    pub(super) fn idle(&mut self, id: ConnId, mut slot: Slot, now: Instant64) {
        let Conn::Streaming(streaming) = &mut slot.conn else { return self.slots.put(id, slot) };
        let until = streaming.active_at + self.limits.idle_deadline;
        if now < until {
            self.set_timer(id, &mut slot, until);
            return self.slots.put(id, slot);
        }
        self.counters.idled_out.add(1);
        let told = streaming.closed || streaming.session.close(&mut self.out).is_ok();
        if !told || slot.unsent.len() > 0 {
            self.out.clear();
            return self.close(id, slot, Close::Abort);
        }
        self.last_words(id, slot, now);
    }

    fn serve_in_place(&mut self, id: ConnId, now: Instant64) -> Served {
        let Some(slot) = self.slots.get_mut(id) else { return Served::Stays };
        loop {
            let Conn::Streaming(streaming) = &mut slot.conn else { return Served::Stays };
            let room = slot.unsent.len() < self.limits.stream_write_bytes;
            let (asked, result) = encrypt(streaming, room, &mut self.out);
            if asked.resume {
                self.queue.again(id, &mut slot.again);
            }
            self.counters.stream_writes_paused.add(u64::from(asked.waited));
            if result.is_err() || asked.left == Some(Left::Panicked) {
                self.out.clear();
                return Served::Broken;
            }
            if !self.out.is_empty() {
                streaming.active_at = now;
            }
            let closed = streaming.closed;
            let push = if closed { Push::BeforeClose } else { Push::Now };
            if send_all(&mut self.transport, &mut self.out, id, slot, push).is_err() {
                return Served::Broken;
            }
            // With something unsent, `writable` comes back here.
            if asked.more && slot.unsent.len() == 0 {
                continue;
            }
            return match &mut slot.conn {
                Conn::Streaming(_) if asked.left.is_some() => {
                    if closed {
                        Served::Left
                    } else {
                        Served::Waits
                    }
                }
                // The worker reads on: only our direction ends.
                Conn::Streaming(Streaming { fin_sent: sent @ false, .. }) if closed && slot.unsent.len() == 0 => {
                    *sent = true;
                    self.transport.shutdown(id);
                    Served::Stays
                }
                _ => Served::Stays,
            };
        }
    }

    /// The connection broke under whoever had it.
    pub(super) fn broken(&mut self, id: ConnId, slot: Slot) {
        if matches!(slot.conn, Conn::Handshaking(..) | Conn::HandingOff(_)) || is_early(&slot) {
            self.counters.refuse(Refusal::Reset.class());
        }
        self.close(id, slot, Close::Abort);
    }
}

/// It has a worker already, but not the client's Finished.
const fn is_early(slot: &Slot) -> bool {
    matches!(&slot.conn, Conn::Streaming(Streaming { early: Some(_), .. }))
}

/// What becomes of a connection whose worker was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    Stays,
    Broken,
    /// Its worker has left, and what that wrote last waits for the peer to take what it wrote before.
    Waits,
    /// Its worker has left, and close_notify is written.
    Left,
}

/// Sends what is kept and `out` together.
fn send_all<T: Transport>(
    transport: &mut T,
    out: &mut Vec<u8>,
    id: ConnId,
    slot: &mut Slot,
    push: Push,
) -> std::io::Result<()> {
    if slot.unsent.len() == 0 {
        return advance::send(transport, out, id, slot, push);
    }
    slot.unsent.back().append(out);
    let sent = transport.send(id, &[std::io::IoSlice::new(slot.unsent.front())], push)?;
    slot.sent(sent);
    Ok(())
}

/// What came for a worker, beside plaintext.
struct Heard {
    /// The client's Finished, for which a worker with early data did not wait.
    finished: bool,
    /// Records that carried nothing.
    control_records: u32,
}

/// Gives the worker what `bytes` carry, and word of the end when they have it or `end` says so.
fn decrypt(streaming: &mut Streaming, end: bool, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<Heard, Refusal> {
    let (reader, result) = {
        let mut state = lock(&streaming.shared.state);
        let before = state.inbound.len();
        let result = streaming.session.receive(bytes, state.inbound.back(), out);
        if let (Some(early), Ok(received)) = (&streaming.early, &result) {
            // Before the worker can see what they tell of.
            early.more(received.early_data);
            if !streaming.session.common().is_handshaking() {
                early.confirm();
            }
        }
        (if state.inbound.len() > before { state.reader.take() } else { None }, result)
    };
    reader.into_iter().for_each(Waker::wake);
    let Received { peer_closed, control_records, .. } = result.map_err(Refusal::Tls)?;
    let finished = streaming.early.take_if(|early| !early.is_replayable()).is_some();
    if streaming.early.is_some() && (peer_closed || end) {
        return Err(Refusal::Vanished);
    }
    if peer_closed {
        streaming.shared.end(Ended::Clean);
    } else if end {
        streaming.shared.end(Ended::Truncated);
    }
    Ok(Heard { finished, control_records })
}

/// What a worker asks of the shard.
struct Asked {
    left: Option<Left>,
    /// It has taken what kept the shard from reading.
    resume: bool,
    /// There was no room for all that it has to send.
    more: bool,
    /// It waited for room to write.
    waited: bool,
}

/// Takes what the worker has written, as far as there is room, and its end.
fn encrypt(streaming: &mut Streaming, room: bool, out: &mut Vec<u8>) -> (Asked, Result<(), rustls::Error>) {
    let mut state = lock(&streaming.shared.state);
    state.posted = false;
    let resume = state.paused && !state.is_full();
    state.paused &= !resume;
    let mut result = Ok(());
    if room {
        if state.outbound.len() > 0 {
            result = streaming.session.send(state.outbound.front(), out);
            let n = state.outbound.len();
            state.outbound.consume(n);
        }
        if (state.shut || state.left.is_some()) && !streaming.closed {
            streaming.closed = true;
            result = result.and_then(|()| streaming.session.close(out));
        }
    }
    let writer = if state.room_to_write() > 0 { state.writer.take() } else { None };
    let more = !room && (state.outbound.len() > 0 || state.shut || state.left.is_some());
    let asked = Asked { left: state.left, resume, more, waited: writer.is_some() };
    drop(state);
    writer.into_iter().for_each(Waker::wake);
    (asked, result)
}
