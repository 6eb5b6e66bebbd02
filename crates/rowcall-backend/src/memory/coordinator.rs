//! Claims, renewals and settlements of the model.

use async_trait::async_trait;
use jiff::Timestamp;
use rowcall_core::{
    Lease, LeaseKey, MAX_RETRY_DELAY, MachineId, RetryPolicy, Selector, Signal, SourceError,
    TableName, TaskRef, TaskState,
    ports::{
        Capabilities, ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Claimed, Coordinator,
        Fence, Maintenance, Settlement, TaskView, Verdict,
    },
};

use super::{
    MemoryCoordinator, State,
    row::{Claimable, Row},
};

impl Row {
    fn lease_to(&mut self, machine: &MachineId, now: Timestamp) -> Claimed {
        self.set_state(TaskState::Claimed);
        self.locked_by = Some(machine.as_str().into());
        self.locked_at = Some(now);
        self.retry_at = None;
        self.attempt += 1;
        let task = self.task();
        let lease = Lease::granted(LeaseKey {
            task: task.task.clone(),
            machine: machine.clone(),
            attempt: self.attempt,
        });
        Claimed { lease, task }
    }

    /// Whether this very settlement is what the row shows.
    fn stands(&self, settlement: &Settlement) -> bool {
        let Settlement { lease, verdict } = settlement;
        self.attempt == lease.attempt
            && self.state() == Some(verdict.state())
            && match verdict {
                Verdict::Completed(_) => self.locked_by.as_deref() == Some(lease.machine.as_str()),
                Verdict::Failed { .. } => self.attempted_by.contains(&lease.machine),
                Verdict::Canceled { .. } => true,
            }
    }

    fn settle(&mut self, machine: &MachineId, verdict: &Verdict, now: Timestamp) {
        self.set_state(verdict.state());
        match verdict {
            Verdict::Completed(result) => {
                self.result = Some(result.clone());
                self.completed_at = Some(now);
                // The lock columns stay, as in the published protocol: they say who did it.
            }
            Verdict::Failed { error, retry_in } => {
                self.error_message = Some(error.clone());
                if !self.attempted_by.contains(machine) {
                    self.attempted_by.push(machine.clone());
                }
                self.retry_count += 1;
                self.retry_at =
                    retry_in.and_then(|delay| now.checked_add(delay.min(MAX_RETRY_DELAY)).ok());
                self.unlock();
            }
            Verdict::Canceled { reason } => {
                self.error_message = Some(reason.clone());
                self.unlock();
            }
        }
    }
}

impl State {
    /// Does something to every row whose lease is still the one named.
    fn fenced(&mut self, leases: &[LeaseKey], mut act: impl FnMut(&mut Row, usize)) -> Vec<Fence> {
        leases
            .iter()
            .enumerate()
            .map(|(index, lease)| {
                let Some(row) = self.row(&lease.task) else {
                    return Fence::Lost;
                };
                let ours = row.state().is_some_and(TaskState::is_leased)
                    && row.locked_by.as_deref() == Some(lease.machine.as_str())
                    && row.attempt == lease.attempt;
                if !ours {
                    return Fence::Lost;
                }
                act(row, index);
                Fence::Held
            })
            .collect()
    }

    fn settle(&mut self, settlements: &[Settlement], now: Timestamp) -> Vec<Fence> {
        let leases: Vec<LeaseKey> = settlements.iter().map(|one| one.lease.clone()).collect();
        let mut fences = self.fenced(&leases, |row, index| {
            let Settlement { lease, verdict } = &settlements[index];
            row.settle(&lease.machine, verdict, now);
        });
        // A settlement whose answer was lost is asked for again; it stands, and nothing is written twice.
        for (one, fence) in settlements.iter().zip(&mut fences) {
            if self.row(&one.lease.task).is_some_and(|row| row.stands(one)) {
                *fence = Fence::Held;
            }
        }
        fences
    }

    fn claim_next(
        &mut self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
        now: Timestamp,
    ) -> Vec<Claimed> {
        let mut candidates: Vec<&mut Row> = self
            .rows
            .iter_mut()
            .filter(|row| match row.state() {
                Some(TaskState::Pending) => true,
                Some(TaskState::Failed) => batch.retryable,
                // Stale leases go through `maintain`, where everybody hears of it.
                _ => false,
            })
            .filter(|row| matches!(row.claimable(rules, now), Claimable::Yes))
            .filter(|row| row.matches(&batch.selectors))
            .collect();
        // Stable: rows of one instant stay in the order they came.
        candidates.sort_by_key(|row| row.created_at);
        if batch.order == ClaimOrder::NewestFirst {
            candidates.reverse();
        }
        // What is tried again goes first: there is little of it, and the limit on attempts bounds it.
        candidates.sort_by_key(|row| row.state() != Some(TaskState::Failed));
        let limit = usize::try_from(batch.limit).unwrap_or(usize::MAX);
        let chosen = candidates.into_iter().take(limit);
        let mut claimed: Vec<Claimed> = chosen
            .map(|row| row.lease_to(&rules.machine, now))
            .collect();
        claimed.sort_by_key(|one| one.task.created_at);
        if batch.order == ClaimOrder::NewestFirst {
            claimed.reverse();
        }
        claimed
    }
}

