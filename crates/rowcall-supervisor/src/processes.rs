//! Finding processes that belong to a start, and signalling them.
//!
//! Linux shows every process and, to its own user, the environment it was started with; that is how a process is found
//! that forked twice and made itself a new session. A process belongs if it is in one of the groups, carries the mark,
//! or is a descendant of one that does. Elsewhere only groups are known.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal};

/// Which marks count.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(
        dead_code,
        reason = "only Linux shows the environment of other processes"
    )
)]
pub(crate) enum Mark {
    /// One start.
    Run(String),
    /// Every start of one supervisor, whose marks all begin like this.
    Prefix(String),
}

#[cfg(target_os = "linux")]
impl Mark {
    fn matches(&self, mark: &[u8]) -> bool {
        match self {
            Self::Run(run) => mark == run.as_bytes(),
            Self::Prefix(prefix) => mark.starts_with(prefix.as_bytes()),
        }
    }
}

/// A living process that belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) pid: Pid,
    pub(crate) group: i32,
    #[cfg(target_os = "linux")]
    started: u64,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs::{self, File},
        io::Read,
    };

    use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

    use super::{Mark, Member};
    use crate::environment::RUN_MARK;

    /// The kernel's own bound on arguments and environment together, with its usual stack limit.
    const ENVIRON_BYTES: u64 = 2 * 1024 * 1024;

    struct Stat {
        state: u8,
        parent: i32,
        group: i32,
        /// Ticks since boot.
        started: u64,
    }

    /// `/proc/<pid>/stat`: the second field is the name in brackets, which may itself hold brackets and spaces.
    fn parse(text: &[u8]) -> Option<Stat> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        // starttime is field 22 of proc(5); the group was field 5.
        let started = fields.nth(16)?.parse().ok()?;
        Some(Stat {
            state,
            parent,
            group,
            started,
        })
    }

    fn stat(pid: i32) -> Option<Stat> {
        parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    pub(crate) fn started(pid: Pid) -> Option<u64> {
        stat(pid.as_raw_pid()).map(|stat| stat.started)
    }

    fn carries(pid: i32, mark: &Mark) -> bool {
        let Ok(file) = File::open(format!("/proc/{pid}/environ")) else {
            return false; // Gone, or another user's.
        };
        let mut environ = Vec::new();
        if file.take(ENVIRON_BYTES).read_to_end(&mut environ).is_err() {
            return false;
        }
        environ.split(|byte| *byte == 0).any(|variable| {
            variable
                .strip_prefix(RUN_MARK.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
                .is_some_and(|value| mark.matches(value))
        })
    }

    pub(crate) fn find(mark: &Mark, groups: &BTreeSet<i32>, since: u64) -> Vec<Member> {
        let me = getpid().as_raw_pid();
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let mut seen = BTreeMap::new();
        let mut ours = BTreeSet::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if pid == me || pid <= 1 {
                continue;
            }
            let Some(stat) = stat(pid) else { continue };
            // Nobody older than the program can be its child; reading only young environments keeps this cheap.
            if stat.started < since || matches!(stat.state, b'Z' | b'X' | b'x') {
                continue;
            }
            if groups.contains(&stat.group) || carries(pid, mark) {
                ours.insert(pid);
            }
            seen.insert(pid, stat);
        }
        // Children of ours that wiped their environment. Every round adds at least one, so this ends.
        loop {
            let before = ours.len();
            for (pid, stat) in &seen {
                if ours.contains(&stat.parent) {
                    ours.insert(*pid);
                }
            }
            if ours.len() == before {
                break;
            }
        }
        ours.into_iter()
            .filter_map(|pid| {
                let stat = seen.get(&pid)?;
                Some(Member {
                    pid: Pid::from_raw(pid)?,
                    group: stat.group,
                    started: stat.started,
                })
            })
            .collect()
    }

    pub(crate) fn signal(member: &Member, signal: Signal) {
        // With the descriptor in hand the id cannot change its owner; the start time says whether it had before.
        let Ok(handle) = pidfd_open(member.pid, PidfdFlags::empty()) else {
            return;
        };
        if started(member.pid) == Some(member.started) {
            let _ = pidfd_send_signal(&handle, signal);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn names_with_brackets_are_read() {
            let text = b"42 (a) b (c)) S 7 40 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
            let stat = parse(text).unwrap();
            assert_eq!(
                (stat.state, stat.parent, stat.group, stat.started),
                (b'S', 7, 40, 98765)
            );
            assert!(parse(b"42 (cut").is_none());
        }

        #[test]
        fn reads_itself() {
            assert!(started(getpid()).unwrap() > 0);
        }
    }
}

/// When a process started, in the kernel's own units; only compared with each other.
#[cfg(target_os = "linux")]
pub(crate) fn started(pid: Pid) -> u64 {
    linux::started(pid).unwrap_or(0)
}

/// The living processes that belong, never ourselves. Reads every process: a few milliseconds, so not on an async thread.
#[cfg(target_os = "linux")]
pub(crate) fn find(mark: &Mark, groups: &BTreeSet<i32>, since: u64) -> Vec<Member> {
    linux::find(mark, groups, since)
}

#[cfg(target_os = "linux")]
pub(crate) fn signal(member: &Member, signal: Signal) {
    linux::signal(member, signal);
}

/// When a process started: unknown here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn started(_pid: Pid) -> u64 {
    0
}

/// One member for each group that still has processes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn find(_mark: &Mark, groups: &BTreeSet<i32>, _since: u64) -> Vec<Member> {
    groups
        .iter()
        .filter_map(|group| {
            let pid = Pid::from_raw(*group)?;
            rustix::process::test_kill_process_group(pid).ok()?;
            Some(Member { pid, group: *group })
        })
        .collect()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn signal(member: &Member, signal: Signal) {
    signal_group(member.pid, signal);
}

/// Signals a whole group. A stopped process acts on TERM only once it continues.
pub(crate) fn signal_group(group: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(group, signal);
    if signal == Signal::TERM {
        let _ = rustix::process::kill_process_group(group, Signal::CONT);
    }
}
