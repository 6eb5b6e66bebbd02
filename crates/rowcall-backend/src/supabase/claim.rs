//! Claims: by name, and of whatever is next.

use std::time::Duration;

use futures_util::future::join_all;
use rowcall_core::{
    Lease, LeaseKey, Selector, TaskId, TaskState, dispersal,
    ports::{ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Claimed, Ineligible},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Inner,
    batch::Functions,
    clock::MARGIN,
    error::RestError,
    http::Call,
    plan::Plan,
    table::{MAX_IDS, MAX_PAGE, Page, Row, Table},
};

/// Claims made at the same time, where each is a request of its own.
pub(super) const CONCURRENT_CLAIMS: usize = 8;
/// Pages looked at for one batch. Others claim at the same time, and filters may pass over many rows.
const MAX_ROUNDS: u32 = 20;
/// Rows of a page at least: some of them are claimed by others before us.
const MIN_PAGE: u32 = 20;

impl Inner {
    pub(super) fn won(&self, rules: &ClaimRules, row: &Row, attempt: u32) -> Claimed {
        let task = row.task(attempt);
        self.memory.forget_retry(&task.task);
        self.leases.give_out(&task.task, attempt);
        self.turns.lock().taken(&task.task);
        Claimed {
            lease: Lease::granted(LeaseKey {
                task: task.task.clone(),
                machine: rules.machine.clone(),
                attempt,
            }),
            task,
        }
    }

    /// Claims that our functions granted: the rows count attempts. What was granted before is no second claim.
    pub(super) fn won_counted(&self, rules: &ClaimRules, rows: &[Row]) -> Vec<Claimed> {
        let mut won = Vec::with_capacity(rows.len());
        for row in rows {
            let (task, attempt) = (row.task_ref(), row.attempt());
            if self.leases.is_out(&task, attempt) {
                tracing::warn!(%task, attempt, "the project granted a claim that it had granted before");
            } else {
                won.push(self.won(rules, row, attempt));
            }
        }
        won
    }

    /// A claim without a column that counts attempts.
    pub(super) fn won_uncounted(&self, rules: &ClaimRules, row: &Row) -> Claimed {
        let attempt = self.memory.next_attempt(&row.task_ref(), row.attempt());
        self.won(rules, row, attempt)
    }

    /// Why a row cannot be claimed, as far as it tells; nothing if it can. A lease that may be stale is worth a try: the
    /// database decides, by its clock.
    pub(super) fn why_not(&self, row: &Row, rules: &ClaimRules) -> Option<ClaimOutcome> {
        let ineligible = |why| Some(ClaimOutcome::Ineligible(why));
        match row.state() {
            None => return ineligible(Ineligible::UnknownState),
            Some(state) if state.is_final() => return ineligible(Ineligible::Final),
            Some(state) if state.is_leased() && !self.may_be_stale(row, rules.lease.ttl) => {
                let by = row.locked_by();
                return Some(ClaimOutcome::Held { by });
            }
            Some(_) => {}
        }
        if row.retry_count() >= rules.retry.max_attempts {
            return ineligible(Ineligible::NeedsAttention);
        }
        if row.attempted_by().contains(&rules.machine)
            && (rules.retry.same_machine.is_none() || self.must_wait(row, rules))
        {
            return ineligible(Ineligible::AlreadyAttempted);
        }
        None
    }

    fn may_be_stale(&self, row: &Row, ttl: Duration) -> bool {
        let Some(locked_at) = row.locked_at() else {
            return true;
        };
        let now = self.rest.clock().now();
        let cutoff = now.and_then(|now| now.checked_sub(ttl.saturating_sub(MARGIN)).ok());
        cutoff.is_some_and(|cutoff| locked_at < cutoff)
    }

    fn must_wait(&self, row: &Row, rules: &ClaimRules) -> bool {
        if let (Some(at), Some(now)) = (row.retry_at(), self.rest.clock().now()) {
            return at > now;
        }
        let remembered = self.memory.retry_at(&row.task_ref());
        remembered.is_some_and(|(by, at)| by == rules.machine && at > Instant::now())
    }

