//! The engine from outside: a handle that is cheap to clone.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_core::{
    AgentId, AgentSpec, App, AppId, LeaseKey, SourceError, TableName, Task, TaskId, TaskRef,
    ports::{Fence, Settlement},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::AppSlots,
    apps::{AppProblem, AppTable},
    bus::Subscription,
    error::EngineError,
    report::{Report, ReportReply, Unheld, unheld},
    shared::Shared,
    source::{Command, RunReply, RunRequest, Source},
    status::{AppStatus, EngineStatus},
};

/// How long a question to the engine's own loops may take; they never wait for anything.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// The routing table and what it is made from.
pub(crate) struct Registry {
    pub(crate) agents: BTreeMap<AgentId, Arc<AgentSpec>>,
    pub(crate) slots: Mutex<BTreeMap<AppId, Arc<AppSlots>>>,
    pub(crate) table: watch::Sender<Arc<AppTable>>,
}

impl Registry {
    pub(crate) fn set(&self, shared: &Shared, apps: &[App]) -> Vec<AppProblem> {
        let mut slots = self.slots.lock();
        let table = AppTable::resolve(apps, &self.agents, &shared.slots, &mut slots);
        let problems = table.problems.clone();
        self.table.send_replace(Arc::new(table));
        problems
    }
}

/// One source loop as the handle reaches it.
pub(crate) struct Reach {
    pub(crate) source: Source,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// Reaches a running engine. Cheap to clone; dropping handles does not stop the engine.
#[derive(Clone)]
pub struct EngineHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reaches: Arc<[Reach]>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) started_at: Timestamp,
    pub(crate) done: CancellationToken,
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle")
            .field("machine", &self.shared.machine)
            .finish_non_exhaustive()
    }
}

/// What became of a person's wish to take a task back, or to call it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReply {
    /// Done: the agent was stopped and the database says so.
    Done,
    /// The task ended by itself first.
    Ended,
    /// This engine does not run it; what the database holds is changed through [`rowcall_core::ports::TaskAdmin`].
    NotHere,
}

impl EngineHandle {
    /// Replaces all apps. Running tasks go on; routes and limits change at once. What keeps apps from working as
    /// configured is returned, and shown in the status.
    pub fn set_apps(&self, apps: &[App]) -> Vec<AppProblem> {
        self.registry.set(&self.shared, apps)
    }

    /// An agent reports about its task. `attempt` is what the agent says its attempt is, where it says so.
    ///
    /// An outcome is answered when it is written, or [`ReportReply::Unconfirmed`] after
    /// [`crate::EngineOptions::report_timeout`]. The answers follow the published contract; see [`ReportReply`].
    pub async fn report(
        &self,
        task: &TaskId,
        attempt: Option<u32>,
        report: Report,
    ) -> Result<ReportReply, EngineError> {
        let task = TaskRef {
            table: TableName::activities(),
            id: task.clone(),
        };
        self.report_on(&task, attempt, report).await
    }