#[async_trait]
impl Coordinator for MemoryCoordinator {
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
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        let Some(row) = state.row(task) else {
            return Ok(ClaimOutcome::Gone);
        };
        Ok(match row.claimable(rules, now) {
            Claimable::Yes => ClaimOutcome::Won(Box::new(row.lease_to(&rules.machine, now))),
            Claimable::Held => ClaimOutcome::Held {
                by: row
                    .locked_by
                    .as_deref()
                    .and_then(|by| MachineId::new(by).ok()),
            },
            Claimable::No(why) => ClaimOutcome::Ineligible(why),
        })
    }

    async fn claim_next(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, SourceError> {
        let now = self.0.clock.now();
        Ok(self.0.state.lock().claim_next(rules, batch, now))
    }

    async fn renew(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        Ok(state.fenced(leases, |row, _| row.locked_at = Some(now)))
    }

    async fn mark_processing(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        let mut state = self.0.state.lock();
        Ok(state.fenced(leases, |row, _| row.set_state(TaskState::Processing)))
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Fence>, SourceError> {
        let now = self.0.clock.now();
        Ok(self.0.state.lock().settle(settlements, now))
    }

    async fn settle_and_claim(
        &self,
        rules: &ClaimRules,
        settlements: &[Settlement],
        batch: &ClaimBatch,
    ) -> Result<(Vec<Fence>, Vec<Claimed>), SourceError> {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        // One statement sees one snapshot: what is settled here cannot be claimed here.
        let claimed = state.claim_next(rules, batch, now);
        Ok((state.settle(settlements, now), claimed))
    }

    async fn release(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, SourceError> {
        let mut state = self.0.state.lock();
        Ok(state.fenced(leases, |row, _| {
            row.set_state(TaskState::Pending);
            row.unlock();
        }))
    }

    async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<TaskView>, SourceError> {
        let state = self.0.state.lock();
        let mut rows: Vec<&Row> = state
            .rows
            .iter()
            .filter(|row| matches!(row.state(), Some(TaskState::Pending | TaskState::Failed)))
            .filter(|row| row.matches(selectors))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
        let behind = |row: &Row| {
            before
                .as_ref()
                .is_none_or(|(at, task)| (row.created_at, Some(row.id)) < (*at, task.id.as_uuid()))
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let page = rows.into_iter().filter(|row| behind(row)).take(limit);
        Ok(page.map(|row| row.view(&RetryPolicy::default())).collect())
    }

    async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
    ) -> Result<Maintenance, SourceError> {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        let mut found = Maintenance::default();
        for row in &mut state.rows {
            if row.is_stale(now, rules.lease.ttl) {
                row.set_state(TaskState::Pending);
                row.unlock();
                found.recovered.push(row.task_ref());
            }
            let open = matches!(row.state(), Some(TaskState::Pending | TaskState::Failed));
            if !open || !row.matches(selectors) {
                continue;
            }
            found.ready |= matches!(row.claimable(rules, now), Claimable::Yes);
            if rules.retry.same_machine.is_some()
                && row.retry_count < rules.retry.max_attempts
                && row.attempted_by.contains(&rules.machine)
                && let Some(at) = row.retry_at.filter(|at| *at > now)
            {
                let wait = at.duration_since(now).unsigned_abs();
                found.next_retry = Some(found.next_retry.map_or(wait, |best| best.min(wait)));
            }
        }
        Ok(found)
    }

    async fn announce_retry(&self, tasks: &[TaskRef]) -> Result<(), SourceError> {
        let mut state = self.0.state.lock();
        for task in tasks {
            let signal = Signal::Dirty {
                table: TableName::activities(),
                task: Some(task.clone()),
            };
            state.tell(&signal);
        }
        Ok(())
    }

    async fn inspect(&self, task: &TaskRef) -> Result<Option<TaskView>, SourceError> {
        let mut state = self.0.state.lock();
        Ok(state.row(task).map(|row| row.view(&RetryPolicy::default())))
    }
}
