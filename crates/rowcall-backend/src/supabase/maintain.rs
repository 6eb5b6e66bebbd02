//! The regular look: stale leases, whether work is ready, when the next try is due.

use std::{collections::BTreeMap, time::Duration};

use rowcall_core::{
    MachineId, Selector, TaskRef, TaskState,
    ports::{ClaimOrder, ClaimRules, Maintenance},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Inner,
    batch::{Found, Functions},
    clock::MARGIN,
    error::RestError,
    http::Call,
    plan::Plan,
    table::{MAX_PAGE, Page, Row, Table},
};

/// Stale leases looked at in one go; the rest waits for the next look.
const MAX_STALE: u32 = 200;
/// Functions of the published set-up that return stale leases, by the database's clock.
const UNLOCK: [&str; 2] = ["rtx_fn_unlock_stale_locks", "unlock_stale_locks"];
/// Pages looked at to say whether something is ready, where filters have to be applied here.
const MAX_READY_PAGES: u32 = 4;

impl Inner {
    pub(super) async fn maintain_all(
        &self,
        plan: &Plan,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, RestError> {
        let mut all = Maintenance::default();
        if self.custom.is_none() {
            all.recovered = self.give_back_orphans(plan, &rules.machine).await?;
            for task in &all.recovered {
                self.note_given_up(task, None, false);
            }
        }
        for table in plan.tables() {
            let one = if plan.is_batch(table) {
                self.maintain_batch(plan, table, rules, selectors).await?
            } else {
                self.maintain_published(table, rules, selectors).await?
            };
            all.recovered.extend(one.recovered);
            all.ready |= one.ready;
            let waits = [all.next_retry, one.next_retry];
            all.next_retry = waits.into_iter().flatten().min();
        }
        Ok(all)
    }

    async fn maintain_batch(
        &self,
        plan: &Plan,
        table: &Table,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, RestError> {
        let selectors = plan.of_activities(selectors);
        let Found {
            recovered,
            mut ready,
            next_retry,
        } = Functions(table).maintain(rules, &selectors).await?;
        let filtered = selectors.iter().any(|selector| selector.filter.is_some());
        if ready && filtered {
            let selectors: Vec<Selector> = selectors.into_iter().cloned().collect();
            ready = self.is_ready(table, rules, &selectors).await?;
        }
        let mut tasks = Vec::with_capacity(recovered.len());
        for one in recovered {
            let task = TaskRef {
                table: table.name().clone(),
                id: one.id.into(),
            };
            let by = one.locked_by.and_then(|id| MachineId::new(id).ok());
            self.note_given_up(&task, by, true);
            tasks.push(task);
        }
        Ok(Maintenance {
            recovered: tasks,
            ready,
            next_retry: next_retry.and_then(|wait| Duration::try_from_secs_f64(wait.max(0.0)).ok()),
        })
    }

    async fn maintain_published(
        &self,
        table: &Table,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, RestError> {
        let recovered = self.recover(table, rules.lease.ttl).await?;
        let next_retry = match rules.retry.same_machine {
            Some(_) if table.is_activities() => self.memory.next_retry(&rules.machine),
            _ => None,
        };
        Ok(Maintenance {
            recovered,
            ready: self.is_ready(table, rules, selectors).await?,
            next_retry: next_retry.map(|at| at.saturating_duration_since(Instant::now())),
        })
    }

    /// Whether a claim would find something.
    async fn is_ready(
        &self,
        table: &Table,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<bool, RestError> {
        for state in [TaskState::Pending, TaskState::Failed] {
            for number in 0..MAX_READY_PAGES {
                let page = Page {
                    order: ClaimOrder::OldestFirst,
                    limit: MAX_STALE,
                    offset: number * MAX_STALE,
                };
                let rows = table.candidates(rules, selectors, state, page).await?;
                let claimable =
                    |row: &Row| row.is_selected(selectors) && self.why_not(row, rules).is_none();
                if rows.iter().any(claimable) {
                    return Ok(true);
                }
                if rows.len() < usize::try_from(page.limit).unwrap_or(usize::MAX) {
                    break;
                }
            }
        }
        Ok(false)
    }

    /// Returns stale leases to pending. Which ones may be stale is read by the clock of the answers, on the generous side;
    /// which ones are is decided by the database where it has a function for it, and else by the same clock on the safe side.
    pub(super) async fn recover(
        &self,
        table: &Table,
        ttl: Duration,
    ) -> Result<Vec<TaskRef>, RestError> {
        if self.rest.clock().now().is_none() {
            // No answer has come yet: any request brings one.
            table.stale(jiff::Timestamp::UNIX_EPOCH, 1).await?;
        }
        let Some(now) = self.rest.clock().now() else {
            return Ok(Vec::new());
        };
        let Ok(maybe) = now.checked_sub(ttl.saturating_sub(MARGIN)) else {
            return Ok(Vec::new());
        };
        let stale = table.stale(maybe, MAX_STALE.min(MAX_PAGE)).await?;
        if stale.is_empty() {
            return Ok(Vec::new());
        }
        let holders: BTreeMap<TaskRef, Option<MachineId>> = stale
            .iter()
            .map(|row| (row.task_ref(), row.locked_by()))
            .collect();
        for row in stale.iter().filter(|row| row.locked_at().is_none()) {
            table.recover_undated(&row.id).await?;
        }
        if !self.recover_by_function(table, ttl).await? {
            let cutoff = now.checked_sub(ttl + MARGIN).ok();
            if let Some(cutoff) = cutoff {
                table.recover(cutoff).await?;
            }
        }
        let mut recovered = Vec::new();
        for (task, holder) in holders {
            let row = table.find(&task.id).await?;
            let found = row.as_ref().and_then(Row::state);
            if found == Some(TaskState::Pending) {
                self.note_given_up(&task, holder, true);
                recovered.push(task);
            } else if let (Some(custom), Some(row)) = (&self.custom, row)
                && found.is_some_and(TaskState::is_leased)
                && row
                    .locked_at()
                    .is_some_and(|at| at < now - (ttl + 2 * MARGIN))
            {
                custom.warn(
                    table.name(),
                    "stale locks of this table could not be returned",
                );
            }
        }
        Ok(recovered)
    }

    /// Has the database return stale leases by its own clock; says whether it has a function for it.
    async fn recover_by_function(&self, table: &Table, ttl: Duration) -> Result<bool, RestError> {
        let calls: Vec<Call> = if table.is_activities() {
            let calls = UNLOCK.into_iter();
            calls.map(|name| Call::rpc(name, &json!({}))).collect()
        } else {
            let minutes = ttl.as_secs().div_ceil(60);
            let arguments = json!({"table_name": table.name(), "timeout_minutes": minutes});
            vec![Call::rpc("recover_stale_locks_custom", &arguments)]
        };
        for call in calls {
            match self.rest.send(&call).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_missing_function() => {}
                // The published `recover_stale_locks_custom` raises as soon as something is stale.
                Err(RestError::Refused { status, .. }) if status.is_client_error() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Keeps only what is pending of tasks that were told to be up for another try.
    pub(super) async fn still_open(
        &self,
        table: &Table,
        tasks: &[TaskRef],
    ) -> Result<Vec<TaskRef>, RestError> {
        let ids = tasks.iter().map(|task| task.id.clone());
        table.open(&ids.collect::<Vec<_>>()).await
    }
}