    /// [`EngineHandle::report`] on a task of which the table is known as well: tasks in tables of the apps' own are found by it
    /// once nothing here remembers them.
    pub async fn report_on(
        &self,
        task: &TaskRef,
        attempt: Option<u32>,
        report: Report,
    ) -> Result<ReportReply, EngineError> {
        let limit = self.shared.options.report_timeout;
        let state = report.state();
        let written = tokio::time::timeout(limit, self.report_to_loops(task, attempt, &report));
        match written.await {
            Err(_) => return Ok(ReportReply::Unconfirmed { state }),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(Some(reply))) => return Ok(reply),
            Ok(Ok(None)) => {}
        }
        within(limit, self.report_unheld(task, attempt, report)).await
    }

    async fn report_to_loops(
        &self,
        task: &TaskRef,
        attempt: Option<u32>,
        report: &Report,
    ) -> Result<Option<ReportReply>, EngineError> {
        for reach in self.reaches.iter() {
            let (reply, answer) = oneshot::channel();
            let command = Command::Report {
                task: task.clone(),
                attempt,
                report: report.clone(),
                reply,
            };
            if let Some(found) = ask(reach, command, answer).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// No loop has the task: the database knows why.
    async fn report_unheld(
        &self,
        task: &TaskRef,
        attempt: Option<u32>,
        report: Report,
    ) -> Result<ReportReply, EngineError> {
        let machine = &self.shared.machine;
        let mut reply = ReportReply::NotFound;
        for reach in self.reaches.iter() {
            // A source of `rtx_activities` may have tables of the apps' own beside it; others have one table only.
            let task = if reach.source.table == TableName::activities() {
                task.clone()
            } else {
                TaskRef {
                    table: reach.source.table.clone(),
                    id: task.id.clone(),
                }
            };
            let view = reach.source.coordinator.inspect(&task).await?;
            match (unheld(view.as_ref(), machine, attempt, &report), view) {
                (Unheld::Answer(ReportReply::NotFound), _) | (Unheld::Orphan, None) => {}
                (Unheld::Orphan, Some(view)) => {
                    let key = LeaseKey {
                        task,
                        machine: machine.clone(),
                        attempt: view.task.attempt,
                    };
                    return Ok(self.settle_orphan(reach, key, &view.task, report).await?);
                }
                (Unheld::Answer(answer), _) => {
                    reply = answer;
                    break;
                }
            }
        }
        Ok(reply)
    }

    /// The lease is from before a restart of this machine: its agent outlived the daemon. The database decides.
    async fn settle_orphan(
        &self,
        reach: &Reach,
        key: LeaseKey,
        task: &Task,
        report: Report,
    ) -> Result<ReportReply, SourceError> {
        let state = report.state();
        let verdict = {
            let retry = reach.source.retry.unwrap_or(self.shared.options.retry);
            report.into_verdict(|error| self.shared.failure(&retry, task, error))
        };
        let Some(verdict) = verdict else {
            return Ok(ReportReply::Accepted { state });
        };
        let settlement = Settlement {
            lease: key,
            verdict,
        };
        let fences = reach.source.coordinator.settle(&[settlement]).await?;
        Ok(if fences.first() == Some(&Fence::Held) {
            ReportReply::Accepted { state }
        } else {
            ReportReply::LeaseLost {
                state: None,
                holder: None,
            }
        })
    }

    /// Starts one task, as a person asked: one that waits for review, or one that would run by itself later.
    pub async fn run_task(&self, task: &TaskRef) -> Result<RunReply, EngineError> {
        let limit = self.shared.options.call_timeout * 2 + ASK_LIMIT;
        within(limit, async {
            for reach in self.reaches.iter() {
                let (reply, answer) = oneshot::channel();
                let request = RunRequest {
                    task: task.clone(),
                    reply,
                };
                if let Some(found) = ask(reach, Command::Run(request), answer).await?? {
                    return Ok(found);
                }
            }
            Ok(RunReply::NotFound)
        })
        .await
    }

    /// Stops the agent of a task that runs here and gives the task back: pending again, no failure counted.
    pub async fn release(&self, task: &TaskRef) -> Result<StopReply, EngineError> {
        let limit = self.shared.options.stop_limit + self.shared.options.report_timeout;
        within(limit, async {
            for reach in self.reaches.iter() {
                let (reply, answer) = oneshot::channel();
                let command = Command::Release {
                    task: task.clone(),
                    reply,
                };
                match ask(reach, command, answer).await? {
                    Some(true) => return Ok(StopReply::Done),
                    Some(false) => return Ok(StopReply::Ended),
                    None => {}
                }
            }
            Ok(StopReply::NotHere)
        })
        .await
    }

    /// Calls off a task that runs here: nobody claims it again. Answered when that is written; the agent is stopped.
    pub async fn cancel(&self, task: &TaskRef, reason: &str) -> Result<StopReply, EngineError> {
        within(self.shared.options.report_timeout, async {
            for reach in self.reaches.iter() {
                let (reply, answer) = oneshot::channel();
                let command = Command::Cancel {
                    task: task.clone(),
                    reason: reason.to_owned(),
                    reply,
                };
                match ask(reach, command, answer).await? {
                    Some(ReportReply::Accepted { .. } | ReportReply::Repeated { .. }) => {
                        return Ok(StopReply::Done);
                    }
                    Some(_) => return Ok(StopReply::Ended),
                    None => {}
                }
            }
            Ok(StopReply::NotHere)
        })
        .await
    }

    /// The engine as it is now.
    pub async fn status(&self) -> Result<EngineStatus, EngineError> {
        let mut sources = Vec::new();
        let mut running = Vec::new();
        for reach in self.reaches.iter() {
            let (reply, answer) = oneshot::channel();
            let asked = ask(reach, Command::Status { reply }, answer);
            let status = within(ASK_LIMIT, asked).await?;
            sources.push(status.source);
            running.extend(status.running);
        }
        running.sort_by_key(|task| task.since);
        let table = Arc::clone(&self.registry.table.borrow());
        let apps = table
            .entries
            .chunk_by(|a, b| a.id == b.id)
            .map(|entries| AppStatus {
                id: entries[0].id.clone(),
                slots_used: entries[0].slots.app.used(),
                slots: entries[0].slots.app.limit(),
                routes: entries.iter().map(|entry| entry.routes.len()).sum(),
            });
        Ok(EngineStatus {
            machine: self.shared.machine.clone(),
            started_at: self.started_at,
            stopping: self.is_stopping(),
            slots_used: self.shared.slots.used(),
            slots: self.shared.slots.limit(),
            apps: apps.collect(),
            problems: table.problems.clone(),
            sources,
            running,
            counters: self.shared.counters.values(),
        })
    }

    /// Events from now on.
    pub fn events(&self) -> Subscription {
        self.shared.bus.subscribe(None)
    }

    /// Events after the one with this id, as far as the ring reaches back.
    pub fn events_after(&self, id: u64) -> Subscription {
        self.shared.bus.subscribe(Some(id))
    }

    /// Stops softly: nothing more is claimed, running tasks get the grace, heartbeats go on. A second call stops hard.
    /// Returns at once; [`Self::stopped`] waits.
    pub fn shutdown(&self) {
        if self.shared.soft.is_cancelled() {
            self.shared.hard.cancel();
        } else {
            self.shared.soft.cancel();
        }
    }

    /// Stops hard: agents are dropped, their tasks given back as far as that can be written.
    pub fn abort(&self) {
        self.shared.soft.cancel();
        self.shared.hard.cancel();
    }

    /// Whether a stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.shared.soft.is_cancelled() || self.shared.hard.is_cancelled()
    }

    /// Resolves when the engine has stopped. Cancel-safe.
    pub async fn stopped(&self) {
        self.done.cancelled().await;
    }
}

/// Sends a request to a loop and waits for its answer.
async fn ask<T>(
    reach: &Reach,
    command: Command,
    answer: oneshot::Receiver<T>,
) -> Result<T, EngineError> {
    reach
        .commands
        .send(command)
        .await
        .map_err(|_| EngineError::Stopped)?;
    answer.await.map_err(|_| EngineError::Stopped)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(EngineError::TimedOut))
}
