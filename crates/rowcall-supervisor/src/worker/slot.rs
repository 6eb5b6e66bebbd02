//! One task at a worker, seen from the one who waits for it.

use std::time::Duration;

use rowcall_core::{AgentError, AgentErrorKind, AgentOutput, ports::RunContext};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::keeper::{Answer, Request};
use crate::{
    options::WorkerOptions,
    process::{reported, stopped, timed_out},
};

/// Holds a slot of a worker until its task is answered. Dropped before that, the worker is ended: nobody else would end
/// the task.
pub(super) struct Slot {
    id: u64,
    requests: mpsc::Sender<Request>,
    answer: Option<oneshot::Receiver<Answer>>,
    _permit: OwnedSemaphorePermit,
}

/// Why a task is called off.
enum Interruption {
    Stopped,
    TimedOut,
    Reported,
}

impl Slot {
    pub(super) fn new(
        id: u64,
        requests: mpsc::Sender<Request>,
        answer: oneshot::Receiver<Answer>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            id,
            requests,
            answer: Some(answer),
            _permit: permit,
        }
    }

    /// Waits for the answer, or calls the task off for the first reason that comes.
    pub(super) async fn follow(
        mut self,
        context: &RunContext,
        stop: &CancellationToken,
        started: oneshot::Receiver<()>,
        options: &WorkerOptions,
    ) -> Result<AgentOutput, AgentError> {
        let limit = context.agent.timeout;
        // The time of a task counts from when the worker has it: a start may take longer than the work.
        let late = async {
            if started.await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(limit).await;
        };
        // Cancel safe: `answer` stays where it is when another branch wins.
        let interruption = tokio::select! {
            biased;
            answer = self.answer() => {
                return if context.reported.is_cancelled() {
                    Ok(reported())
                } else {
                    answer
                };
            }
            () = stop.cancelled() => Interruption::Stopped,
            () = context.reported.cancelled() => Interruption::Reported,
            () = late => Interruption::TimedOut,
        };
        match interruption {
            Interruption::Stopped => {
                self.call_off("stop", options.cancel_grace).await;
                Err(stopped())
            }
            Interruption::TimedOut => {
                let killed = self.call_off("timeout", options.cancel_grace).await;
                let how = if killed {
                    "ended with its worker, because it did not react to cancel"
                } else {
                    "canceled"
                };
                Err(timed_out(limit, how))
            }
            Interruption::Reported => {
                self.call_off("reported", options.cancel_grace).await;
                Ok(reported())
            }
        }
    }

    /// Tells the worker, waits, and has it ended when that did not help. `true` if it had to be.
    async fn call_off(&mut self, reason: &'static str, grace: Duration) -> bool {
        let cancel = Request::Cancel {
            id: self.id,
            reason,
        };
        if self.requests.send(cancel).await.is_ok() && timeout(grace, self.answer()).await.is_ok() {
            return false;
        }
        if self
            .requests
            .send(Request::Kill { id: self.id })
            .await
            .is_ok()
        {
            // The keeper answers when the process is gone, which its own graces bound.
            let _ = self.answer().await;
        }
        true
    }

    /// The answer; an error when the keeper is gone. Once it has come, there is nothing more to call off.
    async fn answer(&mut self) -> Answer {
        let Some(answer) = &mut self.answer else {
            return Err(stopped());
        };
        let result = answer.await;
        self.answer = None;
        result.unwrap_or_else(|_| {
            Err(AgentError::new(
                AgentErrorKind::Canceled,
                "the worker was shut down",
            ))
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.answer.is_some()
            && self
                .requests
                .try_send(Request::Kill { id: self.id })
                .is_err()
            && !self.requests.is_closed()
        {
            tracing::error!(run = self.id, "an abandoned task goes on in its worker");
        }
    }
}
