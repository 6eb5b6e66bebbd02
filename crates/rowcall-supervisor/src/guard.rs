//! The guard: a small process that ends our agents when the daemon can no longer do so.
//!
//! The daemon starts one guard with the first agent and holds a pipe to it. However the daemon ends, the kernel closes
//! the pipe; the guard then ends everything that still belongs to the daemon (TERM, a grace period, KILL), removes the
//! task data that is left, and exits. Over the pipe come lines of JSON: once what to look for, then each process group
//! as it comes and goes.

mod handle;
mod run;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) use handle::Guard;
pub use run::run_guard;

/// The hidden argument by which `rowcall` is started as a guard.
pub const GUARD_ARGUMENT: &str = "__process-guard";

/// How the guard is started: a program that calls [`run_guard`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl GuardCommand {
    /// This program again, with [`GUARD_ARGUMENT`]. On Linux also when its file was replaced or removed meanwhile.
    pub fn this_program() -> std::io::Result<Self> {
        let program = if cfg!(target_os = "linux") && Path::new("/proc/self/exe").exists() {
            "/proc/self/exe".into()
        } else {
            std::env::current_exe()?
        };
        Ok(Self {
            program,
            args: vec![GUARD_ARGUMENT.into()],
        })
    }
}

/// What the daemon tells the guard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// The first line.
    Watch {
        /// What the marks of all starts begin with.
        prefix: String,
        /// Holds task data; removed at the end.
        spool: PathBuf,
        /// Between TERM and KILL.
        terminate: Duration,
        /// How long KILL is given to work.
        kill: Duration,
    },
    /// A process group that now runs.
    Add(i32),
    /// One that is gone.
    Remove(i32),
}
