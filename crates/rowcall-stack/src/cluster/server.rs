//! The running server: one thread starts it, waits for it, and starts it again after a crash.
//!
//! The thread lives as long as the server, because the kernel signals the server when the thread
//! that started it ends (see [`super::guard`]). It always reaps its child.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::account::Account;
use super::error::ClusterError;
use super::event::{ClusterEvent, Events};
use super::guard::GuardCommand;
use super::leftover;
use super::lock::DataDirLock;
use super::log::{Mark, ServerLog};
use super::ready::{Readiness, probe};

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

/// How the server is doing.
#[derive(Debug, Clone)]
pub enum Phase {
    /// It is being started and does not take connections yet.
    Starting,
    /// It takes connections.
    Ready,
    /// It ended by itself and is about to be started again.
    Restarting,
    /// It was stopped on request.
    Stopped,
    /// It ended and is not started again.
    Failed(Arc<ClusterError>),
}

/// How to start the server.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) guard: GuardCommand,
    pub(crate) account: Account,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) pg_dir: PathBuf,
    pub(crate) socket_dir: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) port: u16,
    pub(crate) log: Arc<ServerLog>,
    pub(crate) events: Events,
    /// How long the server may be silent while it starts.
    pub(crate) silence_limit: Duration,
    /// Held until the server has ended.
    pub(crate) lock: DataDirLock,
}

/// Why a first start failed.
#[derive(Debug)]
pub(crate) enum StartError {
    /// Somebody took the port in the meantime: another one may do.
    PortTaken,
    Other(ClusterError),
}

/// A server with its thread.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    control: Mutex<Control>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Control {
    /// The server, while it is not reaped: the number cannot mean another process.
    running: Option<Pid>,
    stopping: bool,
    /// The thread is done.
    ended: bool,
}

impl Server {
    /// Starts the server and waits until it is ready.
    pub(crate) fn start(launch: Launch) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::default());
        let (phase, receiver) = watch::channel(Phase::Starting);
        let (sender, first) = mpsc::sync_channel(1);
        let keeper = Keeper {
            launch,
            shared: Arc::clone(&shared),
            phase,
        };
        let thread = thread::Builder::new()
            .name("postgres-keeper".to_owned())
            .spawn(move || keeper.keep(&sender))
            .map_err(|error| {
                StartError::Other(ClusterError::Run {
                    program: PathBuf::from("postgres-keeper"),
                    reason: error.to_string(),
                })
            })?;
        match first.recv() {
            Ok(Ok(())) => Ok(Self {
                shared,
                phase: receiver,
                thread: Some(thread),
            }),
            Ok(Err(error)) => {
                // It is about to end, and to let go of the data directory's lock.
                let _ = thread.join();
                Err(error)
            }
            Err(mpsc::RecvError) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the keeper reports its first start before it ends"),
            },
        }
    }

    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Asks for a fast shutdown: clients are disconnected, a checkpoint is written.
    pub(crate) fn request_stop(&self) {
        let mut control = self.shared.control.lock();
        control.stopping = true;
        signal(&control, Signal::SIGINT);
        self.shared.changed.notify_all();
    }

    /// Stops the server: fast, after `grace` at once (it recovers on the next start), and at the
    /// very end by force.
    pub(crate) fn stop(mut self, grace: Duration) {
        self.request_stop();
        for (limit, harder) in [
            (grace, Some(Signal::SIGQUIT)),
            (grace, Some(Signal::SIGKILL)),
            (grace, None),
        ] {
            let mut control = self.shared.control.lock();
            let deadline = Instant::now() + limit;
            while !control.ended {
                if self
                    .shared
                    .changed
                    .wait_until(&mut control, deadline)
                    .timed_out()
                {
                    break;
                }
            }
            if control.ended {
                break;
            }
            if let Some(harder) = harder {
                tracing::warn!(signal = %harder, "PostgreSQL does not stop");
                signal(&control, harder);
            }
        }
        let ended = self.shared.control.lock().ended;
        if let (true, Some(thread)) = (ended, self.thread.take()) {
            // Its panic was printed; there is nothing more to do here.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not awaited: the thread goes on until the server has ended, and holds the lock so long.
        self.request_stop();
    }
}

fn signal(control: &Control, signal: Signal) {
    if let Some(pid) = control.running {
        // It may have ended just now; then it is reaped soon.
        let _ = kill(pid, signal);
    }
}

/// What the thread works with.
struct Keeper {
    launch: Launch,
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
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
    fn keep(self, first: &mpsc::SyncSender<Result<(), StartError>>) {
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
                    signal(&self.shared.control.lock(), Signal::SIGINT);
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
                signal(&self.shared.control.lock(), Signal::SIGQUIT);
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
        while !control.stopping {
            if self
                .shared
                .changed
                .wait_until(&mut control, deadline)
                .timed_out()
            {
                break;
            }
        }
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

    /// Starts a shell script in the place of the server.
    fn start_error(script: &str) -> StartError {
        let top = tempfile::tempdir().expect("a temporary directory");
        let lock = DataDirLock::acquire(top.path()).expect("the lock");
        let data_dir = lock.data_dir().to_owned();
        let launch = Launch {
            // Skips the guard's own arguments.
            guard: GuardCommand::new(
                PathBuf::from("/bin/sh"),
                ["-c", "shift 3; exec \"$@\"", "guard"],
            ),
            account: Account {
                switch: false,
                ..Account::for_server()
            },
            program: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            pg_dir: data_dir.clone(),
            socket_dir: data_dir.clone(),
            socket: data_dir.join("socket"),
            port: 1,
            log: Arc::new(ServerLog::new(data_dir.join("log"))),
            events: Events::to_log(),
            silence_limit: Duration::from_millis(200),
            lock,
        };
        let error = Server::start(launch).expect_err("a script is no server");
        DataDirLock::acquire(&data_dir).expect("the lock is free again");
        error
    }

    fn text(error: StartError) -> (&'static str, String) {
        match error {
            StartError::Other(error) => (error.code(), error.to_string()),
            StartError::PortTaken => ("port", String::new()),
        }
    }

    #[test]
    fn a_server_that_ends_is_quoted() {
        let (code, message) = text(start_error("echo 'FATAL:  bad luck' >&2; exit 1"));
        assert_eq!(code, "cluster-start");
        assert!(message.contains("  FATAL:  bad luck"), "{message}");
    }

    #[test]
    fn a_silent_server_is_given_up_and_ended() {
        let (code, message) = text(start_error("echo starting >&2; exec sleep 600"));
        assert_eq!(code, "cluster-not-ready");
        assert!(message.contains("  starting"), "{message}");
    }

    #[test]
    fn a_full_disk_and_a_taken_port_are_told_apart() {
        let full = "echo 'FATAL:  could not write lock file: No space left on device' >&2; exit 1";
        assert_eq!(text(start_error(full)).0, "cluster-disk-full");
        let port = "echo 'FATAL:  could not create any TCP/IP sockets' >&2; exit 1";
        assert_eq!(text(start_error(port)).0, "port");
    }
}
