//! Tasks that a client of the API does itself: claimed for it when it says so, kept alive while it works.
//!
//! In the published protocol an app may claim, start and complete a task that waits, without any agent of ours. The row
//! must be leased meanwhile as for every other attempt, so this machine claims it and renews the lease until the outcome
//! is reported; the engine settles it like a report from before a restart.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use rowcall_core::{
    LeaseKey, TaskRef,
    ports::{ClaimOutcome, Coordinator, Fence, Ineligible},
};
use rowcall_engine::ReportReply;

use super::{error::ApiError, state::Api};

/// How many tasks clients may hold at once.
const MAX_HELD: usize = 1_000;

/// How long a client may hold a task without saying anything about it; then it is given back.
const SILENCE: Duration = Duration::from_hours(1);

/// The leases held for clients.
#[derive(Debug, Default)]
pub(super) struct Outside(Mutex<HashMap<TaskRef, Held>>);

#[derive(Debug)]
struct Held {
    key: LeaseKey,
    heard: tokio::time::Instant,
}

impl Outside {
    fn hold(&self, key: LeaseKey) {
        let heard = tokio::time::Instant::now();
        self.0.lock().insert(key.task.clone(), Held { key, heard });
    }

    fn has_room(&self) -> bool {
        self.0.lock().len() < MAX_HELD
    }

    /// The client said something: it is alive.
    pub(super) fn heard(&self, task: &TaskRef) -> Option<LeaseKey> {
        let mut held = self.0.lock();
        let held = held.get_mut(task)?;
        held.heard = tokio::time::Instant::now();
        Some(held.key.clone())
    }

    /// The task has ended.
    pub(super) fn forget(&self, task: &TaskRef) {
        self.0.lock().remove(task);
    }

    /// What is to be renewed, and what was silent for too long, which is taken out.
    fn split(&self) -> (Vec<LeaseKey>, Vec<LeaseKey>) {
        let mut held = self.0.lock();
        let silent: Vec<LeaseKey> = held
            .values()
            .filter(|held| held.heard.elapsed() >= SILENCE)
            .map(|held| held.key.clone())
            .collect();
        for key in &silent {
            held.remove(&key.task);
        }
        (held.values().map(|held| held.key.clone()).collect(), silent)
    }

    fn take_all(&self) -> Vec<LeaseKey> {
        self.0.lock().drain().map(|(_, held)| held.key).collect()
    }
}

impl Api {
    /// Claims a task that waits for the client that wants to report on it. `None`: it is leased now; otherwise the answer.
    pub(super) async fn claim_outside(
        &self,
        task: &TaskRef,
    ) -> Result<Option<ReportReply>, ApiError> {
        if !self.outside().has_room() {
            return Err(ApiError::unavailable(
                "UNAVAILABLE",
                "Clients hold as many tasks as they may",
            ));
        }
        Ok(match self.backend().claim(self.rules(), task).await? {
            ClaimOutcome::Won(claimed) => {
                self.outside().hold(claimed.lease.into_key());
                None
            }
            ClaimOutcome::Held { by } => Some(ReportReply::HeldElsewhere { by }),
            ClaimOutcome::Gone => Some(ReportReply::NotFound),
            ClaimOutcome::Ineligible(Ineligible::Final) => Some(ReportReply::LeaseLost {
                state: None,
                holder: None,
            }),
            ClaimOutcome::Ineligible(_) => {
                return Err(ApiError::conflict(
                    "This task cannot be claimed: it failed too often, or this machine failed it before. `rowcall task retry` makes it pending again",
                ));
            }
        })
    }

    /// Renews what clients hold, gives back what they forgot; until the daemon stops, and everything then.
    pub(super) async fn keep_outside(self) {
        let every = self.rules().lease.renew_every;
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Cancel-safe: both arms only wait.
        while tokio::select! { () = self.stop().cancelled() => false, _ = interval.tick() => true }
        {
            let (held, silent) = self.outside().split();
            self.give_back(silent).await;
            if held.is_empty() {
                continue;
            }
            match self.backend().renew(&held).await {
                Ok(fences) => {
                    for (key, fence) in held.iter().zip(fences) {
                        if fence == Fence::Lost {
                            tracing::info!(task = %key.task, "a client lost its task");
                            self.outside().forget(&key.task);
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "leases of clients could not be renewed"),
            }
        }
        self.give_back(self.outside().take_all()).await;
    }

    async fn give_back(&self, keys: Vec<LeaseKey>) {
        if !keys.is_empty()
            && let Err(error) = Coordinator::release(self.backend(), &keys).await
        {
            tracing::warn!(%error, "tasks of clients could not be given back; they come back when their leases expire");
        }
    }
}
