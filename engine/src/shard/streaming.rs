//! Connections with a worker on this thread: ciphertext to and from the wire, plaintext to and from the stream.

use std::sync::Arc;
use std::task::Waker;

use super::gather::Item;
use super::services::lock;
use super::slots::{Conn, Slot, Streaming};
use super::stream::{Ended, Left, Shared, Stream};
use super::{Shard, Worker};
use crate::error::Refusal;
use crate::handshake::Finished;
use crate::time::Instant64;
use crate::transport::{Close, ConnId, Push, Transport};

impl<T: Transport> Shard<T> {
    /// Gives a negotiated connection to a worker here. Session tickets in `self.out` leave with its first bytes.
    pub(super) fn start_worker(&mut self, id: ConnId, mut slot: Slot, finished: Finished, worker: &dyn Worker) {
        let Finished { session, facts, received, peer_closed, end } = finished;
        let shared = Shared::new(&self.services, id, received, &self.limits);
        if peer_closed {
            shared.end(Ended::Clean);
        } else if end {
            shared.end(Ended::Truncated);
        }
        slot.unsent.bytes.append(&mut self.out);
        slot.conn = Conn::Streaming(Streaming { session, shared: Arc::clone(&shared), closed: false, fin_sent: false });
        self.slots.put(id, slot);
        let stream = Stream::new(shared, Arc::new(facts));
        let start = std::panic::AssertUnwindSafe(|| worker.start(stream));
        if std::panic::catch_unwind(start).is_err() {
            self.counters.handler_panics.add(1);
        }
        self.services.post(id);
    }

    /// Ciphertext has come for a worker.
    pub(super) fn advance_stream(
        &mut self,
        item: &Item,
        mut slot: Slot,
        mut streaming: Streaming,
        bytes: &mut [u8],
        now: Instant64,
    ) {
        let id = item.conn;
        if item.broken {
            slot.conn = Conn::Streaming(streaming);
            return self.broken(id, slot);
        }
        let (reader, result) = {
            let mut state = lock(&streaming.shared.state);
            let before = state.inbound.len();
            let result = streaming.session.receive(bytes, &mut state.inbound.bytes, &mut self.out);
            (if state.inbound.len() > before { state.reader.take() } else { None }, result)
        };
        reader.into_iter().for_each(Waker::wake);
        match result {
            Ok(r) => {
                if r.peer_closed {
                    streaming.shared.end(Ended::Clean);
                } else if item.end {
                    streaming.shared.end(Ended::Truncated);
                }
                slot.conn = Conn::Streaming(streaming);
                match self.send(id, &mut slot, Push::Now) {
                    Ok(()) => self.slots.put(id, slot),
                    Err(_) => self.broken(id, slot),
                }
            }
            Err(_) => {
                self.counters.faults_after_handshake.add(1);
                self.last_words(id, slot, now);
            }
        }
    }

    /// A worker has read, written, shut down or left: does what follows from it.
    pub(super) fn serve_posted(&mut self, id: ConnId, now: Instant64) {
        let Some(mut slot) = self.slots.take(id) else { return };
        loop {
            let Conn::Streaming(streaming) = &mut slot.conn else { return self.slots.put(id, slot) };
            let room = slot.unsent.len() < self.limits.stream_write_bytes;
            let (asked, result) = encrypt(streaming, room, &mut self.out);
            if asked.resume {
                self.again.push(id);
            }
            if result.is_err() || asked.left == Some(Left::Panicked) {
                self.out.clear();
                return self.broken(id, slot);
            }
            let push = if streaming.closed { Push::BeforeClose } else { Push::Now };
            if self.send_all(id, &mut slot, push).is_err() {
                return self.broken(id, slot);
            }
            // With something unsent, `writable` comes back here.
            if !asked.more || slot.unsent.len() > 0 {
                return self.finish_serving(id, slot, asked.left, now);
            }
        }
    }

    fn finish_serving(&mut self, id: ConnId, mut slot: Slot, left: Option<Left>, now: Instant64) {
        let Conn::Streaming(Streaming { closed, .. }) = &slot.conn else { return self.slots.put(id, slot) };
        let closed = *closed;
        if !closed {
            if left.is_some() {
                // What it wrote last waits for the peer to take what it wrote before.
                self.set_timer(id, &mut slot, now + self.limits.unsent_wait);
            }
            return self.slots.put(id, slot);
        }
        if left.is_some() {
            return self.linger(id, slot, now);
        }
        // The worker reads on: only our direction ends.
        if let Conn::Streaming(Streaming { fin_sent: sent @ false, .. }) = &mut slot.conn
            && slot.unsent.len() == 0
        {
            *sent = true;
            self.transport.shutdown(id);
        }
        self.slots.put(id, slot);
    }

    /// Sends what is kept and `self.out` together.
    fn send_all(&mut self, id: ConnId, slot: &mut Slot, push: Push) -> std::io::Result<()> {
        if slot.unsent.len() == 0 {
            return self.send(id, slot, push);
        }
        slot.unsent.bytes.append(&mut self.out);
        let sent = self.transport.send(id, &[std::io::IoSlice::new(slot.unsent.front())], push)?;
        slot.sent(sent);
        Ok(())
    }

    /// The connection broke under whoever had it.
    pub(super) fn broken(&mut self, id: ConnId, slot: Slot) {
        if matches!(slot.conn, Conn::Handshaking(_) | Conn::HandingOff { .. }) {
            self.counters.refuse(Refusal::Reset.class());
        }
        self.close(id, slot, Close::Abort);
    }
}

/// What a worker asks of the shard.
struct Asked {
    left: Option<Left>,
    /// It has taken what kept the shard from reading.
    resume: bool,
    /// There was no room for all that it has to send.
    more: bool,
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
    let asked = Asked { left: state.left, resume, more };
    drop(state);
    writer.into_iter().for_each(Waker::wake);
    (asked, result)
}
