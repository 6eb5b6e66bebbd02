//! The thread that starts the server, waits for it, and starts it again after a crash.
//!
//! It lives as long as the server, because the kernel signals the server when the thread that
//! started it ends (see [`super::guard`]). It always reaps its child.

use std::collections::VecDeque;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::watch;

use super::error::ClusterError;
use super::event::ClusterEvent;
use super::leftover;
use super::log::Mark;
use super::ready::{Readiness, probe};
use super::server::{Launch, Phase, Shared, StartError};

/// How often a starting server is asked.
const READY_POLL: Duration = Duration::from_millis(5);
/// How long the end of the log is waited for after the server has ended.
const LOG_DRAIN: Duration = Duration::from_secs(1);
/// The pause before the server is started again doubles with each crash, from this …
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// … to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// More crashes than this within [`CRASH_WINDOW`] are final.
const CRASHES_ALLOWED: usize = 5;
/// Crashes longer ago than this are forgotten.
const CRASH_WINDOW: Duration = Duration::from_mins(1);

/// What the thread works with.
pub(super) struct Keeper {
    pub(super) launch: Launch,
    pub(super) shared: Arc<Shared>,
    pub(super) phase: watch::Sender<Phase>,
}

/// One run of the server that was ready once or not.
enum Ended {
    /// On request.
    Stopped,
    Early(StartError),
    /// After it was ready.
    Crashed(ExitStatus),
}

impl Keeper {
    /// Runs the server until it is stopped or has failed for good; reports the first start.
    pub(super) fn keep(self, first: &mpsc::SyncSender<Result<(), StartError>>) {
        let last = self.run_repeatedly(first);
        self.phase.send_replace(last);
        self.shared.control.lock().ended = true;
        self.shared.changed.notify_all();
    }

    fn run_repeatedly(&self, first: &mpsc::SyncSender<Result<(), StartError>>) -> Phase {
        let mut crashes = VecDeque::new();
        let mut reported = false;
        loop {
            let mark = self.launch.log.mark();
            let ended = self.run(mark, || {
                if !reported {
                    reported = true;
                    // The caller waits for exactly this.
                    let _ = first.send(Ok(()));
                }
            });
            let reason = match ended {
                Ended::Stopped => return Phase::Stopped,
                Ended::Early(error) if !reported => {
                    let _ = first.send(Err(error));
                    return Phase::Stopped;
                }
                Ended::Early(StartError::Other(error)) => error.to_string(),
                Ended::Early(StartError::PortTaken) => "its port is taken".to_owned(),
                Ended::Crashed(status) => status.to_string(),
            };
            tracing::error!(reason, "PostgreSQL ended unexpectedly");
            if let Some(fatal) = self.verdict(&mut crashes, mark) {
                return Phase::Failed(Arc::new(fatal));
            }
            let pause = pause_after(crashes.len());
            self.phase.send_replace(Phase::Restarting);
            self.launch.events.send(ClusterEvent::Restarting {
                crashes: crashes.len(),
                pause,
            });
            if self.stop_requested_within(pause) {
                return Phase::Stopped;
            }
        }
    }

    /// Records a crash; an error when it must be the last one.
    fn verdict(&self, crashes: &mut VecDeque<Instant>, mark: Mark) -> Option<ClusterError> {
        let log = &self.launch.log;
        if let Some(detail) = log.disk_full(mark) {
            return Some(ClusterError::DiskFull {
                path: self.launch.lock.data_dir().to_owned(),
                detail,
            });
        }
        let now = Instant::now();
        crashes.retain(|at| now.duration_since(*at) < CRASH_WINDOW);
        crashes.push_back(now);
        (crashes.len() > CRASHES_ALLOWED).then(|| ClusterError::Crashed {
            crashes: crashes.len(),
            window: CRASH_WINDOW,
            log: log.excerpt(mark),
            log_file: log.path().to_owned(),
        })
    }

    /// Starts the server, waits until it is ready and then until it ends.
    fn run(&self, mark: Mark, ready: impl FnOnce()) -> Ended {
        let launch = &self.launch;
        if let Err(error) = leftover::clear(&launch.pg_dir, &launch.socket_dir, &launch.events) {
            return Ended::Early(StartError::Other(error));
        }
        self.phase.send_replace(Phase::Starting);
        launch
            .events
            .send(ClusterEvent::Starting { port: launch.port });
        let started = Instant::now();
        let (mut child, reader) = match self.spawn() {
            Ok(Some(pair)) => pair,
            Ok(None) => return Ended::Stopped,
            Err(error) => return Ended::Early(StartError::Other(error)),
        };
        let early = self.wait_ready(&mut child, mark);
        if early.is_ok() {
            self.phase.send_replace(Phase::Ready);
            launch.events.send(ClusterEvent::Ready {
                port: launch.port,
                elapsed: started.elapsed(),
            });
            ready();
        }
        let status = self.wait_end(&mut child);
        drain(&reader);
        if self.shared.control.lock().stopping {
            return Ended::Stopped;
        }
        match early {
            Ok(()) => Ended::Crashed(status),
            Err(limit) => Ended::Early(self.start_error(mark, limit)),
        }
    }

