//! The handshake as a state machine over bytes: `Hello -> Negotiating -> Finished | Refused`, with `Proxy` before
//! `Hello` where a proxy says first who the client is.
//!
//! It knows no socket, no clock and no randomness: time is an argument, and entropy comes from the provider in
//! its [`Live`] configuration.

use rustls::{CertificateError, ProtocolVersion};

use super::facts::{Background, EarlyData, HandshakeFacts, retrying};
use super::foreseen::Foreseen;
use super::hello::{ClientHelloView, Hello, HelloReader};
use super::live::Live;
use super::proxy::ProxyReader;
use super::session::Session;
use crate::error::Refusal;
use crate::identity::has_expired;
use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::selection::Decision;
use crate::time::Instant64;

/// What is told to someone who speaks plain HTTP to a TLS port.
const HTTP_HINT: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    This port speaks HTTPS; the request came over plain HTTP.\n";

/// What every transition may read.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The table and the configurations.
    pub live: &'a Live,
    /// The limits.
    pub limits: &'a Limits,
    /// The other end of the connection: the client, or the proxy that speaks for it.
    pub peer: PeerAddr,
    /// The time now.
    pub now: Instant64,
}

/// What arrived for one connection.
#[derive(Debug)]
pub struct Input<'a> {
    /// Bytes, which may be changed in place.
    pub bytes: &'a mut [u8],
    /// The peer's direction has ended behind them.
    pub end: bool,
}

/// Where bytes stand after [`Handshake::offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The handshake keeps them; [`Handshake::advance`] is given none.
    Kept,
    /// From this one on they stay with the caller, who gives the same bytes to [`Handshake::advance`]. Those before it
    /// were a proxy's.
    InPlace(usize),
}

/// A connection whose handshake is over.
#[derive(Debug)]
pub struct Finished {
    /// The TLS connection.
    pub session: Session,
    /// What was settled.
    pub facts: HandshakeFacts,
    /// Plaintext that came with the last flight, behind any early data.
    pub received: Vec<u8>,
    /// The peer has sent close_notify already.
    pub peer_closed: bool,
    /// The peer's direction of the stream has ended already.
    pub end: bool,
}

/// What a transition leads to. Whatever it wrote to `out` must be sent in every case.
#[derive(Debug)]
pub enum Step {
    /// The peer's turn.
    Wait(Handshake),
    /// Over, well.
    Finished(Finished),
    /// Over, badly: send `out`, then close in our direction first, so that the peer can read it.
    Refused(Refusal),
}

/// A handshake in progress.
#[derive(Debug)]
pub struct Handshake {
    origin: Origin,
    state: State,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    accepted_at: Instant64,
    /// Whom the proxy named.
    client: Option<PeerAddr>,
}

#[derive(Debug)]
enum State {
    Proxy(ProxyReader),
    Hello(Gathering),
    Negotiating(Negotiating),
}

/// No complete ClientHello yet, or one that nobody has acted on.
#[derive(Debug, Default)]
struct Gathering {
    reader: HelloReader,
    /// What arrived in earlier turns.
    pending: Vec<u8>,
    hello: Option<Hello>,
    /// What [`Handshake::foresee`] has chosen for it.
    chosen: Option<Choice>,
}

/// A refusal is rare, and much larger than a decision.
type Choice = Result<Decision, Box<Refusal>>;

/// rustls has the ClientHello.
#[derive(Debug)]
struct Negotiating {
    session: Session,
    background: Background,
    /// What has come of it; rustls allows no more than its configuration says.
    early_data: Vec<u8>,
}

impl Handshake {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(accepted_at: Instant64) -> Self {
        Self { origin: Origin { accepted_at, client: None }, state: State::Hello(Gathering::default()) }
    }

    /// A connection that was just accepted from a trusted proxy: a PROXY protocol header comes before its first record.
    #[must_use]
    pub fn behind_proxy(accepted_at: Instant64) -> Self {
        Self { state: State::Proxy(ProxyReader::default()), ..Self::new(accepted_at) }
    }

    /// Whether the PROXY protocol header has still to come.
    #[must_use]
    pub const fn awaits_proxy(&self) -> bool {
        matches!(self.state, State::Proxy(_))
    }

    /// Whom the PROXY protocol header has named.
    #[must_use]
    pub const fn client(&self) -> Option<PeerAddr> {
        self.origin.client
    }

    /// When the connection was accepted.
    #[must_use]
    pub const fn accepted_at(&self) -> Instant64 {
        self.origin.accepted_at
    }

    /// Its ClientHello was acted on: protocol and configuration are chosen, and what [`Context::live`] says now does
    /// not matter to it any more.
    #[must_use]
    pub const fn is_negotiating(&self) -> bool {
        matches!(self.state, State::Negotiating(_))
    }

    /// It was asked for another key share (HelloRetryRequest, RFC 8446 section 4.1.4), which has not been agreed with. That
    /// ClientHello is rustls' alone, so a prepare phase cannot foresee what it needs.
    #[must_use]
    pub fn is_retrying(&self) -> bool {
        matches!(&self.state, State::Negotiating(negotiating) if retrying(negotiating.session.common()))
    }

