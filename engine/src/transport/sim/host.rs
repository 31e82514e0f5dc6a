//! A transport's side of the network: its listener, its connections, and what it is told.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::net::{End, LinkId, Net, Owner, Side};
use super::{Close, ConnId, Event, More, Options, PeerAddr, Push, Ready, Recv, Slab, Socket, TransportCounters};
use crate::time::Instant64;

/// What one transport holds.
#[derive(Debug)]
pub(super) struct Host {
    /// The address it was made with: what it listens on, and the source of its connects.
    pub(super) addr: SocketAddr,
    pub(super) listening: bool,
    pub(super) accepting: bool,
    pub(super) accepts_per_turn: usize,
    pub(super) connections_max: usize,
    pub(super) conns: Slab<(LinkId, Side)>,
    /// Connections with readiness that was not reported yet; the earliest first.
    pub(super) ready: VecDeque<ConnId>,
    /// Connections that may be accepted.
    pub(super) backlog: VecDeque<LinkId>,
    /// Connections that were not accepted: the backlog, and those without a first byte.
    pub(super) waiting: usize,
    pub(super) counters: TransportCounters,
    pub(super) woken: Arc<AtomicBool>,
    ports_used: u16,
}

impl Host {
    pub(super) fn new(addr: SocketAddr, listening: bool, options: &Options) -> Self {
        Self {
            addr,
            listening,
            accepting: true,
            accepts_per_turn: options.accepts_per_turn,
            connections_max: options.connections_max,
            conns: Slab::default(),
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            waiting: 0,
            counters: TransportCounters::default(),
            woken: Arc::default(),
            ports_used: 0,
        }
    }

    pub(super) fn listens_on(&self, addr: SocketAddr) -> bool {
        self.listening && self.addr == addr
    }

    fn ephemeral_addr(&mut self) -> SocketAddr {
        let port = 32_768 + self.ports_used % 28_232;
        self.ports_used = self.ports_used.wrapping_add(1);
        SocketAddr::new(self.addr.ip(), port)
    }
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Net {
    /// [`Transport::poll`](super::Transport::poll) of one host.
    pub(super) fn poll(&mut self, host: usize, deadline: Option<Instant64>, events: &mut Vec<Event>) {
        self.polling = Some(host);
        self.others_concerned = false;
        loop {
            self.run_due();
            let found = self.collect(host, events);
            let woken = self.hosts[host].woken.swap(false, Ordering::AcqRel);
            if found || woken || self.others_concerned || deadline.is_some_and(|at| at <= self.now) {
                break;
            }
            let next = self.next_event();
            let Some(until) = next.into_iter().chain(deadline).min() else { break };
            self.now = self.now.max(until);
            if self.rng.one_in(self.faults.clock_jumps_one_in) {
                self.now = self.now + self.rng.up_to(self.faults.clock_jump_max);
            }
        }
        self.polling = None;
    }

    /// Lets time pass without a poll.
    pub(super) fn advance(&mut self, by: Duration) {
        self.close_lost();
        let until = self.now + by;
        while let Some(next) = self.next_event().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.run_due();
        }
        self.now = until;
    }

    /// Appends what is ready at `host`; whether there was anything.
    fn collect(&mut self, host: usize, events: &mut Vec<Event>) -> bool {
        let first = events.len();
        let window = self.options.window;
        while let Some(conn) = self.hosts[host].ready.pop_front() {
            let Some((link, side)) = self.hosts[host].conns.get(conn).copied() else { continue };
            let ready = self.end_mut(link, side).map(|end| take_pending(end, window)).unwrap_or_default();
            if ready != Ready::default() {
                events.push(Event { conn, ready });
            }
        }
        self.accept(host, events);
        let fresh = &mut events[first..];
        if !self.faults.delay_max.is_zero() {
            for i in (1..fresh.len()).rev() {
                fresh.swap(i, self.rng.index(i + 1));
            }
        }
        for Event { conn, ready } in fresh.iter() {
            let flags = [ready.accepted, ready.readable, ready.writable, ready.read_closed];
            let flags = flags.iter().fold(0, |bits, flag| bits << 1 | u64::from(*flag));
            self.trace(&[6, host as u64, conn.slot() as u64, u64::from(conn.generation()), flags]);
        }
        !fresh.is_empty()
    }

