//! The worlds a shard runs in: the kernel's TCP and the simulated network, behind one face, on one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use handfast::ProxyProtocol;
use handfast::metrics::Metrics;
use handfast::shard::{Shard, ShardConfig};
use handfast::transport::sim::{Faults, Options, SimNet, SimPeer, SimTransport};
use handfast::transport::tcp::{Config, Endpoint, ListenOptions, Listener, Tcp};
use handfast::transport::{Transport, Wake};

/// A client's raw end of a connection.
pub trait Peer {
    /// Sends all of it.
    fn send(&mut self, bytes: &[u8]);
    /// Takes what has arrived.
    fn recv(&mut self) -> Vec<u8>;
    /// The other side has ended its direction, and all before it was taken.
    fn is_eof(&mut self) -> bool;
    /// The other side has reset the connection.
    fn is_reset(&mut self) -> bool;
    /// Stops taking bytes off the network, or goes on; over the kernel's TCP not calling `recv` does that.
    fn pause(&mut self, _paused: bool) {}
    /// Ends our direction.
    fn shutdown(&mut self);
    /// Resets the connection.
    fn reset(self);
}

/// A shard and the network around it.
pub trait World {
    /// What its shard runs over.
    type T: Transport<Waker: Wake>;
    /// A client's end.
    type Peer: Peer;

    /// A shard that listens.
    fn new(config: ShardConfig) -> Self;
    /// A shard that listens behind proxies.
    fn behind(proxy: ProxyProtocol, config: ShardConfig) -> Self;
    /// A new connection to it.
    fn connect(&mut self) -> Self::Peer;
    /// A new connection to it from [`source`](Self::source) `n`.
    fn connect_from(&mut self, n: u8) -> Self::Peer;
    /// The address of one of many clients.
    fn source(n: u8) -> IpAddr;
    /// The shard.
    fn shard(&mut self) -> &mut Shard<Self::T>;

    /// One turn, which waits a little at most.
    ///
    /// # Panics
    /// When the transport as a whole fails, which fails the test.
    fn turn(&mut self) {
        let shard = self.shard();
        let until = shard.transport().now() + Duration::from_millis(1);
        shard.turn(Some(until)).expect("a turn");
    }

    /// Lets about this much time pass, with turns in between.
    ///
    /// # Panics
    /// As for [`turn`](Self::turn).
    fn pass(&mut self, time: Duration) {
        let shard = self.shard();
        let end = shard.transport().now() + time;
        while shard.transport().now() < end {
            shard.turn(Some(end)).expect("a turn");
        }
    }

    /// Takes turns until `done`; a bug that keeps it from coming true fails the test.
    ///
    /// # Panics
    /// After a bound that no honest exchange reaches.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool)
    where
        Self: Sized,
    {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("no progress: {what}; {:?}", self.metrics());
    }

    /// What the shard has counted.
    fn metrics(&mut self) -> Metrics {
        self.shard().counters().read()
    }

    /// Takes turns until the shard holds nothing, and checks that its counters agree.
    fn until_empty(&mut self)
    where
        Self: Sized,
    {
        self.until("the last connection ends", |w| w.shard().connections() == 0);
        let m = self.metrics();
        assert_eq!(m.opened, m.closed + m.handed_off, "{m:?}");
    }
}

/// The kernel's TCP on 127.0.0.1.
pub struct TcpWorld {
    shard: Shard<Tcp>,
    addr: SocketAddr,
}

