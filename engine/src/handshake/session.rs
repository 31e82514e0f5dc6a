//! A TLS connection over byte slices: rustls' unbuffered API with the bytes it has not yet used.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, ReadEarlyData, TransmitTlsData,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error, ServerConfig};

/// Either side of rustls' unbuffered API.
pub trait Unbuffered: sealed::Sealed {
    /// What rustls keeps for this side.
    type Data;

    /// One step over `input`; see rustls' documentation.
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What both sides have in common.
    fn common(&self) -> &CommonState;

    /// Appends the early data that has come to `plain` (RFC 8446 section 4.2.10), and says how many records it was;
    /// only servers receive any.
    fn early_data(early: ReadEarlyData<'_, '_, Self::Data>, plain: &mut Vec<u8>) -> Result<u32, Error>;
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn early_data(mut early: ReadEarlyData<'_, '_, Self::Data>, plain: &mut Vec<u8>) -> Result<u32, Error> {
        let mut records = 0;
        while let Some(record) = early.next_record() {
            plain.extend_from_slice(record?.payload);
            records += 1;
        }
        Ok(records)
    }
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn early_data(_: ReadEarlyData<'_, '_, Self::Data>, _: &mut Vec<u8>) -> Result<u32, Error> {
        Err(Error::General("early data from a server".into()))
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for rustls::server::UnbufferedServerConnection {}
    impl Sealed for rustls::client::UnbufferedClientConnection {}
}

/// What [`Session::receive`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The peer sent close_notify: no plaintext will follow.
    pub peer_closed: bool,
    /// How much of the plaintext was early data (RFC 8446 section 2.3): it comes before all other.
    pub early_data: usize,
    /// Whole records that carried no application data: of the handshake, KeyUpdates, alerts, empty ones.
    pub control_records: u32,
}

/// A TLS connection without a socket: records in, records out.
///
/// Bytes of a record that is not yet whole are kept inside; nothing else is.
pub struct Session<C = UnbufferedServerConnection> {
    // Boxed: rustls' state is over a kilobyte, and a session moves between states and threads.
    conn: Box<C>,
    /// Received bytes that rustls has not taken, in their order.
    pending: Vec<u8>,
    /// The records at the beginning of `pending` that are whole and counted, in bytes.
    counted: usize,
}

impl<C: Unbuffered> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl Session<UnbufferedServerConnection> {
    /// A server's session that waits for its ClientHello.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::new(UnbufferedServerConnection::new(config)?))
    }
}

impl Session<UnbufferedClientConnection> {
    /// Appends the ClientHello of a client's new session to `out`, and `early` behind it as early data (RFC 8446 section
    /// 2.3), when the configuration enables that and the session that is resumed allows it. Says how much of `early` went,
    /// which is as much as the session allows; `None` when early data could not be offered.
    ///
    /// What went is lost when the server does not accept it. A client that has any accepted sends EndOfEarlyData with its
    /// next flight, and none else does (section 4.5).
    ///
    /// # Errors
    /// rustls cannot encrypt.
    pub fn client_hello(&mut self, early: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        let mut offered = None;
        loop {
            match self.conn.process(&mut []).state? {
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out)?,
                ConnectionState::TransmitTlsData(mut sent) => {
                    offered = early_data(&mut sent, early, out)?;
                    sent.done();
                }
                _ => return Ok(offered),
            }
        }
    }
}

/// A record's header, content type and tag (RFC 8446 section 5.2).
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16;
const RECORD_PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

