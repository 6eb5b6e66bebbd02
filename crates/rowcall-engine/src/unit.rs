//! Units: one claimed task from its lease to its end.
//!
//! ```text
//!            agent ended, report, time-out, cancel
//!   Running ───────────────────────────────────────► Settling ──written──► Settled
//!      │  └─asked to stop─► Stopping ──agent ended──► Releasing ─written─► Released
//!      └──── renewal says lost, or none got through for a ttl ───────────► Lost
//! ```
//!
//! A unit leaves the table when its phase is final **and** its agent is gone; the permit goes when the agent is gone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use rowcall_core::{AgentSpec, AppId, Lease, LeaseKey, Task, TaskId, TaskRef, TaskState};
use tokio::{sync::oneshot, task::AbortHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{admission::Permit, report::ReportReply, status::Stage};

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Stopping,
    Settling(TaskState),
    Settled(TaskState),
    Releasing,
    Released,
    Lost,
}

impl Phase {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Settled(_) | Self::Released | Self::Lost)
    }

    /// Whether the outcome is still open.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Stopping)
    }

    /// Whether the lease is kept alive.
    pub(crate) fn is_leased(self) -> bool {
        !self.is_final()
    }
}

/// Somebody outside who waits for a verdict to be written.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) reply: oneshot::Sender<Option<ReportReply>>,
    /// The state the waiter reported.
    pub(crate) said: TaskState,
    /// Whether this report made the verdict.
    pub(crate) first: bool,
}

/// One claimed task.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) lease: Lease,
    pub(crate) task: Arc<Task>,
    pub(crate) app: AppId,
    pub(crate) agent: Arc<AgentSpec>,
    /// Gone when the agent is.
    pub(crate) permit: Option<Permit>,
    pub(crate) stop: CancellationToken,
    pub(crate) reported: CancellationToken,
    pub(crate) since: Timestamp,
    /// When the claim was sent, by the monotonic clock: the lease is at least this old.
    pub(crate) claimed: Instant,
    /// When the last renewal that got through was sent.
    pub(crate) renewed: Instant,
    pub(crate) deadline: Instant,
    pub(crate) marked: bool,
    pub(crate) phase: Phase,
    /// Whether the lease was only presumed lost, without the database's word.
    pub(crate) presumed: bool,
    /// Drops the agent's run.
    pub(crate) abort: Option<AbortHandle>,
    /// When it is dropped, after it was asked to stop.
    pub(crate) abort_at: Option<Instant>,
    pub(crate) waiters: Vec<Waiter>,
    /// Who waits for a release to be done.
    pub(crate) releasers: Vec<oneshot::Sender<Option<bool>>>,
}

impl Unit {
    pub(crate) fn key(&self) -> &LeaseKey {
        self.lease.key()
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.lease.key().attempt
    }

    pub(crate) fn running(&self) -> bool {
        self.permit.is_some()
    }

    pub(crate) fn expires(&self, ttl: Duration) -> Instant {
        self.renewed + ttl
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.phase {
            Phase::Running => Stage::Running,
            Phase::Stopping | Phase::Releasing => Stage::Stopping,
            Phase::Settling(_) => Stage::Settling,
            Phase::Settled(_) | Phase::Released => Stage::Lingering,
            Phase::Lost => Stage::Lost,
        }
    }
}

/// Names a unit for as long as it lives; a later unit in the same place has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnitId {
    slot: u32,
    generation: u32,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    unit: Option<Unit>,
}

/// All units of one source.
#[derive(Debug, Default)]
pub(crate) struct Units {
    places: Vec<Place>,
    free: Vec<u32>,
    /// The newest unit of each task: an older attempt may linger beside it.
    by_task: HashMap<TaskRef, UnitId>,
}

impl Units {
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn insert(&mut self, unit: Unit) -> UnitId {
        let task = unit.key().task.clone();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).expect("permits bound units far below 2^32")
        });
        let place = &mut self.places[slot as usize];
        place.unit = Some(unit);
        let id = UnitId {
            slot,
            generation: place.generation,
        };
        self.by_task.insert(task, id);
        id
    }

    pub(crate) fn get_mut(&mut self, id: UnitId) -> Option<&mut Unit> {
        let place = self.places.get_mut(id.slot as usize)?;
        (place.generation == id.generation)
            .then_some(place.unit.as_mut())
            .flatten()
    }

    pub(crate) fn get(&self, id: UnitId) -> Option<&Unit> {
        let place = self.places.get(id.slot as usize)?;
        (place.generation == id.generation)
            .then_some(place.unit.as_ref())
            .flatten()
    }

    /// The newest unit of a task.
    pub(crate) fn find(&self, task: &TaskRef) -> Option<UnitId> {
        self.by_task.get(task).copied()
    }

    /// The one task of this id, in whichever table; none when there are several.
    pub(crate) fn find_id(&self, id: &TaskId) -> Option<TaskRef> {
        let mut found = self.by_task.keys().filter(|task| task.id == *id);
        let first = found.next()?;
        found.next().is_none().then(|| first.clone())
    }

    pub(crate) fn remove(&mut self, id: UnitId) -> Option<Unit> {
        let place = self.places.get_mut(id.slot as usize)?;
        if place.generation != id.generation {
            return None;
        }
        let unit = place.unit.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.slot);
        if let Some(newest) = self.by_task.get(&unit.key().task)
            && *newest == id
        {
            self.by_task.remove(&unit.key().task);
        }
        Some(unit)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (UnitId, &Unit)> {
        (0..).zip(&self.places).filter_map(|(slot, place)| {
            let id = UnitId {
                slot,
                generation: place.generation,
            };
            place.unit.as_ref().map(|unit| (id, unit))
        })
    }

    pub(crate) fn ids(&self, wanted: impl Fn(&Unit) -> bool) -> Vec<UnitId> {
        self.iter()
            .filter(|(_, unit)| wanted(unit))
            .map(|(id, _)| id)
            .collect()
    }
}
