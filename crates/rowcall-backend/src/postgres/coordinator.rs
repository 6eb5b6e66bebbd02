//! The [`Coordinator`] of compatible mode: direct SQL on `rtx_activities`.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use rowcall_core::{
    LeaseKey, MachineId, Selector, SourceError, TaskRef, TaskState,
    ports::{
        Capabilities, ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Claimed, Coordinator,
        Fence, Ineligible, Maintenance, Settlement, TaskView,
    },
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::sql::selector::{self, ActivityRow};

use super::{
    PostgresBackend, error,
    row::{self, Names, TASK_COLUMNS},
    settle::SettleArrays,
    statement::{self, ClaimShape},
};

/// At most this many tasks in one claim; larger batches gain nothing and hold their locks longer.
pub const MAX_BATCH: u32 = 500;

/// The retry rules as parameters `$3` and `$4`.
fn retry_parameters(rules: &ClaimRules) -> (i32, bool) {
    let max_attempts = i32::try_from(rules.retry.max_attempts).unwrap_or(i32::MAX);
    (max_attempts, rules.retry.same_machine.is_some())
}

/// An `update … returning` answers in the order of its scan, not of the queue.
fn in_order(mut claimed: Vec<Claimed>, order: ClaimOrder) -> Vec<Claimed> {
    claimed.sort_by_key(|one| one.task.created_at);
    if order == ClaimOrder::NewestFirst {
        claimed.reverse();
    }
    claimed
}

fn selects_nothing(selectors: &[Selector]) -> bool {
    selectors.iter().all(|one| one.events.is_empty())
}

impl PostgresBackend {
    /// Why a claim of one task found nothing.
    async fn why_not(&self, rules: &ClaimRules, id: Uuid) -> Result<ClaimOutcome, SourceError> {
        let sql = include_str!("../../sql/postgres/why_not.sql");
        let lease = rules.lease.ttl.as_secs_f64();
        let rows = self
            .0
            .connections
            .query("looking up a task", sql, &[&id, &lease])
            .await?;
        let Some(row) = rows.first() else {
            return Ok(ClaimOutcome::Gone);
        };
        let status: &str = row.get(0);
        let holder: Option<&str> = row.get(1);
        let retry_count: i32 = row.get(2);
        let expired: bool = row.get(3);
        Ok(match status.parse::<TaskState>() {
            Err(_) => ClaimOutcome::Ineligible(Ineligible::UnknownState),
            Ok(state) if state.is_final() => ClaimOutcome::Ineligible(Ineligible::Final),
            Ok(state) if state.is_leased() && !expired => ClaimOutcome::Held {
                by: holder.and_then(|machine| MachineId::new(machine).ok()),
            },
            Ok(_) if retry_count >= retry_parameters(rules).0 => {
                ClaimOutcome::Ineligible(Ineligible::NeedsAttention)
            }
            Ok(_) => ClaimOutcome::Ineligible(Ineligible::AlreadyAttempted),
        })
    }

    fn claimed(
        rows: &[Row],
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        let needs = selector::activity_row_for(&batch.selectors);
        let mut names = Names::new();
        let claimed = rows
            .iter()
            .map(|row| row::claimed(row, &rules.machine, needs, &mut names));
        Ok(in_order(claimed.collect::<Result<_, _>>()?, batch.order))
    }
}

