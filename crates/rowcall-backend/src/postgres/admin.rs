//! What people do with tasks.

use async_trait::async_trait;
use rowcall_core::{
    RetryPolicy, SourceError, TaskRef, TaskState,
    ports::{AdminOutcome, TaskAdmin, TaskQuery, TaskView},
};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{PostgresBackend, row};
use crate::text::storable_text;

/// A list shows at most this many tasks at once.
const MAX_LIST: u32 = 1000;

impl PostgresBackend {
    /// Runs one of the statements that return the status before and whether something was done.
    async fn administer(
        &self,
        sql: &'static str,
        task: &TaskRef,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<AdminOutcome, SourceError> {
        let id: Option<Uuid> = task.id.as_uuid().filter(|_| task.table.is_activities());
        let Some(id) = id else {
            return Ok(AdminOutcome::NotFound);
        };
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&id];
        parameters.extend(more);
        let rows = self
            .0
            .connections
            .query("changing a task", sql, &parameters)
            .await?;
        let Some(row) = rows.first() else {
            return Ok(AdminOutcome::NotFound);
        };
        let (status, done): (&str, bool) = (row.get(0), row.get(1));
        if done {
            // Our sessions wake nobody by themselves, and this one means other machines.
            self.0
                .connections
                .query(
                    "announcing tasks",
                    "select pg_notify('rowcall_wake', '')",
                    &[],
                )
                .await?;
            return Ok(AdminOutcome::Done);
        }
        Ok(AdminOutcome::NotApplicable(
            status.parse().unwrap_or(TaskState::Pending),
        ))
    }
}

#[async_trait]
impl TaskAdmin for PostgresBackend {
    async fn list(
        &self,
        query: &TaskQuery,
        retry: &RetryPolicy,
    ) -> Result<Vec<TaskView>, SourceError> {
        let states: Option<Vec<&str>> = (!query.states.is_empty())
            .then(|| query.states.iter().map(|state| state.as_str()).collect());
        let source = query.source.as_ref().map(ToString::to_string);
        let event = query.event.map(rowcall_core::EventKind::as_str);
        let max_attempts = i32::try_from(retry.max_attempts).unwrap_or(i32::MAX);
        let (limit, offset) = (
            i64::from(query.limit.min(MAX_LIST)),
            i64::from(query.offset),
        );
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &states,
            &source,
            &event,
            &query.needs_attention,
            &max_attempts,
            &limit,
            &offset,
        ];
        let rows = self
            .0
            .connections
            .query("listing tasks", &self.0.fixed.list, &parameters)
            .await?;
        rows.iter().map(row::view).collect()
    }

    async fn retry(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        self.administer(
            include_str!("../../sql/postgres/admin_retry.sql"),
            task,
            &[],
        )
        .await
    }

    async fn release(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        self.administer(
            include_str!("../../sql/postgres/admin_release.sql"),
            task,
            &[],
        )
        .await
    }

    async fn cancel(&self, task: &TaskRef, reason: &str) -> Result<AdminOutcome, SourceError> {
        self.administer(
            include_str!("../../sql/postgres/admin_cancel.sql"),
            task,
            &[&storable_text(reason)],
        )
        .await
    }
}
