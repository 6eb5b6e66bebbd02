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

/// The guards among the children of one thread.
fn guards_among(children: &Path) -> Vec<Pid> {
    fs::read_to_string(children)
        .unwrap_or_default()
        .split_whitespace()
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with("rowcall-process-guard"))
        })
        .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        .collect()
}

fn running(pid: Pid) -> bool {
    fs::exists(format!("/proc/{}", pid.as_raw_pid())).unwrap()
}

#[tokio::test]
async fn kill_minus_nine_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let mut daemon = daemon(&dir);
    let children = format!("/proc/{0}/task/{0}/children", daemon.id());
    let guard = guards_among(Path::new(&children))[0];
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

/// A place whose supervisor has a guard.
fn guarded() -> Place {
    Place::with(|options| {
        options.guard = Some(GuardCommand {
            program: PROBE.into(),
            args: vec!["guard".into()],
        });
    })
}

/// The guards that this process has started and that run.
fn guards() -> Vec<Pid> {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .flat_map(|thread| guards_among(&thread.path().join("children")))
        .collect()
}

#[tokio::test]
async fn one_guard_for_all_agents_and_none_after_them() {
    let place = guarded();
    assert!(guards().is_empty(), "no agent, no guard");
    for _ in 0..3 {
        place.sh("echo '{}'").go().await.unwrap();
        assert_eq!(guards().len(), 1);
    }
    place.runners.shutdown().await;
    assert!(guards().is_empty(), "it leaves with the supervisor");
    place.close().await;
}

#[tokio::test]
async fn a_guard_that_was_killed_is_replaced() {
    let place = guarded();
    place.sh("echo '{}'").go().await.unwrap();
    let first = guards();
    kill_process(first[0], Signal::KILL).unwrap();
    until("the next agent has another guard", || {
        guards().first() != first.first()
    })
    .await;
    place.sh("echo '{}'").go().await.unwrap();
    assert_eq!(guards().len(), 1);
    assert_ne!(guards(), first);
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