#[async_trait]
impl Coordinator for PostgresBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            batches: true,
            renew: true,
            sweep: true,
            recover: true,
            fenced_by_attempt: true,
        }
    }

    async fn claim(&self, rules: &ClaimRules, task: &TaskRef) -> Result<ClaimOutcome, SourceError> {
        let (Some(id), true) = (task.id.as_uuid(), task.table.is_activities()) else {
            return Ok(ClaimOutcome::Gone);
        };
        let (max_attempts, same_machine) = retry_parameters(rules);
        let lease = rules.lease.ttl.as_secs_f64();
        let machine = rules.machine.as_str();
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&machine, &id, &max_attempts, &same_machine, &lease];
        let rows = self
            .0
            .connections
            .query("claiming a task", &self.0.fixed.claim_one, &parameters)
            .await?;
        match rows.first() {
            Some(row) => Ok(ClaimOutcome::Won(Box::new(row::claimed(
                row,
                &rules.machine,
                ActivityRow::FromDatabase,
                &mut Names::new(),
            )?))),
            None => self.why_not(rules, id).await,
        }
    }

    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        if batch.limit == 0 || selects_nothing(&batch.selectors) {
            return Ok(Vec::new());
        }
        let sql = self.0.statements.claim(
            &batch.selectors,
            ClaimShape::new(batch.retryable, batch.order, None),
        );
        let (max_attempts, same_machine) = retry_parameters(rules);
        let limit = i64::from(batch.limit.min(MAX_BATCH));
        let machine = rules.machine.as_str();
        let parameters: [&(dyn ToSql + Sync); 4] = [&machine, &limit, &max_attempts, &same_machine];
        let rows = self
            .0
            .connections
            .query("claiming tasks", &sql, &parameters)
            .await?;
        Self::claimed(&rows, rules, batch)
    }

    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.fenced(
            "renewing leases",
            include_str!("../../sql/postgres/renew.sql"),
            leases,
        )
        .await
    }

    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.fenced(
            "marking tasks as running",
            include_str!("../../sql/postgres/mark_processing.sql"),
            leases,
        )
        .await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError> {
        self.settle_all(settlements).await
    }

    async fn settle_and_claim(
        &self,
        rules: &ClaimRules,
        settlements: &[Settlement],
        batch: &ClaimBatch,
    ) -> Result<(Vec<Fence>, Vec<Claimed>), SourceError> {
        if settlements.is_empty() {
            return Ok((Vec::new(), self.claim_next(rules, batch).await?));
        }
        let ours = settlements
            .iter()
            .all(|one| one.lease.machine == rules.machine);
        if !ours || batch.limit == 0 || selects_nothing(&batch.selectors) {
            let fences = self.settle_all(settlements).await?;
            // The settlements are written: a failed claim must not make the caller write them again.
            let claimed = self.claim_next(rules, batch).await.unwrap_or_default();
            return Ok((fences, claimed));
        }
        let group: Vec<&Settlement> = settlements.iter().collect();
        let arrays = SettleArrays::new(&group);
        let shape = ClaimShape::new(batch.retryable, batch.order, Some(arrays.settling));
        let sql = self.0.statements.claim(&batch.selectors, shape);
        let (max_attempts, same_machine) = retry_parameters(rules);
        let limit = i64::from(batch.limit.min(MAX_BATCH));
        let machine = rules.machine.as_str();
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&machine, &limit, &max_attempts, &same_machine];
        parameters.extend(arrays.parameters());
        let answer = self
            .0
            .connections
            .query("settling and claiming tasks", &sql, &parameters)
            .await;
        let mut rows = match answer {
            // One value of the batch cannot be stored; the others must not suffer.
            Err(error) if error::is_refused_value(&error) => {
                let fences = self.settle_all(settlements).await?;
                return Ok((
                    fences,
                    self.claim_next(rules, batch).await.unwrap_or_default(),
                ));
            }
            rows => rows?,
        };
        let settled: Option<Vec<Uuid>> = rows.pop().and_then(|last| last.get(TASK_COLUMNS));
        let written: HashSet<Uuid> = settled.unwrap_or_default().into_iter().collect();
        let claimed = Self::claimed(&rows, rules, batch)?;
        // What was claimed must reach the caller even when this look fails: then unwritten means lost.
        let fences = match self.fences_of(machine, &group, &written).await {
            Ok(fences) => fences,
            Err(error) => {
                tracing::warn!(%error, "could not look up settlements that were not written");
                settlements
                    .iter()
                    .map(|one| match one.lease.task.id.as_uuid() {
                        Some(id) if written.contains(&id) => Fence::Held,
                        _ => Fence::Lost,
                    })
                    .collect()
            }
        };
        Ok((fences, claimed))
    }

    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.fenced(
            "releasing tasks",
            include_str!("../../sql/postgres/release.sql"),
            leases,
        )
        .await
    }

    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError> {
        if limit == 0 || selects_nothing(selectors) {
            return Ok(Vec::new());
        }
        let sql = self.0.statements.sweep(selectors, before.is_some());
        let limit = i64::from(limit);
        let max_attempts = self.max_attempts();
        let rows = match before {
            None => {
                self.0
                    .connections
                    .query("sweeping", &sql, &[&limit, &max_attempts])
                    .await?
            }
            Some((at, task)) => {
                let id = task.id.as_uuid().unwrap_or_default();
                self.0
                    .connections
                    .query("sweeping", &sql, &[&limit, &max_attempts, &at, &id])
                    .await?
            }
        };
        rows.iter().map(row::view).collect()
    }

    async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError> {
        let sql = self.0.statements.maintain(selectors);
        let (max_attempts, same_machine) = retry_parameters(rules);
        let lease = rules.lease.ttl.as_secs_f64();
        let machine = rules.machine.as_str();
        let parameters: [&(dyn ToSql + Sync); 4] = [&machine, &lease, &max_attempts, &same_machine];
        let row = self
            .0
            .connections
            .query_one("looking after tasks", &sql, &parameters)
            .await?;
        let recovered: Vec<Uuid> = row.get(0);
        let next_retry: Option<f64> = row.get(2);
        Ok(Maintenance {
            recovered: recovered.into_iter().map(row::activity).collect(),
            ready: row.get(1),
            next_retry: next_retry.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }

    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError> {
        if tasks.is_empty() {
            return Ok(());
        }
        // One hint for all of them: whoever hears it looks at the table.
        let sql = "select pg_notify('rowcall_wake', '')";
        self.0
            .connections
            .query("announcing tasks", sql, &[])
            .await
            .map(drop)
    }

    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError> {
        let (Some(id), true) = (task.id.as_uuid(), task.table.is_activities()) else {
            return Ok(None);
        };
        let rows = self
            .0
            .connections
            .query(
                "looking up a task",
                &self.0.fixed.inspect,
                &[&id, &self.max_attempts()],
            )
            .await?;
        rows.first().map(row::view).transpose()
    }
}

/// Statements that do not depend on selectors, put together once.
pub(super) struct Fixed {
    pub(super) claim_one: String,
    pub(super) inspect: String,
    pub(super) list: String,
}

impl Fixed {
    pub(super) fn new() -> Self {
        Self {
            claim_one: statement::claim_one(),
            inspect: statement::inspect(),
            list: statement::list(),
        }
    }
}
