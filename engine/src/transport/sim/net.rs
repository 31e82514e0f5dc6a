//! The network itself: links between ends, segments on their way, and the virtual clock.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use super::faults::{Faults, SplitMix64};
use super::host::Host;
use super::{Close, ConnId, Options, Ready, Slab};
use crate::time::Instant64;

/// Names a link; the same slots with generations that transports use for their connections.
pub(super) type LinkId = ConnId;

/// How long corked bytes wait for a FIN or more bytes, as Linux does with `MSG_MORE`.
const CORK_MAX: Duration = Duration::from_millis(200);
/// How long after an arrival a spurious readiness may follow.
pub(super) const SPURIOUS_MAX: Duration = Duration::from_millis(1);

/// Which end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that connected.
    Client,
    /// The one that listened.
    Server,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A transport.
    Host { host: usize, conn: ConnId },
    /// A test's hand.
    Peer,
    /// Nobody yet: SYN is on its way.
    Unborn,
    /// The listener of a host, until the first byte arrives.
    Deferred(usize),
    /// The listener of a host, until it accepts.
    Backlog(usize),
    /// A [`Socket`](super::Socket) on its way between transports.
    Away,
    /// Nobody any more.
    Gone,
}

#[derive(Debug)]
pub(super) enum Segment {
    Syn,
    SynAck,
    Data(Vec<u8>),
    Fin,
    Rst(io::ErrorKind),
}

/// One end of a link: what arrived there, and what it sends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) addr: SocketAddr,
    pub(super) owner: Owner,
    pub(super) established: bool,
    /// Arrived and not yet read.
    pub(super) rx: VecDeque<u8>,
    pub(super) rx_fin: bool,
    /// Why the connection broke, once that has arrived here.
    pub(super) error: Option<io::ErrorKind>,
    /// What this end sends from now on is lost: a RST is on its way.
    pub(super) dead: bool,
    /// Sent by the owner, not yet on the wire.
    pub(super) outbox: VecDeque<u8>,
    pub(super) corked: bool,
    pub(super) fin_wanted: bool,
    fin_sent: bool,
    /// Put on the wire and not yet read by the other end.
    unacked: usize,
    /// The window is closed by a fault.
    stalled: bool,
    pub(super) wants_writable: bool,
    /// Segments from here to the other end, each with the number of its arrival event.
    pub(super) wire: VecDeque<(u64, Segment)>,
    last_due: Instant64,
    /// Readiness that its host has not been told of.
    pub(super) pending: Ready,
    pub(super) queued: bool,
    /// The pending readiness is reported even if there is nothing behind it.
    pub(super) spurious: bool,
}

impl End {
    const fn new(addr: SocketAddr, owner: Owner) -> Self {
        Self {
            addr,
            owner,
            established: false,
            rx: VecDeque::new(),
            rx_fin: false,
            error: None,
            dead: false,
            outbox: VecDeque::new(),
            corked: false,
            fin_wanted: false,
            fin_sent: false,
            unacked: 0,
            stalled: false,
            wants_writable: false,
            wire: VecDeque::new(),
            last_due: Instant64::ZERO,
            pending: Ready { accepted: false, readable: false, writable: false, read_closed: false },
            queued: false,
            spurious: false,
        }
    }

    /// Whether a read would tell something.
    pub(super) fn has_news(&self) -> bool {
        !self.rx.is_empty() || self.rx_fin || self.error.is_some()
    }

    /// How many bytes a send may add.
    pub(super) fn room(&self, window: usize) -> usize {
        if self.stalled || !self.established {
            return 0;
        }
        window.saturating_sub(self.unacked + self.outbox.len())
    }

