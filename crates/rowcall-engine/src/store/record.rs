//! What the engine tells the store.

use jiff::Timestamp;
use rowcall_core::{
    AgentId, AppId, EventKind, MachineId, TableName, TaskRef, TaskState, Trigger,
    ports::OutputStream,
};
use serde::Serialize;

/// One thing to remember.
#[derive(Clone, Debug)]
pub enum Record {
    /// A task was seen; the calendar keeps it once.
    Seen(Box<Seen>),
    /// An attempt began.
    Started(Box<Started>),
    /// An attempt ended.
    Ended(Box<Ended>),
    /// An agent printed a line.
    Log(Box<LogRecord>),
}

/// A task for the calendar.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The task.
    pub task: TaskRef,
    /// The table whose change made it.
    pub source: TableName,
    /// The change.
    pub event: EventKind,
    /// The app that handles it.
    pub app: AppId,
    /// The agent that does.
    pub agent: AgentId,
    /// By itself or after review.
    pub trigger: Trigger,
    /// When it was seen.
    pub at: Timestamp,
}

/// The start of an attempt.
#[derive(Clone, Debug)]
pub struct Started {
    /// The task, for its calendar entry.
    pub seen: Seen,
    /// Which attempt.
    pub attempt: u32,
    /// This machine.
    pub machine: MachineId,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The task.
    pub task: TaskRef,
    /// Which attempt.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// Why it failed or was called off.
    pub error: Option<String>,
}

/// A line of output.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// The task.
    pub task: TaskRef,
    /// Which attempt.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// On which output.
    pub stream: OutputStream,
    /// The line without its end.
    pub line: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The word in the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value of a word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// How an attempt ended.
    Outcome {
        /// With a result.
        Completed = "completed",
        /// With an error.
        Failed = "failed",
        /// Called off.
        Canceled = "canceled",
        /// Given back.
        Released = "released",
        /// The lease was lost; what the agent did was dropped.
        Lost = "lost",
        /// The daemon ended without a word about it: it was killed, or the computer was switched off.
        Interrupted = "interrupted",
    }
}

words! {
    /// Where a task stands in the calendar.
    CalendarState {
        /// Seen, not run here: it waits for a free slot, or another machine takes it.
        Seen = "seen",
        /// It waits for a person.
        Waiting = "waiting",
        /// It runs on this machine.
        Running = "running",
        /// Completed here.
        Completed = "completed",
        /// The last attempt here failed.
        Failed = "failed",
        /// Called off here.
        Canceled = "canceled",
        /// A person decided that it shall not run here.
        Skipped = "skipped",
    }
}

impl Outcome {
    /// The outcome of a verdict that was written.
    pub(crate) fn of(state: TaskState) -> Self {
        match state {
            TaskState::Completed => Self::Completed,
            TaskState::Canceled => Self::Canceled,
            TaskState::Pending => Self::Released,
            TaskState::Failed | TaskState::Claimed | TaskState::Processing => Self::Failed,
        }
    }

    /// What the calendar shows after it. A task that was given back is open again for everybody.
    pub(super) fn calendar(self, trigger: Trigger) -> CalendarState {
        match (self, trigger) {
            (Self::Completed, _) => CalendarState::Completed,
            (Self::Failed, _) => CalendarState::Failed,
            (Self::Canceled, _) => CalendarState::Canceled,
            (Self::Released | Self::Lost | Self::Interrupted, Trigger::Auto) => CalendarState::Seen,
            (Self::Released | Self::Lost | Self::Interrupted, Trigger::Review) => {
                CalendarState::Waiting
            }
        }
    }
}
