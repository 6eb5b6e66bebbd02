//! One row of the model, and who may claim it.

use std::time::Duration;

use jiff::Timestamp;
use rowcall_core::{
    MachineId, Payload, RetryPolicy, Selector, TableName, Task, TaskId, TaskRef, TaskState,
    ports::{ClaimRules, Ineligible, TaskView},
};
use uuid::Uuid;

use super::NewTask;

/// A row of `rtx_activities`. The status is a free word, as in the database.
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) new: NewTask,
    pub(super) created_at: Timestamp,
    pub(super) status: Option<Box<str>>,
    pub(super) attempt: u32,
    pub(super) retry_count: u32,
    pub(super) attempted_by: Vec<MachineId>,
    pub(super) locked_by: Option<Box<str>>,
    pub(super) locked_at: Option<Timestamp>,
    pub(super) completed_at: Option<Timestamp>,
    pub(super) retry_at: Option<Timestamp>,
    pub(super) error_message: Option<String>,
    pub(super) result: Option<Payload>,
}

/// What a claim of a row would find.
pub(super) enum Claimable {
    Yes,
    Held,
    No(Ineligible),
}

impl Row {
    pub(super) fn new(id: Uuid, created_at: Timestamp, new: NewTask) -> Self {
        Self {
            id,
            new,
            created_at,
            status: Some("pending".into()),
            attempt: 0,
            retry_count: 0,
            attempted_by: Vec::new(),
            locked_by: None,
            locked_at: None,
            completed_at: None,
            retry_at: None,
            error_message: None,
            result: None,
        }
    }

    /// The state; null counts as pending, `None` is a word we do not know.
    pub(super) fn state(&self) -> Option<TaskState> {
        match &self.status {
            None => Some(TaskState::Pending),
            Some(word) => word.parse().ok(),
        }
    }

    pub(super) fn set_state(&mut self, state: TaskState) {
        self.status = Some(state.as_str().into());
    }

    pub(super) fn unlock(&mut self) {
        self.locked_by = None;
        self.locked_at = None;
    }

    /// Whether the lease has expired; one without a time is infinitely old.
    pub(super) fn is_stale(&self, now: Timestamp, ttl: Duration) -> bool {
        self.state().is_some_and(TaskState::is_leased)
            && self
                .locked_at
                .is_none_or(|at| now.duration_since(at).unsigned_abs() > ttl && at < now)
    }

    /// Whether `rules.machine` may claim this row now.
    pub(super) fn claimable(&self, rules: &ClaimRules, now: Timestamp) -> Claimable {
        match self.state() {
            None => return Claimable::No(Ineligible::UnknownState),
            Some(state) if state.is_final() => return Claimable::No(Ineligible::Final),
            Some(state) if state.is_leased() && !self.is_stale(now, rules.lease.ttl) => {
                return Claimable::Held;
            }
            Some(_) => {}
        }
        if self.retry_count >= rules.retry.max_attempts {
            return Claimable::No(Ineligible::NeedsAttention);
        }
        let due = rules.retry.same_machine.is_some() && self.retry_at.is_none_or(|at| at <= now);
        if self.attempted_by.contains(&rules.machine) && !due {
            return Claimable::No(Ineligible::AlreadyAttempted);
        }
        Claimable::Yes
    }

    pub(super) fn matches(&self, selectors: &[Selector]) -> bool {
        let task = self.task();
        selectors
            .iter()
            .any(|selector| selector.matches(&task.source, task.event, task.filter_row()))
    }

    pub(super) fn task_ref(&self) -> TaskRef {
        TaskRef {
            table: TableName::activities(),
            id: TaskId::Uuid(self.id),
        }
    }

    pub(super) fn task(&self) -> Task {
        let direct = self.new.source == TableName::activities();
        Task {
            task: self.task_ref(),
            source: self.new.source.clone(),
            event: self.new.event,
            key: self.new.key.clone(),
            raw_data: self.new.raw_data.clone(),
            old_data: self.new.old_data.clone(),
            row: direct.then(|| self.original()),
            attempt: self.attempt,
            retry_count: self.retry_count,
            attempted_by: self.attempted_by.clone(),
            created_at: self.created_at,
        }
    }

    /// The row as it was when it was written, which is what filters on `rtx_activities` look at: work on it must not change
    /// whether it matches.
    fn original(&self) -> Payload {
        let row = serde_json::json!({
            "id": self.id,
            "user_id": null,
            "raw_data": self.new.raw_data,
            "old_data": self.new.old_data,
            "status": "pending",
            "locked_by": null,
            "locked_at": null,
            "completed_at": null,
            "error_message": null,
            "attempted_by": [],
            "retry_count": 0,
            "result": null,
            "created_at": self.created_at,
        });
        Payload::from_value(&row).expect("JSON values serialise")
    }

    pub(super) fn view(&self, retry: &RetryPolicy) -> TaskView {
        TaskView {
            task: self.task(),
            state: self.state(),
            status: self.status.as_deref().unwrap_or("pending").to_owned(),
            locked_by: self
                .locked_by
                .as_deref()
                .and_then(|by| MachineId::new(by).ok()),
            locked_at: self.locked_at,
            completed_at: self.completed_at,
            retry_at: self.retry_at,
            error_message: self.error_message.clone(),
            result: self.result.clone(),
            needs_attention: self.needs_attention(retry),
        }
    }

    pub(super) fn needs_attention(&self, retry: &RetryPolicy) -> bool {
        matches!(self.state(), Some(TaskState::Pending | TaskState::Failed))
            && self.retry_count >= retry.max_attempts
    }
}