    /// `None` when it is to be stopped already.
    fn spawn(&self) -> Result<Option<(Child, thread::JoinHandle<()>)>, ClusterError> {
        let launch = &self.launch;
        let mut command = launch
            .guard
            .command(&launch.account, &launch.program, &launch.arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut control = self.shared.control.lock();
        if control.stopping {
            return Ok(None);
        }
        let mut child = command.spawn().map_err(|error| ClusterError::Run {
            program: PathBuf::from(command.get_program()),
            reason: error.to_string(),
        })?;
        control.running = Some(Pid::from_raw(child.id().cast_signed()));
        let stderr = child.stderr.take().expect("piped above");
        Ok(Some((child, launch.log.follow(stderr))))
    }

    /// Waits until the server is ready, has ended, or must be given up: then it is told to end, and
    /// the error is the time it was silent.
    fn wait_ready(&self, child: &mut Child, mark: Mark) -> Result<(), Option<Duration>> {
        let log = &self.launch.log;
        let mut last_sign = Instant::now();
        let mut lines = log.mark();
        loop {
            match self.ask() {
                // A server that could bind only one of its addresses also becomes ready.
                Readiness::Ready if !log.port_taken(mark) => return Ok(()),
                Readiness::Ready => {
                    self.shared.control.lock().signal(Signal::SIGINT);
                    return Err(None);
                }
                Readiness::Starting => last_sign = Instant::now(),
                Readiness::Silent => {}
            }
            let now = log.mark();
            if now != lines {
                lines = now;
                last_sign = Instant::now();
            }
            if has_ended(child) {
                return Err(None);
            }
            if last_sign.elapsed() > self.launch.silence_limit {
                self.shared.control.lock().signal(Signal::SIGQUIT);
                return Err(Some(self.launch.silence_limit));
            }
            thread::sleep(READY_POLL);
        }
    }

    /// A socket file that is not one would make each question wait for its time-out.
    fn ask(&self) -> Readiness {
        let socket = &self.launch.socket;
        let is_socket = |meta: std::fs::Metadata| meta.file_type().is_socket();
        if socket.metadata().is_ok_and(is_socket) {
            probe(socket)
        } else {
            Readiness::Silent
        }
    }

    /// Waits for the end and reaps, so that nobody can signal a reused pid.
    fn wait_end(&self, child: &mut Child) -> ExitStatus {
        await_exit(child);
        let mut control = self.shared.control.lock();
        control.running = None;
        child.wait().expect("the child is ours and was not reaped")
    }

    fn start_error(&self, mark: Mark, silent: Option<Duration>) -> StartError {
        let launch = &self.launch;
        if launch.log.port_taken(mark) {
            return StartError::PortTaken;
        }
        if let Some(detail) = launch.log.disk_full(mark) {
            let path = launch.lock.data_dir().to_owned();
            return StartError::Other(ClusterError::DiskFull { path, detail });
        }
        let log = launch.log.excerpt(mark);
        let log_file = launch.log.path().to_owned();
        StartError::Other(match silent {
            Some(limit) => ClusterError::NotReady {
                limit,
                log,
                log_file,
            },
            None => ClusterError::StartFailed { log, log_file },
        })
    }

    fn stop_requested_within(&self, pause: Duration) -> bool {
        let mut control = self.shared.control.lock();
        let deadline = Instant::now() + pause;
        self.shared
            .changed
            .wait_while_until(&mut control, |control| !control.stopping, deadline);
        control.stopping
    }
}

fn pause_after(crashes: usize) -> Duration {
    let doublings = u32::try_from(crashes.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(16);
    LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(doublings))
}

/// The log ends when the last process of the server has closed it.
fn drain(reader: &thread::JoinHandle<()>) {
    let started = Instant::now();
    while !reader.is_finished() && started.elapsed() < LOG_DRAIN {
        thread::sleep(READY_POLL);
    }
}

/// Whether the child has ended; it is left to be reaped.
#[cfg(target_os = "linux")]
fn has_ended(child: &Child) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    let pid = Pid::from_raw(child.id().cast_signed());
    !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}

/// Waits until the child has ended; it is left to be reaped.
#[cfg(target_os = "linux")]
fn await_exit(child: &Child) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let pid = Pid::from_raw(child.id().cast_signed());
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
}

/// Without `waitid` the child is reaped here; the standard library remembers its status.
#[cfg(not(target_os = "linux"))]
fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

/// Without `waitid` the child is asked again and again.
#[cfg(not(target_os = "linux"))]
fn await_exit(child: &mut Child) {
    while !has_ended(child) {
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<_> = (1..=8).map(|n| pause_after(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause_after(usize::MAX), LONGEST_PAUSE);
    }
}
