//! Limits and waits of the supervisor, and what the daemon tells it about apps.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf, sync::Arc, time::Duration};

use rowcall_core::{AppId, Backoff, LeaseKey};

use crate::guard::GuardCommand;

/// What the daemon knows about an app's surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppHome {
    /// Where its programs run when their configuration names no `working_dir`; made when it is missing.
    pub directory: PathBuf,
    /// Connection variables: `DATABASE_URL`, `SUPABASE_URL`, `SUPABASE_KEY`, `SERVER_URL`, `RTX_APP_ID` and the like.
    pub variables: BTreeMap<String, String>,
}

/// Asked at every start, so that keys may change while the daemon runs.
pub type AppHomes = Arc<dyn Fn(&AppId) -> AppHome + Send + Sync>;

/// Asked for each attempt of a task: variables of its own, such as a token for its report.
pub type TaskVariables = Arc<dyn Fn(&LeaseKey) -> BTreeMap<String, String> + Send + Sync>;

/// How a supervisor works.
#[derive(Clone)]
pub struct SupervisorOptions {
    /// The part of the daemon's environment that programs see: [`crate::inherit`] of it.
    pub inherited: BTreeMap<OsString, OsString>,
    /// Directory and connection variables of each app.
    pub homes: AppHomes,
    /// Variables of each attempt, beside those that describe the task.
    pub task_variables: Option<TaskVariables>,
    /// Where data goes that is too large for an environment variable; readable by the daemon's user only.
    pub spool_dir: PathBuf,
    /// How the guard process is started; without one, a killed daemon leaves its agents running.
    pub guard: Option<GuardCommand>,
    /// How long things are waited for.
    pub graces: Graces,
    /// How large things may be.
    pub limits: Limits,
    /// How warm workers are kept.
    pub worker: WorkerOptions,
}

impl SupervisorOptions {
    /// The defaults, without a guard.
    pub fn new(spool_dir: impl Into<PathBuf>, homes: AppHomes) -> Self {
        Self {
            inherited: BTreeMap::new(),
            homes,
            task_variables: None,
            spool_dir: spool_dir.into(),
            guard: None,
            graces: Graces::default(),
            limits: Limits::default(),
            worker: WorkerOptions::default(),
        }
    }
}

impl fmt::Debug for SupervisorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `inherited` may hold a proxy password, and `homes` is a function.
        f.debug_struct("SupervisorOptions")
            .field("spool_dir", &self.spool_dir)
            .field("guard", &self.guard)
            .field("graces", &self.graces)
            .field("limits", &self.limits)
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

/// How long things are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graces {
    /// Between TERM and KILL when a program is stopped.
    pub terminate: Duration,
    /// Between TERM and KILL for what a program left running when it ended by itself.
    pub leftovers: Duration,
    /// How long a program may go on after its report was accepted.
    pub report_exit: Duration,
    /// How long output is read after everything that could write has ended.
    pub drain: Duration,
    /// How long KILL is given to work; a process in an uninterruptible call may outlive it.
    pub kill: Duration,
}

impl Default for Graces {
    fn default() -> Self {
        Self {
            terminate: Duration::from_secs(10),
            leftovers: Duration::from_millis(500),
            report_exit: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            kill: Duration::from_secs(5),
        }
    }
}

/// How large things may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `ACTIVITY_DATA` above this goes by file. Linux allows 128 KiB for one string, macOS 1 MiB for all of them; the
    /// data stands in the environment and in the arguments.
    pub inline_activity_bytes: usize,
    /// An output line is cut here, and the cut is marked.
    pub line_bytes: usize,
    /// The longest line of JSON that is read as a result or as an answer of a worker.
    pub result_bytes: usize,
    /// How much output of one run and stream goes to its log; of the rest, only the end is kept.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inline_activity_bytes: 96 * 1024,
            line_bytes: 64 * 1024,
            result_bytes: 16 * 1024 * 1024,
            log_bytes: 4 * 1024 * 1024,
        }
    }
}

/// How warm workers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerOptions {
    /// From start to `ready`.
    pub ready_timeout: Duration,
    /// How long a worker has to give up a task that was canceled; then it is ended and started again.
    pub cancel_grace: Duration,
    /// From `shutdown` to TERM.
    pub shutdown_grace: Duration,
    /// A worker without a task for this long is shut down; the next task starts it again.
    pub idle: Duration,
    /// Waits between a crash and the next start.
    pub restart: Backoff,
    /// After this many crashes in a row, without one answered task between them, tasks are refused for a while.
    pub crash_limit: u32,
    /// For how long.
    pub crash_pause: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            ready_timeout: Duration::from_mins(1),
            cancel_grace: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(5),
            idle: Duration::from_mins(5),
            restart: Backoff {
                base: Duration::from_millis(500),
                cap: Duration::from_secs(30),
            },
            crash_limit: 5,
            crash_pause: Duration::from_mins(1),
        }
    }
}
