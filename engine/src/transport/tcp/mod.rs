//! The kernel's TCP (and Unix-domain sockets) through mio.
//!
//! What it spares, beyond the plain loop: the listener passes `TCP_NODELAY` on; a new connection is read before it
//! is registered, and registered only if it outlives its first turn; closing needs no deregistration.

mod descriptors;
mod fine;
mod listen;
mod sockopt;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny};
use socket2::{Domain, Protocol, Type};

pub use descriptors::raise_descriptor_limit;
pub use listen::{Endpoint, EndpointParseError, ListenError, ListenOptions, Listener};

use super::{
    Close, ConnId, Event, More, PeerAddr, Push, Ready, Recv, Slab, Socket, Transport, TransportCounters, Wake,
};
use crate::limits::Limits;
use crate::proxy::ProxyProtocol;
use crate::time::Instant64;

const WAKE: Token = Token(usize::MAX);
const LISTENER_LAST: usize = usize::MAX - 1;
const LISTENERS_MAX: usize = 1024;
const EVENTS_PER_POLL: usize = 1024;
/// Four full TLS records, and small enough to stay in the cache.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A connection that was accepted is read at once.
const NEW: Ready = Ready { accepted: true, readable: true, writable: false, read_closed: false };
/// How long accepting rests when not even the spare descriptor helped.
const ACCEPT_REST: Duration = Duration::from_millis(20);

/// What a [`Tcp`] is made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where it accepts; empty for a worker or a client.
    pub listeners: Vec<Listener>,
    /// See [`Limits::accepts_per_turn`](crate::Limits::accepts_per_turn).
    pub accepts_per_turn: usize,
    /// See [`Limits::connections_per_shard`](crate::Limits::connections_per_shard).
    pub connections_max: usize,
    /// Whether the ACK of a server's SYN waits for the first data of a connection made here and goes with it (Linux:
    /// `TCP_QUICKACK` off). On by default; right for whoever speaks first.
    pub ack_with_data: bool,
    /// Whether deadlines are kept to less than a millisecond, for a system call more where one is that close.
    pub fine_waits: bool,
}

impl Config {
    /// A transport that accepts on `listeners`, within the default limits.
    #[must_use]
    pub fn new(listeners: Vec<Listener>) -> Self {
        let limits = Limits::default();
        Self {
            listeners,
            accepts_per_turn: limits.accepts_per_turn,
            connections_max: limits.connections_per_shard,
            ack_with_data: true,
            fine_waits: false,
        }
    }
}

/// Wakes a [`Tcp`] from another thread.
#[derive(Clone, Debug)]
pub struct TcpWaker(Arc<mio::Waker>);

