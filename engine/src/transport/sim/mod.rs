//! An in-memory network with a virtual clock and faults, in which whole shards run on one thread.
//!
//! It behaves as TCP under edge-triggered epoll does where that is awkward: an edge is told once; data and FIN may
//! share one; a close with unread bytes resets the connection and discards what was sent; a send into a closed
//! peer succeeds and is answered with RST. [`Faults`] adds what networks do on top. Everything follows from one
//! seed: the same seed and the same calls give the same [trace](SimNet::trace_hash).
//!
//! # Time
//! Only [`Transport::poll`] and [`SimNet::advance`] move the clock. A poll moves it to the next thing that happens
//! or to its deadline, whichever is earlier. It also returns, perhaps with nothing, as soon as something arrives
//! for another transport or a [`SimPeer`], so that whoever drives them all can give that one its turn. With no
//! deadline, when nothing can ever happen any more, it returns with nothing instead of waiting for ever.
//!
//! ```
//! use handfast::transport::{Recv, Transport, sim::{Faults, SimNet}};
//!
//! let net = SimNet::new(1, Faults::none());
//! let mut server = net.listen("10.0.0.1:443".parse()?);
//! let client = net.connect("10.0.0.1:443".parse()?);
//! client.send(b"hello");
//! net.advance(std::time::Duration::from_millis(1));
//! let mut events = Vec::new();
//! server.poll(None, &mut events)?;
//! assert!(events[0].ready.accepted);
//! let got = server.recv(events[0].conn, 1024, |bytes| bytes.to_vec())?;
//! assert!(matches!(got, Recv::Data(bytes, _) if bytes == b"hello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrival;
mod faults;
mod host;
mod net;
mod peer;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use faults::{Faults, SplitMix64};
pub use peer::SimPeer;

use super::{
    Close, ConnId, Event, More, PeerAddr, Push, Ready, Recv, Slab, Socket, Transport, TransportCounters, Wake,
};
use crate::limits::Limits;
use crate::proxy::ProxyProtocol;
use crate::time::Instant64;
use host::Host;
use net::Net;

/// How the network is when nothing goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// From one end to the other.
    pub latency: Duration,
    /// Bytes that one direction holds between a sender and a reader. Met: sends are short.
    pub window: usize,
    /// Connections that wait to be accepted, for each listener. Met: reset.
    pub backlog: usize,
    /// Connections that one poll accepts, until a transport is given other limits. Met: the rest wait for the next.
    pub accepts_per_turn: usize,
    /// Connections that one transport holds, likewise. Met: the rest wait until one has closed.
    pub connections_max: usize,
    /// A connection is accepted only once its first byte or its FIN is there.
    pub defer_accept: bool,
    /// Connections may leave a transport for another one of the same network, as the kernel's sockets may; otherwise
    /// they stay, as those of a userspace TCP do.
    pub sockets_leave: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(50),
            window: 64 * 1024,
            backlog: 4096,
            accepts_per_turn: 256,
            connections_max: usize::MAX,
            defer_accept: false,
            sockets_leave: false,
        }
    }
}

/// The network: what a test holds to make transports and peers. A clone is the same network.
#[derive(Clone, Debug)]
pub struct SimNet(Rc<RefCell<Net>>);

impl SimNet {
    /// A network with the default [`Options`].
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::with_options(seed, faults, Options::default())
    }

    /// A network with other options.
    #[must_use]
    pub fn with_options(seed: u64, faults: Faults, options: Options) -> Self {
        Self(Rc::new(RefCell::new(Net::new(seed, faults, options))))
    }

    /// A transport that listens on `addr`. Several may share an address; each connection goes to any of them.
    #[must_use]
    pub fn listen(&self, addr: SocketAddr) -> SimTransport {
        self.host(addr, true)
    }

    /// A transport without a listener, for a shard of clients.
    #[must_use]
    pub fn transport(&self) -> SimTransport {
        let host = u8::try_from(self.0.borrow().hosts.len() % 250).unwrap_or(0);
        self.host(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1 + host)), 0), false)
    }

    fn host(&self, addr: SocketAddr, listening: bool) -> SimTransport {
        let mut net = self.0.borrow_mut();
        let host = Host::new(addr, listening, &net.options);
        net.hosts.push(host);
        SimTransport { net: Rc::clone(&self.0), host: net.hosts.len() - 1, scratch: Vec::new(), proxy_protocol: None }
    }

    /// A connection to `to` whose near end the caller drives by hand; each has an address of its own.
    #[must_use]
    pub fn connect(&self, to: SocketAddr) -> SimPeer {
        let made = {
            let mut net = self.0.borrow_mut();
            net.peers_made += 1;
            net.peers_made
        };
        let [_, high, mid, low] = made.to_be_bytes();
        self.connect_from(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(100, 64 + high % 64, mid, low)), 49_152), to)
    }

    /// As [`connect`](Self::connect), from an address of the caller's choice.
    #[must_use]
    pub fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> SimPeer {
        SimPeer::connect(&self.0, from, to)
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant64 {
        self.0.borrow().now
    }

    /// Lets time pass, with all that happens in it; transports hear of it with their next poll.
    pub fn advance(&self, by: Duration) {
        self.0.borrow_mut().advance(by);
    }

    /// When something happens next by itself; `None`: not until an end does something.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant64> {
        self.0.borrow().next_event()
    }

    /// Ends the faults from now on, so that a test can see whether all comes to rest.
    pub fn heal(&self) {
        self.0.borrow_mut().faults = Faults::none();
    }

    /// Connections that transports hold: accepted or connecting, and not closed or given away.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.0.borrow().hosts.iter().map(|host| host.conns.len()).sum()
    }

    /// Connections that no transport has accepted yet.
    #[must_use]
    pub fn waiting_connections(&self) -> usize {
        self.0.borrow().hosts.iter().map(|host| host.waiting).sum()
    }

    /// Everything that happened so far, and when, in one number.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.0.borrow().trace_hash()
    }
}

