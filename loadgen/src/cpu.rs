//! CPU time of our own threads and of the server, and the CPUs that we may use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that the calling thread has used.
#[must_use]
pub fn of_this_thread() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The CPUs that this process may use, in order; empty when the system does not say.
#[cfg(target_os = "linux")]
#[must_use]
pub fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// The CPUs that this process may use; this system does not say.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub const fn allowed() -> Vec<usize> {
    Vec::new()
}

/// Pins the calling thread; without the right to do so it stays where the system puts it.
#[cfg(target_os = "linux")]
pub fn pin_this_thread(cpu: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if cpu < CpuSet::MAX_CPU {
        let mut set = CpuSet::new();
        set.set(cpu);
        // Pinning makes figures steadier; a run without it is still a run.
        let _ = sched_setaffinity(None, &set);
    }
}

/// This system pins no threads.
#[cfg(not(target_os = "linux"))]
pub const fn pin_this_thread(_: usize) {}

/// The threads of this process.
#[must_use]
pub fn own_threads() -> Vec<u32> {
    entries("/proc/self/task")
}

/// Where the server's CPU time is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerCpu {
    /// Nobody said.
    Unknown,
    /// A process of this machine, with its children.
    Process(u32),
    /// A control group (version 2) of this machine, by its directory.
    Cgroup(PathBuf),
    /// Threads of our own process.
    Threads(Vec<u32>),
}

impl ServerCpu {
    /// The threads of this process that are not in `others`.
    #[must_use]
    pub fn threads_beside(others: &[u32]) -> Self {
        Self::Threads(own_threads().into_iter().filter(|t| !others.contains(t)).collect())
    }

    /// CPU time used until now; `None` when it cannot be known (any more).
    #[must_use]
    pub fn sample(&self) -> Option<Duration> {
        match self {
            Self::Unknown => None,
            Self::Process(pid) => of_process_tree(*pid),
            Self::Cgroup(path) => cgroup_micros(path, "usage_usec").map(Duration::from_micros),
            Self::Threads(threads) => threads.iter().map(|t| of_own_thread(*t)).sum(),
        }
    }
}

/// Whether a directory is that of a control group whose CPU time is counted.
#[must_use]
pub fn cgroup_exists(path: &Path) -> bool {
    cgroup_micros(path, "usage_usec").is_some()
}

/// A line of a control group's cpu.stat, in microseconds.
pub(crate) fn cgroup_micros(path: &Path, field: &str) -> Option<u64> {
    let stat = fs::read_to_string(path.join("cpu.stat")).ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Whether there is such a process.
#[must_use]
pub fn process_exists(pid: u32) -> bool {
    stat_of(&format!("/proc/{pid}/stat")).is_some()
}

struct Stat {
    parent: u32,
    cpu: Duration,
    /// Of children that have ended and were waited for.
    reaped: Duration,
}

fn stat_of(path: &str) -> Option<Stat> {
    parse_stat(&fs::read_to_string(path).ok()?)
}

/// `man 5 proc_pid_stat`: after the name in parentheses, fields 3 (state), 4 (parent), ..., 14 and 15 (ticks in
/// user and system mode), 16 and 17 (the same of children that were waited for).
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (system, reaped_user, reaped_system) = (ticks()?, ticks()?, ticks()?);
    Some(Stat { parent, cpu: time_of(user + system)?, reaped: time_of(reaped_user + reaped_system)? })
}

fn time_of(ticks: u64) -> Option<Duration> {
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(ticks_per_second);
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn of_own_thread(thread: u32) -> Option<Duration> {
    let task = format!("/proc/self/task/{thread}");
    // Nanoseconds where the kernel keeps them, ticks else.
    let exact = fs::read_to_string(format!("{task}/schedstat")).ok();
    let nanos = exact.and_then(|s| s.split_ascii_whitespace().next()?.parse().ok());
    match nanos {
        Some(nanos) => Some(Duration::from_nanos(nanos)),
        None => stat_of(&format!("{task}/stat")).map(|s| s.cpu),
    }
}

/// A server may do its work in child processes, as nginx does. The time of those that end does not get lost: their
/// parents keep it.
fn of_process_tree(root: u32) -> Option<Duration> {
    let stat = stat_of(&format!("/proc/{root}/stat"))?;
    let mut cpu = stat.cpu + stat.reaped;
    let mut family = vec![root];
    let all: Vec<(u32, Stat)> =
        entries("/proc").into_iter().filter_map(|pid| Some((pid, stat_of(&format!("/proc/{pid}/stat"))?))).collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        for (pid, stat) in all.iter().filter(|(pid, s)| s.parent == parent && *pid != parent) {
            if !family.contains(pid) {
                family.push(*pid);
                cpu += stat.cpu + stat.reaped;
            }
        }
    }
    Some(cpu)
}

/// The numbers among the names in a directory: processes or threads in /proc.
pub(crate) fn entries(dir: &str) -> Vec<u32> {
    let Ok(dir) = fs::read_dir(dir) else { return Vec::new() };
    dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_name_with_spaces_and_parentheses() {
        let line = "4711 (a) b) S 12 4711 4711 0 -1 4194560 100 0 0 0 250 50 7 3 20 0 1 0 100 1000 10";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.parent, 12);
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(stat.cpu, Duration::from_nanos(300 * 1_000_000_000 / ticks));
        assert_eq!(stat.reaped, Duration::from_nanos(10 * 1_000_000_000 / ticks));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_process_and_threads_have_cpu_time() {
        assert!(ServerCpu::Process(std::process::id()).sample().is_some());
        assert!(process_exists(std::process::id()));
        assert!(!process_exists(u32::MAX));
        let before = own_threads();
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || told.recv());
        let ours = ServerCpu::threads_beside(&before);
        assert!(matches!(&ours, ServerCpu::Threads(t) if !t.is_empty()));
        drop(tell);
        let _ = thread.join();
        assert_eq!(ServerCpu::Unknown.sample(), None);
    }
}