    /// Whether nothing of this end is needed any longer.
    fn is_over(&self) -> bool {
        self.owner == Owner::Gone && self.wire.is_empty() && self.outbox.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Link {
    ends: [End; 2],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum NetEvent {
    /// The segment with the event's number reaches the end opposite to `from`.
    Arrive {
        link: LinkId,
        from: Side,
    },
    /// The end opposite to `to` has read `bytes`.
    Ack {
        link: LinkId,
        to: Side,
        bytes: usize,
    },
    Unstall {
        link: LinkId,
        side: Side,
    },
    Uncork {
        link: LinkId,
        side: Side,
    },
    Spurious {
        link: LinkId,
        side: Side,
    },
}

/// All there is: shared by transports, peers and the test.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Instant64,
    pub(super) rng: SplitMix64,
    pub(super) faults: Faults,
    pub(super) options: Options,
    pub(super) hosts: Vec<Host>,
    links: Slab<Link>,
    /// What sockets that have left their transports stand for.
    pub(super) away: Vec<(Weak<()>, LinkId, Side)>,
    /// By time, then in the order in which they were caused.
    queue: BTreeMap<(Instant64, u64), NetEvent>,
    event_number: u64,
    pub(super) peers_made: u32,
    /// The host whose poll is running.
    pub(super) polling: Option<usize>,
    /// Something arrived for another end than the polling host's.
    pub(super) others_concerned: bool,
    trace: u64,
}

impl Net {
    pub(super) fn new(seed: u64, faults: Faults, options: Options) -> Self {
        Self {
            now: Instant64::ZERO,
            rng: SplitMix64::new(seed),
            faults,
            options,
            hosts: Vec::new(),
            links: Slab::default(),
            away: Vec::new(),
            queue: BTreeMap::new(),
            event_number: 0,
            peers_made: 0,
            polling: None,
            others_concerned: false,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    pub(super) fn end(&self, link: LinkId, side: Side) -> Option<&End> {
        self.links.get(link).map(|l| &l.ends[side.index()])
    }

    pub(super) fn end_mut(&mut self, link: LinkId, side: Side) -> Option<&mut End> {
        self.links.get_mut(link).map(|l| &mut l.ends[side.index()])
    }

    /// Sends SYN.
    pub(super) fn connect(&mut self, owner: Owner, from: SocketAddr, to: SocketAddr) -> LinkId {
        let link = self.links.insert(Link { ends: [End::new(from, owner), End::new(to, Owner::Unborn)] });
        self.transmit(link, Side::Client, Segment::Syn);
        link
    }

    /// Ends the owner's hold on an end.
    pub(super) fn close_end(&mut self, link: LinkId, side: Side, how: Close) {
        let Some(end) = self.end_mut(link, side) else { return };
        // What is unread can never be read now, so the stream is broken and TCP says so (RFC 1122 section
        // 4.2.2.13): RST overtakes and discards what was sent before.
        if how == Close::Abort || !end.rx.is_empty() {
            self.reset_from(link, side);
        } else {
            self.shutdown_end(link, side);
        }
        if let Some(end) = self.end_mut(link, side) {
            end.owner = Owner::Gone;
            end.rx.clear();
        }
        self.sweep(link);
    }

    /// Sends FIN after what was sent before.
    pub(super) fn shutdown_end(&mut self, link: LinkId, side: Side) {
        if let Some(end) = self.end_mut(link, side) {
            end.fin_wanted = true;
            end.corked = false;
            self.pump(link, side);
        }
    }

    /// Sends RST and discards what has not arrived.
    pub(super) fn reset_from(&mut self, link: LinkId, side: Side) {
        let Some(end) = self.end_mut(link, side) else { return };
        end.outbox.clear();
        end.rx.clear();
        if end.dead || end.error.is_some() {
            return;
        }
        end.dead = true;
        end.wire.retain(|(_, segment)| matches!(segment, Segment::Syn | Segment::SynAck));
        self.transmit(link, side, Segment::Rst(io::ErrorKind::ConnectionReset));
    }

    /// Tells the sender opposite to `reader` that `bytes` were read.
    pub(super) fn credit(&mut self, link: LinkId, reader: Side, bytes: usize) {
        let at = self.now + self.options.latency + self.rng.up_to(self.faults.delay_max);
        self.at(at, NetEvent::Ack { link, to: reader.other(), bytes });
    }

    /// A send that came back short through a fault may be tried again soon.
    pub(super) fn retry_soon(&mut self, link: LinkId, side: Side) {
        self.at(self.now + self.options.latency, NetEvent::Ack { link, to: side, bytes: 0 });
    }

    /// Holds back what is in the outbox until FIN, more bytes, or a limit of time.
    pub(super) fn cork(&mut self, link: LinkId, side: Side) {
        if let Some(end) = self.end_mut(link, side) {
            end.corked = true;
            self.at(self.now + CORK_MAX, NetEvent::Uncork { link, side });
        }
    }

    /// Puts on the wire what the window allows, then FIN if it is due.
    pub(super) fn pump(&mut self, link: LinkId, side: Side) {
        while let Some(bytes) = self.next_segment(link, side) {
            self.transmit(link, side, Segment::Data(bytes));
            self.disturb(link, side);
        }
        let Some(end) = self.end_mut(link, side) else { return };
        let may_send = end.established && !end.dead && end.error.is_none();
        if may_send && end.fin_wanted && !end.fin_sent && end.outbox.is_empty() {
            end.fin_sent = true;
            self.transmit(link, side, Segment::Fin);
        }
    }

    /// Cuts a segment off the outbox.
    fn next_segment(&mut self, link: LinkId, side: Side) -> Option<Vec<u8>> {
        let window = self.options.window;
        let end = &mut self.links.get_mut(link)?.ends[side.index()];
        if !end.established || end.dead || end.error.is_some() || end.stalled || end.corked {
            return None;
        }
        let mut len = end.outbox.len().min(window.saturating_sub(end.unacked));
        if len == 0 {
            return None;
        }
        if self.faults.segment_bytes_max != 0 {
            len = len.min(1 + self.rng.index(self.faults.segment_bytes_max));
        }
        end.unacked += len;
        let mut bytes: Vec<u8> = end.outbox.drain(..len).collect();
        if self.rng.one_in(self.faults.bit_flips_one_in) {
            bytes[self.rng.index(len)] ^= 1 << self.rng.below(8);
        }
        Some(bytes)
    }

    /// The faults that follow a segment from `side`.
    fn disturb(&mut self, link: LinkId, side: Side) {
        if self.rng.one_in(self.faults.resets_one_in) {
            for side in [Side::Client, Side::Server] {
                self.transmit(link, side, Segment::Rst(io::ErrorKind::ConnectionReset));
                if let Some(end) = self.end_mut(link, side) {
                    end.dead = true;
                    end.outbox.clear();
                }
            }
        }
        if self.rng.one_in(self.faults.half_closes_one_in)
            && let Some(end) = self.end_mut(link, side).filter(|end| end.owner == Owner::Peer)
        {
            end.outbox.clear();
            end.fin_wanted = true;
        }
        if self.rng.one_in(self.faults.stalls_one_in) {
            let at = self.now + Duration::from_nanos(1) + self.rng.up_to(self.faults.stall_max);
            if let Some(end) = self.end_mut(link, side).filter(|end| !end.stalled) {
                end.stalled = true;
                self.at(at, NetEvent::Unstall { link, side });
            }
        }
    }

    pub(super) fn transmit(&mut self, link: LinkId, side: Side, segment: Segment) {
        let due = self.now + self.options.latency + self.rng.up_to(self.faults.delay_max);
        let number = self.event_number;
        let Some(end) = self.end_mut(link, side) else { return };
        let due = due.max(end.last_due);
        end.last_due = due;
        end.wire.push_back((number, segment));
        self.at(due, NetEvent::Arrive { link, from: side });
    }

    pub(super) fn at(&mut self, at: Instant64, event: NetEvent) {
        self.queue.insert((at, self.event_number), event);
        self.event_number += 1;
    }

    /// When something happens next by itself.
    pub(super) fn next_event(&self) -> Option<Instant64> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets everything happen that is due now.
    pub(super) fn run_due(&mut self) {
        self.close_lost();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((_, number), event) = entry.remove_entry();
            match event {
                NetEvent::Arrive { link, from } => self.arrive(link, from, number),
                NetEvent::Ack { link, to, bytes } => {
                    if let Some(end) = self.end_mut(link, to) {
                        end.unacked = end.unacked.saturating_sub(bytes);
                        self.room_again(link, to);
                    }
                }
                NetEvent::Unstall { link, side } => {
                    if let Some(end) = self.end_mut(link, side) {
                        end.stalled = false;
                        self.room_again(link, side);
                    }
                }
                NetEvent::Uncork { link, side } => {
                    if let Some(end) = self.end_mut(link, side) {
                        end.corked = false;
                        self.pump(link, side);
                    }
                }
                NetEvent::Spurious { link, side } => {
                    let ready = Ready { readable: true, writable: self.rng.one_in(2), ..Ready::default() };
                    if let Some(end) = self.end_mut(link, side) {
                        end.spurious = true;
                        self.mark(link, side, ready);
                    }
                }
            }
        }
    }

    pub(super) fn room_again(&mut self, link: LinkId, side: Side) {
        self.pump(link, side);
        let window = self.options.window;
        let Some(end) = self.end_mut(link, side) else { return };
        if end.wants_writable && end.room(window) > 0 {
            end.wants_writable = false;
            self.mark(link, side, Ready { writable: true, ..Ready::default() });
        }
    }

    /// Remembers readiness for the owner of an end.
    pub(super) fn mark(&mut self, link: LinkId, side: Side, ready: Ready) {
        let Some(end) = self.links.get_mut(link).map(|l| &mut l.ends[side.index()]) else { return };
        let concerned = match end.owner {
            Owner::Host { host, conn } => {
                end.pending.readable |= ready.readable;
                end.pending.writable |= ready.writable;
                end.pending.read_closed |= ready.read_closed;
                if !end.queued {
                    end.queued = true;
                    self.hosts[host].ready.push_back(conn);
                }
                Some(host)
            }
            Owner::Peer => None,
            Owner::Deferred(_) | Owner::Backlog(_) | Owner::Away | Owner::Unborn | Owner::Gone => return,
        };
        self.others_concerned |= concerned.is_none() || concerned != self.polling;
    }

    /// Forgets a link that nobody holds and on which nothing moves.
    pub(super) fn sweep(&mut self, link: LinkId) {
        if self.links.get(link).is_some_and(|l| l.ends.iter().all(End::is_over)) {
            self.links.remove(link);
        }
    }

    /// Links of which one end at least is held, or something is on its way.
    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.links.ids()
    }

    /// Adds the time and `numbers` to the trace.
    pub(super) fn trace(&mut self, numbers: &[u64]) {
        self.trace_bytes(&self.now.as_nanos().to_le_bytes());
        for n in numbers {
            self.trace_bytes(&n.to_le_bytes());
        }
    }

    /// FNV-1a: simple, and the same everywhere.
    pub(super) fn trace_bytes(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.trace = (self.trace ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) const fn trace_hash(&self) -> u64 {
        self.trace
    }
}
