//! The embedding API: [`Builder`] to [`Engine`], and a [`Handle`] on it.

mod cores;
mod cryptography;
mod reload;
#[cfg(test)]
mod testing;
mod threads;

pub use reload::{Fixed, ReloadError};

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::compress::CertCompressor;
use rustls::pki_types::UnixTime;

use cores::{cores, pin_to};
use threads::{ThreadHandle, ThreadPlan, guarded, joined};

use crate::crypto::batch::{Batch, Unavailable};
use crate::crypto::{Crypto, SessionStore, TicketOptions, TicketSecrets};
use crate::error::Culprit;
use crate::handshake::{Batched, Blueprint, Live, ProtocolTls, Sources, TlsVersions};
use crate::identity::{CertificateSet, ClientAuth, IdentityWarning};
use crate::limits::{LimitError, Limits};
use crate::metrics::Metrics;
use crate::protocol::Protocol;
use crate::selection::{Policy, SelectionError, Table, WithoutAlpn};
use crate::shard::{Destination, Mailbox, Shard, ShardConfig};
use crate::transport::Wake;
use crate::transport::tcp::{self, Endpoint, ListenError, ListenOptions, Listener, Tcp};

/// Where workers run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// On the shard that did the handshake: no queue, no second core's cache; but a handler's work delays handshakes.
    #[default]
    SharedCore,
    /// On this many threads of their own.
    Threads(usize),
}

/// Which cores the shards are pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pin {
    /// One core each, when there are enough.
    #[default]
    Auto,
    /// Wherever the scheduler puts them.
    Off,
    /// Shard `i` on the `i`-th of these, and around again.
    Cores(Vec<usize>),
}

/// Why an engine did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing to listen on.
    NoEndpoint,
    /// A protocol has no certificates of its own and the engine has none for all.
    NoCertificates {
        /// The protocol's ALPN ID.
        protocol: String,
    },
    /// A fallback or a default names a protocol that is not registered.
    UnknownProtocol {
        /// The name.
        protocol: String,
    },
    /// Zero shards, or zero worker threads.
    NoThreads,
    /// Within this limit nothing could be served.
    Limit(LimitError),
    /// Session tickets cannot live this long: from a second to the seven days of RFC 8446 section 4.6.1.
    TicketLifetime(Duration),
    /// The registered protocols do not make a table.
    Selection(SelectionError),
    /// An endpoint cannot be listened on.
    Listen(ListenError),
    /// rustls refuses the configuration.
    Tls(rustls::Error),
    /// [`Crypto::Batch`] was asked for and is not to be had.
    Crypto(Unavailable),
    /// Presigning was asked for, and nothing is computed in batches.
    PresignWithoutBatch,
    /// ClientHellos should wait for others, and nothing is computed in batches.
    WaitWithoutBatch,
    /// ClientHellos cannot be made to wait so long: a second at most.
    BatchWait(Duration),
    /// The system gives no thread, no poller or no memory for secrets.
    System(io::Error),
}

impl StartError {
    /// Whose fault it is.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        match self {
            Self::System(_) => Culprit::Local,
            _ => Culprit::Config,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("nothing to listen on: give the builder an endpoint"),
            Self::NoCertificates { protocol } => {
                write!(f, "protocol `{protocol}` has no certificate: give it a set, or the engine one for all")
            }
            Self::UnknownProtocol { protocol } => {
                write!(f, "protocol `{protocol}` is named as fallback or default but not registered")
            }
            Self::NoThreads => f.write_str("at least one shard, and one worker thread where any are asked for"),
            Self::Limit(e) => e.fmt(f),
            Self::TicketLifetime(asked) => write!(
                f,
                "session tickets cannot live {asked:?}: choose from 1 second to 7 days, or no tickets to have none"
            ),
            Self::Selection(e) => e.fmt(f),
            Self::Listen(e) => e.fmt(f),
            Self::Tls(e) => write!(f, "TLS configuration: {e}"),
            Self::PresignWithoutBatch => {
                f.write_str("presigning is a part of batched cryptography: choose that as well")
            }
            Self::WaitWithoutBatch => {
                f.write_str("waiting for more ClientHellos is a part of batched cryptography: choose that as well")
            }
            Self::BatchWait(asked) => write!(f, "ClientHellos cannot wait {asked:?} for others: 1 second at most"),
            Self::Crypto(e) => write!(f, "{e}; `auto` or `aws-lc` do without"),
            Self::System(e) => write!(f, "cannot start a thread: {e}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Limit(e) => Some(e),
            Self::Selection(e) => Some(e),
            Self::Listen(e) => Some(e),
            Self::Tls(e) => Some(e),
            Self::Crypto(e) => Some(e),
            Self::System(e) => Some(e),
            _ => None,
        }
    }
}

