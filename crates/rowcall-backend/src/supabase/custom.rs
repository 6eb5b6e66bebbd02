//! Claims and settlements in custom mode, where the app has the last word.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use rowcall_core::{
    EventKind, Lease, LeaseKey, MachineId, Payload, Task, TaskRef, TaskState,
    ports::{ClaimOutcome, ClaimRules, Claimed, Settlement, Verdict},
};

use super::{
    Inner,
    error::RestError,
    table::{Row, Table},
};
use crate::custom::{LockAnswer, LockApi, LockError, Reported, recovery_sql};

/// Tasks whose lock was asked for without an answer; the oldest are no longer told apart from those of others.
const MAX_UNANSWERED: usize = 10_000;

/// What custom mode adds.
pub(super) struct Custom {
    api: LockApi,
    /// The app may have given us these locks, but its answer was lost.
    unanswered: Mutex<BTreeSet<TaskRef>>,
    /// Tables about which people were warned.
    warned: Mutex<BTreeSet<String>>,
}

impl Custom {
    pub(super) fn new(api: LockApi) -> Self {
        Self {
            api,
            unanswered: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    fn note_unanswered(&self, task: &TaskRef) {
        let mut unanswered = self.unanswered.lock();
        if unanswered.len() < MAX_UNANSWERED {
            unanswered.insert(task.clone());
        }
    }

    /// Whether the answer to an earlier request for this lock was lost; asked once.
    fn take_unanswered(&self, task: &TaskRef) -> bool {
        self.unanswered.lock().remove(task)
    }

    /// Tells people, once, what the daemon cannot do for a table.
    pub(super) fn warn(&self, table: &rowcall_core::TableName, why: &str) {
        if self.warned.lock().insert(format!("{table} {why}")) {
            let sql = recovery_sql(table);
            tracing::warn!(
                %table,
                "{why}: the app must renew its locks and return stale ones itself, for example every minute with:\n{sql}"
            );
        }
    }
}

impl From<LockError> for RestError {
    fn from(error: LockError) -> Self {
        Self::App {
            class: error.class,
            message: error.message,
        }
    }
}

impl Inner {
    /// Claims a named task. What the row tells saves a request; what it does not tell, the app does.
    pub(super) async fn claim_custom(
        &self,
        custom: &Custom,
        rules: &ClaimRules,
        table: Option<&Table>,
        task: &TaskRef,
    ) -> Result<ClaimOutcome, RestError> {
        let row = match table {
            Some(table) => table.find(&task.id).await?,
            None => None,
        };
        let ours = |row: &Row| {
            row.state().is_some_and(TaskState::is_leased)
                && row.locked_by().as_ref() == Some(&rules.machine)
        };
        if let Some(row) = &row {
            if ours(row) && custom.take_unanswered(task) {
                return Ok(ClaimOutcome::Won(Box::new(self.won_uncounted(rules, row))));
            }
            if let Some(outcome) = self.why_not(row, rules) {
                return Ok(outcome);
            }
        }
        let won = self
            .ask_for_lock(custom, rules, table, task, row.as_ref())
            .await?;
        Ok(match won {
            Ok(claimed) => ClaimOutcome::Won(Box::new(claimed)),
            Err(outcome) => outcome,
        })
    }

    /// Asks the app for a lock; the inner error is the outcome of losing.
    pub(super) async fn ask_for_lock(
        &self,
        custom: &Custom,
        rules: &ClaimRules,
        table: Option<&Table>,
        task: &TaskRef,
        row: Option<&Row>,
    ) -> Result<Result<Claimed, ClaimOutcome>, RestError> {
        if let (Some(table), Some(row)) = (table, row)
            && row.attempted_by().contains(&rules.machine)
        {
            table.forget_attempt(row, &rules.machine).await?;
        }
        let attempt = self.memory.attempt(task).unwrap_or(0) + 1;
        let key = format!("rowcall:{task}:{}:{attempt}:lock", rules.machine);
        let was_unanswered = custom.take_unanswered(task);
        let answer = custom.api.lock(task, &rules.machine, &key).await;
        let (reason, holder) = match answer {
            Ok(LockAnswer::Granted { to }) if to.as_ref().is_none_or(|to| *to == rules.machine) => {
                return Ok(Ok(self.won_custom(rules, task, row)));
            }
            Ok(LockAnswer::Granted { to }) => ("already_locked".to_owned(), to),
            Ok(LockAnswer::Refused { reason, holder }) => (reason, holder),
            Err(error) => {
                if error.maybe_done {
                    custom.note_unanswered(task);
                }
                return Err(error.into());
            }
        };
        if was_unanswered && holder.as_ref() == Some(&rules.machine) {
            return Ok(Ok(self.won_custom(rules, task, row)));
        }
        Ok(Err(match reason.as_str() {
            "not_found" => ClaimOutcome::Gone,
            _ => ClaimOutcome::Held { by: holder },
        }))
    }

    fn won_custom(&self, rules: &ClaimRules, task: &TaskRef, row: Option<&Row>) -> Claimed {
        if let Some(row) = row {
            return self.won_uncounted(rules, row);
        }
        // The row cannot be read: what Realtime told of it is all there is.
        let attempt = self.memory.next_attempt(task, 0);
        self.turns.lock().taken(task);
        let raw_data = self.memory.record(task).unwrap_or_else(Payload::null);
        let key = LeaseKey {
            task: task.clone(),
            machine: rules.machine.clone(),
            attempt,
        };
        Claimed {
            lease: Lease::granted(key),
            task: Task {
                task: task.clone(),
                source: task.table.clone(),
                event: EventKind::Insert,
                key: None,
                raw_data,
                old_data: None,
                row: None,
                attempt,
                retry_count: 0,
                attempted_by: Vec::new(),
                created_at: self.config.clock.now(),
            },
        }
    }

    /// Reports a verdict, if the lease is still ours as far as can be seen. Says whether it stands.
    pub(super) async fn settle_custom(
        &self,
        custom: &Custom,
        table: Option<&Table>,
        settlement: &Settlement,
    ) -> Result<bool, RestError> {
        let Settlement { lease, verdict } = settlement;
        let row = match table {
            Some(table) => table.find(&lease.task.id).await?,
            None => None,
        };
        if let Some(row) = &row
            && !is_held(row, &lease.machine)
        {
            return Ok(stands(row, &lease.machine, verdict));
        }
        if let (Verdict::Canceled { .. }, Some(table)) = (verdict, table)
            && table
                .settle(&lease.machine, &lease.task.id, verdict)
                .await?
        {
            return Ok(true);
        }
        let key = format!(
            "rowcall:{}:{}:{}:{}",
            lease.task,
            lease.machine,
            lease.attempt,
            verdict.state()
        );
        let at = self.config.clock.now();
        let report = async |verdict: &Verdict, key: &str| {
            let sent = custom
                .api
                .report(&lease.task, &lease.machine, verdict, at, key);
            sent.await
        };
        let mut reported = report(verdict, &key).await?;
        if let Reported::Unusable(error) = reported {
            // The app shall know that the task ended, and why it has no result.
            let failed = Verdict::Failed {
                error,
                retry_in: None,
            };
            reported = report(&failed, &format!("{key}:unusable")).await?;
        }
        Ok(reported == Reported::Delivered)
    }
}

pub(super) fn is_held(row: &Row, machine: &MachineId) -> bool {
    row.state().is_some_and(TaskState::is_leased) && row.locked_by().as_ref() == Some(machine)
}

/// Whether a verdict was written already, by a report whose answer was lost.
fn stands(row: &Row, machine: &MachineId, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Completed(_) => {
            row.status == "completed" && row.locked_by().is_none_or(|by| by == *machine)
        }
        Verdict::Failed { .. } => row.status == "failed" && row.attempted_by().contains(machine),
        Verdict::Canceled { .. } => row.status == "canceled",
    }
}
