//! What one shard has to do: its share of the plan.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::talk::After;
use crate::arrivals::Arrivals;
use crate::cpu;
use crate::plan::{Extent, Plan, Then};
use crate::tricks::Tricks;

/// How long the server may take to close after our close_notify and FIN, and what is under way to end after the
/// last counted one.
const LINGER: Duration = Duration::from_secs(1);

/// When handshakes start.
#[derive(Clone, Debug)]
pub(super) enum Load {
    /// When others have ended.
    Closed,
    /// When others are up; each stays.
    Keeping,
    /// When all have ended.
    Rounds,
    /// When they are due.
    Open(Arrivals),
}

/// What one shard has to do.
#[derive(Clone, Debug)]
pub struct ShardPlan {
    pub(super) target: SocketAddr,
    pub(super) index: u32,
    pub(super) seed: u64,
    pub(super) slots: u32,
    pub(super) load: Load,
    pub(super) starts: Option<u64>,
    pub(super) warm_up: Duration,
    pub(super) duration: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) linger: Duration,
    /// How long what is under way at the end may take.
    pub(super) drain: Duration,
    pub(super) after: After,
    pub(super) tricks: Tricks,
    /// Addresses to connect from, in turn; empty: the system chooses.
    pub(super) sources: Vec<IpAddr>,
    /// CPU time that this thread has used.
    pub(super) cpu: fn() -> Duration,
}

impl ShardPlan {
    /// The share of shard `index`: connections, counts, rates and source addresses are divided as evenly as they can
    /// be.
    #[must_use]
    pub fn new(plan: &Plan, target: SocketAddr, index: u32) -> Self {
        let shards = plan.shards.max(1);
        let share = |n: u64| n / u64::from(shards) + u64::from(u64::from(index) < n % u64::from(shards));
        let slots = u32::try_from(share(u64::from(plan.connections))).unwrap_or(u32::MAX);
        let (duration, count) = match plan.extent {
            Extent::Time(duration) => (Some(duration), None),
            Extent::Handshakes(n) => (None, Some(share(n))),
        };
        // A slot that holds its connection never starts again.
        let starts = match plan.then {
            Then::Hold => Some(count.unwrap_or(u64::MAX).min(u64::from(slots))),
            _ => count,
        };
        let linger = plan.timeout.min(LINGER);
        let (load, drain) = match &plan.open {
            Some(open) => {
                let profile = open.profile.clone().after(plan.warm_up);
                let arrivals = Arrivals::new(profile, open.law, plan.seed, index, shards);
                // What was due in the time that counts, counts, however long it takes.
                (Load::Open(arrivals), plan.timeout + linger)
            }
            None if plan.burst => (Load::Rounds, linger),
            None if plan.then == Then::Hold => (Load::Keeping, linger),
            None => (Load::Closed, linger),
        };
        let port = target.port();
        let authority = |name: &rustls::pki_types::ServerName<'_>| match name.to_str() {
            name if name.contains(':') => format!("[{name}]:{port}").into_boxed_str(),
            name if port == 443 => name.into(),
            name => format!("{name}:{port}").into_boxed_str(),
        };
        let authorities = match plan.then {
            Then::Http | Then::Websocket => plan.tls.names.items().iter().map(authority).collect(),
            _ => Vec::new(),
        };
        let after = After { then: plan.then, path: plan.path.clone(), messages: plan.messages, authorities };
        let sources = plan.sources.iter().copied().skip(index as usize).step_by(shards as usize);
        let mut sources: Vec<_> = sources.collect();
        if sources.is_empty() {
            // Fewer addresses than shards: some are shared.
            sources.extend(plan.sources.get(index as usize % plan.sources.len().max(1)));
        }
        Self {
            target,
            index,
            seed: plan.seed,
            slots,
            load,
            starts,
            warm_up: plan.warm_up,
            duration,
            timeout: plan.timeout,
            linger,
            drain,
            after,
            tricks: plan.tricks,
            sources,
            cpu: cpu::of_this_thread,
        }
    }
}
