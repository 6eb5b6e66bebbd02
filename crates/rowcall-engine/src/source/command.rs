//! What people and agents ask of the loop.

use std::sync::Arc;

use rowcall_core::{TaskRef, TaskState, ports::Verdict};
use tokio::sync::oneshot;

use super::{SourceLoop, run::RunRequest};
use crate::{
    bus::What,
    report::{Report, ReportReply},
    shared::storable,
    status::{RunningTask, SourceStatus},
    unit::{Phase, UnitId, Waiter},
};

/// The longest progress report that becomes an event, in bytes.
const MAX_PROGRESS_BYTES: usize = 64 * 1024;

/// What one loop shows of itself.
#[derive(Debug)]
pub(crate) struct LoopStatus {
    pub(crate) source: SourceStatus,
    pub(crate) running: Vec<RunningTask>,
}

/// A request to one loop. `None` as an answer means that the task is not in its hands.
pub(crate) enum Command {
    Report {
        /// The task, in the table that whoever asks knows of; see [`SourceLoop::known`].
        task: TaskRef,
        attempt: Option<u32>,
        report: Report,
        reply: oneshot::Sender<Option<ReportReply>>,
    },
    Run(RunRequest),
    /// Answered when the agent is gone and the task is pending again (`true`), or ended otherwise (`false`).
    Release {
        task: TaskRef,
        reply: oneshot::Sender<Option<bool>>,
    },
    Cancel {
        task: TaskRef,
        reason: String,
        reply: oneshot::Sender<Option<ReportReply>>,
    },
    Status {
        reply: oneshot::Sender<LoopStatus>,
    },
}

impl SourceLoop {
    pub(super) fn command(&mut self, command: Command) {
        // Whoever asked may have gone; what was asked is done all the same.
        match command {
            Command::Report {
                task,
                attempt,
                report,
                reply,
            } => {
                self.shared.counters.reports.add(1);
                let task = self.known(task);
                self.report(&task, attempt, report, reply);
            }
            Command::Run(request) => self.run_task(request),
            Command::Release { task, reply } => self.release_by_person(&task, reply),
            Command::Cancel {
                task,
                reason,
                reply,
            } => self.cancel(&task, &reason, reply),
            Command::Status { reply } => {
                let _ = reply.send(self.status());
            }
        }
    }

    fn report(
        &mut self,
        task: &TaskRef,
        attempt: Option<u32>,
        report: Report,
        reply: oneshot::Sender<Option<ReportReply>>,
    ) {
        let held = self
            .units
            .find(task)
            .and_then(|id| self.units.get(id).map(|unit| (id, unit)))
            .filter(|(_, unit)| attempt.is_none_or(|attempt| attempt == unit.attempt()))
            .map(|(id, unit)| (id, unit.phase));
        let Some((id, phase)) = held else {
            let _ = reply.send(self.report_of_the_past(task, attempt, &report));
            return;
        };
        let said = report.state();
        let answer = match phase {
            Phase::Running | Phase::Stopping if report.is_outcome() => {
                let first = true;
                self.decide(id, report, Waiter { reply, said, first });
                return;
            }
            Phase::Running | Phase::Stopping => {
                self.progress(id, report);
                ReportReply::Accepted { state: said }
            }
            Phase::Settling(_) if report.is_outcome() => {
                // Answered when it is known what was written.
                if let Some(unit) = self.units.get_mut(id) {
                    let first = false;
                    unit.waiters.push(Waiter { reply, said, first });
                }
                return;
            }
            Phase::Settled(state) if state == said => ReportReply::Repeated { state },
            Phase::Settling(state) | Phase::Settled(state) => ReportReply::AlreadyFinal { state },
            Phase::Releasing | Phase::Released => ReportReply::LeaseLost {
                state: Some(TaskState::Pending),
                holder: None,
            },
            Phase::Lost => ReportReply::LeaseLost {
                state: None,
                holder: None,
            },
        };
        let _ = reply.send(Some(answer));
    }