impl Wake for TcpWaker {
    fn wake(&self) {
        // It fails only when the poller is gone, and then there is nobody to wake.
        let _ = self.0.wake();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interests {
    /// Not yet known to the poller.
    None,
    Read,
    ReadWrite,
}

/// What the poller said about the end of the received stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Fin,
    /// The next read tells which.
    Error,
    /// The poller would not take it, so nothing would ever be heard of it.
    Unheard,
}

#[derive(Debug)]
struct Conn {
    fd: OwnedFd,
    peer: PeerAddr,
    /// Which of the listeners accepted it.
    listener: Option<u16>,
    interests: Interests,
    /// A send came back short and nobody was told yet that there is room.
    wants_writable: bool,
    end: End,
}

#[derive(Debug)]
struct ListenerState {
    listener: Listener,
    /// It may have connections: it has not yet said "would block" since its last event.
    ready: bool,
}

/// The kernel's TCP, for one shard, worker or client.
#[derive(Debug)]
pub struct Tcp {
    poll: Poll,
    events: mio::Events,
    waker: Arc<mio::Waker>,
    listeners: Vec<ListenerState>,
    /// What each listener says of proxies, also when it is closed.
    proxies: Vec<Option<ProxyProtocol>>,
    /// Accepted as the listeners closed; the next poll reports them.
    last: Vec<ConnId>,
    /// Where accepting begins: behind the listener that used the budget up.
    first_listener: usize,
    conns: Slab<Conn>,
    /// Connections that the poller does not know yet.
    fresh: Vec<ConnId>,
    /// Connections that the poller would not take; the next poll reports them as broken.
    unheard: Vec<ConnId>,
    scratch: Box<[u8]>,
    zero: Instant,
    accepting: bool,
    accepts_per_turn: usize,
    connections_max: usize,
    ack_with_data: bool,
    fine_waits: bool,
    /// Given up for a moment to shed a connection when descriptors run out.
    spare: Option<OwnedFd>,
    accept_rests_until: Option<Instant64>,
    counters: TransportCounters,
}

impl Tcp {
    /// Makes the transport, on the thread that will drive it or before that thread starts.
    ///
    /// # Errors
    /// The system gives no poller, or the listeners cannot be registered with it.
    pub fn new(config: Config) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE)?);
        if config.listeners.len() > LISTENERS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 1024 listeners"));
        }
        for (i, l) in config.listeners.iter().enumerate() {
            let token = Token(LISTENER_LAST - i);
            poll.registry().register(&mut SourceFd(&l.fd().as_raw_fd()), token, Interest::READABLE)?;
        }
        let spare = config.listeners.first().map(|l| l.fd().as_fd().try_clone_to_owned()).transpose()?;
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(EVENTS_PER_POLL),
            waker,
            proxies: config.listeners.iter().map(|l| l.proxy_protocol().cloned()).collect(),
            last: Vec::new(),
            listeners: config.listeners.into_iter().map(|listener| ListenerState { listener, ready: false }).collect(),
            first_listener: 0,
            conns: Slab::default(),
            fresh: Vec::new(),
            unheard: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            zero: Instant::now(),
            accepting: true,
            accepts_per_turn: config.accepts_per_turn,
            connections_max: config.connections_max,
            ack_with_data: config.ack_with_data,
            fine_waits: config.fine_waits,
            spare,
            accept_rests_until: None,
            counters: TransportCounters::default(),
        })
    }

    /// Whether the next poll would find something to accept without waiting.
    fn may_accept(&self) -> bool {
        self.accepting && self.conns.len() < self.connections_max && self.listeners.iter().any(|l| l.ready)
    }

    fn timeout(&self, deadline: Option<Instant64>) -> Option<Duration> {
        let now = self.now();
        let mut until = deadline;
        if self.may_accept() {
            let retry = self.accept_rests_until.unwrap_or(now);
            until = Some(until.map_or(retry, |d| d.min(retry)));
        }
        until.map(|d| d.since(now))
    }

    fn accept_ready(&mut self, events: &mut Vec<Event>) {
        if let Some(rest) = self.accept_rests_until {
            if self.now() < rest {
                return;
            }
            self.accept_rests_until = None;
            // The spare one may have been what was missing.
            self.take_spare();
        }
        if self.listeners.iter().all(|l| !l.ready) {
            return;
        }
        let mut budget = self.accepts_per_turn;
        let (n, first) = (self.listeners.len(), self.first_listener);
        for i in (0..n).map(|i| (first + i) % n) {
            if !self.listeners[i].ready {
                continue;
            }
            if budget == 0 || self.conns.len() >= self.connections_max {
                self.first_listener = i;
                break;
            }
            self.accept_from(i, &mut budget, events);
            if self.listeners[i].ready || self.accept_rests_until.is_some() {
                // It has had its share: the others come before it next time.
                self.first_listener = (i + 1) % n;
                break;
            }
        }
        if self.accept_rests_until.is_some() {
            return;
        }
        let left = self.listeners.iter().any(|l| l.ready);
        self.counters.accept_budget_met += u64::from(left && budget == 0);
        self.counters.connections_full += u64::from(left && self.conns.len() >= self.connections_max);
    }

    /// Accepts until nothing is left, or no budget, no room or no descriptor.
    fn accept_from(&mut self, listener: usize, budget: &mut usize, events: &mut Vec<Event>) {
        while self.listeners[listener].ready
            && *budget > 0
            && self.conns.len() < self.connections_max
            && self.accept_rests_until.is_none()
        {
            *budget -= 1;
            match self.accept_one(listener) {
                Ok(Some(conn)) => events.push(Event { conn, ready: NEW }),
                Ok(None) => self.listeners[listener].ready = false,
                Err(Errno::MFILE | Errno::NFILE) => self.shed(listener),
                // The connection was gone before it was accepted; others may wait behind it.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => self.counters.accepts_failed += 1,
                Err(_) => {
                    self.counters.accepts_failed += 1;
                    self.rest();
                }
            }
        }
    }

    /// Accepts what the kernel would reset with the listeners, as far as there is room.
    fn accept_last(&mut self) {
        // No connection has to be shed any more, and one more can be accepted.
        self.spare = None;
        for listener in 0..self.listeners.len() {
            while self.conns.len() < self.connections_max {
                match self.accept_one(listener) {
                    Ok(Some(conn)) => self.last.push(conn),
                    Ok(None) => break,
                    Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => self.counters.accepts_failed += 1,
                    Err(_) => {
                        self.counters.accepts_failed += 1;
                        break;
                    }
                }
            }
        }
    }

    fn accept_one(&mut self, listener: usize) -> Result<Option<ConnId>, Errno> {
        let l = &self.listeners[listener].listener;
        let (fd, addr) = match accept_nonblocking(l.fd()) {
            Ok(accepted) => accepted,
            Err(Errno::AGAIN) => return Ok(None),
            Err(e) => return Err(e),
        };
        let peer = if l.is_unix() {
            PeerAddr::Unix
        } else {
            match addr.and_then(|a| SocketAddr::try_from(a).ok()) {
                Some(addr) => PeerAddr::Ip(addr),
                None => return Err(Errno::CONNABORTED),
            }
        };
        Ok(Some(self.insert(fd, peer, u16::try_from(listener).ok())))
    }

    /// No descriptor is left: gives the spare one up to take a connection off the backlog and close it, so that
    /// its peer learns at once and the listener does not stay ready for ever.
    fn shed(&mut self, listener: usize) {
        drop(self.spare.take());
        match accept_nonblocking(self.listeners[listener].listener.fd()) {
            Ok(_) => self.counters.accepts_shed_no_descriptor += 1,
            Err(Errno::AGAIN) => self.listeners[listener].ready = false,
            Err(_) => self.rest(),
        }
        self.take_spare();
        if self.spare.is_none() {
            // Another thread took the descriptor meanwhile: wait rather than spin.
            self.rest();
        }
    }

    /// Takes the spare descriptor again, if there is one left and it is gone.
    fn take_spare(&mut self) {
        if let (None, Some(l)) = (&self.spare, self.listeners.first()) {
            self.spare = l.listener.fd().as_fd().try_clone_to_owned().ok();
        }
    }

    fn rest(&mut self) {
        self.accept_rests_until = Some(self.now() + ACCEPT_REST);
    }

    fn insert(&mut self, fd: OwnedFd, peer: PeerAddr, listener: Option<u16>) -> ConnId {
        let conn = Conn { fd, peer, listener, interests: Interests::None, wants_writable: false, end: End::Open };
        let id = self.conns.insert(conn);
        self.fresh.push(id);
        id
    }

    fn take_events(&mut self, out: &mut Vec<Event>) {
        for event in &self.events {
            let token = event.token();
            if token == WAKE {
                continue;
            }
            if token.0 > LISTENER_LAST - LISTENERS_MAX {
                if let Some(l) = self.listeners.get_mut(LISTENER_LAST - token.0) {
                    l.ready = true;
                    self.counters.connections_full += u64::from(self.conns.len() >= self.connections_max);
                }
                continue;
            }
            let id = conn_of(token);
            let Some(conn) = self.conns.get_mut(id) else { continue };
            let read_closed = event.is_read_closed() || event.is_error();
            if event.is_error() {
                conn.end = End::Error;
            } else if read_closed && conn.end == End::Open {
                conn.end = End::Fin;
            }
            let ready = Ready {
                accepted: false,
                readable: event.is_readable() || read_closed,
                writable: event.is_writable() && conn.wants_writable,
                read_closed,
            };
            conn.wants_writable &= !ready.writable;
            if ready != Ready::default() {
                out.push(Event { conn: id, ready });
            }
        }
    }
}