    pub(super) async fn claim_named(
        &self,
        rules: &ClaimRules,
        plan: &Plan,
        table: &Table,
        id: &TaskId,
    ) -> Result<ClaimOutcome, RestError> {
        if table.is_activities() && id.as_uuid().is_none() {
            return Ok(ClaimOutcome::Gone);
        }
        if plan.is_batch(table)
            && let Some(uuid) = id.as_uuid()
        {
            let rows = Functions(table).claim(rules, &[uuid]).await?;
            if let Some(won) = self.won_counted(rules, &rows).pop() {
                return Ok(ClaimOutcome::Won(Box::new(won)));
            }
            return self.lost(rules, table, id).await;
        }
        let Some(row) = table.find(id).await? else {
            return Ok(ClaimOutcome::Gone);
        };
        if let Some(outcome) = self.why_not(&row, rules) {
            return Ok(outcome);
        }
        match self.claim_row(rules, table, &row).await? {
            Some(claimed) => Ok(ClaimOutcome::Won(Box::new(claimed))),
            None => self.lost(rules, table, id).await,
        }
    }

    /// Somebody was faster, or the task is not claimable: the row says which.
    async fn lost(
        &self,
        rules: &ClaimRules,
        table: &Table,
        id: &TaskId,
    ) -> Result<ClaimOutcome, RestError> {
        let Some(row) = table.find(id).await? else {
            return Ok(ClaimOutcome::Gone);
        };
        let held = || ClaimOutcome::Held {
            by: row.locked_by(),
        };
        Ok(self.why_not(&row, rules).unwrap_or_else(held))
    }

    /// Claims a row that looked claimable, with the published function or a guarded write; nothing if somebody was faster.
    pub(super) async fn claim_row(
        &self,
        rules: &ClaimRules,
        table: &Table,
        row: &Row,
    ) -> Result<Option<Claimed>, RestError> {
        if let Some(custom) = &self.custom {
            let task = row.task_ref();
            let won = self
                .ask_for_lock(custom, rules, Some(table), &task, Some(row))
                .await?;
            return Ok(won.ok());
        }
        let leased = row.state().is_some_and(TaskState::is_leased);
        if !table.is_activities() {
            let cutoff = if leased {
                self.rest.clock().stale_before(rules.lease.ttl)
            } else {
                None
            };
            let won = table.claim(rules, &row.id, cutoff).await?;
            return Ok(won.map(|row| self.won_uncounted(rules, &row)));
        }
        // What the original function would never grant is mended first.
        if leased && row.locked_at().is_none() {
            table.recover_undated(&row.id).await?;
        }
        if row.has_null_status() {
            table.mend_status(&row.id).await?;
        }
        if row.attempted_by().contains(&rules.machine) {
            table.forget_attempt(row, &rules.machine).await?;
        }
        let arguments = json!({"target_task_id": row.id, "machine_id": rules.machine});
        let claim = Call::rpc("rtx_fn_claim_task", &arguments);
        let mut granted: bool = self.rest.fetch(&claim).await?;
        if !granted && row.has_null_attempts() {
            table.mend_attempts(&row.id).await?;
            granted = self.rest.fetch(&claim).await?;
        }
        Ok(granted.then(|| self.won_uncounted(rules, row)))
    }