/// What an engine is made of.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    /// Each with options of its own, or those of all.
    endpoints: Vec<(Endpoint, Option<ListenOptions>)>,
    listen: ListenOptions,
    shards: Option<usize>,
    pin: Pin,
    placement: Placement,
    certificates: Option<Arc<CertificateSet>>,
    compressors: Vec<&'static dyn CertCompressor>,
    protocols: Vec<Protocol>,
    policy: Policy,
    fallback: Option<Vec<u8>>,
    without_alpn: Option<Vec<u8>>,
    versions: TlsVersions,
    client_auth: ClientAuth,
    tickets: usize,
    ticket_options: TicketOptions,
    limits: Limits,
    /// The same in all that an engine runs on from its start to its end.
    sessions: Arc<SessionStore>,
    sources: Sources,
    crypto: Crypto,
    presign: Option<bool>,
    batch_wait: Duration,
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Handle>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            listen: ListenOptions::default(),
            shards: None,
            pin: Pin::default(),
            placement: Placement::default(),
            certificates: None,
            compressors: Vec::new(),
            protocols: Vec::new(),
            policy: Policy::default(),
            fallback: None,
            without_alpn: None,
            versions: TlsVersions::default(),
            client_auth: ClientAuth::None,
            tickets: 1,
            ticket_options: TicketOptions::default(),
            limits: Limits::default(),
            sessions: Arc::default(),
            sources: Sources::default(),
            crypto: Crypto::default(),
            presign: None,
            batch_wait: Duration::ZERO,
            #[cfg(feature = "tokio")]
            runtime: None,
        }
    }
}

impl Builder {
    /// Listens there as well.
    pub fn listen(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoints.push((endpoint.into(), None));
        self
    }

    /// Listens there as well, with options of its own.
    pub fn listen_with(mut self, endpoint: impl Into<Endpoint>, options: ListenOptions) -> Self {
        self.endpoints.push((endpoint.into(), Some(options)));
        self
    }

    /// How to listen where an endpoint has no options of its own: backlog, deferred accept, PROXY protocol.
    pub fn listen_options(self, listen: ListenOptions) -> Self {
        Self { listen, ..self }
    }

    /// This many shards instead of one per core that the process may use.
    pub fn shards(self, shards: usize) -> Self {
        Self { shards: Some(shards), ..self }
    }

    /// Which cores the shards are pinned to.
    pub fn pin(self, pin: Pin) -> Self {
        Self { pin, ..self }
    }

    /// Where workers run.
    pub fn workers(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// The certificates of all protocols that have none of their own.
    pub fn certificates(self, set: impl Into<Arc<CertificateSet>>) -> Self {
        Self { certificates: Some(set.into()), ..self }
    }

    /// Compresses certificates for clients that can decompress them (RFC 8879): with
    /// [`BROTLI`](crate::identity::BROTLI), or in a way of your own. The most preferred one first; none unless said
    /// otherwise.
    ///
    /// It is for those who pay for bytes: a chain fits into the first flight of a TCP connection as it is. Each shard
    /// compresses a chain once. With more than 256 identities nothing is compressed.
    pub fn certificate_compressors(self, compressors: impl IntoIterator<Item = &'static dyn CertCompressor>) -> Self {
        Self { compressors: compressors.into_iter().collect(), ..self }
    }

    /// Registers a protocol after, and so below in preference, those that are there.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocols.push(protocol);
        self
    }

    /// Registers `h2` and `http/1.1` with one service, in this order, and `http/1.1` for clients that offer no ALPN,
    /// unless [`without_alpn`](Self::without_alpn) says otherwise.
    #[cfg(any(feature = "h1", feature = "h2"))]
    pub fn http(mut self, http: crate::Http) -> Self {
        #[cfg(feature = "h2")]
        {
            self = self.protocol(http.h2());
        }
        #[cfg(feature = "h1")]
        {
            self = self.protocol(http.http1());
            self.without_alpn.get_or_insert_with(|| b"http/1.1".to_vec());
        }
        self
    }

