//! One start of a program: its process group, its end, and everything it may leave behind.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    environment::{RUN_MARK, Variables},
    error::{LaunchError, spawn_error},
    options::Graces,
    processes::{self, Mark, Member},
    program::Program,
    supervisor::{Registration, Supervisor},
};

/// The shortest and the longest wait between two looks at what is still alive.
const POLL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// What is started, and with which variables.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    pub(crate) variables: Variables,
    /// Whether we write to its standard input; otherwise that is empty.
    pub(crate) talks: bool,
}

/// The ends of the pipes to a program.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// A running program and everything that came from it. Dropped before [`Running::finish`], all of it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Set once the program is reaped: from then on its process id may belong to somebody else.
    status: Option<ExitStatus>,
    /// Readable once the program has ended. Waiting on it does not reap, so the group id stays ours while its members
    /// are ended.
    #[cfg(target_os = "linux")]
    ended: Option<AsyncFd<std::os::fd::OwnedFd>>,
    family: Family,
    graces: Graces,
    registration: Registration,
    finished: bool,
}

/// What belongs to a start.
#[derive(Clone, Debug)]
struct Family {
    group: Pid,
    mark: Mark,
    since: u64,
}

impl Family {
    fn survivors(&self) -> Vec<Member> {
        let groups = BTreeSet::from([self.group.as_raw_pid()]);
        processes::find(&self.mark, &groups, self.since)
    }
}

/// Starts a program. The guard knows its mark before it runs, and its group right after.
pub(crate) fn spawn(
    supervisor: &Supervisor,
    launch: &Launch,
) -> Result<(Running, Pipes), LaunchError> {
    let registration = supervisor.register()?;
    let mut command = Command::new(&launch.program.path);
    command
        .args(&launch.program.args)
        .current_dir(&launch.program.dir)
        .env_clear()
        .envs(launch.variables.iter())
        .env(RUN_MARK, registration.mark())
        .stdin(if launch.talks {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let refused = |source| spawn_error(launch.program.path.clone(), source);
    let mut child = command.spawn().map_err(refused)?;
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        .ok_or_else(|| refused(io::Error::other("the process has no id")))?;
    registration.started(group);
    let pipes = Pipes {
        stdin: child.stdin.take(),
        stdout: child.stdout.take().expect("stdout is piped"),
        stderr: child.stderr.take().expect("stderr is piped"),
    };
    let running = Running {
        #[cfg(target_os = "linux")]
        ended: watch(group),
        family: Family {
            group,
            mark: Mark::Run(registration.mark().to_owned()),
            since: processes::started(group),
        },
        child,
        status: None,
        graces: supervisor.options().graces,
        registration,
        finished: false,
    };
    Ok((running, pipes))
}

/// A descriptor of the process; `None` on kernels without them, where waiting reaps at once.
#[cfg(target_os = "linux")]
fn watch(pid: Pid) -> Option<AsyncFd<std::os::fd::OwnedFd>> {
    use rustix::process::{PidfdFlags, pidfd_open};
    let handle = pidfd_open(pid, PidfdFlags::NONBLOCK)
        .or_else(|_| pidfd_open(pid, PidfdFlags::empty()))
        .ok()?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that may change their descriptor; an OwnedFd never does"
    )]
    AsyncFd::with_interest(handle, Interest::READABLE).ok()
}

impl Running {
    /// The process id of the program, which is the id of its group as well.
    pub(crate) fn pid(&self) -> u32 {
        self.family.group.as_raw_pid().unsigned_abs()
    }

    /// Waits until the program itself has ended; what it started may go on. Safe to cancel.
    pub(crate) async fn ended(&mut self) {
        if self.status.is_some() {
            return;
        }
        #[cfg(target_os = "linux")]
        if let Some(ended) = &self.ended
            && ended.readable().await.is_ok()
        {
            return;
        }
        self.reap().await;
    }

    /// Asks everything to end, waits `grace`, then kills. `true` when it had to be killed.
    pub(crate) async fn stop(&mut self, grace: Duration) -> bool {
        if self.clear(Signal::TERM, grace).await {
            return false;
        }
        self.clear(Signal::KILL, self.graces.kill).await;
        true
    }

    /// The program has ended: ends what it left behind, says how it ended.
    pub(crate) async fn finish(mut self) -> ExitStatus {
        if !self.clear(Signal::TERM, self.graces.leftovers).await
            && !self.clear(Signal::KILL, self.graces.kill).await
        {
            // Only a process in an uninterruptible call gets here. The guard is not told that the group is gone, so it
            // tries again when we end.
            tracing::error!(
                group = self.family.group.as_raw_pid(),
                "processes survive KILL"
            );
            self.registration.keep();
        }
        let status = timeout(self.graces.kill, self.reap()).await;
        self.finished = true;
        status.unwrap_or_else(|_| {
            use std::os::unix::process::ExitStatusExt;
            ExitStatus::from_raw(Signal::KILL.as_raw())
        })
    }

    async fn reap(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let status = self.child.wait().await.unwrap_or_else(|error| {
            // Somebody else reaped our child; how it ended is lost.
            tracing::error!(%error, "waiting for an agent failed");
            ExitStatus::default()
        });
        self.status = Some(status);
        status
    }

    /// Signals everything that lives until nothing does, TERM once each, KILL again and again. `false` when something
    /// is still there after `patience`.
    async fn clear(&mut self, signal: Signal, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut pause = POLL.0;
        let mut told = HashSet::new();
        loop {
            let living = self.survivors().await;
            if living.is_empty() {
                return true;
            }
            let first = told.is_empty();
            let group = self.family.group;
            if self.status.is_none() && (first || signal == Signal::KILL) {
                processes::signal_group(group, signal);
            }
            for member in &living {
                // While the program is not reaped, its group got the signal as a whole.
                let in_group = self.status.is_none() && member.group == group.as_raw_pid();
                let news = told.insert(member.pid);
                if (news && !in_group) || signal == Signal::KILL {
                    processes::signal(member, signal);
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(POLL.1);
        }
    }

    #[cfg(target_os = "linux")]
    async fn survivors(&self) -> Vec<Member> {
        let family = self.family.clone();
        tokio::task::spawn_blocking(move || family.survivors())
            .await
            .unwrap_or_default()
    }

    /// Without `/proc`, the program itself counts as living until it is reaped.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_async, reason = "its twin waits")]
    async fn survivors(&mut self) -> Vec<Member> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.family.survivors()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Somebody gave up on the run (a panic, a hard stop). There is no waiting here, so a few rounds must do.
        for _ in 0..3 {
            if self.status.is_none() {
                processes::signal_group(self.family.group, Signal::KILL);
            }
            let living = self.family.survivors();
            for member in &living {
                processes::signal(member, Signal::KILL);
            }
            if living.is_empty() {
                break;
            }
        }
    }
}
