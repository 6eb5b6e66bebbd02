//! Renewals and settlements: writes that are fenced by machine and attempt.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use rowcall_core::{
    LeaseKey, MAX_RETRY_DELAY, MachineId, SourceError,
    ports::{Fence, Settlement, Verdict},
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    PostgresBackend, error,
    row::JsonValue,
    statement::{self, Settling},
};
use crate::text::storable_text;

/// Settlements of one machine as the arrays of a statement. Holds each lease once: of two verdicts on one lease the first counts.
pub(super) struct SettleArrays<'a> {
    pub(super) settling: Settling,
    ids: Vec<Uuid>,
    attempts: Vec<i32>,
    results: Vec<Option<JsonValue<'a>>>,
    states: Vec<&'static str>,
    errors: Vec<Option<Cow<'a, str>>>,
    delays: Vec<Option<f64>>,
}

impl<'a> SettleArrays<'a> {
    pub(super) fn new(settlements: &[&'a Settlement]) -> Self {
        let mut arrays = Self {
            settling: Settling::Completed,
            ids: Vec::with_capacity(settlements.len()),
            attempts: Vec::with_capacity(settlements.len()),
            results: Vec::with_capacity(settlements.len()),
            states: Vec::with_capacity(settlements.len()),
            errors: Vec::new(),
            delays: Vec::new(),
        };
        let mut seen = HashSet::with_capacity(settlements.len());
        let fresh = |one: &&&Settlement| {
            activity_id(&one.lease).is_some_and(|id| seen.insert((id, one.lease.attempt)))
        };
        let settlements: Vec<&&Settlement> = settlements.iter().filter(fresh).collect();
        for Settlement { lease, verdict } in settlements {
            let Some(id) = activity_id(lease) else {
                continue;
            };
            arrays.ids.push(id);
            arrays.attempts.push(attempt(lease));
            arrays.states.push(verdict.state().as_str());
            let (result, error, delay) = match verdict {
                Verdict::Completed(result) => (Some(JsonValue(result)), None, None),
                Verdict::Failed { error, retry_in } => {
                    let delay = retry_in.map(|delay| delay.min(MAX_RETRY_DELAY).as_secs_f64());
                    (None, Some(storable_text(error)), delay)
                }
                Verdict::Canceled { reason } => (None, Some(storable_text(reason)), None),
            };
            if result.is_none() {
                arrays.settling = Settling::Mixed;
            }
            arrays.results.push(result);
            arrays.errors.push(error);
            arrays.delays.push(delay);
        }
        arrays
    }

    /// The parameters in the order of [`statement::settle`].
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&self.ids, &self.attempts, &self.results];
        if self.settling == Settling::Mixed {
            all.extend([
                &self.states as &(dyn ToSql + Sync),
                &self.errors,
                &self.delays,
            ]);
        }
        all
    }
}

/// The id of a lease on an activity; every other table is not ours to write.
fn activity_id(lease: &LeaseKey) -> Option<Uuid> {
    let id = lease.task.id.as_uuid()?;
    lease.task.table.is_activities().then_some(id)
}

fn attempt(lease: &LeaseKey) -> i32 {
    i32::try_from(lease.attempt).unwrap_or(i32::MAX)
}

/// The places of `leases` by machine: nearly always one machine.
fn by_machine<'a>(
    leases: impl Iterator<Item = &'a LeaseKey>,
) -> BTreeMap<&'a MachineId, Vec<usize>> {
    let mut groups: BTreeMap<&MachineId, Vec<usize>> = BTreeMap::new();
    for (index, lease) in leases.enumerate() {
        groups.entry(&lease.machine).or_default().push(index);
    }
    groups
}

fn ids(rows: &[Row]) -> HashSet<Uuid> {
    rows.iter().map(|row| row.get(0)).collect()
}

impl PostgresBackend {
    /// Runs one of the fenced statements that take machine, ids and attempts.
    pub(super) async fn fenced(
        &self,
        what: &'static str,
        sql: &'static str,
        leases: &[LeaseKey],
    ) -> Result<Vec<Fence>, SourceError> {
        let mut fences = vec![Fence::Lost; leases.len()];
        for (machine, places) in by_machine(leases.iter()) {
            let known = places
                .iter()
                .filter_map(|place| Some((*place, activity_id(&leases[*place])?)));
            let (places, keys): (Vec<usize>, Vec<Uuid>) = known.unzip();
            let attempts: Vec<i32> = places
                .iter()
                .map(|place| attempt(&leases[*place]))
                .collect();
            let rows = self
                .0
                .connections
                .query(what, sql, &[&machine.as_str(), &keys, &attempts])
                .await?;
            let held = ids(&rows);
            for (place, key) in places.into_iter().zip(keys) {
                if held.contains(&key) {
                    fences[place] = Fence::Held;
                }
            }
        }
        Ok(fences)
    }

