//! A task: one unit of work, and the states it moves through.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    event::EventKind,
    id::{MachineId, TaskRef},
    table::TableName,
};

/// The stored state of a task, as `rtx_activities.status` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Waiting for a claim.
    Pending,
    /// A machine holds the lease, the agent has not been reported running yet.
    Claimed,
    /// The agent runs.
    Processing,
    /// Done; never changes again.
    Completed,
    /// The last attempt failed; another machine may try, or a person must look.
    Failed,
    /// Called off by a person or a client; never claimed.
    Canceled,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Claimed,
        Self::Processing,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
    ];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Claimed => "claimed",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether a machine holds a lease in this state.
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Claimed | Self::Processing)
    }

    /// Whether the state never changes again. `Failed` is not final: another machine may try.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Canceled)
    }

    /// Whether a task may go from this state to `next`. `docs/state-machine.md` holds the same table, with who does it.
    pub fn allows(self, next: Self) -> bool {
        use TaskState::{Canceled, Claimed, Completed, Failed, Pending, Processing};
        match self {
            Pending => matches!(next, Claimed | Canceled),
            Claimed => matches!(next, Processing | Completed | Failed | Pending | Canceled),
            Processing => matches!(next, Completed | Failed | Pending | Canceled),
            Failed => matches!(next, Claimed | Pending | Canceled),
            Completed | Canceled => false,
        }
    }

    /// Goes to `next`, or says why not.
    pub fn transition(self, next: Self) -> Result<Self, InvalidTransition> {
        if self.allows(next) {
            Ok(next)
        } else {
            Err(InvalidTransition {
                from: self,
                to: next,
            })
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no task state. Columns are free text in practice, so callers decide what that means.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown task state {0:?}")]
pub struct UnknownState(pub String);

impl FromStr for TaskState {
    type Err = UnknownState;
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownState(text.chars().take(64).collect()))
    }
}

/// A change of state that the state machine forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task cannot go from {from} to {to}")]
pub struct InvalidTransition {
    /// The state the task is in.
    pub from: TaskState,
    /// The state that was asked for.
    pub to: TaskState,
}

/// JSON that is passed on byte for byte: the domain does not look inside, except where a filter asks.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// Wraps JSON text, checking that it is JSON.
    pub fn from_text(text: String) -> Result<Self, serde_json::Error> {
        Ok(Self(RawValue::from_string(text)?.into()))
    }

    /// Serialises a value.
    pub fn from_value(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::value::to_raw_value(value)?.into()))
    }

    /// JSON `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }

    /// JSON `{}`, the result of an agent that said nothing.
    pub fn empty_object() -> Self {
        Self(
            RawValue::from_string("{}".into())
                .expect("{} is JSON")
                .into(),
        )
    }

    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The raw value, for embedding in other JSON.
    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    /// The members of an object, unparsed; `None` when this is not an object.
    pub fn members(&self) -> Option<BTreeMap<String, Box<RawValue>>> {
        serde_json::from_str(self.get()).ok()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads hold people's data: logs show the size, not the content.
        write!(f, "Payload({} bytes)", self.get().len())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// One unit of work, as it was when it was claimed or listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Where the task is claimed and settled.
    #[serde(flatten)]
    pub task: TaskRef,
    /// The table whose change made the task; `rtx_activities` itself for rows written there directly.
    pub source: TableName,
    /// What happened to the source row.
    pub event: EventKind,
    /// The primary key of the source row as a JSON object, where the capture trigger wrote it.
    pub key: Option<Payload>,
    /// The new row, or what an application put into `raw_data`.
    pub raw_data: Payload,
    /// The row before the change, for updates and deletes.
    pub old_data: Option<Payload>,
    /// For a row written to `rtx_activities` directly: that row as it was when it came to be, its columns as members, for
    /// filters. `None` for captured rows, and where no filter asked for it.
    #[serde(skip)]
    pub row: Option<Payload>,
    /// How often the task was claimed, this claim included: 1 for the first.
    pub attempt: u32,
    /// How many attempts have failed.
    pub retry_count: u32,
    /// The machines that failed it.
    pub attempted_by: Vec<MachineId>,
    /// When the task came to be, by the database's clock.
    pub created_at: Timestamp,
}

impl Task {
    /// The row that filters and routes look at: the new row, the old one of a DELETE, or the activity itself when it was
    /// written directly.
    pub fn filter_row(&self) -> &Payload {
        match (&self.row, self.event, &self.old_data) {
            (Some(row), ..) => row,
            (None, EventKind::Delete, Some(old)) => old,
            _ => &self.raw_data,
        }
    }

    /// The key that an agent gives to other systems so that a second run of this task does no second harm. The same for
    /// every attempt.
    pub fn idempotency_key(&self) -> String {
        format!("rowcall:{}", self.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_go_nowhere() {
        for state in TaskState::ALL {
            for next in TaskState::ALL {
                if state.is_final() {
                    assert!(state.transition(next).is_err());
                }
            }
        }
        assert_eq!(
            TaskState::Pending.transition(TaskState::Claimed),
            Ok(TaskState::Claimed)
        );
        assert!(TaskState::Pending.transition(TaskState::Completed).is_err());
    }

    #[test]
    fn states_parse_back() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }

    #[test]
    fn payload_debug_shows_no_data() {
        let payload = Payload::from_text("{\"secret\":1}".into()).unwrap();
        assert_eq!(format!("{payload:?}"), "Payload(12 bytes)");
    }
}