impl Transport for Tcp {
    type Waker = TcpWaker;

    fn now(&self) -> Instant64 {
        Instant64::from_nanos(u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn poll(&mut self, deadline: Option<Instant64>, events: &mut Vec<Event>) -> io::Result<()> {
        let at_once = !self.unheard.is_empty() || !self.last.is_empty();
        let timeout = if at_once { Some(Duration::ZERO) } else { self.timeout(deadline) };
        let timeout = if self.fine_waits { fine::wait(self.poll.registry(), timeout) } else { timeout };
        if let Err(e) = self.poll.poll(&mut self.events, timeout) {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
            self.events.clear();
        }
        events.extend(self.last.drain(..).map(|conn| Event { conn, ready: NEW }));
        self.take_events(events);
        let broken = Ready { readable: true, read_closed: true, ..Ready::default() };
        events.extend(self.unheard.drain(..).map(|conn| Event { conn, ready: broken }));
        if self.may_accept() {
            self.accept_ready(events);
        }
        Ok(())
    }

    fn recv<R>(&mut self, id: ConnId, max: usize, f: impl FnOnce(&mut [u8]) -> R) -> io::Result<Recv<R>> {
        let conn = self.conns.get(id).ok_or(io::ErrorKind::NotConnected)?;
        if conn.end == End::Unheard {
            return Err(io::ErrorKind::Other.into());
        }
        let max = max.min(self.scratch.len());
        let n = loop {
            // Not `read`, whose way to the socket is longer.
            match rustix::net::recv(&conn.fd, &mut self.scratch[..max], RecvFlags::empty()) {
                Ok((n, _)) => break n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Recv::WouldBlock),
                Err(e) => return Err(e.into()),
            }
        };
        if n == 0 {
            return Ok(Recv::Eof);
        }
        // A short read has drained the socket; a FIN that is known to be behind it gives no further event.
        let more = match (n < max, conn.end) {
            (true, End::Open) => More::No,
            (true, End::Fin) => More::End,
            (false, _) | (true, End::Error | End::Unheard) => More::Maybe,
        };
        Ok(Recv::Data(f(&mut self.scratch[..n]), more))
    }

    fn send(&mut self, id: ConnId, bufs: &[IoSlice<'_>], push: Push) -> io::Result<usize> {
        let conn = self.conns.get_mut(id).ok_or(io::ErrorKind::NotConnected)?;
        let flags = send_flags(push);
        let wanted: usize = bufs.iter().map(|b| b.len()).sum();
        let sent = loop {
            let result = match bufs {
                [one] => rustix::net::send(&conn.fd, one, flags),
                many => rustix::net::sendmsg(&conn.fd, many, &mut SendAncillaryBuffer::default(), flags),
            };
            match result {
                Ok(n) => break n,
                Err(Errno::INTR) => {}
                // A connect that has not ended yet answers either, by platform.
                Err(Errno::AGAIN | Errno::NOTCONN) => break 0,
                Err(e) => return Err(e.into()),
            }
        };
        // A connect that was to be waited for has ended when everything went out at once.
        conn.wants_writable = sent < wanted;
        if conn.wants_writable && conn.interests == Interests::Read {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().reregister(&mut SourceFd(&conn.fd.as_raw_fd()), token_of(id), both)?;
            conn.interests = Interests::ReadWrite;
        }
        Ok(sent)
    }

    fn shutdown(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id) {
            // It fails only on a connection that is broken already, which the next read will say.
            let _ = rustix::net::shutdown(&conn.fd, Shutdown::Write);
        }
    }

    fn close(&mut self, id: ConnId, how: Close) {
        let Some(conn) = self.conns.remove(id) else { return };
        if how == Close::Abort {
            // On failure the close below is merely more polite than asked.
            let _ = reset_on_close(&conn.fd);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        for id in self.fresh.drain(..) {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            let (interest, interests) = if conn.wants_writable {
                (Interest::READABLE | Interest::WRITABLE, Interests::ReadWrite)
            } else {
                (Interest::READABLE, Interests::Read)
            };
            // It may fail for want of kernel memory or of watches: that is this connection's end, not the shard's.
            match self.poll.registry().register(&mut SourceFd(&conn.fd.as_raw_fd()), token_of(id), interest) {
                Ok(()) => conn.interests = interests,
                Err(_) => {
                    conn.end = End::Unheard;
                    self.unheard.push(id);
                }
            }
        }
        Ok(())
    }

    fn set_limits(&mut self, limits: &Limits) {
        self.accepts_per_turn = limits.accepts_per_turn;
        self.connections_max = limits.connections_per_shard;
    }

    fn accepting(&mut self, on: bool) {
        self.accepting = on;
    }

    fn stop_listening(&mut self) {
        self.accept_last();
        self.listeners.clear();
        self.spare = None;
    }

    fn connect(&mut self, to: SocketAddr, from: Option<SocketAddr>) -> io::Result<ConnId> {
        #[cfg(target_os = "linux")]
        let kind = Type::STREAM.nonblocking();
        #[cfg(not(target_os = "linux"))]
        let kind = Type::STREAM;
        let socket = socket2::Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
        #[cfg(not(target_os = "linux"))]
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        #[cfg(target_os = "linux")]
        {
            if self.ack_with_data {
                rustix::net::sockopt::set_tcp_quickack(&socket, false)?;
            }
            if from.is_some() {
                sockopt::set_bind_address_no_port(&socket)?;
            }
        }
        if let Some(from) = from {
            socket.bind(&from.into())?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
        let id = self.insert(socket.into(), PeerAddr::Ip(to), None);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.wants_writable = true;
        }
        Ok(id)
    }

    fn adopt(&mut self, socket: Socket) -> io::Result<ConnId> {
        let (fd, peer) = socket.into_fd().ok_or(io::ErrorKind::Unsupported)?;
        Ok(self.insert(fd, peer, None))
    }

    fn release(&mut self, id: ConnId) -> Option<Socket> {
        let conn = self.conns.remove(id)?;
        if conn.interests != Interests::None {
            // Another poller takes it over; ours would go on reporting it.
            let _ = self.poll.registry().deregister(&mut SourceFd(&conn.fd.as_raw_fd()));
        }
        Some(Socket::new(conn.fd, conn.peer))
    }

    fn waker(&self) -> TcpWaker {
        TcpWaker(Arc::clone(&self.waker))
    }

    fn peer(&self, id: ConnId) -> Option<PeerAddr> {
        self.conns.get(id).map(|c| c.peer)
    }

    fn proxy_protocol(&self, id: ConnId) -> Option<&ProxyProtocol> {
        let listener = self.conns.get(id)?.listener?;
        self.proxies.get(usize::from(listener))?.as_ref()
    }

    fn counters(&self) -> TransportCounters {
        self.counters
    }
}

#[cfg(target_os = "linux")]
fn send_flags(push: Push) -> SendFlags {
    match push {
        Push::Now => SendFlags::NOSIGNAL,
        Push::BeforeClose => SendFlags::NOSIGNAL | SendFlags::MORE,
    }
}

/// Not every system has the flags; Rust programs ignore SIGPIPE in any case.
#[cfg(not(target_os = "linux"))]
fn send_flags(_: Push) -> SendFlags {
    SendFlags::empty()
}

#[cfg(target_os = "linux")]
fn accept_nonblocking(fd: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    use rustix::net::SocketFlags;
    rustix::net::acceptfrom_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

#[cfg(not(target_os = "linux"))]
fn accept_nonblocking(fd: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    let (fd, addr) = rustix::net::acceptfrom(fd)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok((fd, addr))
}

/// Makes closing `stream` reset its connection instead of ending it.
///
/// # Errors
/// It is no socket that can linger.
pub fn reset_on_close(stream: &impl AsFd) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Slot and generation in one word: every platform that we build for has 64 bits.
const fn token_of(id: ConnId) -> Token {
    Token(id.slot() | (id.generation() as usize) << 32)
}

#[allow(clippy::cast_possible_truncation, reason = "takes apart what token_of put together")]
const fn conn_of(token: Token) -> ConnId {
    ConnId::new(token.0 as u32, (token.0 >> 32) as u32)
}

#[cfg(test)]
mod tests;