    /// Shows bytes that arrived, before any of the turn's connections advances.
    ///
    /// # Errors
    /// They cannot be the start of a TLS connection, or exceed the limit; [`refuse`] says what to send.
    pub fn offer(&mut self, bytes: &[u8], limits: &Limits) -> Result<Offered, Refusal> {
        let mut taken = 0;
        if let State::Proxy(reader) = &mut self.state {
            let Some((client, len)) = reader.read(bytes, limits.proxy_header_bytes)? else { return Ok(Offered::Kept) };
            self.origin.client = client;
            self.state = State::Hello(Gathering::default());
            taken = len;
        }
        let bytes = &bytes[taken..];
        let State::Hello(g) = &mut self.state else { return Ok(Offered::InPlace(0)) };
        if g.hello.is_some() {
            debug_assert!(!g.pending.is_empty(), "a ClientHello that stayed in place was not advanced");
            g.pending.extend_from_slice(bytes);
            return Ok(Offered::Kept);
        }
        if g.pending.is_empty() {
            g.hello = g.reader.read(bytes, limits.client_hello_bytes)?;
            if g.hello.is_some() {
                return Ok(Offered::InPlace(taken));
            }
            g.pending.extend_from_slice(bytes);
        } else {
            g.pending.extend_from_slice(bytes);
            g.hello = g.reader.read(&g.pending, limits.client_hello_bytes)?;
        }
        Ok(Offered::Kept)
    }

    /// The complete ClientHello that [`offer`](Self::offer) has found and nobody has acted on. `bytes` are those
    /// that stayed in place.
    #[must_use]
    pub fn hello<'a>(&'a self, bytes: &'a [u8], peer: PeerAddr) -> Option<ClientHelloView<'a>> {
        let State::Hello(g) = &self.state else { return None };
        let input = if g.pending.is_empty() { bytes } else { &g.pending };
        Some(g.hello.as_ref()?.view(input, self.origin.client.unwrap_or(peer).ip()))
    }

    /// Chooses the protocol for the complete ClientHello, if there is one: `None` too when it will be refused. The choice
    /// is kept, so the next step must be [`advance`](Self::advance) with the same `live` and the same bytes.
    pub fn foresee<'a>(
        &'a mut self,
        bytes: &'a [u8],
        peer: PeerAddr,
        live: &'a Live,
    ) -> Option<(ClientHelloView<'a>, Foreseen<'a>)> {
        let State::Hello(Gathering { pending, hello, chosen, .. }) = &mut self.state else { return None };
        let view = hello
            .as_ref()?
            .view(if pending.is_empty() { bytes } else { pending }, self.origin.client.unwrap_or(peer).ip());
        let decision = chosen.insert(live.table().select(&view).map_err(Box::new)).as_ref().ok()?;
        Some((view, live.foreseen(*decision)?))
    }

    /// Goes on with what was offered. `out` takes what must be sent.
    #[must_use]
    pub fn advance(self, input: Input<'_>, cx: Context<'_>, out: &mut Vec<u8>) -> Step {
        match self.state {
            State::Proxy(_) if input.end => Step::Refused(Refusal::Vanished),
            State::Proxy(_) => Step::Wait(self),
            State::Hello(g) => match g.hello {
                Some(hello) => {
                    let negotiating = start(hello, g.pending, g.chosen, self.origin, input, cx, out);
                    negotiating.unwrap_or_else(|refusal| refuse(refusal, out))
                }
                None if input.end => Step::Refused(Refusal::Vanished),
                None => Step::Wait(Self { state: State::Hello(g), ..self }),
            },
            State::Negotiating(mut n) => {
                let mut received = std::mem::take(&mut n.early_data);
                let before = received.len();
                match n.session.receive(input.bytes, &mut received, out) {
                    Ok(r) => {
                        let received = Plaintext { early_data: before + r.early_data, bytes: received };
                        n.settle(received, r.peer_closed, input.end, cx)
                    }
                    Err(e) => Step::Refused(Refusal::Tls(e)),
                }
            }
        }
    }

    /// Which of the registered protocols early data has come for; its worker may be given it before the client's
    /// Finished.
    pub(crate) const fn early_data_for(&self) -> Option<usize> {
        match &self.state {
            State::Negotiating(n) if !n.early_data.is_empty() => Some(n.background.index),
            _ => None,
        }
    }

    /// The connection with its early data, though the client's Finished has not come: whoever goes on with it must see
    /// to the deadline, and confirm the early data when the session's handshake is over.
    pub(crate) fn into_early(self, now: Instant64) -> Option<Finished> {
        match self.state {
            State::Negotiating(n) if !n.early_data.is_empty() => {
                let early_data = Some(EarlyData::new(n.early_data.len()));
                let facts = n.background.settle(n.session.common(), early_data, now);
                let (session, received) = (n.session, n.early_data);
                Some(Finished { session, facts, received, peer_closed: false, end: false })
            }
            _ => None,
        }
    }

    /// Offers and advances at once: for callers without a prepare phase.
    #[must_use]
    pub fn step(mut self, input: Input<'_>, cx: Context<'_>, out: &mut Vec<u8>) -> Step {
        match self.offer(input.bytes, cx.limits) {
            Ok(Offered::InPlace(from)) => self.advance(Input { bytes: &mut input.bytes[from..], ..input }, cx, out),
            Ok(Offered::Kept) => self.advance(Input { bytes: &mut [], end: input.end }, cx, out),
            Err(refusal) => refuse(refusal, out),
        }
    }
}

