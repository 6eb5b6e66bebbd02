//! Renewals, releases and settlements, each only if the lease is still ours.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use rowcall_core::{
    LeaseKey, MAX_RETRY_DELAY, MachineId, TableName, TaskId, TaskRef,
    ports::{Fence, Settlement, Verdict},
};

use tokio::time::Instant;

use super::{
    Inner, batch::Functions, custom::is_held, error::RestError, memory::GivenUp, plan::Plan,
    table::Table,
};

/// Verdicts written at the same time, where each is a request of its own.
const CONCURRENT_SETTLEMENTS: usize = 8;

/// What is done to leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Renew,
    Start,
    Release,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::Start => "start",
            Self::Release => "release",
        }
    }
}

/// The places of leases by what they have in common: nearly always one table and one machine.
type Groups<'a> = BTreeMap<(&'a TableName, &'a MachineId), Vec<usize>>;

fn groups<'a>(leases: impl Iterator<Item = &'a LeaseKey>) -> Groups<'a> {
    let mut groups = Groups::new();
    for (place, lease) in leases.enumerate() {
        let group = groups.entry((&lease.task.table, &lease.machine));
        group.or_default().push(place);
    }
    groups
}

impl Inner {
    pub(super) async fn act(
        &self,
        plan: &Plan,
        leases: &[LeaseKey],
        action: Action,
    ) -> Result<Vec<Fence>, RestError> {
        let mut fences = vec![Fence::Lost; leases.len()];
        for ((table, machine), places) in groups(leases.iter()) {
            let group: Vec<&LeaseKey> = places.iter().map(|place| &leases[*place]).collect();
            let Some(table) = plan.table(table) else {
                // Only the app knows these: it keeps their locks itself.
                if plan.blind.contains(table) {
                    for place in places {
                        let lease = &leases[place];
                        if self.memory.is_latest(&lease.task, lease.attempt) {
                            fences[place] = Fence::Held;
                        }
                    }
                }
                continue;
            };
            let held = if plan.is_batch(table) {
                Functions(table)
                    .lease(machine, &group, action.word())
                    .await?
            } else {
                self.act_published(table, machine, &group, action).await?
            };
            for place in places {
                if held.contains(&leases[place].task.id) {
                    fences[place] = Fence::Held;
                }
            }
        }
        Ok(fences)
    }

    async fn act_published(
        &self,
        table: &Table,
        machine: &MachineId,
        leases: &[&LeaseKey],
        action: Action,
    ) -> Result<BTreeSet<TaskId>, RestError> {
        let latest = leases
            .iter()
            .filter(|lease| self.memory.is_latest(&lease.task, lease.attempt));
        let ids: Vec<TaskId> = latest.map(|lease| lease.task.id.clone()).collect();
        let held = match action {
            Action::Renew => table.renew(machine, &ids).await?,
            Action::Start => table.start(machine, &ids).await?,
            Action::Release => table.release(machine, &ids).await?,
        };
        let mut held: BTreeSet<TaskId> = held.into_iter().collect();
        if let Some(custom) = &self.custom {
            for id in ids
                .iter()
                .filter(|id| !held.contains(id))
                .cloned()
                .collect::<Vec<_>>()
            {
                // Nothing was written: the lock is lost, or the key may not write, and then it is the app's to keep.
                let row = table.find(&id).await?;
                if row.is_none_or(|row| is_held(&row, machine)) {
                    custom.warn(table.name(), "the key may not write to this table");
                    held.insert(id);
                }
            }
        }
        Ok(held)
    }

    pub(super) async fn settle_all(
        &self,
        plan: &Plan,
        settlements: &[Settlement],
    ) -> Result<Vec<Fence>, RestError> {
        let mut fences = vec![Fence::Lost; settlements.len()];
        // Of several verdicts on one task the first goes first, and alone.
        let mut waiting: Vec<usize> = (0..settlements.len()).collect();
        while !waiting.is_empty() {
            let mut seen = BTreeSet::new();
            let (now, later) = waiting
                .into_iter()
                .partition::<Vec<usize>, _>(|place| seen.insert(&settlements[*place].lease.task));
            self.settle_distinct(plan, settlements, &now, &mut fences)
                .await?;
            waiting = later;
        }
        Ok(fences)
    }

    async fn settle_distinct(
        &self,
        plan: &Plan,
        settlements: &[Settlement],
        now: &[usize],
        fences: &mut [Fence],
    ) -> Result<(), RestError> {
        let leases = now.iter().map(|place| &settlements[*place].lease);
        for ((table, machine), places) in groups(leases) {
            let places: Vec<usize> = places.into_iter().map(|place| now[place]).collect();
            let group: Vec<&Settlement> = places.iter().map(|place| &settlements[*place]).collect();
            let stands = match plan.table(table) {
                None if !plan.blind.contains(table) => continue,
                Some(table) if plan.is_batch(table) => {
                    Functions(table).settle(machine, &group).await?
                }
                table => self.settle_singly(table, machine, &group).await?,
            };
            for (place, settlement) in places.into_iter().zip(group) {
                if stands.contains(&settlement.lease.task.id) {
                    fences[place] = Fence::Held;
                    self.note_verdict(settlement);
                }
            }
        }
        Ok(())
    }

    async fn settle_singly(
        &self,
        table: Option<&Table>,
        machine: &MachineId,
        settlements: &[&Settlement],
    ) -> Result<BTreeSet<TaskId>, RestError> {
        let mut latest = settlements.to_vec();
        latest.retain(|one| self.memory.is_latest(&one.lease.task, one.lease.attempt));
        let mut stands = BTreeSet::new();
        for some in latest.chunks(CONCURRENT_SETTLEMENTS) {
            let mut writes = Vec::with_capacity(some.len());
            for one in some {
                writes.push(self.settle_one(table, machine, one));
            }
            // All of them are written before one that failed makes the caller try again: those then stand already.
            let outcomes = join_all(writes).await;
            for (one, outcome) in some.iter().zip(outcomes) {
                if outcome? {
                    stands.insert(one.lease.task.id.clone());
                }
            }
        }
        Ok(stands)
    }

    async fn settle_one(
        &self,
        table: Option<&Table>,
        machine: &MachineId,
        settlement: &Settlement,
    ) -> Result<bool, RestError> {
        match (&self.custom, table) {
            (Some(custom), table) => self.settle_custom(custom, table, settlement).await,
            (None, Some(table)) => {
                let id = &settlement.lease.task.id;
                table.settle(machine, id, &settlement.verdict).await
            }
            (None, None) => Ok(false),
        }
    }

    /// Remembers what the published table has no column for, and who gave up, for the broadcast.
    fn note_verdict(&self, settlement: &Settlement) {
        let Settlement { lease, verdict } = settlement;
        let Verdict::Failed { retry_in, .. } = verdict else {
            return;
        };
        self.note_given_up(&lease.task, Some(lease.machine.clone()), false);
        if let Some(at) =
            retry_in.and_then(|delay| Instant::now().checked_add(delay.min(MAX_RETRY_DELAY)))
        {
            self.memory.note_retry(&lease.task, &lease.machine, at);
        }
    }

    pub(super) fn note_given_up(&self, task: &TaskRef, by: Option<MachineId>, stale: bool) {
        let given_up = GivenUp {
            by,
            retry_count: None,
            stale,
        };
        self.memory.note_given_up(task, given_up);
    }
}
