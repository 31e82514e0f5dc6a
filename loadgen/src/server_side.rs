//! What a run costs the server, when it runs on this machine: CPU in user and system mode, context switches, memory.
//! Read from /proc; elsewhere nothing is known.

use std::fs;
use std::time::Duration;

use crate::cpu::{ServerCpu, cgroup_micros, entries};

/// What a server has used until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in system mode.
    pub system: Duration,
    /// Context switches because a thread had to wait.
    pub switches_voluntary: u64,
    /// Context switches because a thread's time was up.
    pub switches_involuntary: u64,
    /// Resident bytes of its processes, where pages that several of them share count for each; of a control group, what
    /// is charged to it. `None` for threads of our own process, whose memory is also the client's.
    pub resident: Option<u64>,
}

/// What a server used in the time that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Used {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in system mode.
    pub system: Duration,
    /// Context switches because a thread had to wait, and because its time was up. `None` when threads have ended
    /// meanwhile, because their share went with them.
    pub switches: Option<(u64, u64)>,
    /// Resident bytes before and after.
    pub resident: Option<(u64, u64)>,
}

impl Used {
    /// Between two samples; `None` when a process has gone meanwhile, because its share went with it.
    #[must_use]
    pub fn between(before: &Sample, after: &Sample) -> Option<Self> {
        Some(Self {
            user: after.user.checked_sub(before.user)?,
            system: after.system.checked_sub(before.system)?,
            switches: after
                .switches_voluntary
                .checked_sub(before.switches_voluntary)
                .zip(after.switches_involuntary.checked_sub(before.switches_involuntary)),
            resident: before.resident.zip(after.resident),
        })
    }

    /// Bytes that memory grew by for each of `connections` that are open at the end; `None` when it did not grow, or
    /// nobody knows.
    #[must_use]
    pub fn resident_each(&self, connections: u64) -> Option<f64> {
        let (before, after) = self.resident?;
        let grown = after.checked_sub(before)?;
        (connections > 0 && grown > 0).then(|| grown as f64 / connections as f64)
    }
}

/// Samples a server; `None` when nobody knows where it is.
#[must_use]
pub fn sample(server: &ServerCpu) -> Option<Sample> {
    match server {
        ServerCpu::Unknown => None,
        ServerCpu::Process(pid) => {
            let mut all = Sample { resident: Some(0), ..Sample::default() };
            for pid in family(*pid)? {
                all.add_process(pid);
            }
            Some(all)
        }
        ServerCpu::Cgroup(path) => {
            let time = |field| cgroup_micros(path, field).map(Duration::from_micros);
            let pids = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            let counted = fs::read_to_string(path.join("memory.current")).ok().and_then(|n| n.trim().parse().ok());
            // A group need not count its memory; its processes' is known all the same.
            let resident = counted.or_else(|| pids.lines().map(resident_of).sum());
            let mut all =
                Sample { user: time("user_usec")?, system: time("system_usec")?, resident, ..Sample::default() };
            pids.lines().for_each(|pid| all.add_process_switches(pid));
            Some(all)
        }
        ServerCpu::Threads(threads) => {
            let mut all = Sample::default();
            for thread in threads {
                all.add_task(&format!("/proc/self/task/{thread}"))?;
            }
            Some(all)
        }
    }
}

impl Sample {
    /// A process that has gone meanwhile adds nothing.
    fn add_process(&mut self, pid: u32) {
        let Some((user, system)) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|s| cpu_times(&s))
        else {
            return;
        };
        self.user += user;
        self.system += system;
        let pid = pid.to_string();
        self.resident = self.resident.zip(resident_of(&pid)).map(|(all, bytes)| all + bytes);
        self.add_process_switches(&pid);
    }

    /// The process's own status has only its first thread's switches.
    fn add_process_switches(&mut self, pid: &str) {
        for thread in entries(&format!("/proc/{pid}/task")) {
            self.add_switches(&format!("/proc/{pid}/task/{thread}"));
        }
    }

    fn add_task(&mut self, task: &str) -> Option<()> {
        let (user, system) = cpu_times(&fs::read_to_string(format!("{task}/stat")).ok()?)?;
        self.user += user;
        self.system += system;
        self.add_switches(task);
        Some(())
    }

    fn add_switches(&mut self, task: &str) {
        let Ok(status) = fs::read_to_string(format!("{task}/status")) else { return };
        self.switches_voluntary += number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        self.switches_involuntary += number(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
}

/// The resident memory of a process, in bytes.
fn resident_of(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    number(&status, "VmRSS:").map(|kib| kib * 1024)
}

/// A process and all that come from it; `None` when it is not there.
fn family(root: u32) -> Option<Vec<u32>> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        after_name(&stat)?.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()
    };
    parent(root)?;
    let all: Vec<(u32, u32)> = entries("/proc").into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(older) = family.get(next).copied() {
        next += 1;
        let children = all.iter().filter(|(pid, parent)| *parent == older && !family.contains(pid));
        family.extend(children.map(|(pid, _)| *pid).collect::<Vec<_>>());
    }
    Some(family)
}