/// Selects, makes the session and gives it the ClientHello.
fn start(
    hello: Hello,
    mut pending: Vec<u8>,
    chosen: Option<Choice>,
    origin: Origin,
    input: Input<'_>,
    cx: Context<'_>,
    out: &mut Vec<u8>,
) -> Result<Step, Refusal> {
    let peer = origin.client.unwrap_or(cx.peer);
    let bytes: &mut [u8] = if pending.is_empty() { input.bytes } else { &mut pending };
    let (mut session, background) = {
        let view = hello.view(bytes, peer.ip());
        let decision = match chosen {
            Some(chosen) => chosen.map_err(|refusal| *refusal)?,
            None => cx.live.table().select(&view)?,
        };
        let Some((config, id)) = cx.live.configuration(decision, view.offers(ProtocolVersion::TLSv1_3)) else {
            return Err(Refusal::Tls(rustls::Error::General("a decision outside the table".into())));
        };
        // rustls would call it a missing certificate, because without a suite no signature scheme is left.
        let suites = &config.crypto_provider().cipher_suites;
        if !view.cipher_suites().any(|offered| suites.iter().any(|s| s.suite() == offered)) {
            return Err(Refusal::NoCommonSuite);
        }
        let background = Background {
            index: usize::from(decision.protocol),
            protocol: id.clone(),
            server_name: view.server_name().map(Into::into),
            peer,
            proxy: origin.client.map(|_| cx.peer),
            accepted_at: origin.accepted_at,
            hello_at: cx.now,
        };
        (Session::server(config.clone()).map_err(Refusal::Tls)?, background)
    };
    let mut received = Vec::new();
    let result = if pending.is_empty() {
        session.receive(input.bytes, &mut received, out)
    } else {
        session.receive_owned(pending, &mut received, out)
    };
    let r = result.map_err(Refusal::Tls)?;
    let received = Plaintext { early_data: r.early_data, bytes: received };
    Ok(Negotiating { session, background, early_data: Vec::new() }.settle(received, r.peer_closed, input.end, cx))
}

/// All plaintext of a connection so far.
struct Plaintext {
    bytes: Vec<u8>,
    /// How much of it is early data.
    early_data: usize,
}

impl Negotiating {
    /// Whether the client's certificate has expired since it was verified, in a session that is resumed now: rustls
    /// does not look again, and tickets that a resumed session gets would make that go on for ever.
    fn is_client_expired(&self, live: &Live) -> bool {
        let leaf = self.session.common().peer_certificates().and_then(|chain| chain.first());
        leaf.is_some_and(|leaf| live.wall_time().is_none_or(|now| has_expired(leaf, now)))
    }

    /// Finds out where rustls stands now.
    fn settle(mut self, received: Plaintext, peer_closed: bool, end: bool, cx: Context<'_>) -> Step {
        let is_handshaking = self.session.common().is_handshaking();
        // Before anybody is given a byte of it.
        if (!is_handshaking || !received.bytes.is_empty()) && self.is_client_expired(cx.live) {
            return Step::Refused(Refusal::Tls(rustls::Error::InvalidCertificate(CertificateError::Expired)));
        }
        if !is_handshaking {
            let early_data = (received.early_data > 0).then(|| EarlyData::new(received.early_data));
            early_data.iter().for_each(EarlyData::confirm);
            let facts = self.background.settle(self.session.common(), early_data, cx.now);
            let received = received.bytes;
            return Step::Finished(Finished { session: self.session, facts, received, peer_closed, end });
        }
        self.early_data = received.bytes;
        if peer_closed || end {
            return Step::Refused(Refusal::Vanished);
        }
        if self.session.pending_len() > cx.limits.handshake_bytes {
            return Step::Refused(Refusal::HandshakeTooLarge);
        }
        let Background { accepted_at, peer, proxy, .. } = &self.background;
        let origin = Origin { accepted_at: *accepted_at, client: proxy.map(|_| *peer) };
        Step::Wait(Handshake { origin, state: State::Negotiating(self) })
    }
}

/// Refuses a connection that has no TLS configuration yet: writes the alert (RFC 8446 section 6) or the hint that
/// the peer can understand.
pub fn refuse(refusal: Refusal, out: &mut Vec<u8>) -> Step {
    if refusal == Refusal::PlainHttp {
        out.extend_from_slice(HTTP_HINT);
    } else if let Some(alert) = refusal.plaintext_alert() {
        // alert(21), legacy version, two bytes, fatal(2).
        out.extend_from_slice(&[21, 3, 3, 0, 2, 2, u8::from(alert)]);
    }
    Step::Refused(refusal)
}
