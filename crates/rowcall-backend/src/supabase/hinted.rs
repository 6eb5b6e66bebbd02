//! Claims of the tasks that this machine was told of, and of no others: those are for the machines that were told of them.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rowcall_core::{
    Selector, TableName, TaskId, TaskRef, TaskState,
    ports::{ClaimBatch, ClaimOutcome, ClaimRules, Claimed},
};

use super::{
    Inner,
    batch::Functions,
    claim::{CONCURRENT_CLAIMS, Search, left},
    error::RestError,
    plan::Plan,
    table::{MAX_IDS, Row, Table},
};

impl Inner {
    pub(super) async fn claim_hinted(
        &self,
        rules: &ClaimRules,
        plan: &Plan,
        batch: &ClaimBatch,
        won: &mut Vec<Claimed>,
    ) -> Result<(), RestError> {
        let mut tables: BTreeMap<&TableName, Vec<&TaskRef>> = BTreeMap::new();
        let wanted = batch.hints.iter().filter(|task| self.may_want(task, batch));
        for task in wanted.take(MAX_IDS) {
            tables.entry(&task.table).or_default().push(task);
        }
        for (name, tasks) in tables {
            match plan.table(name) {
                Some(table) => {
                    self.claim_told(rules, plan, table, batch, &tasks, won)
                        .await?;
                }
                None if plan.blind.contains(name) => {
                    self.claim_blind(rules, &tasks, batch, won).await?;
                }
                None => {}
            }
            let lost = tasks
                .iter()
                .any(|task| won.iter().all(|one| one.task.task != **task));
            if lost {
                // It was open when this machine was told of it.
                self.turns.lock().too_early();
            }
        }
        Ok(())
    }

    /// Whether a claim of this app is worth a request, as far as Realtime told of the task.
    fn may_want(&self, task: &TaskRef, batch: &ClaimBatch) -> bool {
        let Some(heard) = self.memory.heard(task) else {
            return true;
        };
        (batch.retryable || !heard.failed) && heard.is_for(&batch.selectors)
    }

    async fn claim_told(
        &self,
        rules: &ClaimRules,
        plan: &Plan,
        table: &Table,
        batch: &ClaimBatch,
        tasks: &[&TaskRef],
        won: &mut Vec<Claimed>,
    ) -> Result<(), RestError> {
        let Some(left) = left(batch, won) else {
            return Ok(());
        };
        let selectors = plan.selectors_for(table, &batch.selectors);
        let known = tasks.iter().all(|task| self.memory.heard(task).is_some());
        let unfiltered = selectors.iter().all(|selector| selector.filter.is_none());
        if plan.is_batch(table) && unfiltered && known {
            let ids: Vec<_> = tasks.iter().filter_map(|task| task.id.as_uuid()).collect();
            let ids = &ids[..ids.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            let rows = Functions(table).claim(rules, ids).await?;
            won.extend(self.won_counted(rules, &rows));
            return Ok(());
        }
        let selectors: Vec<Selector> = selectors.into_iter().cloned().collect();
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
        let mut rows = table.find_open(&ids).await?;
        rows.retain(|row: &Row| {
            (batch.retryable || row.state() == Some(TaskState::Pending))
                && row.is_selected(&selectors)
                && self.why_not(row, rules).is_none()
        });
        let search = Search {
            table,
            selectors: &selectors,
            state: TaskState::Pending,
            batch: plan.is_batch(table),
        };
        won.extend(self.claim_rows(rules, &search, &rows, left).await?);
        Ok(())
    }

    /// Tasks that only the app knows: it is asked for each.
    async fn claim_blind(
        &self,
        rules: &ClaimRules,
        tasks: &[&TaskRef],
        batch: &ClaimBatch,
        won: &mut Vec<Claimed>,
    ) -> Result<(), RestError> {
        let Some(custom) = &self.custom else {
            return Ok(());
        };
        let Some(left) = left(batch, won) else {
            return Ok(());
        };
        let tasks = &tasks[..tasks.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        for some in tasks.chunks(CONCURRENT_CLAIMS) {
            let claims = some
                .iter()
                .map(|task| self.claim_custom(custom, rules, None, task));
            let mut failed = None;
            for outcome in join_all(claims).await {
                match outcome {
                    Ok(ClaimOutcome::Won(claimed)) => won.push(*claimed),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }
}