impl TcpWorld {
    fn with_options(options: &ListenOptions, config: ShardConfig) -> Self {
        let any = Endpoint::from(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listeners = Listener::bind(&any, options, 1).expect("a listener");
        let Endpoint::Tcp { addr, .. } = *listeners[0].endpoint() else { unreachable!("asked for TCP") };
        let mut tcp = Config::new(listeners);
        tcp.connections_max = config.limits.connections_per_shard;
        tcp.accepts_per_turn = config.limits.accepts_per_turn;
        let transport = Tcp::new(tcp).expect("a transport");
        Self { shard: Shard::new(transport, config), addr }
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl World for TcpWorld {
    type T = Tcp;
    type Peer = TcpPeer;

    fn new(config: ShardConfig) -> Self {
        Self::with_options(&ListenOptions::default(), config)
    }

    fn behind(proxy: ProxyProtocol, config: ShardConfig) -> Self {
        let mut options = ListenOptions::default();
        options.proxy_protocol = Some(proxy);
        Self::with_options(&options, config)
    }

    fn connect(&mut self) -> TcpPeer {
        TcpPeer::connect(self.addr)
    }

    fn connect_from(&mut self, n: u8) -> TcpPeer {
        TcpPeer::connect_from(Self::source(n), self.addr)
    }

    fn source(n: u8) -> IpAddr {
        [127, 0, 9, n].into()
    }

    fn shard(&mut self) -> &mut Shard<Tcp> {
        &mut self.shard
    }
}

/// A client's socket.
#[derive(Debug)]
pub struct TcpPeer {
    stream: TcpStream,
    eof: bool,
    reset: bool,
    /// Read while looking for the end.
    early: Vec<u8>,
}

impl TcpPeer {
    /// A new connection to `addr`.
    ///
    /// # Panics
    /// When there is none, which fails the test.
    #[must_use]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).expect("a connection"))
    }

    /// A new connection to `addr` from another address of this machine.
    ///
    /// # Panics
    /// As for [`connect`](Self::connect).
    #[must_use]
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&fd, &SocketAddr::new(source, 0)).expect("an address of this machine");
        connect(&fd, &addr).expect("a connection");
        Self::over(fd.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_nonblocking(true).expect("non-blocking");
        Self { stream, eof: false, reset: false, early: Vec::new() }
    }

    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while !self.eof && !self.reset {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.eof = true,
                Ok(n) => self.early.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.reset = true,
            }
        }
    }
}

impl Peer for TcpPeer {
    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    std::thread::yield_now()
                }
                Err(_) => return self.reset = true,
            }
        }
    }

    fn recv(&mut self) -> Vec<u8> {
        self.read();
        std::mem::take(&mut self.early)
    }

    fn is_eof(&mut self) -> bool {
        self.read();
        self.eof && self.early.is_empty()
    }

    fn is_reset(&mut self) -> bool {
        self.read();
        self.reset
    }

    fn shutdown(&mut self) {
        // The other side may have reset it already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn reset(self) {
        handfast::transport::tcp::reset_on_close(&self.stream).expect("linger");
    }
}

/// The simulated network.
pub struct SimWorld {
    net: SimNet,
    shard: Shard<SimTransport>,
    addr: SocketAddr,
}

impl SimWorld {
    /// A world with faults, whose connections come through `proxy` if there is one.
    #[must_use]
    pub fn with_faults(seed: u64, faults: Faults, proxy: Option<ProxyProtocol>, config: ShardConfig) -> Self {
        Self::listening(SimNet::new(seed, faults), proxy, config)
    }

    fn listening(net: SimNet, proxy: Option<ProxyProtocol>, config: ShardConfig) -> Self {
        let addr = SocketAddr::from(([10, 0, 0, 1], 443));
        let mut transport = net.listen(addr);
        if let Some(proxy) = proxy {
            transport = transport.with_proxy_protocol(proxy);
        }
        Self { net, shard: Shard::new(transport, config), addr }
    }

    fn network(config: &ShardConfig) -> SimNet {
        let options = Options {
            accepts_per_turn: config.limits.accepts_per_turn,
            connections_max: config.limits.connections_per_shard,
            sockets_leave: true,
            ..Options::default()
        };
        SimNet::with_options(1, Faults::none(), options)
    }

    /// The network.
    #[must_use]
    pub const fn net(&self) -> &SimNet {
        &self.net
    }
}

impl World for SimWorld {
    type T = SimTransport;
    type Peer = SimPeer;

    fn new(config: ShardConfig) -> Self {
        Self::listening(Self::network(&config), None, config)
    }

    fn behind(proxy: ProxyProtocol, config: ShardConfig) -> Self {
        Self::listening(Self::network(&config), Some(proxy), config)
    }

    fn connect(&mut self) -> SimPeer {
        self.net.connect(self.addr)
    }

    fn connect_from(&mut self, n: u8) -> SimPeer {
        self.net.connect_from(SocketAddr::new(Self::source(n), 49_152), self.addr)
    }

    fn source(n: u8) -> IpAddr {
        [10, 0, 9, n].into()
    }

    fn shard(&mut self) -> &mut Shard<SimTransport> {
        &mut self.shard
    }
}

impl Peer for SimPeer {
    fn send(&mut self, bytes: &[u8]) {
        Self::send(self, bytes);
    }

    fn recv(&mut self) -> Vec<u8> {
        Self::recv(self)
    }

    fn is_eof(&mut self) -> bool {
        Self::is_eof(self)
    }

    fn is_reset(&mut self) -> bool {
        Self::is_reset(self)
    }

    fn pause(&mut self, paused: bool) {
        if paused { self.stop_reading() } else { self.resume_reading() }
    }

    fn shutdown(&mut self) {
        Self::shutdown(self);
    }

    fn reset(self) {
        Self::reset(&self);
    }
}
