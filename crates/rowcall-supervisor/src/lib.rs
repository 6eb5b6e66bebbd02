//! Child processes of rowcall: agents per task, warm workers, process groups and captured output.
//!
//! [`Runners`] is what the engine is given: it dispatches on [`rowcall_core::AgentKind`] to [`ProcessRunner`] (a program
//! started for each task) and [`WorkerRunner`] (a warm program that takes tasks as JSON lines, see
//! `docs/worker-protocol.md`). Both start programs through one [`Supervisor`], which holds the invariants:
//!
//! - **No orphan.** Every start has its own process group and carries a mark (`ROWCALL_RUN`) in its environment. When
//!   the start ends, its group and everything else that carries the mark is ended before anybody is told that it ended.
//!   Should the daemon itself be killed, a [`guard`] process does the same for everything that was running.
//! - **Clean environment.** A program sees only what [`inherit`] lets through, what the daemon gives it, and what its own
//!   configuration says; never the daemon's secrets.
//! - **Bounded output.** Lines, logs and results have limits ([`Limits`]); a flood is read and dropped, so it neither
//!   fills the memory nor blocks the program.
//!
//! What a program started for a task finds: `TASK_UUID`, `ACTIVITY_DATA`, `MACHINE_ID`, `TABLE_NAME`, `TABLE_SCHEMA`,
//! `EVENT_TYPE`, `ATTEMPT`, `IDEMPOTENCY_KEY`, and the first two again as its last arguments. Data that is too large for
//! a variable is in the file that `ACTIVITY_DATA_FILE` names; `ACTIVITY_DATA` is then
//! `{"file": "…", "truncated": true, …}`.
//!
//! Limits of the mark: a program that both wipes its environment *and* detaches itself into a new session by a double
//! fork cannot be told from a stranger. Systems other than Linux have no readable environment of other processes; there,
//! only process groups are ended.

mod activity;
pub mod app;
mod child;
mod environment;
mod error;
pub mod guard;
mod options;
mod outcome;
mod output;
mod process;
mod processes;
mod program;
mod runners;
mod supervisor;
mod worker;

pub use activity::json as task_json;
pub use app::{AppHost, AppLaunch, AppOptions, AppProcess, AppState, StartReply};
pub use environment::{RUN_MARK, inherit};
pub use error::LaunchError;
pub use guard::GuardCommand;
pub use options::{
    AppHome, AppHomes, Graces, Limits, SupervisorOptions, TaskVariables, WorkerOptions,
};
pub use process::ProcessRunner;
pub use runners::Runners;
pub use supervisor::Supervisor;
pub use worker::{PROTOCOL_VERSION, WorkerRunner};
