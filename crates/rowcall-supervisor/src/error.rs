//! Why a program could not be started, in words that say what to do.

use std::{io, path::PathBuf};

use rowcall_core::{AgentError, AgentErrorKind};

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A runtime or program that is searched, and is nowhere.
    #[error("{program} not found on PATH: {help}")]
    NotOnPath {
        /// What was searched.
        program: String,
        /// What to do.
        help: String,
    },
    /// A path that leads nowhere.
    #[error("{} does not exist: check \"command\" (relative paths start at working_dir, here {})", path.display(), dir.display())]
    NoSuchFile {
        /// The program.
        path: PathBuf,
        /// Where relative paths start.
        dir: PathBuf,
    },
    /// A file without the right to execute it, or a directory.
    #[error("{} is not executable: {help}", path.display())]
    NotExecutable {
        /// The program.
        path: PathBuf,
        /// What to do.
        help: &'static str,
    },
    /// No command where one is needed.
    #[error(
        "the agent has no command: set \"command\" to a program (app_type custom has no default)"
    )]
    NoCommand,
    /// Something is missing among the arguments.
    #[error("{program} needs an argument: {help}")]
    NoArguments {
        /// The runtime.
        program: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// The directory it should run in is not there.
    #[error("working_dir {} {problem}: create it or correct the configuration", path.display())]
    WorkingDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The operating system refused.
    #[error("could not start {}: {help} ({source})", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// What it may mean.
        help: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The data of the task could not be written to its file.
    #[error("could not write the task's data to {}: {source}; check that the disk is not full", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor is shutting down.
    #[error("rowcall is stopping")]
    Stopping,
}

impl LaunchError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotOnPath { .. } | Self::NoSuchFile { .. } => "agent-not-found",
            Self::NotExecutable { .. } => "agent-not-executable",
            Self::NoCommand | Self::NoArguments { .. } => "agent-command",
            Self::WorkingDir { .. } => "agent-working-dir",
            Self::Spawn { .. } => "agent-spawn",
            Self::Spool { .. } => "agent-data",
            Self::Stopping => "engine-stopped",
        }
    }

    /// The message with its code, for places that keep nothing but a text: a task's `error_message`, an app's problem.
    pub fn with_code(&self) -> String {
        format!("{self} [{}]", self.code())
    }
}

impl From<LaunchError> for AgentError {
    fn from(error: LaunchError) -> Self {
        let kind = match error {
            LaunchError::Stopping => AgentErrorKind::Canceled,
            _ => AgentErrorKind::NotStarted,
        };
        Self::new(kind, error.with_code())
    }
}

/// What an error of the start itself may mean; everything that can be checked before was checked.
pub(crate) fn spawn_error(path: PathBuf, source: io::Error) -> LaunchError {
    let help = match source.kind() {
        io::ErrorKind::NotFound => "the interpreter that its first line (#!) names does not exist",
        io::ErrorKind::PermissionDenied => "the system does not allow it to be executed",
        io::ErrorKind::ArgumentListTooLong => {
            "its arguments and environment are too large together; make \"env\" or \"args\" smaller"
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            "the machine is out of processes or memory; lower max_concurrent_tasks"
        }
        // Not every system error has a stable kind of its own.
        _ if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "it is neither a binary of this machine nor a script with a first line like #!/bin/sh"
        }
        _ if source.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "too many open files; raise the limit (ulimit -n) or lower max_concurrent_tasks"
        }
        _ => "the system refused",
    };
    LaunchError::Spawn { path, help, source }
}
