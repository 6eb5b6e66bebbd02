//! What people do with tasks of the model.

use async_trait::async_trait;
use rowcall_core::{
    RetryPolicy, SourceError, TaskRef, TaskState,
    ports::{AdminOutcome, TaskAdmin, TaskQuery, TaskView},
};

use super::{MemoryCoordinator, row::Row};

impl MemoryCoordinator {
    /// Acts on the row when `applies` to its state; a status word we do not know is anybody's to mend.
    fn administer(
        &self,
        task: &TaskRef,
        applies: impl Fn(&Row, TaskState) -> bool,
        act: impl FnOnce(&mut Row),
    ) -> AdminOutcome {
        let mut state = self.0.state.lock();
        let Some(row) = state.row(task) else {
            return AdminOutcome::NotFound;
        };
        match row.state() {
            Some(current) if !applies(row, current) => AdminOutcome::NotApplicable(current),
            _ => {
                act(row);
                AdminOutcome::Done
            }
        }
    }
}

#[async_trait]
impl TaskAdmin for MemoryCoordinator {
    async fn list(
        &self,
        query: &TaskQuery,
        retry: &RetryPolicy,
    ) -> Result<Vec<TaskView>, SourceError> {
        let state = self.0.state.lock();
        let mut rows: Vec<&Row> = state
            .rows
            .iter()
            .filter(|row| {
                let state_fits = query.states.is_empty()
                    || row
                        .state()
                        .is_some_and(|state| query.states.contains(&state));
                state_fits
                    && query
                        .source
                        .as_ref()
                        .is_none_or(|source| *source == row.new.source)
                    && query.event.is_none_or(|event| event == row.new.event)
                    && (!query.needs_attention || row.needs_attention(retry))
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let page = rows
            .into_iter()
            .skip(size(query.offset))
            .take(size(query.limit));
        Ok(page.map(|row| row.view(retry)).collect())
    }

    async fn retry(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        let applies = |row: &Row, state| match state {
            TaskState::Failed | TaskState::Canceled => true,
            TaskState::Pending => row.retry_count > 0 || !row.attempted_by.is_empty(),
            _ => false,
        };
        Ok(self.administer(task, applies, |row| {
            row.set_state(TaskState::Pending);
            row.unlock();
            row.attempted_by.clear();
            row.retry_count = 0;
            row.retry_at = None;
        }))
    }

    async fn release(&self, task: &TaskRef) -> Result<AdminOutcome, SourceError> {
        Ok(self.administer(
            task,
            |_, state| state.is_leased(),
            |row| {
                row.set_state(TaskState::Pending);
                row.unlock();
            },
        ))
    }

    async fn cancel(&self, task: &TaskRef, reason: &str) -> Result<AdminOutcome, SourceError> {
        Ok(self.administer(
            task,
            |_, state| !state.is_final(),
            |row| {
                row.set_state(TaskState::Canceled);
                row.unlock();
                row.error_message = Some(reason.to_owned());
            },
        ))
    }
}
