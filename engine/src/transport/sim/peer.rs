//! The far end of a connection, in a test's hand.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::Close;
use super::net::{End, LinkId, Net, Owner, Side};

/// The far end of one connection, driven by hand. Dropping it closes it, as the end of a process does.
#[derive(Debug)]
pub struct SimPeer {
    net: Rc<RefCell<Net>>,
    link: LinkId,
    reading: bool,
}

impl SimPeer {
    pub(super) fn connect(net: &Rc<RefCell<Net>>, from: SocketAddr, to: SocketAddr) -> Self {
        let link = net.borrow_mut().connect(Owner::Peer, from, to);
        Self { net: Rc::clone(net), link, reading: true }
    }

    fn ask<R>(&self, f: impl FnOnce(&End) -> R) -> R {
        let net = self.net.borrow();
        // The net keeps a link for as long as one of its ends is held.
        f(net.end(self.link, Side::Client).expect("a peer's link outlives the peer"))
    }

    /// Sends all of `bytes`; what the window does not allow yet waits here and follows by itself. After
    /// [`shutdown`](Self::shutdown) or a reset it is lost.
    pub fn send(&self, bytes: &[u8]) {
        let mut net = self.net.borrow_mut();
        if let Some(end) = net.end_mut(self.link, Side::Client)
            && !(end.fin_wanted || end.dead || end.error.is_some())
        {
            end.outbox.extend(bytes);
        }
        net.pump(self.link, Side::Client);
    }

    /// Takes all that has arrived; nothing while [reading is stopped](Self::stop_reading).
    #[must_use]
    pub fn recv(&self) -> Vec<u8> {
        let mut net = self.net.borrow_mut();
        let Some(end) = net.end_mut(self.link, Side::Client).filter(|_| self.reading) else { return Vec::new() };
        let bytes = Vec::from(std::mem::take(&mut end.rx));
        if !bytes.is_empty() {
            net.credit(self.link, Side::Client, bytes.len());
        }
        bytes
    }

    /// Whether the other end's FIN has arrived and everything before it was taken.
    #[must_use]
    pub fn is_eof(&self) -> bool {
        self.ask(|end| end.rx_fin && end.rx.is_empty())
    }

    /// Whether the connection was reset or refused: a RST has arrived, or this end has sent one.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.ask(|end| end.error.is_some())
    }

    /// Whether the listener's host has answered.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.ask(|end| end.established)
    }

    /// Bytes that wait here for the window to open.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.ask(|end| end.outbox.len())
    }

    /// Sends FIN after what was sent; reading goes on.
    pub fn shutdown(&self) {
        self.net.borrow_mut().shutdown_end(self.link, Side::Client);
    }

    /// Sends RST; what has not arrived is lost, in both directions.
    pub fn reset(&self) {
        let mut net = self.net.borrow_mut();
        net.reset_from(self.link, Side::Client);
        if let Some(end) = net.end_mut(self.link, Side::Client) {
            end.error.get_or_insert(std::io::ErrorKind::ConnectionReset);
        }
    }

    /// Leaves what arrives where it is, so that the window closes.
    pub fn stop_reading(&mut self) {
        self.reading = false;
    }

    /// Ends [`stop_reading`](Self::stop_reading).
    pub fn resume_reading(&mut self) {
        self.reading = true;
    }

    /// This end's address: what the other end sees as its peer.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.ask(|end| end.addr)
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        // Not while a panic inside the net unwinds.
        if let Ok(mut net) = self.net.try_borrow_mut() {
            net.close_end(self.link, Side::Client, Close::Graceful);
        }
    }
}