    fn accept(&mut self, host: usize, events: &mut Vec<Event>) {
        for _ in 0..self.hosts[host].accepts_per_turn {
            if !self.hosts[host].accepting {
                return;
            }
            if self.hosts[host].conns.len() >= self.hosts[host].connections_max {
                let waiting = !self.hosts[host].backlog.is_empty();
                self.hosts[host].counters.connections_full += u64::from(waiting);
                return;
            }
            let Some(link) = self.hosts[host].backlog.pop_front() else { return };
            self.hosts[host].waiting -= 1;
            if self.rng.one_in(self.faults.accept_errors_one_in) {
                let counters = &mut self.hosts[host].counters;
                if self.rng.one_in(2) {
                    counters.accepts_shed_no_descriptor += 1;
                } else {
                    counters.accepts_failed += 1;
                }
                self.close_end(link, Side::Server, Close::Abort);
                continue;
            }
            let conn = self.hosts[host].conns.insert((link, Side::Server));
            let Some(end) = self.end_mut(link, Side::Server) else { continue };
            end.owner = Owner::Host { host, conn };
            let read_closed = end.rx_fin || end.error.is_some();
            let ready = Ready { accepted: true, readable: end.has_news(), writable: false, read_closed };
            events.push(Event { conn, ready });
        }
        let waiting = !self.hosts[host].backlog.is_empty();
        self.hosts[host].counters.accept_budget_met += u64::from(waiting);
    }

    fn link_of(&self, host: usize, conn: ConnId) -> io::Result<(LinkId, Side)> {
        self.hosts[host].conns.get(conn).copied().ok_or_else(closed)
    }

    /// Moves up to `max` received bytes to `into`.
    pub(super) fn recv(&mut self, host: usize, conn: ConnId, max: usize, into: &mut Vec<u8>) -> io::Result<Recv<()>> {
        let (link, side) = self.link_of(host, conn)?;
        let there = self.end(link, side).ok_or_else(closed)?.rx.len();
        let mut len = there.min(max);
        if len > 1 && self.rng.one_in(self.faults.short_reads_one_in) {
            len = 1 + self.rng.index(len);
        }
        let end = self.end_mut(link, side).ok_or_else(closed)?;
        if there == 0 {
            return match end.error {
                Some(kind) => Err(kind.into()),
                None if end.rx_fin => Ok(Recv::Eof),
                None => Ok(Recv::WouldBlock),
            };
        }
        into.clear();
        into.extend(end.rx.drain(..len));
        // A full buffer does not know whether it was the last one.
        let more = if len == max || end.has_news() { More::Maybe } else { More::No };
        self.credit(link, side, len);
        Ok(Recv::Data((), more))
    }

