//! What one shard makes its ClientHellos of: which ALPN list, which name, whether a session is resumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use handfast::handshake::Session;
use rand::RngExt;
use rand_pcg::Pcg64;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, SignatureScheme};

use super::sessions::Sessions;
use crate::weighted::Weighted;

/// A client's TLS connection.
pub(super) type Tls = Session<UnbufferedClientConnection>;

/// One ALPN list, ready to be offered.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) config: Arc<ClientConfig>,
    /// The sessions that `config` resumes, if it resumes any.
    pub(super) sessions: Option<Arc<Sessions>>,
}

/// Makes the client connections of one shard.
#[derive(Debug)]
pub(super) struct Hellos {
    pub(super) offers: Weighted<Offer>,
    pub(super) names: Arc<Weighted<ServerName<'static>>>,
    /// The share of handshakes that resume a session.
    pub(super) resume: f64,
    /// Resumptions that are due by that share. It grows while there is no session to resume, so that the share comes
    /// out right in the end, but not beyond this.
    pub(super) owed: f64,
    pub(super) owed_max: f64,
    pub(super) rng: Pcg64,
    /// Where the verifier of this shard leaves the scheme of the signature that it has seen last; 0 when none.
    pub(super) scheme: Arc<AtomicU16>,
}

/// A connection that has its ClientHello to send.
pub(super) struct Begun {
    pub(super) tls: Tls,
    /// The index of the name that it asks for.
    pub(super) name: usize,
}

impl Hellos {
    /// A new connection; its ClientHello goes to `out`.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) -> Result<Begun, Error> {
        let offer = pick(&self.offers, &mut self.rng);
        let offer = &self.offers.items()[offer];
        let name = pick(&self.names, &mut self.rng);
        let server_name = &self.names.items()[name];
        if let Some(sessions) = &offer.sessions {
            // What rounding leaves of a sum of shares must not cost a resumption.
            self.owed = (self.owed + self.resume + 1e-12).min(self.owed_max);
            let resumes = self.owed >= 1.0 && sessions.has(server_name);
            self.owed -= f64::from(u8::from(resumes));
            sessions.withhold(!resumes);
        }
        let conn = UnbufferedClientConnection::new(Arc::clone(&offer.config), server_name.clone())?;
        let mut tls = Session::new(conn);
        // Without input it writes the ClientHello and waits.
        tls.receive(&mut [], &mut Vec::new(), out)?;
        Ok(Begun { tls, name })
    }

    /// Whether tickets are worth reading.
    pub(super) fn resumes(&self) -> bool {
        self.resume > 0.0
    }

    /// The scheme of the signature that was seen since the last call.
    pub(super) fn take_scheme(&self) -> Option<SignatureScheme> {
        match self.scheme.load(Ordering::Relaxed) {
            0 => None,
            scheme => {
                self.scheme.store(0, Ordering::Relaxed);
                Some(scheme.into())
            }
        }
    }
}

/// No randomness is drawn where there is no choice.
fn pick<T>(choice: &Weighted<T>, rng: &mut Pcg64) -> usize {
    if choice.is_a_choice() { choice.pick(rng.random()) } else { 0 }
}