/// One transport in a [`SimNet`]. Dropping it closes all that it holds.
#[derive(Debug)]
pub struct SimTransport {
    net: Rc<RefCell<Net>>,
    host: usize,
    /// What `recv` lends; outside the net, so that the borrower may use the net.
    scratch: Vec<u8>,
    proxy_protocol: Option<ProxyProtocol>,
}

impl SimTransport {
    /// The same, with a listener behind proxies.
    #[must_use]
    pub fn with_proxy_protocol(mut self, proxy_protocol: ProxyProtocol) -> Self {
        self.proxy_protocol = Some(proxy_protocol);
        self
    }

    /// The address it was made with.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.net.borrow().hosts[self.host].addr
    }

    /// Connections that it holds.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.net.borrow().hosts[self.host].conns.len()
    }
}

/// Wakes a [`SimTransport`] from any thread: its running or next poll returns at once.
#[derive(Clone, Debug)]
pub struct SimWaker(Arc<AtomicBool>);

impl Wake for SimWaker {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Transport for SimTransport {
    type Waker = SimWaker;

    fn now(&self) -> Instant64 {
        self.net.borrow().now
    }

    fn poll(&mut self, deadline: Option<Instant64>, events: &mut Vec<Event>) -> io::Result<()> {
        self.net.borrow_mut().poll(self.host, deadline, events);
        Ok(())
    }

    fn recv<R>(&mut self, conn: ConnId, max: usize, f: impl FnOnce(&mut [u8]) -> R) -> io::Result<Recv<R>> {
        let found = self.net.borrow_mut().recv(self.host, conn, max, &mut self.scratch)?;
        Ok(match found {
            Recv::Data((), more) => Recv::Data(f(&mut self.scratch), more),
            Recv::Eof => Recv::Eof,
            Recv::WouldBlock => Recv::WouldBlock,
        })
    }

    fn send(&mut self, conn: ConnId, bufs: &[IoSlice<'_>], push: Push) -> io::Result<usize> {
        self.net.borrow_mut().send(self.host, conn, bufs, push)
    }

    fn shutdown(&mut self, conn: ConnId) {
        self.net.borrow_mut().shutdown(self.host, conn);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        self.net.borrow_mut().close(self.host, conn, how);
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_limits(&mut self, limits: &Limits) {
        let host = &mut self.net.borrow_mut().hosts[self.host];
        (host.accepts_per_turn, host.connections_max) = (limits.accepts_per_turn, limits.connections_per_shard);
    }

    fn accepting(&mut self, on: bool) {
        self.net.borrow_mut().hosts[self.host].accepting = on;
    }

    fn stop_listening(&mut self) {
        self.net.borrow_mut().stop_listening(self.host);
    }

    fn connect(&mut self, to: SocketAddr, from: Option<SocketAddr>) -> io::Result<ConnId> {
        Ok(self.net.borrow_mut().connect_from(self.host, to, from))
    }

    /// [`Unsupported`](io::ErrorKind::Unsupported) for a socket that is not of this network.
    fn adopt(&mut self, socket: Socket) -> io::Result<ConnId> {
        self.net.borrow_mut().adopt(self.host, &socket)
    }

    /// `None` unless [`Options::sockets_leave`]. A socket that is dropped closes its connection.
    fn release(&mut self, conn: ConnId) -> Option<Socket> {
        self.net.borrow_mut().release(self.host, conn)
    }

    fn waker(&self) -> SimWaker {
        SimWaker(Arc::clone(&self.net.borrow().hosts[self.host].woken))
    }

    fn peer(&self, conn: ConnId) -> Option<PeerAddr> {
        self.net.borrow().peer_addr(self.host, conn).map(PeerAddr::Ip)
    }

    fn proxy_protocol(&self, _: ConnId) -> Option<&ProxyProtocol> {
        self.proxy_protocol.as_ref()
    }

    fn counters(&self) -> TransportCounters {
        self.net.borrow().hosts[self.host].counters
    }
}

impl Drop for SimTransport {
    fn drop(&mut self) {
        // Not while a panic inside the net unwinds.
        if let Ok(mut net) = self.net.try_borrow_mut() {
            net.drop_host(self.host);
        }
    }
}