/// Appends `early` as early data when it may be sent, and says how much of it.
fn early_data(
    hello: &mut TransmitTlsData<'_, rustls::client::ClientConnectionData>,
    early: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<usize>, Error> {
    let Some(mut may) = hello.may_encrypt_early_data() else { return Ok(None) };
    let (at, mut taken) = (out.len(), 0);
    // rustls does not say how much it took, and takes it out of the allowance even when the room is too small: so each
    // record has all the room that it can need, and what was written tells.
    for chunk in early.chunks(RECORD_PLAINTEXT_BYTES_MAX) {
        let end = out.len();
        out.resize(end + chunk.len() + RECORD_OVERHEAD_BYTES, 0);
        let Ok(written) = may.encrypt(chunk, &mut out[end..]) else {
            out.truncate(at);
            return Err(Error::EncryptError);
        };
        out.truncate(end + written);
        let whole = written == chunk.len() + RECORD_OVERHEAD_BYTES;
        taken += written.saturating_sub(RECORD_OVERHEAD_BYTES);
        if !whole {
            break;
        }
    }
    Ok(Some(taken))
}

impl<C: Unbuffered> Session<C> {
    /// A session over a connection that was just made.
    #[must_use]
    pub fn new(conn: C) -> Self {
        Self { conn: Box::new(conn), pending: Vec::new(), counted: 0 }
    }

    /// What was negotiated, as far as it is known yet.
    #[must_use]
    pub fn common(&self) -> &CommonState {
        self.conn.common()
    }

    /// Bytes kept of a record or message that is not yet whole.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Takes `input` in, which may be changed in place: plaintext is appended to `plain`, what must be sent to
    /// `out`.
    ///
    /// # Errors
    /// The peer broke the protocol; the alert that tells it so is in `out` already.
    pub fn receive(&mut self, input: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Received, Error> {
        if self.pending.is_empty() {
            let (whole, counted) = whole_records(input);
            let (used, result) = pump(&mut *self.conn, input, whole, plain, out);
            if result.is_ok() {
                self.pending.extend_from_slice(&input[used..]);
                self.counted = counted.saturating_sub(used);
            }
            return result;
        }
        self.pending.extend_from_slice(input);
        self.receive_pending(plain, out)
    }

    /// Takes bytes in that the session may keep: what [`receive`](Self::receive) does, without a copy.
    ///
    /// # Errors
    /// As for `receive`.
    pub fn receive_owned(&mut self, input: Vec<u8>, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Received, Error> {
        if self.pending.is_empty() {
            self.pending = input;
        } else {
            self.pending.extend_from_slice(&input);
        }
        self.receive_pending(plain, out)
    }

    fn receive_pending(&mut self, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Received, Error> {
        let (whole, counted) = whole_records(self.pending.get(self.counted..).unwrap_or_default());
        let (used, result) = pump(&mut *self.conn, &mut self.pending, whole, plain, out);
        self.counted = (self.counted + counted).saturating_sub(used);
        if used == self.pending.len() {
            // Idle connections are many: give the memory back.
            self.pending = Vec::new();
        } else {
            self.pending.drain(..used);
        }
        result
    }

    /// Appends the records that carry `plain` to `out`.
    ///
    /// # Errors
    /// The handshake is not over, our side is closed, or rustls cannot encrypt any more.
    pub fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let expected = plain.len() + plain.len().div_ceil(RECORD_PLAINTEXT_BYTES_MAX) * RECORD_OVERHEAD_BYTES;
        self.with_traffic(out, |traffic, out| append(out, expected, |room| traffic.encrypt(plain, room)))
    }

    /// Appends close_notify to `out` (RFC 8446 section 6.1): our side sends nothing after it.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.with_traffic(out, |traffic, out| append(out, 0, |room| traffic.queue_close_notify(room)))
    }

    /// Appends the answer to a KeyUpdate that asked for one (RFC 8446 section 4.6.3), if there was one since the last call.
    /// [`send`](Self::send) puts it before its data; this is for a connection that has nothing to send.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn answer_key_update(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        // Asked to encrypt, rustls queues the answer first, and only then finds no room for the byte.
        self.with_traffic(out, |traffic, _| match traffic.encrypt(&[0], &mut []) {
            Ok(_) | Err(EncryptError::InsufficientSize(_)) => Ok(()),
            Err(e) => Err(e),
        })?;
        self.with_traffic(out, |_, _| Ok(()))
    }

    fn with_traffic(
        &mut self,
        out: &mut Vec<u8>,
        mut f: impl FnMut(&mut WriteTraffic<'_, C::Data>, &mut Vec<u8>) -> Result<(), EncryptError>,
    ) -> Result<(), Error> {
        loop {
            // With what is pending, because rustls' place in a half-received message counts from its start.
            let UnbufferedStatus { discard, state, .. } = self.conn.process(&mut self.pending);
            let result = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    Some(f(&mut traffic, out).map_err(|_| Error::EncryptError))
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, out)?;
                    None
                }
                ConnectionState::TransmitTlsData(sent) => {
                    sent.done();
                    None
                }
                // Everything received was taken before, so these say that there is nothing to write on.
                _ => Some(Err(Error::HandshakeNotComplete)),
            };
            self.pending.drain(..discard);
            self.counted = self.counted.saturating_sub(discard);
            if let Some(result) = result {
                return result;
            }
        }
    }
}

