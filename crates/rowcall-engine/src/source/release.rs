//! Giving tasks back: pending again at once, without counting a failure.

use std::sync::Arc;

use rowcall_core::{
    LeaseKey, SourceError,
    ports::{Claimed, Fence},
};

use super::{SourceLoop, call::Done};
use crate::{
    bus::{FencedAt, What},
    report::ReportReply,
    store::{Ended, Outcome, Record},
    unit::{Phase, UnitId},
};

/// A lease to give back; without a unit when none was started, or it is gone already.
#[derive(Debug)]
pub(super) struct Release {
    unit: Option<UnitId>,
    key: LeaseKey,
}

/// What waits to be given back.
#[derive(Debug, Default)]
pub(super) struct ReleaseQueue {
    waiting: Vec<Release>,
    under_way: bool,
}

impl ReleaseQueue {
    pub(super) fn push(&mut self, unit: Option<UnitId>, key: LeaseKey) {
        self.waiting.push(Release { unit, key });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.under_way
    }
}

impl SourceLoop {
    /// The agent is gone and its task is open: it goes back.
    pub(super) fn release(&mut self, id: UnitId) {
        if let Some(unit) = self.units.get_mut(id) {
            unit.phase = Phase::Releasing;
            let key = unit.key().clone();
            self.releases.push(Some(id), key);
        }
    }

    /// Claimed tasks that nobody will run here.
    pub(super) fn give_back(&mut self, claimed: Vec<Claimed>) {
        for one in claimed {
            self.releases.push(None, one.lease.into_key());
        }
    }

    pub(super) fn start_release(&mut self) {
        if self.releases.under_way || self.releases.waiting.is_empty() {
            return;
        }
        self.releases.under_way = true;
        let waiting = std::mem::take(&mut self.releases.waiting);
        let keys: Vec<LeaseKey> = waiting.iter().map(|release| release.key.clone()).collect();
        let coordinator = Arc::clone(&self.source.coordinator);
        self.call(
            async move { coordinator.release(&keys).await },
            move |result| Done::Released(waiting, result),
        );
    }

    pub(super) fn released(
        &mut self,
        releases: Vec<Release>,
        result: Result<Vec<Fence>, SourceError>,
    ) {
        self.releases.under_way = false;
        match result {
            Ok(fences) => {
                self.worked();
                for (index, release) in releases.into_iter().enumerate() {
                    match (fences.get(index), release.unit) {
                        (Some(Fence::Held), unit) => self.given_back(unit, release.key),
                        // After a lost answer the first try may have done it; either way the task is no longer ours.
                        (_, Some(unit)) => self.lose(unit, FencedAt::Settle),
                        (_, None) => {}
                    }
                }
            }
            Err(error) => {
                self.failed_call("release", &error);
                self.releases.waiting.extend(releases);
            }
        }
    }

    fn given_back(&mut self, id: Option<UnitId>, key: LeaseKey) {
        self.shared.counters.released.add(1);
        self.happened.push(What::Released {
            task: key.task.clone(),
            attempt: key.attempt,
        });
        let Some(unit) = id.and_then(|id| self.units.get_mut(id)) else {
            return;
        };
        unit.phase = Phase::Released;
        for reply in std::mem::take(&mut unit.releasers) {
            let _ = reply.send(Some(true));
        }
        for waiter in std::mem::take(&mut unit.waiters) {
            let _ = waiter.reply.send(Some(ReportReply::LeaseLost {
                state: None,
                holder: None,
            }));
        }
        self.record(|this| {
            Record::Ended(Box::new(Ended {
                task: key.task,
                attempt: key.attempt,
                at: this.wall,
                outcome: Outcome::Released,
                error: None,
            }))
        });
        if let Some(id) = id
            && self.units.get(id).is_some_and(|unit| !unit.running())
        {
            self.remove(id);
        }
    }
}