    pub(super) async fn settle_all(
        &self,
        settlements: &[Settlement],
    ) -> Result<Vec<Fence>, SourceError> {
        let mut fences = vec![Fence::Lost; settlements.len()];
        for (machine, places) in by_machine(settlements.iter().map(|one| &one.lease)) {
            let group: Vec<&Settlement> = places.iter().map(|place| &settlements[*place]).collect();
            let outcome = match self.settle_group(machine, &group).await {
                Err(error) if error::is_refused_value(&error) => {
                    self.settle_singly(machine, &group).await?
                }
                outcome => outcome?,
            };
            for (place, fence) in places.into_iter().zip(outcome) {
                fences[place] = fence;
            }
        }
        Ok(fences)
    }

    /// Settlements of one machine in one statement.
    async fn settle_group(
        &self,
        machine: &MachineId,
        group: &[&Settlement],
    ) -> Result<Vec<Fence>, SourceError> {
        let arrays = SettleArrays::new(group);
        let sql = statement::settle(arrays.settling, "$1", 2);
        let machine = machine.as_str();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&machine];
        parameters.extend(arrays.parameters());
        let rows = self
            .0
            .connections
            .query("settling tasks", &sql, &parameters)
            .await?;
        self.fences_of(machine, group, &ids(&rows)).await
    }

    /// One by one, because the database refused a value of the batch: only the task with that value fails, and says why.
    async fn settle_singly(
        &self,
        machine: &MachineId,
        group: &[&Settlement],
    ) -> Result<Vec<Fence>, SourceError> {
        let mut fences = Vec::with_capacity(group.len());
        for one in group {
            let outcome = match self.settle_group(machine, &[*one]).await {
                Err(error) if error::is_refused_value(&error) => {
                    let refused = Settlement {
                        lease: one.lease.clone(),
                        verdict: Verdict::Failed {
                            error: format!(
                                "the agent's answer cannot be stored in the database: {error}"
                            ),
                            retry_in: None,
                        },
                    };
                    self.settle_group(machine, &[&refused]).await?
                }
                outcome => outcome?,
            };
            fences.extend(outcome);
        }
        Ok(fences)
    }

    /// The answers to settlements of one machine, `written` being the ids this statement wrote. What it did not write may stand
    /// already, from a statement whose answer was lost.
    pub(super) async fn fences_of(
        &self,
        machine: &str,
        settlements: &[&Settlement],
        written: &HashSet<Uuid>,
    ) -> Result<Vec<Fence>, SourceError> {
        // A task that stands here twice, under two attempts or verdicts, was written for one of them: the database knows which.
        let mut times: HashMap<Uuid, u32> = HashMap::with_capacity(settlements.len());
        for id in settlements.iter().filter_map(|one| activity_id(&one.lease)) {
            *times.entry(id).or_default() += 1;
        }
        let mut fences: Vec<Fence> = settlements
            .iter()
            .map(|one| match activity_id(&one.lease) {
                Some(id) if written.contains(&id) && times.get(&id) == Some(&1) => Fence::Held,
                _ => Fence::Lost,
            })
            .collect();
        let missing: Vec<(usize, Uuid)> = settlements
            .iter()
            .enumerate()
            .filter(|(place, _)| fences[*place] == Fence::Lost)
            .filter_map(|(place, one)| Some((place, activity_id(&one.lease)?)))
            .collect();
        if missing.is_empty() {
            return Ok(fences);
        }
        let (places, keys): (Vec<usize>, Vec<Uuid>) = missing.into_iter().unzip();
        let attempts: Vec<i32> = places
            .iter()
            .map(|place| attempt(&settlements[*place].lease))
            .collect();
        let states: Vec<&str> = places
            .iter()
            .map(|place| settlements[*place].verdict.state().as_str())
            .collect();
        let sql = include_str!("../../sql/postgres/settled_before.sql");
        let parameters: [&(dyn ToSql + Sync); 4] = [&machine, &keys, &attempts, &states];
        let rows = self
            .0
            .connections
            .query("looking up settled tasks", sql, &parameters)
            .await?;
        for row in rows {
            let standing = usize::try_from(row.get::<_, i64>(0) - 1)
                .ok()
                .and_then(|place| places.get(place));
            if let Some(place) = standing {
                fences[*place] = Fence::Held;
            }
        }
        Ok(fences)
    }
}
