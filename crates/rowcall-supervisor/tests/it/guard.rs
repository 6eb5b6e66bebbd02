//! A daemon that is killed with -9 leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use rowcall_supervisor::GuardCommand;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{Place, alive, until};

const PROBE: &str = env!("CARGO_BIN_EXE_supervisor-probe");

/// Ignores TERM, has a child in its group and a daemon outside of it.
const STUBBORN: &str = "\
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('agent', 'w').write(str(os.getpid()))
child = subprocess.Popen(['sleep', '600'])
open('child', 'w').write(str(child.pid))
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    open('daemon', 'w').write(str(os.getpid()))
    time.sleep(600)
while not os.path.exists('daemon') or not open('daemon').read(): time.sleep(0.01)
print('running', flush=True)
time.sleep(600)
";

/// Starts a daemon with an agent, and waits until that runs.
fn daemon(dir: &TempDir) -> Child {
    let script = dir.path().join("agent");
    let text = format!("#!/usr/bin/env python3\n{STUBBORN}");
    fs::write(script.with_extension("py"), text).unwrap();
    let starter = dir.path().join("start.sh");
    fs::write(
        &starter,
        format!(
            "#!/bin/sh\nexec python3 '{}'\n",
            script.with_extension("py").display()
        ),
    )
    .unwrap();
    make_executable(&starter);
    let mut daemon = Command::new(PROBE)
        .args([
            "daemon".as_ref(),
            dir.path().as_os_str(),
            starter.as_os_str(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(daemon.stdout.take().unwrap());
    let running = out.lines().any(|line| line.unwrap() == "running");
    assert!(running, "the agent did not start");
    daemon
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The guards that run and belong to one supervisor, told by a word of their arguments or by their parent.
///
/// All processes are looked at: the kernel's own list of children leaves some out while others come and go.
fn guards_of(owner: &Owner) -> Vec<Pid> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| owner.has(*pid))
        .map(|pid| Pid::from_raw(pid).unwrap())
        .collect()
}

/// Whose guard it is.
enum Owner {
    /// The supervisor of this test, whose guards carry a word of their own as an argument: with `cargo test` other
    /// tests run in the same process.
    Word(String),
    /// Another process.
    Parent(u32),
}

impl Owner {
    fn has(&self, pid: i32) -> bool {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        words.next() == Some("rowcall-process-guard")
            && match self {
                Self::Word(word) => words.any(|other| other == word),
                Self::Parent(parent) => parent_of(pid) == Some(*parent),
            }
    }

    /// The one guard, once it is there: a process shows its new arguments only some time after its start returned.
    async fn guard(&self) -> Pid {
        until("there is a guard", || !guards_of(self).is_empty()).await;
        let guards = guards_of(self);
        assert_eq!(guards.len(), 1, "one guard at a time");
        guards[0]
    }
}

fn parent_of(pid: i32) -> Option<u32> {
    // The fields behind the name: state, parent, …
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Whether it still runs. A zombie has ended.
fn running(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    })
}

#[tokio::test]
async fn kill_minus_nine_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let mut daemon = daemon(&dir);
    let guard = Owner::Parent(daemon.id()).guard().await;
    for name in ["agent", "child", "daemon"] {
        assert!(alive(&dir.path().join(name)), "{name}");
    }
    let spool = dir.path().join("spool");
    assert_eq!(
        fs::read_dir(&spool).unwrap().count(),
        1,
        "the data is by file"
    );
    // What a terminal or a service manager sends to everybody must not end the guard before the daemon.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        kill_process(guard, signal).unwrap();
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    until("the agent and all it started is gone", || {
        ["agent", "child", "daemon"]
            .iter()
            .all(|name| !alive(&dir.path().join(name)))
    })
    .await;
    until("the guard has gone too", || !running(guard)).await;
    assert_eq!(
        fs::read_dir(&spool).unwrap().count(),
        0,
        "the data is removed"
    );
}

/// A place whose supervisor has a guard, and how that guard is known.
fn guarded(test: &str) -> (Place, Owner) {
    let word = format!("guard-of-{test}-{}", std::process::id());
    let place = Place::with(|options| {
        options.guard = Some(GuardCommand {
            program: PROBE.into(),
            args: vec!["guard".into(), word.clone().into()],
        });
    });
    (place, Owner::Word(word))
}

#[tokio::test]
async fn one_guard_for_all_agents_and_none_after_them() {
    let (place, owner) = guarded("all");
    assert!(guards_of(&owner).is_empty(), "no agent, no guard");
    let mut seen = Vec::new();
    for _ in 0..3 {
        place.sh("echo '{}'").go().await.unwrap();
        seen.push(owner.guard().await);
    }
    assert!(seen.iter().all(|guard| *guard == seen[0]), "{seen:?}");
    place.runners.shutdown().await;
    until("it leaves with the supervisor", || {
        guards_of(&owner).is_empty()
    })
    .await;
    place.close().await;
}

#[tokio::test]
async fn a_guard_that_was_killed_is_replaced() {
    let (place, owner) = guarded("killed");
    place.sh("echo '{}'").go().await.unwrap();
    let first = owner.guard().await;
    kill_process(first, Signal::KILL).unwrap();
    until("the killed guard has ended", || !running(first)).await;
    place.sh("echo '{}'").go().await.unwrap();
    assert_ne!(owner.guard().await, first);
    place.close().await;
}

#[tokio::test]
async fn agents_run_without_a_guard_when_it_cannot_be_started() {
    let place = Place::with(|options| {
        options.guard = Some(GuardCommand {
            program: "/no/such/guard".into(),
            args: Vec::new(),
        });
    });
    assert_eq!(place.sh("echo '{}'").go().await.unwrap(), "{}");
    place.close().await;
}