    /// Who chooses among the protocols that both sides have.
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The protocol for clients whose ALPN offer holds none of ours; without one they are refused with
    /// `no_application_protocol` (RFC 7301 section 3.2).
    pub fn fallback(self, id: impl Into<Vec<u8>>) -> Self {
        Self { fallback: Some(id.into()), ..self }
    }

    /// The protocol for clients that offer no ALPN; without one they are refused.
    pub fn without_alpn(self, id: impl Into<Vec<u8>>) -> Self {
        Self { without_alpn: Some(id.into()), ..self }
    }

    /// The TLS versions of protocols that do not say otherwise.
    pub fn versions(self, versions: TlsVersions) -> Self {
        Self { versions, ..self }
    }

    /// Whether clients show certificates, for protocols that do not say otherwise.
    pub fn client_auth(self, client_auth: ClientAuth) -> Self {
        Self { client_auth, ..self }
    }

    /// Session tickets after each TLS 1.3 handshake: 1 unless said otherwise; 0 turns resumption off.
    pub fn tickets(self, tickets: usize) -> Self {
        Self { tickets, ..self }
    }

    /// Seals session tickets with these secrets instead of one that only this process has: hosts that have them in
    /// common resume each other's sessions. TLS 1.2 then has no tickets, unless
    /// [`tls12_tickets`](Self::tls12_tickets) says otherwise.
    pub fn ticket_secrets(mut self, secrets: TicketSecrets) -> Self {
        self.ticket_options.secrets = Some(secrets);
        self
    }

    /// How long clients may keep a session ticket: 6 h unless said otherwise, from 1 s to 7 days. Hosts that share
    /// secrets must agree on it.
    pub fn ticket_lifetime(mut self, lifetime: Duration) -> Self {
        self.ticket_options.lifetime = lifetime;
        self
    }

    /// Whether sessions of TLS 1.2 get tickets too: unless said otherwise, only without
    /// [`ticket_secrets`](Self::ticket_secrets). Who has the secrets can decrypt recorded sessions of TLS 1.2 that
    /// used tickets.
    pub fn tls12_tickets(mut self, on: bool) -> Self {
        self.ticket_options.tls12 = Some(on);
        self
    }

    /// The limits.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// All that can be said of session tickets but their number.
    pub fn ticket_options(self, options: TicketOptions) -> Self {
        Self { ticket_options: options, ..self }
    }

    /// Where cryptography and wall clock come from.
    pub fn sources(self, sources: Sources) -> Self {
        Self { sources, ..self }
    }

    /// Enters this runtime on every shard and worker thread, so that handlers may use tokio's timers, sockets and
    /// `spawn`. The runtime must outlive the engine.
    #[cfg(feature = "tokio")]
    pub fn runtime(self, runtime: tokio::runtime::Handle) -> Self {
        Self { runtime: Some(runtime), ..self }
    }

    /// What is wrong with the certificates though they can be served, each with the name of its set.
    #[must_use]
    pub fn warnings(&self, now: UnixTime) -> Vec<(String, IdentityWarning)> {
        let own = self.protocols.iter().filter_map(|p| p.certificates.as_ref());
        self.certificates
            .iter()
            .chain(own)
            .flat_map(|set| set.all_identities().map(move |i| (set.name().to_owned(), i)))
            .flat_map(|(name, identity)| identity.warnings(now).into_iter().map(move |w| (name.clone(), w)))
            .collect()
    }