    /// Takes what fits into the window.
    pub(super) fn send(&mut self, host: usize, conn: ConnId, bufs: &[IoSlice<'_>], push: Push) -> io::Result<usize> {
        let (link, side) = self.link_of(host, conn)?;
        let window = self.options.window;
        let end = self.end(link, side).ok_or_else(closed)?;
        if let Some(kind) = end.error {
            return Err(kind.into());
        }
        if end.fin_wanted {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let wanted: usize = bufs.iter().map(|b| b.len()).sum();
        let fits = wanted.min(end.room(window));
        let mut taken = fits;
        if fits > 0 && self.rng.one_in(self.faults.short_writes_one_in) {
            taken = self.rng.index(fits + 1);
        }
        let end = self.end_mut(link, side).ok_or_else(closed)?;
        if !end.dead {
            end.outbox.extend(bufs.iter().flat_map(|b| b.iter()).take(taken));
        }
        end.wants_writable |= taken < wanted;
        end.corked = false;
        if taken < fits {
            self.retry_soon(link, side);
        }
        match push {
            Push::Now => self.pump(link, side),
            Push::BeforeClose => self.cork(link, side),
        }
        Ok(taken)
    }

    pub(super) fn shutdown(&mut self, host: usize, conn: ConnId) {
        if let Ok((link, side)) = self.link_of(host, conn) {
            self.shutdown_end(link, side);
        }
    }

    pub(super) fn close(&mut self, host: usize, conn: ConnId, how: Close) {
        if let Some((link, side)) = self.hosts[host].conns.remove(conn) {
            self.close_end(link, side, how);
        }
    }

    /// A connection leaves, if connections may.
    pub(super) fn release(&mut self, host: usize, conn: ConnId) -> Option<Socket> {
        let peer = self.peer_addr(host, conn).filter(|_| self.options.sockets_leave)?;
        let (socket, mark) = Socket::simulated(PeerAddr::Ip(peer)).ok()?;
        let (link, side) = self.hosts[host].conns.remove(conn)?;
        let end = self.end_mut(link, side)?;
        end.owner = Owner::Away;
        end.queued = false;
        end.pending = Ready::default();
        self.away.push((mark, link, side));
        Some(socket)
    }

    /// A connection that has left another transport comes to this one, which is told what is ready as epoll would.
    pub(super) fn adopt(&mut self, host: usize, socket: &Socket) -> io::Result<ConnId> {
        let known = self.away.iter().position(|(mark, ..)| socket.is(mark)).ok_or(io::ErrorKind::Unsupported)?;
        let (_, link, side) = self.away.remove(known);
        let conn = self.hosts[host].conns.insert((link, side));
        let end = self.end_mut(link, side).ok_or_else(closed)?;
        end.owner = Owner::Host { host, conn };
        let read_closed = end.rx_fin || end.error.is_some();
        let ready = Ready { accepted: false, readable: end.has_news(), writable: end.wants_writable, read_closed };
        self.mark(link, side, ready);
        Ok(conn)
    }

    /// Closes the connections whose sockets were dropped on their way.
    pub(super) fn close_lost(&mut self) {
        while let Some(lost) = self.away.iter().position(|(mark, ..)| mark.strong_count() == 0) {
            let (_, link, side) = self.away.remove(lost);
            self.close_end(link, side, Close::Graceful);
        }
    }

    pub(super) fn connect_from(&mut self, host: usize, to: SocketAddr, from: Option<SocketAddr>) -> ConnId {
        let from = from.unwrap_or_else(|| self.hosts[host].ephemeral_addr());
        let link = self.connect(Owner::Unborn, from, to);
        let conn = self.hosts[host].conns.insert((link, Side::Client));
        if let Some(end) = self.end_mut(link, Side::Client) {
            end.owner = Owner::Host { host, conn };
            end.wants_writable = true;
        }
        conn
    }

    pub(super) fn peer_addr(&self, host: usize, conn: ConnId) -> Option<SocketAddr> {
        let (link, side) = self.link_of(host, conn).ok()?;
        self.end(link, side.other()).map(|end| end.addr)
    }

    /// The listener is closed. What could be accepted still is, as far as there is room; all else that waited is reset.
    pub(super) fn stop_listening(&mut self, host: usize) {
        let Host { conns, connections_max, .. } = &self.hosts[host];
        self.close_listener(host, connections_max.saturating_sub(conns.len()));
        self.hosts[host].accepting = true;
    }

    fn close_listener(&mut self, host: usize, room: usize) {
        self.hosts[host].listening = false;
        self.hosts[host].backlog.truncate(room);
        let kept = self.hosts[host].backlog.clone();
        self.hosts[host].waiting = kept.len();
        let waits = |end: &End| end.owner == Owner::Deferred(host) || end.owner == Owner::Backlog(host);
        let waiting = |link: &LinkId| !kept.contains(link) && self.end(*link, Side::Server).is_some_and(waits);
        let links: Vec<_> = self.links().filter(waiting).collect();
        for link in links {
            self.close_end(link, Side::Server, Close::Abort);
        }
    }

    /// The process behind a transport is gone.
    pub(super) fn drop_host(&mut self, host: usize) {
        self.close_listener(host, 0);
        let conns: Vec<_> = self.hosts[host].conns.ids().collect();
        for conn in conns {
            self.close(host, conn, Close::Graceful);
        }
    }
}

/// What is still true of the readiness that was marked, as epoll asks the socket again before it reports.
fn take_pending(end: &mut End, window: usize) -> Ready {
    end.queued = false;
    let spurious = std::mem::take(&mut end.spurious);
    let mut ready = std::mem::take(&mut end.pending);
    ready.readable &= spurious || end.has_news();
    ready.writable &= spurious || end.error.is_some() || end.room(window) > 0;
    ready
}
