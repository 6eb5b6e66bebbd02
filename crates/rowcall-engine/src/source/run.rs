//! One task started by a person: looked up, given a place, claimed by name.

use std::sync::Arc;

use rowcall_core::{
    AppId, MachineId, SourceError, TaskRef,
    ports::{ClaimOutcome, Ineligible, TaskView},
};
use serde::Serialize;
use tokio::{sync::oneshot, time::Instant};

use super::{SourceLoop, call::Done, start::Start};
use crate::{admission::Permits, apps::AppEntry};

/// What became of a person's wish to run a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum RunReply {
    /// It runs.
    Started {
        /// Which attempt.
        attempt: u32,
        /// The app.
        app: AppId,
    },
    /// It runs on this machine already.
    AlreadyRunning,
    /// Another machine has it.
    Held {
        /// Which one.
        by: Option<MachineId>,
    },
    /// It may not be claimed by this machine now.
    Ineligible {
        /// Why.
        reason: Ineligible,
    },
    /// No app handles such tasks.
    NoRoute,
    /// The app runs as many tasks as it may; try again when one has ended.
    NoPlace {
        /// The app.
        app: AppId,
    },
    /// The engine is stopping.
    Stopping,
    /// No source knows such a task.
    NotFound,
}

/// The answer of one source: `None` when it does not know the task.
pub(crate) type RunAnswer = Result<Option<RunReply>, SourceError>;

/// A person waits for this task to start.
pub(crate) struct RunRequest {
    pub(crate) task: TaskRef,
    pub(crate) reply: oneshot::Sender<RunAnswer>,
}

impl RunRequest {
    fn answer(self, answer: RunAnswer) {
        // Whoever asked may have gone.
        let _ = self.reply.send(answer);
    }
}

/// The claim of a task whose place is taken.
pub(super) struct RunClaim {
    request: RunRequest,
    entry: AppEntry,
    permits: Permits,
    sent: Instant,
}

impl SourceLoop {
    pub(super) fn run_task(&mut self, request: RunRequest) {
        if self.stop.has_begun() {
            return request.answer(Ok(Some(RunReply::Stopping)));
        }
        let running = self
            .units
            .find(&request.task)
            .and_then(|id| self.units.get(id))
            .is_some_and(|unit| unit.phase.is_open());
        if running {
            return request.answer(Ok(Some(RunReply::AlreadyRunning)));
        }
        let coordinator = Arc::clone(&self.source.coordinator);
        let task = request.task.clone();
        self.call(
            async move { coordinator.inspect(&task).await },
            move |result| Done::Inspected(request, result),
        );
    }

    pub(super) fn inspected(
        &mut self,
        request: RunRequest,
        result: Result<Option<TaskView>, SourceError>,
    ) {
        let view = match result {
            Ok(Some(view)) => view,
            Ok(None) => return request.answer(Ok(None)),
            Err(error) => return request.answer(Err(error)),
        };
        let entry = self
            .apps
            .iter()
            .find(|app| app.entry.route(&view.task, None).is_some())
            .map(|app| app.entry.clone());
        let Some(entry) = entry else {
            return request.answer(Ok(Some(RunReply::NoRoute)));
        };
        let permits = entry.slots.take(1);
        if permits.count() == 0 {
            return request.answer(Ok(Some(RunReply::NoPlace { app: entry.id })));
        }
        let coordinator = Arc::clone(&self.source.coordinator);
        let (rules, task) = (Arc::clone(&self.rules), request.task.clone());
        let claim = Box::new(RunClaim {
            request,
            entry,
            permits,
            sent: self.now,
        });
        self.call(
            async move { coordinator.claim(&rules, &task).await },
            move |result| Done::ClaimedOne(claim, result),
        );
    }

    pub(super) fn claimed_one(
        &mut self,
        claim: RunClaim,
        result: Result<ClaimOutcome, SourceError>,
    ) {
        let RunClaim {
            request,
            entry,
            mut permits,
            sent,
        } = claim;
        let answer = match result {
            Err(error) => Err(error),
            Ok(ClaimOutcome::Held { by }) => Ok(Some(RunReply::Held { by })),
            Ok(ClaimOutcome::Ineligible(reason)) => Ok(Some(RunReply::Ineligible { reason })),
            Ok(ClaimOutcome::Gone) => Ok(None),
            Ok(ClaimOutcome::Won(claimed)) => {
                self.shared.counters.claimed.add(1);
                let place = if self.stop.has_begun() {
                    None
                } else {
                    entry.route(&claimed.task, None).zip(permits.split())
                };
                match place {
                    None => {
                        self.give_back(vec![*claimed]);
                        Ok(Some(RunReply::Stopping))
                    }
                    Some((route, permit)) => {
                        let attempt = claimed.task.attempt;
                        self.start(Start {
                            lease: claimed.lease,
                            task: claimed.task,
                            app: &entry.id,
                            route,
                            permit,
                            sent,
                        });
                        Ok(Some(RunReply::Started {
                            attempt,
                            app: entry.id.clone(),
                        }))
                    }
                }
            }
        };
        self.freed = true;
        request.answer(answer);
    }
}