    /// Checks all that [`start`](Self::start) checks before it listens.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), StartError> {
        self.checked().map(drop)
    }

    /// Checks everything, listens, and starts the threads.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing is left running then.
    pub fn start(mut self) -> Result<Engine, StartError> {
        // A clone of the builder may have been started before, and each engine has sessions of its own.
        self.sessions = Arc::default();
        let blueprint = self.checked()?;
        self.limit_sessions();
        let cores = cores();
        let shards = self.shards.unwrap_or(cores.len());
        let mut listeners: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
        let mut endpoints = Vec::new();
        for (endpoint, options) in &self.endpoints {
            let options = options.as_ref().unwrap_or(&self.listen);
            let copies = Listener::bind(endpoint, options, shards).map_err(StartError::Listen)?;
            endpoints.extend(copies.first().map(|l| l.endpoint().clone()));
            for (shard, copy) in listeners.iter_mut().zip(copies) {
                shard.push(copy);
            }
        }
        let pins = match &self.pin {
            Pin::Auto if shards <= cores.len() && cores.len() > 1 => cores,
            Pin::Auto | Pin::Off => Vec::new(),
            Pin::Cores(cores) => cores.clone(),
        };
        let mut engine = Engine { handle: Handle::default(), shards: Vec::new(), workers: Vec::new() };
        let mut threads = Vec::new();
        let mut mailboxes = Vec::new();
        if let Placement::Threads(n) = self.placement {
            for i in 0..n {
                let transport = self.transport(Vec::new())?;
                let (mailbox, receiver) = Mailbox::bounded(self.limits.mailbox_depth);
                mailboxes.push(mailbox.with_wake(crate::transport::Transport::waker(&transport)));
                threads.push(ThreadPlan {
                    name: format!("hf-worker-{i}"),
                    core: None,
                    transport,
                    mail: Some(receiver),
                    workers: Vec::new(),
                    // It has no handshakes.
                    turn: None,
                });
            }
        }
        let batch = self.batch()?;
        for (i, listeners) in listeners.into_iter().enumerate() {
            threads.push(ThreadPlan {
                name: format!("hf-shard-{i}"),
                core: pins.get(i % pins.len().max(1)).copied(),
                transport: self.transport(listeners)?,
                mail: None,
                workers: mailboxes.clone(),
                turn: batch.map(Batch::turn).transpose().map_err(StartError::System)?,
            });
        }
        drop(mailboxes);
        let handles = threads.iter().map(ThreadHandle::of).collect();
        let sessions = Arc::clone(&self.sessions);
        let inner = HandleInner { endpoints, threads: handles, sessions, running: Mutex::new(None) };
        engine.handle = Handle(Arc::new(inner));
        self.ticket_options.secrets = Some(blueprint.ticket_secrets().clone());
        // Before there is a thread whose failure could end it.
        engine.handle.runs(self.clone());
        for (i, plan) in threads.into_iter().enumerate() {
            let is_worker = plan.mail.is_some();
            // On failure the engine is dropped, and with it the threads that run already are told to stop.
            let join = self.spawn(plan, &engine.handle, i, blueprint.live())?;
            if is_worker { engine.workers.push(join) } else { engine.shards.push(join) }
        }
        Ok(engine)
    }

    fn transport(&self, listeners: Vec<Listener>) -> Result<Tcp, StartError> {
        let mut config = tcp::Config::new(listeners);
        config.accepts_per_turn = self.limits.accepts_per_turn;
        config.connections_max = self.limits.connections_per_shard;
        config.fine_waits = !self.batch_wait.is_zero();
        Tcp::new(config).map_err(StartError::System)
    }

    fn spawn(
        &self,
        plan: ThreadPlan,
        handle: &Handle,
        thread: usize,
        live: Live,
    ) -> Result<JoinHandle<io::Result<()>>, StartError> {
        let destinations = self.destinations();
        let ThreadHandle { control, counters, .. } = &handle.0.threads[thread];
        let (limits, control, counters) = (self.limits.clone(), Arc::clone(control), Arc::clone(counters));
        #[cfg(feature = "tokio")]
        let runtime = self.runtime.clone();
        let (provider, batch_wait) = (Arc::clone(&self.sources.provider), self.batch_wait);
        let body = move || {
            #[cfg(feature = "tokio")]
            let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            if let Some(core) = plan.core {
                pin_to(core);
            }
            let mut config = ShardConfig::new(live, destinations);
            config.limits = limits;
            config.workers = plan.workers;
            config.mail = plan.mail;
            config.counters = counters;
            if let Some(turn) = plan.turn {
                config.prepare = Box::new(Batched::of(turn, &provider).with_wait(batch_wait));
            }
            Shard::new(plan.transport, config).run(&control)
        };
        let handle = handle.clone();
        thread::Builder::new().name(plan.name).spawn(move || guarded(handle, body)).map_err(StartError::System)
    }

    fn destinations(&self) -> Vec<Destination> {
        self.protocols.iter().map(|p| p.destination.clone()).collect()
    }

    fn checked(&self) -> Result<Blueprint, StartError> {
        let blueprint = self.blueprint()?;
        if self.shards == Some(0) || self.placement == Placement::Threads(0) {
            return Err(StartError::NoThreads);
        }
        if self.endpoints.is_empty() {
            return Err(StartError::NoEndpoint);
        }
        Ok(blueprint)
    }

    fn blueprint(&self) -> Result<Blueprint, StartError> {
        self.limits.check().map_err(StartError::Limit)?;
        let lifetime = self.ticket_options.lifetime;
        if TicketOptions::nearest_lifetime(lifetime) != lifetime {
            return Err(StartError::TicketLifetime(lifetime));
        }
        let mut table = Table::builder().policy(self.policy.clone());
        for protocol in &self.protocols {
            table = table.protocol(protocol.id.clone());
        }
        if let Some(id) = &self.fallback {
            table = table.fallback(self.index_of(id)?);
        }
        if let Some(id) = &self.without_alpn {
            table = table.without_alpn(WithoutAlpn::Protocol(self.index_of(id)?));
        }
        let table = table.build().map_err(StartError::Selection)?;
        let mut tls = Vec::new();
        for p in &self.protocols {
            let set = p.certificates.as_ref().or(self.certificates.as_ref());
            let set = set.ok_or_else(|| StartError::NoCertificates { protocol: text(&p.id) })?;
            tls.push(ProtocolTls {
                id: Arc::from(&*p.id),
                certificates: Arc::clone(set),
                versions: p.versions.unwrap_or(self.versions),
                client_auth: p.client_auth.as_ref().unwrap_or(&self.client_auth).clone(),
                tickets: p.tickets.unwrap_or(self.tickets),
                early_data: p.early_data,
            });
        }
        let mut sources = self.sources.clone();
        if let Some(batch) = self.batch()? {
            sources.provider = Arc::new(batch.provider((*sources.provider).clone()));
        }
        let blueprint = Blueprint::new(table, &tls, &sources).map_err(StartError::Tls)?;
        let blueprint = blueprint.with_tickets(self.ticket_options.clone()).with_sessions(Arc::clone(&self.sessions));
        Ok(blueprint.with_certificate_compressors(self.compressors.clone()))
    }

    fn index_of(&self, id: &[u8]) -> Result<usize, StartError> {
        let found = self.protocols.iter().position(|p| p.id == id);
        found.ok_or_else(|| StartError::UnknownProtocol { protocol: text(id) })
    }
}