/// How many whole records `input`, which begins with one, has, and how many bytes they are (RFC 8446 section 5.1).
fn whole_records(input: &[u8]) -> (u32, usize) {
    let (mut records, mut at) = (0, 0);
    while let Some(&[_, _, _, high, low]) = input.get(at..at + 5) {
        let end = at + 5 + usize::from(u16::from_be_bytes([high, low]));
        if end > input.len() {
            break;
        }
        (records, at) = (records + 1, end);
    }
    (records, at)
}

/// Runs rustls over `input`, in which `records` have become whole, until it wants more; says how many bytes it has used.
fn pump<C: Unbuffered>(
    conn: &mut C,
    input: &mut [u8],
    records: u32,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, Result<Received, Error>) {
    let mut used = 0;
    let mut received = Received { control_records: records, ..Received::default() };
    loop {
        let UnbufferedStatus { discard, state, .. } = conn.process(&mut input[used..]);
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out).map(|()| true),
            Ok(ConnectionState::TransmitTlsData(sent)) => {
                sent.done();
                Ok(true)
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(true),
                    Some(Ok(record)) => {
                        received.control_records = received.control_records.saturating_sub(1);
                        plain.extend_from_slice(record.payload);
                    }
                    Some(Err(e)) => break Err(e),
                }
            },
            Ok(ConnectionState::PeerClosed) => {
                received.peer_closed = true;
                Ok(true)
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                Ok(false)
            }
            Ok(ConnectionState::ReadEarlyData(early)) => {
                let before = plain.len();
                let read = C::early_data(early, plain);
                received.early_data += plain.len() - before;
                read.map(|records| {
                    received.control_records = received.control_records.saturating_sub(records);
                    true
                })
            }
            Ok(_) => Err(Error::General("unexpected state".into())),
            Err(e) => Err(e),
        };
        used += discard;
        match step {
            Ok(true) => {}
            Ok(false) => return (used, Ok(received)),
            Err(e) => {
                drain_alert(conn, out);
                return (used, Err(e));
            }
        }
    }
}

/// After an error rustls still holds the alert for the peer. It is asked for no more than that: one step further it
/// would look for the messages that it has found behind the faulty one, in input that it is not shown, and panic.
fn drain_alert<C: Unbuffered>(conn: &mut C, out: &mut Vec<u8>) {
    while conn.common().wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = conn.process(&mut []).state else { return };
        if encode(&mut data, out).is_err() {
            return;
        }
    }
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> Result<(), Error> {
    append(out, 0, |room| data.encode(room)).map_err(|_: EncodeError| Error::General("encoded twice".into()))
}

/// Appends what `write` writes; unless `room` is enough, it says how much room it needs.
fn append<E: NeedsRoom>(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), E> {
    let at = out.len();
    loop {
        out.resize(at + room, 0);
        match write(&mut out[at..]) {
            Ok(written) => {
                out.truncate(at + written);
                return Ok(());
            }
            Err(e) => match e.required() {
                Some(required) if required > room => room = required,
                _ => {
                    out.truncate(at);
                    return Err(e);
                }
            },
        }
    }
}

trait NeedsRoom {
    fn required(&self) -> Option<usize>;
}

impl NeedsRoom for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl NeedsRoom for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::EncryptExhausted => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_behind_a_faulty_one_in_its_record_is_left_alone() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crate::crypto::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let mut conn = UnbufferedServerConnection::new(Arc::new(config)).unwrap();
        // Two ClientHellos with nothing in them.
        let mut record = [22, 3, 1, 0, 8, 1, 0, 0, 0, 1, 0, 0, 0];
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let (_, result) = pump(&mut conn, &mut record, 1, &mut plain, &mut out);
        assert!(matches!(result, Err(Error::InvalidMessage(_))), "{result:?}");
        assert_eq!(out, [21, 3, 3, 0, 2, 2, 50], "the alert decode_error");
    }
}
