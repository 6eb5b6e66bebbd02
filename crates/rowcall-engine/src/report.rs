//! Reports from outside: what an agent says about its task by webhook, and what it is answered.
//!
//! The rules are those of the published contract: a repeat of the same outcome is fine, a different later one is answered
//! with the stored state and changes nothing, and a report for a lease that is no longer ours is a clear conflict.

use rowcall_core::{
    MachineId, Payload, TaskState,
    ports::{TaskView, Verdict},
};
use serde::Serialize;

use crate::shared::storable;

/// What an agent says about its task.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// It has the task. The claim is the daemon's business, so this changes nothing.
    Claimed,
    /// It started.
    Started,
    /// It goes on; for whoever watches.
    Progress(Payload),
    /// It is done.
    Completed(Payload),
    /// It failed.
    Failed(String),
    /// It was called off.
    Canceled(Option<String>),
}

impl Report {
    /// The state the task has after the report, by the published table.
    pub fn state(&self) -> TaskState {
        match self {
            Self::Claimed => TaskState::Claimed,
            Self::Started | Self::Progress(_) => TaskState::Processing,
            Self::Completed(_) => TaskState::Completed,
            Self::Failed(_) => TaskState::Failed,
            Self::Canceled(_) => TaskState::Canceled,
        }
    }

    /// Whether the report ends the attempt.
    pub fn is_outcome(&self) -> bool {
        matches!(
            self,
            Self::Completed(_) | Self::Failed(_) | Self::Canceled(_)
        )
    }

    /// The verdict this report asks for; `failed` makes that of a failure, which depends on the retry policy.
    pub(crate) fn into_verdict(self, failed: impl FnOnce(&str) -> Verdict) -> Option<Verdict> {
        match self {
            Self::Claimed | Self::Started | Self::Progress(_) => None,
            Self::Completed(result) => Some(Verdict::Completed(result)),
            Self::Failed(error) => Some(failed(&error)),
            Self::Canceled(reason) => Some(Verdict::Canceled {
                reason: storable(reason.as_deref().unwrap_or("called off by its agent")),
            }),
        }
    }
}

/// The answer to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ReportReply {
    /// Taken; an outcome is written to the database.
    Accepted {
        /// The task's state now.
        state: TaskState,
    },
    /// The same outcome was reported before and is written.
    Repeated {
        /// The task's state.
        state: TaskState,
    },
    /// Another outcome was written before; this report changes nothing.
    AlreadyFinal {
        /// The stored state.
        state: TaskState,
    },
    /// Taken, but not written yet: the source cannot be reached. It is kept and written later.
    Unconfirmed {
        /// The state it will lead to.
        state: TaskState,
    },
    /// No source knows such a task.
    NotFound,
    /// Another machine holds the task; the report must go there.
    HeldElsewhere {
        /// The holder.
        by: Option<MachineId>,
    },
    /// The lease of that attempt is over: the result is not written.
    LeaseLost {
        /// The task's state now, where known.
        state: Option<TaskState>,
        /// Who holds or finished it now, where known.
        holder: Option<MachineId>,
    },
}

/// What to do about a report for a task that this engine does not run.
#[derive(Debug, PartialEq)]
pub(crate) enum Unheld {
    Answer(ReportReply),
    /// The lease is this machine's, from before a restart: the report still counts if the database says so.
    Orphan,
}