fn text(id: &[u8]) -> String {
    id.escape_ascii().to_string()
}

#[derive(Debug, Default)]
struct HandleInner {
    endpoints: Vec<Endpoint>,
    threads: Vec<ThreadHandle>,
    sessions: Arc<SessionStore>,
    /// What the engine runs on, but for the destinations: a handle must not keep mailboxes open. `None` once it drains.
    running: Mutex<Option<Builder>>,
}

/// Reads an engine's metrics, reloads and stops it, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<HandleInner>);

impl Handle {
    /// Where the engine listens, with the ports that were taken where 0 was asked for.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    /// The first TCP address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.endpoints.iter().find_map(|e| match e {
            Endpoint::Tcp { addr, .. } => Some(*addr),
            _ => None,
        })
    }

    /// The counters of all threads together.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut sum = Metrics::default();
        for thread in &self.0.threads {
            sum.add(&thread.counters.read());
        }
        sum.sessions(self.0.sessions.counts());
        sum
    }

    /// Stops listening and lets the connections end, at the latest at the drain's deadline.
    pub fn drain(&self) {
        self.ends();
        for thread in &self.0.threads {
            thread.control.drain();
            thread.waker.wake();
        }
    }

    fn wake_all(&self) {
        self.0.threads.iter().for_each(|t| t.waker.wake());
    }
}

/// A running engine. Dropping it asks for a drain and does not wait for it.
#[derive(Debug)]
#[must_use = "dropping it stops it"]
pub struct Engine {
    handle: Handle,
    shards: Vec<JoinHandle<io::Result<()>>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
}

impl Engine {
    /// An engine with nothing registered.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A handle that may be kept anywhere.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the engine has drained, which somebody must have asked its [`Handle`] for; a thread that fails asks
    /// for it, too.
    ///
    /// # Errors
    /// A thread's poller failed, or the thread panicked: our bug, and the engine may have ended early.
    pub fn join(mut self) -> io::Result<Metrics> {
        let mut result = Ok(());
        for thread in self.shards.drain(..).chain(self.workers.drain(..)) {
            let ended = joined(thread);
            result = result.and(ended);
        }
        result.map(|()| self.handle.metrics())
    }

    /// Drains and waits.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub fn shutdown(self) -> io::Result<Metrics> {
        self.handle.drain();
        self.join()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.drain();
    }
}
