//! The ports, on top of everything else in this module.

use std::cmp::Reverse;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use rowcall_core::{
    LeaseKey, RetryPolicy, Selector, Signal, SourceError, TaskRef, TaskState,
    ports::{
        AdminOutcome, Capabilities, ClaimBatch, ClaimOutcome, ClaimRules, Claimed, Coordinator,
        Fence, Maintenance, Settlement, SignalSource, TaskAdmin, TaskQuery, TaskView,
    },
};

use tokio::time::Instant;

use super::{
    Inner, SupabaseBackend,
    error::RestError,
    lease::Action,
    plan::Plan,
    table::{MAX_PAGE, Row, Table},
};

/// Pages looked at for one page of a sweep, where filters pass over many rows.
const MAX_SWEEP_PAGES: u32 = 20;

impl Inner {
    /// A row as lists show it, with what only the daemon remembers.
    fn view(&self, table: &Table, row: &Row, retry: &RetryPolicy) -> TaskView {
        let mut view = row.view(retry);
        if !table.has("attempt") {
            // A lease from before a restart was given to the attempt after the failures that were counted.
            let claimed = u32::from(view.state.is_some_and(TaskState::is_leased));
            let known = self.memory.attempt(&view.task.task);
            view.task.attempt = known.map_or(view.task.attempt + claimed, |known| {
                known.max(view.task.attempt)
            });
        }
        if view.retry_at.is_none() && view.state == Some(TaskState::Failed) {
            let remembered = self.memory.retry_at(&view.task.task);
            view.retry_at = remembered.and_then(|(_, at)| {
                let wait = at.saturating_duration_since(Instant::now());
                self.config.clock.now().checked_add(wait).ok()
            });
        }
        view
    }

    async fn sweep_all(
        &self,
        plan: &Plan,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, RestError> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for table in plan.tables() {
            let mut cursor = before.clone();
            let mut here = Vec::new();
            for _ in 0..MAX_SWEEP_PAGES {
                let rows = table.sweep(selectors, cursor.as_ref(), limit).await?;
                let Some(last) = rows.last() else { break };
                cursor = Some((last.created_at(), last.task_ref()));
                let was_last = rows.len() < wanted.min(1);
                let selected = rows.iter().filter(|row| row.is_selected(selectors));
                here.extend(selected.map(|row| self.view(table, row, &RetryPolicy::default())));
                if here.len() >= wanted || was_last {
                    break;
                }
            }
            found.extend(here);
        }
        merge(&mut found, wanted);
        Ok(found)
    }

    async fn list_all(
        &self,
        plan: &Plan,
        query: &TaskQuery,
        retry: &RetryPolicy,
    ) -> Result<Vec<TaskView>, RestError> {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let upto = query.limit.saturating_add(query.offset).min(MAX_PAGE);
        let mut found = Vec::new();
        for table in plan.tables() {
            let rows = table.list(query, upto).await?;
            let views = rows.iter().map(|row| self.view(table, row, retry));
            // What the table has no columns for is judged here.
            found.extend(views.filter(|view| {
                query
                    .source
                    .as_ref()
                    .is_none_or(|source| *source == view.task.source)
                    && query.event.is_none_or(|event| event == view.task.event)
                    && (!query.needs_attention || view.needs_attention)
            }));
        }
        merge(&mut found, size(upto));
        Ok(found
            .into_iter()
            .skip(size(query.offset))
            .take(size(query.limit))
            .collect())
    }
}

/// The newest first over all tables; within a table the order it gave stays.
fn merge(views: &mut Vec<TaskView>, limit: usize) {
    views.sort_by(|a, b| {
        let key = |view: &TaskView| Reverse((view.task.created_at, view.task.task.table.clone()));
        key(a).cmp(&key(b))
    });
    views.truncate(limit);
}

impl SupabaseBackend {
    async fn plan(&self, what: &str) -> Result<std::sync::Arc<Plan>, SourceError> {
        let plan = self.0.plans.get().await;
        plan.map_err(|error| self.0.explain(error, what))
    }

    async fn act(
        &self,
        leases: &[LeaseKey],
        action: Action,
        what: &str,
    ) -> Result<Vec<Fence>, SourceError> {
        let plan = self.plan(what).await?;
        let fences = self.0.act(&plan, leases, action).await;
        let fences = fences.map_err(|error| self.0.explain(error, what))?;
        let ends = action == Action::Release;
        self.0.leases.note(leases.iter(), &fences, ends);
        Ok(fences)
    }

    /// Does something to a task that is in a table of the plan.
    async fn administer(
        &self,
        task: &TaskRef,
        what: &str,
        act: impl AsyncFnOnce(&Table) -> Result<AdminOutcome, RestError>,
    ) -> Result<AdminOutcome, SourceError> {
        let plan = self.plan(what).await?;
        let Some(table) = plan.table(&task.table) else {
            return Ok(AdminOutcome::NotFound);
        };
        let outcome = act(table)
            .await
            .map_err(|error| self.0.explain(error, what))?;
        if outcome == AdminOutcome::Done {
            self.0.memory.forget_retry(task);
        }
        Ok(outcome)
    }
}

