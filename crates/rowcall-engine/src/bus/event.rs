//! The events.

use std::sync::Arc;

use jiff::Timestamp;
use rowcall_core::{AgentId, AppId, Payload, TableName, TaskRef, TaskState, ports::OutputStream};
use serde::Serialize;

/// The longest text (a log line, an error) in an event, in bytes. The store keeps the rest.
pub const MAX_EVENT_TEXT: usize = 2_048;

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct EngineEvent {
    /// Grows with every event of this machine, across restarts.
    pub id: u64,
    /// When, by the machine's clock.
    pub at: Timestamp,
    /// The source it concerns; empty for the engine itself.
    pub source: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Where a lost lease showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FencedAt {
    /// At a heartbeat: the agent was stopped.
    Renew,
    /// At the settlement: the result was dropped.
    Settle,
    /// No renewal got through for as long as a lease lives; the agent was stopped.
    Presumed,
    /// This machine was granted a newer attempt of the same task.
    Reclaimed,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// Signals flow.
    SourceUp,
    /// They do not; the engine polls more closely.
    SourceDown {
        /// Why.
        reason: String,
        /// When the source tries again, in milliseconds.
        retry_in_ms: u64,
    },
    /// A call to the source failed.
    SourceTrouble {
        /// Which call.
        during: &'static str,
        /// The error.
        error: String,
        /// When it is tried again, in milliseconds.
        retry_in_ms: u64,
    },
    /// A hint that work may be there.
    Signal {
        /// The table to look at.
        table: TableName,
        /// The row, where the source knows it.
        task: Option<TaskRef>,
    },
    /// A task is ours.
    Claimed {
        /// The task.
        task: TaskRef,
        /// Which claim of it this is.
        attempt: u32,
        /// For which app.
        app: AppId,
    },
    /// Its agent was started.
    Started {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// The app.
        app: AppId,
        /// The agent.
        agent: AgentId,
    },
    /// The agent said how far it is.
    Progress {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// What it said.
        data: Payload,
    },
    /// The agent printed a line.
    Log {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// On which output.
        stream: OutputStream,
        /// The line, cut to [`MAX_EVENT_TEXT`].
        line: String,
    },
    /// A verdict was written: completed or canceled.
    Settled {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// The app.
        app: AppId,
        /// The state it has now.
        state: TaskState,
        /// From claim to settlement, in milliseconds.
        ran_ms: u64,
    },
    /// A failed attempt was written.
    Failed {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// The app.
        app: AppId,
        /// Why.
        error: String,
        /// When this machine tries again, in milliseconds; other machines may at once.
        retry_in_ms: Option<u64>,
        /// It failed so often that a person must look.
        needs_attention: bool,
    },
    /// The lease was lost; what the agent did is dropped.
    Fenced {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
        /// Where it showed.
        at: FencedAt,
    },
    /// A task was given back unrun, or stopped.
    Released {
        /// The task.
        task: TaskRef,
        /// Which attempt.
        attempt: u32,
    },
    /// A stale lease was returned to `pending`.
    Recovered {
        /// The task.
        task: TaskRef,
    },
    /// A task waits in the calendar for a person.
    Review {
        /// The task.
        task: TaskRef,
        /// The app.
        app: AppId,
        /// Who would handle it.
        agent: AgentId,
    },
    /// Routes or limits changed.
    AppsChanged {
        /// How many apps there are now.
        apps: usize,
    },
    /// The local store could not write.
    StoreTrouble {
        /// The error.
        error: String,
    },
    /// A soft or hard stop began.
    Stopping {
        /// Whether agents are dropped at once.
        hard: bool,
    },
}

impl What {
    /// Bytes beyond the event's own size, for the ring's bound.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::SourceDown { reason: text, .. }
            | Self::SourceTrouble { error: text, .. }
            | Self::Log { line: text, .. }
            | Self::Failed { error: text, .. }
            | Self::StoreTrouble { error: text } => text.len(),
            Self::Progress { data, .. } => data.get().len(),
            _ => 0,
        }
    }
}

/// Cuts a text for an event, at a character's end.
pub(crate) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_EVENT_TEXT)].to_owned()
}