    /// The task that a report means. Who only knows its id, or a table that holds no tasks here, means the one in the claimed
    /// table, or else the one of that id that was claimed elsewhere: apps may have tables of their own.
    fn known(&self, task: TaskRef) -> TaskRef {
        let is_known =
            |task: &TaskRef| self.units.find(task).is_some() || self.recent.find(task).is_some();
        if is_known(&task) {
            return task;
        }
        let claimed = TaskRef {
            table: self.source.table.clone(),
            id: task.id,
        };
        if is_known(&claimed) {
            return claimed;
        }
        let elsewhere = self.units.find_id(&claimed.id);
        let elsewhere = elsewhere.or_else(|| self.recent.find_id(&claimed.id));
        elsewhere.unwrap_or(claimed)
    }

    /// A report makes the verdict: it is written at once, and the agent's place stays taken until its process is gone.
    fn decide(&mut self, id: UnitId, report: Report, waiter: Waiter) {
        let Some(unit) = self.units.get_mut(id) else {
            return;
        };
        unit.reported.cancel();
        unit.waiters.push(waiter);
        let task = Arc::clone(&unit.task);
        let verdict =
            report.into_verdict(|error| self.shared.failure(&self.rules.retry, &task, error));
        if let Some(verdict) = verdict {
            self.settle(id, verdict);
        }
    }

    fn progress(&mut self, id: UnitId, report: Report) {
        let Some(unit) = self.units.get(id) else {
            return;
        };
        if let Report::Progress(data) = report
            && data.get().len() <= MAX_PROGRESS_BYTES
        {
            self.happened.push(What::Progress {
                task: unit.key().task.clone(),
                attempt: unit.attempt(),
                data,
            });
        }
    }

    /// A report for a task that ended here a short while ago, or an attempt that is over.
    fn report_of_the_past(
        &self,
        task: &TaskRef,
        attempt: Option<u32>,
        report: &Report,
    ) -> Option<ReportReply> {
        if let Some((ended, state)) = self.recent.find(task)
            && attempt.is_none_or(|attempt| attempt == ended)
        {
            return Some(if report.state() == state {
                ReportReply::Repeated { state }
            } else {
                ReportReply::AlreadyFinal { state }
            });
        }
        // Another attempt of the same task runs here, so the one that is meant is over.
        self.units.find(task).map(|_| ReportReply::LeaseLost {
            state: Some(TaskState::Processing),
            holder: Some(self.shared.machine.clone()),
        })
    }

    fn release_by_person(&mut self, task: &TaskRef, reply: oneshot::Sender<Option<bool>>) {
        let id = self.units.find(task);
        let Some((id, unit)) = id.and_then(|id| self.units.get_mut(id).map(|unit| (id, unit)))
        else {
            let _ = reply.send(None);
            return;
        };
        match unit.phase {
            Phase::Running | Phase::Stopping | Phase::Releasing | Phase::Settling(_) => {
                unit.releasers.push(reply);
            }
            Phase::Settled(_) | Phase::Released | Phase::Lost => {
                let _ = reply.send(None);
                return;
            }
        }
        if unit.phase.is_open() {
            self.tell_agent(id);
        }
    }

    fn cancel(
        &mut self,
        task: &TaskRef,
        reason: &str,
        reply: oneshot::Sender<Option<ReportReply>>,
    ) {
        let id = self.units.find(task);
        let Some((id, unit)) = id.and_then(|id| self.units.get_mut(id).map(|unit| (id, unit)))
        else {
            let _ = reply.send(None);
            return;
        };
        let said = TaskState::Canceled;
        match unit.phase {
            Phase::Running | Phase::Stopping => {
                let first = true;
                unit.waiters.push(Waiter { reply, said, first });
                let reason = storable(reason);
                self.settle(id, Verdict::Canceled { reason });
                self.order_stop(id);
            }
            Phase::Settling(_) => {
                let first = false;
                unit.waiters.push(Waiter { reply, said, first });
            }
            Phase::Settled(_) | Phase::Releasing | Phase::Released | Phase::Lost => {
                let _ = reply.send(None);
            }
        }
    }

    fn status(&self) -> LoopStatus {
        let running = self.units.iter().map(|(_, unit)| RunningTask {
            task: unit.key().task.clone(),
            app: unit.app.clone(),
            agent: unit.agent.id.clone(),
            attempt: unit.attempt(),
            since: unit.since,
            stage: unit.stage(),
        });
        LoopStatus {
            source: SourceStatus {
                name: self.source.name.to_string(),
                up: self.health.up,
                trouble: self.health.last.clone(),
                settling: self.settles.len(),
            },
            running: running.collect(),
        }
    }
}
