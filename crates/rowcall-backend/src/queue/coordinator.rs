//! The ports of the engine over queues.

use async_trait::async_trait;
use jiff::Timestamp;
use rowcall_core::{
    EventKind, LeaseKey, RetryPolicy, SourceError, TaskRef, TaskState,
    ports::{
        AdminOutcome, Capabilities, ClaimBatch, ClaimOutcome, ClaimRules, Claimed, Coordinator,
        Fence, Maintenance, Settlement, TaskAdmin, TaskQuery, TaskView,
    },
    route::Selector,
};
use tokio_postgres::types::ToSql;

use super::{backend::QueueBackend, error::QueueError, place::Place, spec::Finish, view::Page};

/// Messages of one page of a sweep.
const MAX_PAGE: u32 = 1_000;

#[async_trait]
impl Coordinator for QueueBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            batches: true,
            renew: self.renews(),
            sweep: matches!(self.inner.place, Place::Database(_)),
            // A lease that ran out is a visible message: there is nothing to recover.
            recover: false,
            fenced_by_attempt: true,
        }
    }

    async fn claim(&self, rules: &ClaimRules, task: &TaskRef) -> Result<ClaimOutcome, SourceError> {
        match self.locate(task) {
            Some((queue, id)) if self.layout().tables[queue].queue => {
                Ok(self.claim_one(rules, queue, id).await?)
            }
            _ => Ok(ClaimOutcome::Gone),
        }
    }

    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        Ok(self.claim_batch(rules, batch).await?)
    }

    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        Ok(self.renew_all(leases).await?)
    }

    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        // pgmq has no word for it; whether the leases are still ours is worth knowing.
        Ok(self.check_all(leases).await?)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError> {
        Ok(self.settle_all(settlements).await?)
    }

    async fn settle_and_claim(
        &self,
        rules: &ClaimRules,
        settlements: &[Settlement],
        batch: &ClaimBatch,
    ) -> Result<(Vec<Fence>, Vec<Claimed>), SourceError> {
        Ok(self.settle_and_claim_all(rules, settlements, batch).await?)
    }

    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        Ok(self.release_all(leases).await?)
    }

    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError> {
        let page = Page {
            before,
            limit: i64::from(limit.min(MAX_PAGE)),
            visible_only: true,
            ..Page::default()
        };
        Ok(self.list(&self.queues(selectors)?, &page).await?)
    }

    async fn maintain(
        &self,
        _rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError> {
        Ok(self.maintenance(selectors).await?)
    }

    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError> {
        let queues = tasks
            .iter()
            .filter_map(|task| self.index(&task.table))
            .collect();
        self.announce(&queues).await;
        Ok(())
    }

    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError> {
        match self.locate(task) {
            Some((queue, id)) => Ok(self.view_one(queue, id).await?),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl TaskAdmin for QueueBackend {
    async fn list(
        &self,
        query: &TaskQuery,
        _retry: &RetryPolicy,
    ) -> Result<Vec<TaskView>, SourceError> {
        let wanted = |state| query.states.is_empty() || query.states.contains(&state);
        let (pending, claimed) = (wanted(TaskState::Pending), wanted(TaskState::Claimed));
        if (!pending && !claimed) || query.event.is_some_and(|event| event != EventKind::Insert) {
            return Ok(Vec::new());
        }
        let layout = self.layout();
        let queues: Vec<usize> = (0..self.specs().len())
            .filter(|queue| layout.tables[*queue].queue)
            .filter(|queue| {
                query
                    .source
                    .as_ref()
                    .is_none_or(|table| *table == self.specs()[*queue].name.table())
            })
            .collect();
        let page = Page {
            limit: i64::from(query.limit.min(MAX_PAGE)),
            offset: i64::from(query.offset),
            hidden_only: !pending,
            ..Page::default()
        };
        let mut views = QueueBackend::list(self, &queues, &page).await?;
        views.retain(|view| {
            view.state.is_some_and(wanted) && (!query.needs_attention || view.needs_attention)
        });
        Ok(views)
    }

    /// Makes a message visible now; one whose attempts are used up gets all of them again.
    async fn retry(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        self.change(task, "set vt = clock_timestamp(), read_ct = 0")
            .await
    }

    /// Takes a message from whoever holds it. Counting one read more is what fences the holder.
    async fn release(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        self.change(task, "set vt = clock_timestamp(), read_ct = read_ct + 1")
            .await
    }

    /// Ends a message unhandled: it goes to the archive, or is deleted where handled messages are.
    async fn cancel(&self, task: &TaskRef, _reason: &str) -> Result<AdminOutcome, SourceError> {
        let Some((queue, id)) = self.locate(task) else {
            return Ok(AdminOutcome::NotFound);
        };
        let spec = &self.specs()[queue];
        let store = self.store();
        let done = match spec.finish {
            Finish::Archive => store.archive(&spec.name, id).await?,
            Finish::Delete => store.delete(&spec.name, id).await?,
        };
        if done {
            Ok(AdminOutcome::Done)
        } else {
            self.missing(task).await
        }
    }
}

impl QueueBackend {
    /// Changes one message in the queue, and wakes workers for it.
    async fn change(&self, task: &TaskRef, set: &str) -> Result<AdminOutcome, SourceError> {
        let Some((queue, id)) = self.locate(task) else {
            return Ok(AdminOutcome::NotFound);
        };
        let text = format!(
            "update {} {set} where msg_id = $1",
            self.specs()[queue].name.queue_sql()
        );
        let params: [&(dyn ToSql + Sync); 1] = [&id];
        let Place::Database(database) = &self.inner.place else {
            return Err(QueueError::NeedsDatabase {
                doing: "changing a message",
            }
            .into());
        };
        let client = database.get().await?;
        let changed = client
            .execute(&text, &params)
            .await
            .map_err(QueueError::doing("changing a message"))?;
        if changed == 0 {
            return self.missing(task).await;
        }
        self.announce(&[queue].into()).await;
        Ok(AdminOutcome::Done)
    }

    async fn missing(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        Ok(
            match self.inspect(task).await?.and_then(|view| view.state) {
                Some(state) => AdminOutcome::NotApplicable(state),
                None => AdminOutcome::NotFound,
            },
        )
    }
}
