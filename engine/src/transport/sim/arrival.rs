//! What a segment does when it reaches the other end.

use std::io;

use super::Ready;
use super::host::Host;
use super::net::{LinkId, Net, NetEvent, Owner, SPURIOUS_MAX, Segment, Side};

impl Net {
    /// A segment reaches the other end, unless a RST has discarded it meanwhile.
    pub(super) fn arrive(&mut self, link: LinkId, from: Side, number: u64) {
        let Some(end) = self.end_mut(link, from) else { return };
        if end.wire.front().is_none_or(|(n, _)| *n != number) {
            return;
        }
        let Some((_, segment)) = end.wire.pop_front() else { return };
        let to = from.other();
        self.trace_arrival(link, from, &segment);
        match segment {
            Segment::Syn => self.syn_arrives(link),
            Segment::SynAck => {
                if let Some(end) = self.end_mut(link, to) {
                    end.established = true;
                }
                self.room_again(link, to);
            }
            Segment::Data(bytes) => self.data_arrives(link, to, &bytes),
            Segment::Fin => {
                if to == Side::Server {
                    self.ready_to_accept(link);
                }
                if let Some(end) = self.end_mut(link, to) {
                    end.rx_fin = true;
                    self.mark(link, to, Ready { readable: true, read_closed: true, ..Ready::default() });
                }
            }
            Segment::Rst(kind) => self.rst_arrives(link, to, kind),
        }
        self.sweep(link);
    }

    fn syn_arrives(&mut self, link: LinkId) {
        let Some(to) = self.end(link, Side::Server).map(|end| end.addr) else { return };
        let listeners: Vec<usize> = (0..self.hosts.len()).filter(|h| self.hosts[*h].listens_on(to)).collect();
        // As with SO_REUSEPORT: any of them, not the least busy one.
        let chosen = match listeners.as_slice() {
            [] => Err(io::ErrorKind::ConnectionRefused),
            hosts => Ok(hosts[self.rng.index(hosts.len())]),
        };
        let backlog = self.options.backlog;
        let full = |host: &Host| host.waiting >= backlog;
        let host =
            match chosen.and_then(|h| if full(&self.hosts[h]) { Err(io::ErrorKind::ConnectionReset) } else { Ok(h) }) {
                Ok(host) => host,
                Err(kind) => return self.refuse(link, kind),
            };
        self.hosts[host].waiting += 1;
        if let Some(end) = self.end_mut(link, Side::Server) {
            end.established = true;
            end.owner = Owner::Deferred(host);
        }
        self.transmit(link, Side::Server, Segment::SynAck);
        if !self.options.defer_accept {
            self.ready_to_accept(link);
        }
    }

    fn refuse(&mut self, link: LinkId, kind: io::ErrorKind) {
        self.transmit(link, Side::Server, Segment::Rst(kind));
        if let Some(end) = self.end_mut(link, Side::Server) {
            end.owner = Owner::Gone;
            end.dead = true;
        }
    }

    /// A connection that waits for its first byte goes to the listener's queue.
    fn ready_to_accept(&mut self, link: LinkId) {
        let Some(end) = self.end_mut(link, Side::Server) else { return };
        if let Owner::Deferred(host) = end.owner {
            end.owner = Owner::Backlog(host);
            self.hosts[host].backlog.push_back(link);
            self.others_concerned |= self.polling != Some(host);
        }
    }

    fn data_arrives(&mut self, link: LinkId, to: Side, bytes: &[u8]) {
        let Some(end) = self.end_mut(link, to) else { return };
        if end.owner == Owner::Gone {
            // Nobody will read it: RFC 9293 section 3.10.7.1, and the same discard as an early close.
            self.reset_from(link, to);
            return;
        }
        end.rx.extend(bytes);
        if to == Side::Server {
            self.ready_to_accept(link);
        }
        self.mark(link, to, Ready { readable: true, ..Ready::default() });
        if self.rng.one_in(self.faults.spurious_one_in) {
            let at = self.now + self.rng.up_to(SPURIOUS_MAX);
            self.at(at, NetEvent::Spurious { link, side: to });
        }
    }

    fn rst_arrives(&mut self, link: LinkId, to: Side, kind: io::ErrorKind) {
        let Some(end) = self.end_mut(link, to) else { return };
        end.error = Some(kind);
        end.outbox.clear();
        // Ours may be on its way too, and the other end has a right to it.
        end.wire.retain(|(_, segment)| matches!(segment, Segment::Rst(_)));
        let writable = std::mem::take(&mut end.wants_writable);
        if let Owner::Deferred(host) = end.owner {
            end.owner = Owner::Gone;
            self.hosts[host].waiting -= 1;
        }
        self.mark(link, to, Ready { readable: true, writable, read_closed: true, ..Ready::default() });
    }

    fn trace_arrival(&mut self, link: LinkId, from: Side, segment: &Segment) {
        let (kind, bytes): (u64, &[u8]) = match segment {
            Segment::Syn => (1, &[]),
            Segment::SynAck => (2, &[]),
            Segment::Data(bytes) => (3, bytes),
            Segment::Fin => (4, &[]),
            Segment::Rst(_) => (5, &[]),
        };
        self.trace(&[kind, from.index() as u64, link.slot() as u64]);
        self.trace_bytes(bytes);
    }
}