/// `man 5 proc_pid_stat`: the name in parentheses may hold anything, so what counts begins after the last one.
fn after_name(stat: &str) -> Option<&str> {
    Some(stat.rsplit_once(')')?.1)
}

/// Fields 14 and 15: ticks in user and in system mode.
fn cpu_times(stat: &str) -> Option<(Duration, Duration)> {
    let mut fields = after_name(stat)?.split_ascii_whitespace().skip(11);
    let per_second = rustix::param::clock_ticks_per_second().max(1) as f64;
    let mut time = || Some(Duration::from_secs_f64(fields.next()?.parse::<u32>().ok()? as f64 / per_second));
    Some((time()?, time()?))
}

fn number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_proc_are_read() {
        let stat = "4711 (a) b) S 12 4711 4711 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let (user, system) = cpu_times(stat).unwrap();
        assert!(
            (user.as_secs_f64() - 250.0 / ticks).abs() < 1e-9 && (system.as_secs_f64() - 50.0 / ticks).abs() < 1e-9
        );
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(number(status, "VmRSS:"), Some(2048));
        assert_eq!(number(status, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(number(status, "nonvoluntary_ctxt_switches:"), Some(3));
        assert_eq!(cpu_times("nonsense"), None);
    }

    #[test]
    fn what_was_used_is_the_difference_and_nothing_when_a_process_went() {
        let sample = |user, switches, resident| Sample {
            user: Duration::from_secs(user),
            switches_voluntary: switches,
            resident: Some(resident),
            ..Sample::default()
        };
        let used = Used::between(&sample(1, 10, 1000), &sample(3, 15, 9000)).unwrap();
        assert_eq!((used.user, used.switches), (Duration::from_secs(2), Some((5, 0))));
        assert_eq!(Used::between(&sample(1, 10, 0), &sample(3, 5, 0)).unwrap().switches, None);
        assert_eq!((used.resident_each(4), used.resident_each(0)), (Some(2000.0), None));
        assert_eq!(Used::between(&sample(3, 0, 0), &sample(1, 0, 0)), None);
        assert_eq!(Used::between(&sample(1, 0, 9), &sample(1, 0, 5)).unwrap().resident_each(1), None);
    }

    #[test]
    fn a_control_group_is_read_from_its_directory() {
        let dir = std::env::temp_dir().join(format!("handfast-load-{}-cgroup", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(sample(&ServerCpu::Cgroup(dir.clone())), None);
        fs::write(dir.join("cpu.stat"), "usage_usec 700\nuser_usec 500\nsystem_usec 200\nnr_periods 0\n").unwrap();
        fs::write(dir.join("memory.current"), "4096\n").unwrap();
        fs::write(dir.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        let cgroup = ServerCpu::Cgroup(dir.clone());
        let seen = sample(&cgroup).unwrap();
        assert_eq!((seen.user, seen.system), (Duration::from_micros(500), Duration::from_micros(200)));
        assert_eq!((seen.resident, cgroup.sample()), (Some(4096), Some(Duration::from_micros(700))));
        assert!(seen.switches_voluntary > 0 || !cfg!(target_os = "linux"), "{seen:?}");
        fs::remove_file(dir.join("memory.current")).unwrap();
        let resident = sample(&cgroup).unwrap().resident;
        assert!(resident > Some(4096) || !cfg!(target_os = "linux"), "that of its processes: {resident:?}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_process_has_memory_and_its_threads_have_none_of_their_own() {
        let own = sample(&ServerCpu::Process(std::process::id())).unwrap();
        assert!(own.resident.unwrap() > 1024 * 1024, "{own:?}");
        let threads = sample(&ServerCpu::Threads(crate::cpu::own_threads()));
        assert!(threads.is_none_or(|t| t.resident.is_none()));
        assert_eq!(sample(&ServerCpu::Process(u32::MAX)), None);
        assert_eq!(sample(&ServerCpu::Unknown), None);
    }
}
