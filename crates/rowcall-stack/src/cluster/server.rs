//! The handle of the running server: start, watch, stop. The work is done by its [`Keeper`].

use std::ffi::OsString;
use std::path::PathBuf;
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
use super::event::Events;
use super::guard::GuardCommand;
use super::keeper::Keeper;
use super::lock::DataDirLock;
use super::log::ServerLog;

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

/// What the handle and the keeper share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) control: Mutex<Control>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Control {
    /// The server, while it is not reaped: the number cannot mean another process.
    pub(super) running: Option<Pid>,
    pub(super) stopping: bool,
    /// The keeper is done.
    pub(super) ended: bool,
}

impl Control {
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.running {
            // It may have ended just now; then it is reaped soon.
            let _ = kill(pid, signal);
        }
    }
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
        control.signal(Signal::SIGINT);
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
            self.shared
                .changed
                .wait_while_until(&mut control, |control| !control.ended, deadline);
            if control.ended {
                break;
            }
            if let Some(harder) = harder {
                tracing::warn!(signal = %harder, "PostgreSQL does not stop");
                control.signal(harder);
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

#[cfg(test)]
mod tests {
    use super::*;

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