/// Decides by what the database says.
pub(crate) fn unheld(
    view: Option<&TaskView>,
    machine: &MachineId,
    attempt: Option<u32>,
    report: &Report,
) -> Unheld {
    let Some(view) = view else {
        return Unheld::Answer(ReportReply::NotFound);
    };
    let ours = view.locked_by.as_ref().is_none_or(|by| by == machine);
    let same_attempt = attempt.is_none_or(|attempt| attempt == view.task.attempt);
    let lost = || {
        Unheld::Answer(ReportReply::LeaseLost {
            state: view.state,
            holder: view.locked_by.clone(),
        })
    };
    let told = |state: TaskState| {
        Unheld::Answer(if report.state() == state {
            ReportReply::Repeated { state }
        } else {
            ReportReply::AlreadyFinal { state }
        })
    };
    match view.state {
        Some(state @ (TaskState::Completed | TaskState::Canceled)) if ours && same_attempt => {
            told(state)
        }
        // A failure clears the lock and names the machine instead.
        Some(TaskState::Failed) if same_attempt && view.task.attempted_by.contains(machine) => {
            told(TaskState::Failed)
        }
        Some(TaskState::Claimed | TaskState::Processing) => {
            if view.locked_by.as_ref() != Some(machine) {
                Unheld::Answer(ReportReply::HeldElsewhere {
                    by: view.locked_by.clone(),
                })
            } else if same_attempt {
                Unheld::Orphan
            } else {
                lost()
            }
        }
        Some(
            TaskState::Pending | TaskState::Failed | TaskState::Completed | TaskState::Canceled,
        )
        | None => lost(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rowcall_core::{EventKind, TableName, Task, TaskId, TaskRef};

    use super::*;

    fn machine(name: &str) -> MachineId {
        MachineId::new(name).unwrap()
    }

    fn view(state: Option<TaskState>, locked_by: Option<&str>, failed_by: &[&str]) -> TaskView {
        TaskView {
            task: Task {
                task: TaskRef {
                    table: TableName::activities(),
                    id: TaskId::Uuid(uuid::Uuid::from_u128(1)),
                },
                source: TableName::activities(),
                event: EventKind::Insert,
                key: None,
                raw_data: Payload::null(),
                old_data: None,
                row: None,
                attempt: 2,
                retry_count: 0,
                attempted_by: failed_by.iter().map(|name| machine(name)).collect(),
                created_at: Timestamp::UNIX_EPOCH,
            },
            state,
            status: String::new(),
            locked_by: locked_by.map(machine),
            locked_at: None,
            completed_at: None,
            retry_at: None,
            error_message: None,
            result: None,
            needs_attention: false,
        }
    }

    fn answer(view: Option<&TaskView>, attempt: Option<u32>, report: &Report) -> Unheld {
        unheld(view, &machine("me"), attempt, report)
    }

    #[test]
    fn every_stored_state_has_its_answer() {
        use ReportReply::{AlreadyFinal, HeldElsewhere, LeaseLost, NotFound, Repeated};
        use TaskState::{Canceled, Claimed, Completed, Failed, Pending};
        let done = Report::Completed(Payload::empty_object());
        let failed = Report::Failed("no".into());
        let lost = |state, holder: Option<&str>| LeaseLost {
            state,
            holder: holder.map(machine),
        };
        let cases = [
            (None, &done, NotFound),
            (
                Some(view(Some(Completed), Some("me"), &[])),
                &done,
                Repeated { state: Completed },
            ),
            (
                Some(view(Some(Completed), Some("me"), &[])),
                &failed,
                AlreadyFinal { state: Completed },
            ),
            (
                Some(view(Some(Completed), Some("other"), &[])),
                &done,
                lost(Some(Completed), Some("other")),
            ),
            (
                Some(view(Some(Canceled), None, &[])),
                &done,
                AlreadyFinal { state: Canceled },
            ),
            (
                Some(view(Some(Failed), None, &["me"])),
                &failed,
                Repeated { state: Failed },
            ),
            (
                Some(view(Some(Failed), None, &["other"])),
                &failed,
                lost(Some(Failed), None),
            ),
            (
                Some(view(Some(Claimed), Some("other"), &[])),
                &done,
                HeldElsewhere {
                    by: Some(machine("other")),
                },
            ),
            (
                Some(view(Some(Pending), None, &[])),
                &done,
                lost(Some(Pending), None),
            ),
            (Some(view(None, None, &[])), &done, lost(None, None)),
        ];
        for (view, report, expected) in cases {
            assert_eq!(
                answer(view.as_ref(), None, report),
                Unheld::Answer(expected),
                "{view:?} {report:?}"
            );
        }
    }

    #[test]
    fn a_lease_from_before_a_restart_still_counts() {
        let held = view(Some(TaskState::Processing), Some("me"), &[]);
        let done = Report::Completed(Payload::empty_object());
        assert_eq!(answer(Some(&held), Some(2), &done), Unheld::Orphan);
        assert_eq!(answer(Some(&held), None, &done), Unheld::Orphan);
        assert!(matches!(
            answer(Some(&held), Some(1), &done),
            Unheld::Answer(ReportReply::LeaseLost { .. })
        ));
    }
}
