//! Changing what a running engine serves.

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};

use rustls::pki_types::UnixTime;

use super::{Builder, Handle, StartError};
use crate::crypto::TicketSecrets;
use crate::error::Culprit;
use crate::identity::{CertificateSet, Identity};
use crate::shard::{Destination, Reload};
use crate::transport::Wake;
use crate::transport::tcp::{Endpoint, ListenOptions};

/// What an engine keeps from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fixed {
    /// What it listens on.
    Endpoints,
    /// How it listens.
    ListenOptions,
    /// The number of shards.
    Shards,
    /// The cores of the shards.
    Pin,
    /// Where workers run.
    Placement,
    /// The depth of the worker threads' mailboxes.
    MailboxDepth,
    /// The runtime that its threads have entered.
    Runtime,
    /// [`Builder::crypto`] and [`Builder::presign`].
    Crypto,
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoints => "the endpoints",
            Self::ListenOptions => "the options of listening",
            Self::Shards => "the number of shards",
            Self::Pin => "the cores of the shards",
            Self::Placement => "the place of the workers",
            Self::MailboxDepth => "the depth of the mailboxes",
            Self::Crypto => "the cryptography",
            Self::Runtime => "the runtime",
        })
    }
}

/// Why an engine goes on with what it had.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// This differs, and only a new engine can have it otherwise.
    Fixed(Vec<Fixed>),
    /// No engine would start with it.
    Invalid(StartError),
    /// A certificate that is not served yet has expired already.
    Expired {
        /// The name of its set.
        set: String,
        /// Its DNS names.
        names: Vec<String>,
        /// Since when.
        since: UnixTime,
    },
    /// No protocol has a certificate set of this name.
    UnknownSet {
        /// The name.
        set: String,
    },
    /// An identity is to be shown for what is no DNS name.
    ServerName {
        /// What it is.
        name: String,
    },
    /// The engine drains, or has ended.
    Draining,
}

impl ReloadError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        match self {
            Self::Fixed(_) | Self::Expired { .. } | Self::UnknownSet { .. } | Self::ServerName { .. } => {
                Culprit::Config
            }
            Self::Invalid(e) => e.culprit(),
            Self::Draining => Culprit::Local,
        }
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(what) => {
                for (i, what) in what.iter().enumerate() {
                    write!(f, "{}{what}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(" cannot change while the engine runs: leave it as it was, or start anew")
            }
            Self::Invalid(e) => e.fmt(f),
            Self::Expired { set, names, since } => write!(
                f,
                "the new certificate for {} in set `{set}` expired (Unix time {}); renew it",
                names.join(", "),
                since.as_secs()
            ),
            Self::UnknownSet { set } => write!(f, "no protocol has a certificate set of the name `{set}`"),
            Self::ServerName { name } => write!(f, "`{name}` is no DNS name, so no client will ask for it"),
            Self::Draining => f.write_str("the engine drains and serves nothing new"),
        }
    }
}

impl std::error::Error for ReloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid(e) => Some(e),
            _ => None,
        }
    }
}

impl Handle {
    /// Serves by another builder from now on: its protocols with their destinations, certificates, policy, fallback,
    /// tickets, limits and sources. It is all or nothing, and an error changes nothing.
    ///
    /// Whoever connects after it has returned is served by the new one. Handshakes whose ClientHello has come keep what
    /// they started with, up to the worker that it named; connections after their handshake stay as they are. Session
    /// tickets go on opening, wherever their certificate set keeps its name and client authentication, as long as the
    /// secret that sealed them is among [`Builder::ticket_secrets`], if there were any.
    ///
    /// Certificates are read and checked when they become an [`Identity`]; here they must not have expired, unless they
    /// are served already.
    ///
    /// # Errors
    /// Something differs that an engine keeps for its life, no engine could run on it, a new certificate has expired,
    /// or the engine drains.
    pub fn reload(&self, mut builder: Builder) -> Result<(), ReloadError> {
        let mut guard = self.running();
        let running = guard.as_ref().ok_or(ReloadError::Draining)?;
        let fixed = builder.fixed_that_differ(running);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        if builder.ticket_options.secrets.is_none() {
            // One of this process alone goes on; shared ones that are not named any more do not. Nor does one whose
            // epochs had another length: handshakes under way still count those.
            let running = &running.ticket_options;
            let goes_on =
                |own: &&TicketSecrets| !own.is_shared() && running.lifetime == builder.ticket_options.lifetime;
            let own = running.secrets.as_ref().filter(goes_on);
            let secrets = own.cloned().map_or_else(TicketSecrets::random, Ok);
            builder.ticket_options.secrets =
                Some(secrets.map_err(|e| ReloadError::Invalid(StartError::Tls(e.into())))?);
        }
        builder.sessions = Arc::clone(&running.sessions);
        let destinations = Some(builder.destinations());
        let stripped = builder.without_destinations();
        self.switch(running, &stripped, destinations)?;
        *guard = Some(stripped);
        Ok(())
    }

