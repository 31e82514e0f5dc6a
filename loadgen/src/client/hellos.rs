//! What one shard makes its ClientHellos of: which ALPN list, which name, whether a session is resumed, whether the
//! request goes with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use handfast::handshake::Session;
use rand::RngExt;
use rand_pcg::Pcg64;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, SignatureScheme};

use super::sessions::Sessions;
use super::slot::Scratch;
use super::talk::After;
use crate::weighted::Weighted;

/// A client's TLS connection.
pub(super) type Tls = Session<UnbufferedClientConnection>;

/// One ALPN list, ready to be offered.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) config: Arc<ClientConfig>,
    /// The same with early data enabled, when any is wanted.
    pub(super) early: Option<Arc<ClientConfig>>,
    /// The sessions that `config` resumes, if it resumes any.
    pub(super) sessions: Option<Arc<Sessions>>,
}

/// Makes the client connections of one shard.
#[derive(Debug)]
pub(super) struct Hellos {
    pub(super) offers: Weighted<Offer>,
    pub(super) names: Arc<Weighted<ServerName<'static>>>,
    /// The share of handshakes that resume a session.
    pub(super) resume: Share,
    /// The share of those that can that send early data.
    pub(super) early_data: Share,
    pub(super) rng: Pcg64,
    /// Where the verifier of this shard leaves the scheme of the signature that it has seen last; 0 when none.
    pub(super) scheme: Arc<AtomicU16>,
}

/// A share of handshakes that comes out exactly, not by chance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    share: f64,
    /// What is due by the share. It grows while that cannot be done, so that the share comes out right in the end, but
    /// not beyond `owed_max`.
    owed: f64,
    owed_max: f64,
}

impl Share {
    /// `slots` handshakes may be under way at a time.
    pub(super) fn new(share: f64, slots: u32) -> Self {
        Self { share, owed: 0.0, owed_max: f64::from(slots) + 1.0 }
    }

    /// Whether the next handshake is one of them, if it can be.
    fn is_due(&mut self) -> bool {
        // What rounding leaves of a sum of shares must not cost one.
        self.owed = (self.owed + self.share + 1e-12).min(self.owed_max);
        self.owed >= 1.0
    }

    /// It was one of them.
    fn done(&mut self) {
        self.owed -= 1.0;
    }

    fn is_some(self) -> bool {
        self.share > 0.0
    }
}

/// A connection that has its ClientHello to send.
pub(super) struct Begun {
    pub(super) tls: Tls,
    /// The index of the name that it asks for.
    pub(super) name: usize,
    /// How many bytes of its request go as early data; `None` when none is offered.
    pub(super) early: Option<usize>,
}

impl Hellos {
    /// A new connection; its ClientHello goes to `scratch.out`, and what `after` asks for behind it where that may be
    /// early data.
    pub(super) fn begin(&mut self, after: &After, scratch: &mut Scratch) -> Result<Begun, Error> {
        let offer = pick(&self.offers, &mut self.rng);
        let offer = &self.offers.items()[offer];
        let name = pick(&self.names, &mut self.rng);
        let server_name = &self.names.items()[name];
        let mut config = &offer.config;
        if let Some(sessions) = &offer.sessions {
            let resumes = self.resume.is_due() && sessions.has(server_name);
            if resumes {
                self.resume.done();
                config = offer.early.as_ref().filter(|_| self.early_data.is_due()).unwrap_or(config);
            }
            sessions.withhold(!resumes);
        }
        let mut tls = Session::new(UnbufferedClientConnection::new(Arc::clone(config), server_name.clone())?);
        if config.enable_early_data {
            after.request(name, &mut scratch.reply);
        }
        let early = tls.client_hello(&scratch.reply, &mut scratch.out)?;
        if early.is_some() {
            self.early_data.done();
        }
        Ok(Begun { tls, name, early })
    }

    /// Whether tickets are worth reading.
    pub(super) fn resumes(&self) -> bool {
        self.resume.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_made_up_for_when_it_could_not_be_kept_but_not_without_end() {
        let mut share = Share::new(0.25, 2);
        let mut take = |n: usize, can: bool| {
            let mut one = || {
                let takes = share.is_due() && can;
                if takes {
                    share.done();
                }
                takes
            };
            (0..n).filter(|_| one()).count()
        };
        assert_eq!(take(400, true), 100);
        assert_eq!(take(8, false), 0);
        assert_eq!(take(4, true), 3, "two that were missed, and one");
        assert_eq!(take(400, false), 0);
        assert_eq!(take(400, true), 102, "no more than three that were missed");
    }
}
