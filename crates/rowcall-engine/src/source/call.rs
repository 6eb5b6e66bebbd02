//! Calls to the source: each in its own task, bounded in time, its panic an error.

use std::{future::Future, time::Duration};

use rowcall_core::{
    ErrorClass, SourceError,
    ports::{ClaimOutcome, Claimed, Fence, Maintenance, TaskView},
};
use tokio::time::Instant;

use super::{
    SourceLoop,
    claim::Exchange,
    release::Release,
    run::{RunClaim, RunRequest},
    sweep::SweepJob,
};
use crate::{group::catch_panic, unit::UnitId};

/// A call that came back.
pub(super) enum Done {
    Exchanged(
        Box<Exchange>,
        Result<(Vec<Fence>, Vec<Claimed>), SourceError>,
    ),
    Renewed {
        ids: Vec<UnitId>,
        sent: Instant,
        /// As many as got through.
        fences: Vec<Fence>,
        error: Option<SourceError>,
    },
    Marked(Vec<UnitId>, Result<Vec<Fence>, SourceError>),
    Released(Vec<Release>, Result<Vec<Fence>, SourceError>),
    Maintained(Result<Maintenance, SourceError>),
    Swept(Box<SweepJob>, Result<Vec<TaskView>, SourceError>),
    Verified(UnitId, Result<Option<TaskView>, SourceError>),
    Announced(Result<(), SourceError>),
    Gated {
        busy: bool,
        result: Result<(), SourceError>,
    },
    Inspected(RunRequest, Result<Option<TaskView>, SourceError>),
    ClaimedOne(Box<RunClaim>, Result<ClaimOutcome, SourceError>),
}

/// Runs one call to its end or its time limit.
pub(super) async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    match tokio::time::timeout(limit, catch_panic(call)).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(SourceError::new(
            ErrorClass::Bug,
            format!("the source's adapter panicked: {panic}; please report this"),
        )),
        Err(_) => Err(SourceError::new(
            ErrorClass::Retryable,
            format!("the source did not answer within {limit:?}; it is tried again"),
        )),
    }
}

impl SourceLoop {
    /// Starts a call; `done` says what it was for.
    pub(super) fn call<T: Send + 'static>(
        &mut self,
        call: impl Future<Output = Result<T, SourceError>> + Send + 'static,
        done: impl FnOnce(Result<T, SourceError>) -> Done + Send + 'static,
    ) {
        let limit = self.shared.options.call_timeout;
        self.shared.counters.calls.add(1);
        self.calls
            .spawn(async move { done(bounded(limit, call).await) });
    }

    /// Goes on after a call.
    pub(super) fn called(&mut self, done: Done) {
        match done {
            Done::Exchanged(exchange, result) => self.exchanged(*exchange, result),
            Done::Renewed {
                ids,
                sent,
                fences,
                error,
            } => self.renewed(&ids, sent, &fences, error),
            Done::Marked(ids, result) => self.marked(&ids, result),
            Done::Released(releases, result) => self.released(releases, result),
            Done::Maintained(result) => self.maintained(result),
            Done::Swept(job, result) => self.swept(*job, result),
            Done::Verified(id, result) => self.verified(id, result),
            Done::Announced(result) => {
                if let Err(error) = result {
                    self.failed_call("announce", &error);
                }
            }
            Done::Gated { busy, result } => self.gated(busy, result),
            Done::Inspected(request, result) => self.inspected(request, result),
            Done::ClaimedOne(claim, result) => self.claimed_one(*claim, result),
        }
    }
}