    /// Shows `identity` to clients that ask for just this server name of the certificate sets called `set`, from now on;
    /// `None` takes it away again, and what the set was made with counts. It is a [reload](Self::reload) of one
    /// identity, and cheap: for certificates that are renewed while the engine runs, and for ACME's challenges.
    ///
    /// A reload by a builder forgets it, unless the builder's set has it ([`CertificateSet::with_identity`]).
    ///
    /// # Errors
    /// There is no such set, the name is no DNS name, the certificate has expired, or the engine drains.
    pub fn set_identity(&self, set: &str, server_name: &str, identity: Option<Identity>) -> Result<(), ReloadError> {
        let mut guard = self.running();
        let running = guard.as_ref().ok_or(ReloadError::Draining)?;
        let mut new = running.clone();
        // Protocols that share a set go on sharing one.
        let mut changed: Vec<(Arc<CertificateSet>, Arc<CertificateSet>)> = Vec::new();
        for slot in new.certificate_sets_mut().filter(|slot| slot.name() == set) {
            let known = changed.iter().find(|(old, _)| Arc::ptr_eq(old, slot)).map(|(_, new)| Arc::clone(new));
            let anew = || slot.with_identity(server_name, identity.clone()).map(Arc::new);
            let new = known.or_else(anew).ok_or_else(|| ReloadError::ServerName { name: server_name.to_owned() })?;
            changed.push((std::mem::replace(slot, Arc::clone(&new)), new));
        }
        if changed.is_empty() {
            return Err(ReloadError::UnknownSet { set: set.to_owned() });
        }
        self.switch(running, &new, None)?;
        *guard = Some(new);
        Ok(())
    }

    /// The engine runs on this now.
    pub(super) fn runs(&self, builder: Builder) {
        *self.running() = Some(builder.without_destinations());
    }

    /// The engine ends: nothing can be reloaded any more.
    pub(super) fn ends(&self) {
        *self.running() = None;
    }

    fn running(&self) -> MutexGuard<'_, Option<Builder>> {
        // It is replaced as a whole, so a panic leaves it whole.
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every thread to serve by `new`, if it can be served.
    fn switch(
        &self,
        running: &Builder,
        new: &Builder,
        destinations: Option<Vec<Destination>>,
    ) -> Result<(), ReloadError> {
        new.check_expiry(running)?;
        let blueprint = new.blueprint().map_err(ReloadError::Invalid)?;
        new.limit_sessions();
        let reload = Arc::new(Reload::new(blueprint, destinations, new.limits.clone()));
        for thread in &self.0.threads {
            thread.control.reload(Arc::clone(&reload));
            thread.waker.wake();
        }
        Ok(())
    }
}

impl Builder {
    /// Gives the sessions that may bring early data their room: none where no protocol allows it.
    pub(super) fn limit_sessions(&self) {
        let is_early = self.protocols.iter().any(|p| p.early_data > 0);
        let room = |limit| if is_early { limit } else { 0 };
        self.sessions.limit(room(self.limits.early_sessions), room(self.limits.early_session_bytes));
    }

    fn without_destinations(mut self) -> Self {
        self.protocols.iter_mut().for_each(|p| p.destination = Destination::Close);
        self
    }

    fn fixed_that_differ(&self, running: &Self) -> Vec<Fixed> {
        #[cfg(feature = "tokio")]
        let same_runtime = self.runtime.as_ref().map(tokio::runtime::Handle::id)
            == running.runtime.as_ref().map(tokio::runtime::Handle::id);
        #[cfg(not(feature = "tokio"))]
        let same_runtime = true;
        let same = [
            (Fixed::Endpoints, self.listening().map(|l| l.0).eq(running.listening().map(|l| l.0))),
            (Fixed::ListenOptions, self.listening().zip(running.listening()).all(|(new, old)| new.1 == old.1)),
            (Fixed::Shards, self.shards == running.shards),
            (Fixed::Pin, self.pin == running.pin),
            (Fixed::Placement, self.placement == running.placement),
            (Fixed::MailboxDepth, self.limits.mailbox_depth == running.limits.mailbox_depth),
            (Fixed::Crypto, self.cryptography() == running.cryptography()),
            (Fixed::Runtime, same_runtime),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(fixed, _)| fixed).collect()
    }

    fn listening(&self) -> impl Iterator<Item = (&Endpoint, &ListenOptions)> {
        self.endpoints.iter().map(|(endpoint, own)| (endpoint, own.as_ref().unwrap_or(&self.listen)))
    }

    fn certificate_sets(&self) -> impl Iterator<Item = &Arc<CertificateSet>> {
        self.certificates.iter().chain(self.protocols.iter().filter_map(|p| p.certificates.as_ref()))
    }

    fn certificate_sets_mut(&mut self) -> impl Iterator<Item = &mut Arc<CertificateSet>> {
        self.certificates.iter_mut().chain(self.protocols.iter_mut().filter_map(|p| p.certificates.as_mut()))
    }

    /// That no certificate has expired but those that `running` has.
    fn check_expiry(&self, running: &Self) -> Result<(), ReloadError> {
        let Some(now) = self.sources.time.current_time() else { return Ok(()) };
        let expired = |set: &Arc<CertificateSet>| {
            let expired = set.all_identities().filter(|i| now > i.not_after());
            expired.map(|i| i.fingerprint_sha256()).collect::<Vec<_>>()
        };
        let served: Vec<_> = running.certificate_sets().flat_map(expired).collect();
        for set in self.certificate_sets() {
            let fresh = |i: &&Identity| !served.contains(&i.fingerprint_sha256());
            if let Some(identity) = set.all_identities().filter(|i| now > i.not_after()).find(fresh) {
                return Err(ReloadError::Expired {
                    set: set.name().to_owned(),
                    names: identity.dns_names().map(str::to_owned).collect(),
                    since: identity.not_after(),
                });
            }
        }
        Ok(())
    }
}