    pub(super) async fn claim_batch(
        &self,
        rules: &ClaimRules,
        plan: &Plan,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, RestError> {
        let mut won = Vec::new();
        let filled = if batch.hints.is_empty() {
            self.fill(rules, plan, batch, &mut won).await
        } else {
            self.claim_hinted(rules, plan, batch, &mut won).await
        };
        match filled {
            // What was won before the error is ours and must be run.
            Err(error) if !won.is_empty() => {
                self.leases.doubt(&error);
                tracing::warn!(%error, won = won.len(), "a batch was not filled");
                Ok(won)
            }
            outcome => outcome.map(|()| won),
        }
    }

    async fn fill(
        &self,
        rules: &ClaimRules,
        plan: &Plan,
        batch: &ClaimBatch,
        won: &mut Vec<Claimed>,
    ) -> Result<(), RestError> {
        for table in plan.tables() {
            let Some(left) = left(batch, won) else { break };
            let selectors = plan.selectors_for(table, &batch.selectors);
            if selectors.iter().all(|selector| selector.events.is_empty()) {
                continue;
            }
            let unfiltered = selectors.iter().all(|selector| selector.filter.is_none());
            if plan.is_batch(table) && unfiltered {
                let newest = batch.order == ClaimOrder::NewestFirst;
                let rows = Functions(table)
                    .claim_next(rules, &selectors, left, batch.retryable, newest)
                    .await?;
                won.extend(self.in_order(rules, rows, batch.order));
                continue;
            }
            let selectors: Vec<Selector> = selectors.into_iter().cloned().collect();
            let failed = batch.retryable.then_some(TaskState::Failed);
            for state in failed.into_iter().chain([TaskState::Pending]) {
                let search = Search {
                    table,
                    selectors: &selectors,
                    state,
                    batch: plan.is_batch(table),
                };
                self.claim_found(rules, &search, batch, won).await?;
            }
        }
        Ok(())
    }

    /// Rows of a set-returning function come in any order; those that had failed come first.
    fn in_order(&self, rules: &ClaimRules, mut rows: Vec<Row>, order: ClaimOrder) -> Vec<Claimed> {
        rows.sort_by_cached_key(Row::created_at);
        if order == ClaimOrder::NewestFirst {
            rows.reverse();
        }
        rows.sort_by_key(|row| row.retry_count() == 0);
        self.won_counted(rules, &rows)
    }

    /// Looks for rows page by page and claims them, until there are enough or no more.
    async fn claim_found(
        &self,
        rules: &ClaimRules,
        search: &Search<'_>,
        batch: &ClaimBatch,
        won: &mut Vec<Claimed>,
    ) -> Result<(), RestError> {
        // Rows that are passed over stay where they are; rows that are claimed, by us or others, leave the pages.
        let mut passed_over = 0;
        for _ in 0..MAX_ROUNDS {
            let Some(left) = left(batch, won) else { break };
            let page = Page {
                order: batch.order,
                limit: left.saturating_mul(2).clamp(MIN_PAGE, MAX_PAGE),
                offset: passed_over,
            };
            let rows = search
                .table
                .candidates(rules, search.selectors, search.state, page)
                .await?;
            let found = rows.len();
            let mut rows: Vec<Row> = rows
                .into_iter()
                .filter(|row| row.is_selected(search.selectors))
                .filter(|row| self.why_not(row, rules).is_none())
                .collect();
            passed_over += u32::try_from(found - rows.len()).unwrap_or(u32::MAX);
            let was_last = found < usize::try_from(page.limit).unwrap_or(usize::MAX);
            if rows.is_empty() {
                if was_last {
                    break;
                }
                continue;
            }
            self.by_rank(rules, &mut rows);
            won.extend(self.claim_rows(rules, search, &rows, left).await?);
        }
        Ok(())
    }

    /// Those first for which this machine comes first: the others are looking at the same page.
    fn by_rank(&self, rules: &ClaimRules, rows: &mut [Row]) {
        let present = self.present.borrow().clone();
        rows.sort_by_cached_key(|row| {
            dispersal::rank(&row.task_ref(), &rules.machine, present.iter())
        });
    }

    pub(super) async fn claim_rows(
        &self,
        rules: &ClaimRules,
        search: &Search<'_>,
        rows: &[Row],
        left: u32,
    ) -> Result<Vec<Claimed>, RestError> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if search.batch {
            let wanted: Vec<_> = rows.iter().take(left.min(MAX_IDS)).collect();
            let ids: Vec<_> = wanted.iter().filter_map(|row| row.id.as_uuid()).collect();
            let mut won = Functions(search.table).claim(rules, &ids).await?;
            won.sort_by_key(|row| wanted.iter().position(|one| one.id == row.id));
            return Ok(self.won_counted(rules, &won));
        }
        let mut won = Vec::new();
        for some in rows.chunks(CONCURRENT_CLAIMS) {
            let missing = left - won.len();
            if missing == 0 {
                break;
            }
            let mut claims = Vec::with_capacity(missing);
            for row in &some[..some.len().min(missing)] {
                claims.push(self.claim_row(rules, search.table, row));
            }
            let mut failed = None;
            for outcome in join_all(claims).await {
                match outcome {
                    Ok(claimed) => won.extend(claimed),
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                // What was won meanwhile is ours and must be run, whatever became of the rest.
                Some(error) if !won.is_empty() => {
                    self.leases.doubt(&error);
                    break;
                }
                Some(error) => return Err(error),
                None => {}
            }
        }
        Ok(won)
    }
}

/// Where to look for rows to claim.
pub(super) struct Search<'a> {
    pub(super) table: &'a Table,
    pub(super) selectors: &'a [Selector],
    pub(super) state: TaskState,
    pub(super) batch: bool,
}

/// How many are still wanted.
pub(super) fn left(batch: &ClaimBatch, won: &[Claimed]) -> Option<u32> {
    let won = u32::try_from(won.len()).unwrap_or(u32::MAX);
    batch.limit.checked_sub(won).filter(|left| *left > 0)
}
