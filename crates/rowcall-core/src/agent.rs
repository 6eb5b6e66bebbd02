//! Agents: what handles a task, and what comes back.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{id::AgentId, task::Payload};

/// The environment a program runs in, as the published `app_type` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// `python app.py`; `python3` when no `python` is on the path.
    Python,
    /// `node server.js`
    Node,
    /// `npx <package>`
    Npx,
    /// `uvx <package>`
    Uvx,
    /// Any executable.
    Custom,
}

/// A program and how to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Which environment.
    pub runtime: Runtime,
    /// The executable, or for `npx`/`uvx` possibly nothing: then the runtime's own launcher is meant.
    pub program: Option<String>,
    /// Arguments, before those that rowcall adds.
    pub args: Vec<String>,
    /// Where it runs; the data directory of the app when absent.
    pub working_dir: Option<PathBuf>,
    /// Variables on top of the clean environment.
    pub env: BTreeMap<String, String>,
}

/// How an agent is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// A program started for each task.
    Process(Command),
    /// One long-lived program that takes tasks as JSON lines on stdin and answers on stdout.
    Worker {
        /// The program.
        command: Command,
        /// How many tasks it may hold at once.
        concurrency: u32,
    },
    /// A web service: the task is posted to it as JSON, and what it answers is the result.
    Http {
        /// Where to.
        url: String,
        /// The environment variable of the daemon whose value is sent as `Authorization: Bearer …`.
        token_env: Option<String>,
    },
    /// A function of this process, for the library, tests and benchmarks.
    InProcess,
}

impl AgentKind {
    /// How many tasks the agent may hold at once on one machine, when it has a limit of its own.
    pub fn concurrency(&self) -> Option<u32> {
        match self {
            Self::Worker { concurrency, .. } => Some((*concurrency).max(1)),
            Self::Process(_) | Self::Http { .. } | Self::InProcess => None,
        }
    }
}

/// What handles a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// The id that handlers name.
    pub id: AgentId,
    /// How it is run.
    pub kind: AgentKind,
    /// An attempt that takes longer fails.
    pub timeout: Duration,
}

/// The default of [`AgentSpec::timeout`].
pub const DEFAULT_AGENT_TIMEOUT: Duration = Duration::from_mins(30);

/// What an agent gave back.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentOutput {
    /// Written to `result`.
    pub result: Payload,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentErrorKind {
    /// The agent said so, or ended with an error.
    Failed,
    /// It took too long.
    TimedOut,
    /// The daemon or a person stopped it: the task is released, not failed.
    Canceled,
    /// It could not be started.
    NotStarted,
    /// It broke the protocol it speaks with rowcall.
    Protocol,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// Why.
    pub kind: AgentErrorKind,
    /// Written to `error_message`; says what happened and what to do.
    pub message: String,
}

impl AgentError {
    /// A failed attempt with its reason.
    pub fn new(kind: AgentErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}
