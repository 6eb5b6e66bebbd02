//! CPU time of processes, from `/proc` and `getrusage`.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};

/// The unit of `/proc/<pid>/stat`: fixed at 100 per second in the interface, whatever the kernel's own tick.
const TICK: Duration = Duration::from_millis(10);

/// The fields of `/proc/<pid>/stat` after the name, counted from its state.
struct Stat {
    parent: u32,
    own: Duration,
    reaped: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| -> Option<u32> { fields.get(index)?.parse().ok() };
    Some(Stat {
        parent: ticks(1)?,
        own: TICK * (ticks(11)? + ticks(12)?),
        reaped: TICK * (ticks(13)? + ticks(14)?),
    })
}

/// What one thread has run, to the nanosecond; PostgreSQL's processes have one thread each.
fn run_time(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn all_processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The CPU time of a postmaster and its children at one moment.
pub(crate) struct PostgresCpu {
    alive: HashMap<u32, Duration>,
    reaped: Duration,
}

impl PostgresCpu {
    /// Reads it.
    pub(crate) fn read(postmaster: u32) -> Result<Self> {
        let root = stat(postmaster).context("the postmaster has gone")?;
        let mut alive = HashMap::new();
        for pid in all_processes() {
            let child = || stat(pid).is_some_and(|stat| stat.parent == postmaster);
            if (pid == postmaster || child())
                && let Some(time) = run_time(pid)
            {
                alive.insert(pid, time);
            }
        }
        Ok(Self {
            alive,
            reaped: root.reaped,
        })
    }

    /// What was used since an earlier moment. A process that has ended since then is in what the postmaster reaped, with
    /// its whole life.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let mut used = self.reaped.saturating_sub(before.reaped);
        for (pid, time) in &self.alive {
            let then = before.alive.get(pid).copied().unwrap_or_default();
            used += time.saturating_sub(then);
        }
        let ended: Duration = before
            .alive
            .iter()
            .filter(|(pid, _)| !self.alive.contains_key(pid))
            .map(|(_, time)| *time)
            .sum();
        used.saturating_sub(ended)
    }
}

/// Who does the work beside PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Worker {
    /// This process.
    Own,
    /// Another one, with all its threads.
    Process(u32),
}

impl Worker {
    /// Its CPU time so far.
    pub(crate) fn cpu(self) -> Result<Duration> {
        match self {
            Self::Own => {
                let usage = getrusage(UsageWho::RUSAGE_SELF)?;
                let time = |value: nix::sys::time::TimeVal| {
                    let micros = value.tv_sec() * 1_000_000 + value.tv_usec();
                    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
                };
                Ok(time(usage.user_time()) + time(usage.system_time()))
            }
            Self::Process(pid) => Ok(stat(pid).context("the worker has gone")?.own),
        }
    }
}

/// Resident memory of a process, in KiB, and how much of it is its own rather than file pages.
pub(crate) fn resident_kib(pid: u32) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name} in /proc/{pid}/status"))?;
        Ok(line.trim_end_matches("kB").trim().parse()?)
    };
    Ok((field("VmRSS:")?, field("RssAnon:")?))
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    all_processes()
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// How busy all processors were since the start of the machine, in seconds of one processor.
pub(crate) fn machine_busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq: all but idle and iowait.
    let busy: f64 = fields.iter().take(7).sum::<f64>()
        - fields.get(3).copied().unwrap_or_default()
        - fields.get(4).copied().unwrap_or_default();
    Ok(busy * TICK.as_secs_f64())
}
