//! Claims that were granted while the answer was lost.
//!
//! The project counts such a task as ours, and nobody runs it: it would wait until its lease is stale. Therefore the backend
//! knows which leases it has given out, notes when the fate of a claim is in doubt, and looks soon after for leases under its
//! name that it has not given out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::Mutex;
use rowcall_core::{LeaseKey, MachineId, TaskId, TaskRef, ports::Fence};
use tokio::{
    sync::{RwLock, RwLockReadGuard},
    time::Instant,
};

use super::{
    Inner,
    batch::Functions,
    error::RestError,
    plan::Plan,
    table::{Row, Table},
};

/// A claim that was on its way when the wire was cut may still arrive.
const STILL_ON_ITS_WAY: Duration = Duration::from_mins(1);

/// Leases that are kept track of. With more out, nothing is given back: what is not known to be ours might be.
const MAX_GIVEN_OUT: usize = 100_000;

/// The leases that were given out, and whether there may be others.
#[derive(Debug, Default)]
pub(super) struct Leases {
    given_out: Mutex<BTreeMap<TaskRef, u32>>,
    doubt_until: Mutex<Option<Instant>>,
    /// Held by claims; while it is held, a lease may be granted that was not given out yet.
    claiming: RwLock<()>,
}

impl Leases {
    /// To be held while claiming.
    pub(super) async fn begin_claim(&self) -> RwLockReadGuard<'_, ()> {
        self.claiming.read().await
    }

    pub(super) fn give_out(&self, task: &TaskRef, attempt: u32) {
        let mut given_out = self.given_out.lock();
        if given_out.len() < MAX_GIVEN_OUT || given_out.contains_key(task) {
            given_out.insert(task.clone(), attempt);
        }
    }

    /// Whether this very attempt was given out: an answer that comes twice is one claim.
    pub(super) fn is_out(&self, task: &TaskRef, attempt: u32) -> bool {
        self.given_out.lock().get(task) == Some(&attempt)
    }

    /// Notes what became of leases that ended, or that were found to have ended.
    pub(super) fn note<'a>(
        &self,
        leases: impl Iterator<Item = &'a LeaseKey>,
        fences: &[Fence],
        ends: bool,
    ) {
        let mut given_out = self.given_out.lock();
        for (lease, fence) in leases.zip(fences) {
            if ends || *fence == Fence::Lost {
                given_out.remove(&lease.task);
            }
        }
    }

    /// A claim failed in a way that leaves open what the project did.
    pub(super) fn doubt(&self, error: &RestError) {
        if error.leaves_open() {
            *self.doubt_until.lock() = Some(Instant::now() + STILL_ON_ITS_WAY);
        }
    }

    fn is_in_doubt(&self) -> bool {
        self.doubt_until.lock().is_some() && self.given_out.lock().len() < MAX_GIVEN_OUT
    }

    /// A look was taken. Doubt ends when nothing can be on its way any more.
    fn looked(&self) {
        let mut until = self.doubt_until.lock();
        if until.is_some_and(|until| until <= Instant::now()) {
            *until = None;
        }
    }
}

impl Inner {
    /// Gives back what was granted to this machine without its knowing.
    pub(super) async fn give_back_orphans(
        &self,
        plan: &Plan,
        machine: &MachineId,
    ) -> Result<Vec<TaskRef>, RestError> {
        if !self.leases.is_in_doubt() {
            return Ok(Vec::new());
        }
        // No claim of ours is under way now.
        let _nobody_claims = self.leases.claiming.write().await;
        let mut given_back = Vec::new();
        for table in plan.tables() {
            let claimed = table.claimed_by(machine).await?;
            let orphans: Vec<Row> = {
                let given_out = self.leases.given_out.lock();
                let unknown = |row: &Row| !given_out.contains_key(&row.task_ref());
                claimed.into_iter().filter(unknown).collect()
            };
            if orphans.is_empty() {
                continue;
            }
            let released = self.release_rows(plan, table, machine, &orphans).await?;
            let released = orphans.iter().filter(|row| released.contains(&row.id));
            given_back.extend(released.map(Row::task_ref));
        }
        self.leases.looked();
        if !given_back.is_empty() {
            tracing::info!(
                tasks = given_back.len(),
                "claims whose answers were lost were given back"
            );
        }
        Ok(given_back)
    }

    async fn release_rows(
        &self,
        plan: &Plan,
        table: &Table,
        machine: &MachineId,
        rows: &[Row],
    ) -> Result<BTreeSet<TaskId>, RestError> {
        if !plan.is_batch(table) {
            let ids: Vec<TaskId> = rows.iter().map(|row| row.id.clone()).collect();
            return Ok(table.release(machine, &ids).await?.into_iter().collect());
        }
        let leases: Vec<LeaseKey> = rows
            .iter()
            .map(|row| LeaseKey {
                task: row.task_ref(),
                machine: machine.clone(),
                attempt: row.attempt(),
            })
            .collect();
        let leases: Vec<&LeaseKey> = leases.iter().collect();
        Functions(table).lease(machine, &leases, "release").await
    }
}