#[async_trait]
impl Coordinator for SupabaseBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            batches: true,
            renew: true,
            // Tables that only the app knows can neither be searched nor mended.
            sweep: self.0.plans.can_read(),
            recover: self.0.plans.can_read(),
            fenced_by_attempt: self.0.plans.is_batch(),
        }
    }

    async fn claim(&self, rules: &ClaimRules, task: &TaskRef) -> Result<ClaimOutcome, SourceError> {
        const WHAT: &str = "claim a task";
        let plan = self.plan(WHAT).await?;
        let table = plan.table(&task.table);
        let _claiming = self.0.leases.begin_claim().await;
        let outcome = match (&self.0.custom, table) {
            (Some(custom), Some(_)) => self.0.claim_custom(custom, rules, table, task).await,
            (Some(custom), None) if plan.blind.contains(&task.table) => {
                self.0.claim_custom(custom, rules, None, task).await
            }
            (None, Some(table)) => self.0.claim_named(rules, &plan, table, &task.id).await,
            (_, None) => return Ok(ClaimOutcome::Gone),
        };
        outcome
            .inspect_err(|error| self.0.leases.doubt(error))
            .map_err(|error| self.0.explain(error, WHAT))
    }

    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        const WHAT: &str = "claim tasks";
        let plan = self.plan(WHAT).await?;
        let _claiming = self.0.leases.begin_claim().await;
        let began = Instant::now();
        let won = self.0.claim_batch(rules, &plan, batch).await;
        if won.is_ok() {
            self.0.turns.lock().took(Instant::now() - began);
        }
        won.inspect_err(|error| self.0.leases.doubt(error))
            .map_err(|error| self.0.explain(error, WHAT))
    }

    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.act(leases, Action::Renew, "renew leases").await
    }

    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.act(leases, Action::Start, "mark tasks as processing")
            .await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError> {
        const WHAT: &str = "settle tasks";
        let plan = self.plan(WHAT).await?;
        let fences = self.0.settle_all(&plan, settlements).await;
        let fences = fences.map_err(|error| self.0.explain(error, WHAT))?;
        let leases = settlements.iter().map(|one| &one.lease);
        self.0.leases.note(leases, &fences, true);
        Ok(fences)
    }

    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        self.act(leases, Action::Release, "give tasks back").await
    }

    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError> {
        const WHAT: &str = "look for missed tasks";
        let plan = self.plan(WHAT).await?;
        let found = self.0.sweep_all(&plan, selectors, before, limit).await;
        found.map_err(|error| self.0.explain(error, WHAT))
    }

    async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError> {
        const WHAT: &str = "look after leases";
        let plan = self.plan(WHAT).await?;
        let found = self.0.maintain_all(&plan, rules, selectors).await;
        found.map_err(|error| self.0.explain(error, WHAT))
    }

    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError> {
        let sent = self.0.announce(tasks).await;
        sent.map_err(|error| {
            self.0
                .explain(error, "tell other machines of a failed task")
        })
    }

    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError> {
        const WHAT: &str = "read a task";
        let plan = self.plan(WHAT).await?;
        let Some(table) = plan.table(&task.table) else {
            return Ok(None);
        };
        if table.is_activities() && task.id.as_uuid().is_none() {
            return Ok(None);
        }
        let row = table.find(&task.id).await;
        let row = row.map_err(|error| self.0.explain(error, WHAT))?;
        Ok(row.map(|row| self.0.view(table, &row, &RetryPolicy::default())))
    }
}

#[async_trait]
impl TaskAdmin for SupabaseBackend {
    async fn list(
        &self,
        query: &TaskQuery,
        retry: &RetryPolicy,
    ) -> Result<Vec<TaskView>, SourceError> {
        const WHAT: &str = "list tasks";
        let plan = self.plan(WHAT).await?;
        let found = self.0.list_all(&plan, query, retry).await;
        found.map_err(|error| self.0.explain(error, WHAT))
    }

    async fn retry(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        let act = async |table: &Table| table.admin_retry(&task.id).await;
        self.administer(task, "retry a task", act).await
    }

    async fn release(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        let act = async |table: &Table| table.admin_release(&task.id).await;
        self.administer(task, "release a task", act).await
    }

    async fn cancel(&self, task: &TaskRef, reason: &str) -> Result<AdminOutcome, SourceError> {
        let act = async |table: &Table| table.admin_cancel(&task.id, reason).await;
        self.administer(task, "cancel a task", act).await
    }
}

impl SignalSource for SupabaseBackend {
    fn signals(&self) -> BoxStream<'static, Signal> {
        self.0.signals.stream()
    }

    /// Realtime tells of every change while it is up, and the driver looks again for what was told too early.
    fn is_gated(&self) -> bool {
        false
    }
}
