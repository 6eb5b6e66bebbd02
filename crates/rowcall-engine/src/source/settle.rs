//! Verdicts on their way to the database: kept until it answers, whatever happens to the connection.
//!
//! A settlement is written exactly when its lease is still ours, and only the database knows that. So a transport failure
//! keeps it, and the next try may find it fenced by its own first try, whose answer was lost: then the task is inspected
//! before anything is called lost. A settlement that the database refuses for good (a result it cannot store) must not
//! take the others of its batch with it: batches are halved until it stands alone, and it becomes a failed attempt.

use std::sync::Arc;

use rowcall_core::{
    AgentError, AgentErrorKind, AgentOutput, ErrorClass, SourceError, TaskRef, TaskState,
    ports::{Fence, Settlement, TaskView, Verdict},
};

use super::{SourceLoop, call::Done, settle_queue::Queued, timers::sooner};
use crate::{
    bus::{FencedAt, What, cut},
    report::ReportReply,
    store::{Ended, Outcome, Record},
    unit::{Phase, Unit, UnitId, Waiter},
};

/// How often a settlement that stands alone is refused before it becomes a failed attempt.
const MAX_REFUSALS: u32 = 4;

impl SourceLoop {
    /// The agent is gone: its place is free, and its word counts unless the outcome was decided before.
    pub(super) fn agent_ended(&mut self, id: UnitId, result: Result<AgentOutput, AgentError>) {
        let Some(unit) = self.units.get_mut(id) else {
            return;
        };
        unit.permit = None;
        self.freed = true;
        let phase = unit.phase;
        match phase {
            Phase::Running | Phase::Stopping => {
                let task = Arc::clone(&unit.task);
                match result {
                    Ok(output) => self.settle(id, Verdict::Completed(output.result)),
                    Err(_) if phase == Phase::Stopping => self.release(id),
                    Err(error) => {
                        let text = match error.kind {
                            AgentErrorKind::Canceled => {
                                format!("{} (nobody asked it to stop)", error.message)
                            }
                            AgentErrorKind::Failed
                            | AgentErrorKind::TimedOut
                            | AgentErrorKind::NotStarted
                            | AgentErrorKind::Protocol => error.message,
                        };
                        let verdict = self.shared.failure(&self.rules.retry, &task, &text);
                        self.settle(id, verdict);
                    }
                }
            }
            Phase::Lost => {
                if unit.presumed {
                    // The database may still hold the lease for us: give it back now rather than let everybody wait for
                    // its expiry. Fenced like everything else.
                    let key = unit.key().clone();
                    self.releases.push(None, key);
                }
                self.remove(id);
            }
            Phase::Settled(_) | Phase::Released => self.remove(id),
            Phase::Settling(_) | Phase::Releasing => {}
        }
    }

    /// Decides a unit's outcome and queues it to be written.
    pub(super) fn settle(&mut self, id: UnitId, verdict: Verdict) {
        let Some(unit) = self.units.get_mut(id) else {
            return;
        };
        unit.phase = Phase::Settling(verdict.state());
        self.settles.push(Queued {
            unit: id,
            settlement: Settlement {
                lease: unit.key().clone(),
                verdict,
            },
            tries: 0,
            refusals: 0,
            since: self.now,
        });
    }

    pub(super) fn remove(&mut self, id: UnitId) {
        self.units.remove(id);
    }

    /// The database answered a batch of settlements.
    pub(super) fn settled(&mut self, settles: Vec<Queued>, fences: &[Fence]) {
        if settles.is_empty() {
            return;
        }
        self.settles.accepted();
        let mut to_announce = Vec::new();
        for (index, one) in settles.into_iter().enumerate() {
            match fences.get(index) {
                Some(Fence::Held) => {
                    self.written(one.unit, &one.settlement.verdict, &mut to_announce);
                }
                Some(Fence::Lost) if one.tries > 1 => self.settles.doubtful.push(one.unit),
                Some(Fence::Lost) | None => self.lose(one.unit, FencedAt::Settle),
            }
        }
        self.announce(to_announce);
    }

    /// Tells other machines that tasks may be tried again.
    pub(super) fn announce(&mut self, tasks: Vec<TaskRef>) {
        if tasks.is_empty() {
            return;
        }
        let coordinator = Arc::clone(&self.source.coordinator);
        self.call(
            async move { coordinator.announce_retry(&tasks).await },
            Done::Announced,
        );
    }

    /// A verdict stands in the database.
    fn written(&mut self, id: UnitId, verdict: &Verdict, to_announce: &mut Vec<TaskRef>) {
        let state = verdict.state();
        let Some(unit) = self.units.get_mut(id) else {
            return;
        };
        unit.phase = Phase::Settled(state);
        let (task, attempt, app) = (unit.key().task.clone(), unit.attempt(), unit.app.clone());
        let failures = unit.task.retry_count.saturating_add(1);
        let ran = self.now.saturating_duration_since(unit.claimed);
        let reported = unit.reported.is_cancelled();
        let running = unit.running();
        let waiters = std::mem::take(&mut unit.waiters);
        let releasers = std::mem::take(&mut unit.releasers);
        for reply in releasers {
            // It ended by itself before it could be given back.
            let _ = reply.send(Some(false));
        }
        answer(waiters, |waiter| {
            match (waiter.first, waiter.said == state) {
                (true, _) => ReportReply::Accepted { state },
                (false, true) => ReportReply::Repeated { state },
                (false, false) => ReportReply::AlreadyFinal { state },
            }
        });
        if reported {
            self.recent.remember(&task, attempt, state);
        }
        let counters = &self.shared.counters;
        let error = match verdict {
            Verdict::Completed(_) => {
                counters.completed.add(1);
                None
            }
            Verdict::Canceled { reason } => {
                counters.canceled.add(1);
                Some(reason.clone())
            }
            Verdict::Failed { error, retry_in } => {
                counters.failed.add(1);
                let needs_attention = failures >= self.rules.retry.max_attempts;
                if needs_attention {
                    counters.needs_attention.add(1);
                } else {
                    to_announce.push(task.clone());
                }
                if let Some(delay) = retry_in {
                    // The database counts from its own clock at the write, which was before this moment.
                    self.timers.retry_at(self.now + *delay);
                }
                self.happened.push(What::Failed {
                    task: task.clone(),
                    attempt,
                    app: app.clone(),
                    error: cut(error),
                    retry_in_ms: retry_in
                        .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
                    needs_attention,
                });
                Some(error.clone())
            }
        };
        if state != TaskState::Failed {
            self.happened.push(What::Settled {
                task: task.clone(),
                attempt,
                app,
                state,
                ran_ms: u64::try_from(ran.as_millis()).unwrap_or(u64::MAX),
            });
        }
        self.record(|this| {
            Record::Ended(Box::new(Ended {
                task,
                attempt,
                at: this.wall,
                outcome: Outcome::of(state),
                error,
            }))
        });
        if !running {
            self.remove(id);
        }
    }

    /// A lease is no longer ours: the agent is stopped and what it did is dropped.
    pub(super) fn lose(&mut self, id: UnitId, at: FencedAt) {
        let Some(unit) = self.units.get_mut(id) else {
            return;
        };
        unit.phase = Phase::Lost;
        unit.presumed = at == FencedAt::Presumed;
        let (task, attempt, running) = (unit.key().task.clone(), unit.attempt(), unit.running());
        let waiters = std::mem::take(&mut unit.waiters);
        for reply in std::mem::take(&mut unit.releasers) {
            let _ = reply.send(Some(false));
        }
        answer(waiters, |_| ReportReply::LeaseLost {
            state: None,
            holder: None,
        });
        tracing::warn!(task.id = %task, lease.attempt = attempt, ?at, "lease lost; the result is dropped");
        self.order_stop(id);
        self.shared.counters.fenced.add(1);
        self.happened.push(What::Fenced {
            task: task.clone(),
            attempt,
            at,
        });
        self.record(|this| {
            Record::Ended(Box::new(Ended {
                task,
                attempt,
                at: this.wall,
                outcome: Outcome::Lost,
                error: None,
            }))
        });
        if !running {
            self.remove(id);
        }
    }

    /// This machine was granted a newer attempt, so the older one's lease is over.
    pub(super) fn lose_to_newer(&mut self, older: UnitId) {
        if self
            .units
            .get(older)
            .is_some_and(|unit| unit.phase.is_open())
        {
            self.lose(older, FencedAt::Reclaimed);
        }
    }

    /// A batch came back with an error: nothing is known about any of its settlements.
    pub(super) fn unsettled(&mut self, settles: Vec<Queued>, combined: bool, error: &SourceError) {
        let refused = matches!(error.class, ErrorClass::Permanent | ErrorClass::Bug);
        match settles.len() {
            0 => return,
            _ if !refused => self.failed_call("settle", error),
            // Whose error it was shows when the settlements go without the claim.
            _ if combined => self.settles.careful = true,
            1 => {
                self.failed_call("settle", error);
                return settles.into_iter().for_each(|one| self.refused(one, error));
            }
            count => {
                self.settles.careful = true;
                self.settles.limit = count.div_ceil(2);
            }
        }
        let keep = self.shared.options.settlement_keep;
        let (keep, drop): (Vec<_>, Vec<_>) = settles
            .into_iter()
            .partition(|one| self.now.saturating_duration_since(one.since) < keep);
        self.settles.put_back(keep);
        for one in drop {
            self.lose(one.unit, FencedAt::Presumed);
        }
    }

    /// The database refused one settlement that stood alone.
    fn refused(&mut self, mut one: Queued, error: &SourceError) {
        one.refusals += 1;
        tracing::warn!(task.id = %one.settlement.lease.task, %error, "settlement refused");
        let expired =
            self.now.saturating_duration_since(one.since) >= self.shared.options.settlement_keep;
        let Some(unit) = self.units.get_mut(one.unit).filter(|_| !expired) else {
            return self.lose(one.unit, FencedAt::Presumed);
        };
        if one.refusals == MAX_REFUSALS
            && let Verdict::Completed(_) | Verdict::Canceled { .. } = one.settlement.verdict
        {
            unit.phase = Phase::Settling(TaskState::Failed);
            let task = Arc::clone(&unit.task);
            let text = format!("the result could not be stored: {error}");
            one.settlement.verdict = self.shared.failure(&self.rules.retry, &task, &text);
        }
        let wait = self
            .shared
            .options
            .trouble
            .delay(one.refusals, self.shared.ids.unit());
        let at = self.now + wait;
        sooner(&mut self.timers.aside, at);
        self.settles.aside.push((at, one));
    }

    /// Asks whether settlements that were fenced at a later try were written by their first.
    pub(super) fn start_verify(&mut self) {
        for id in std::mem::take(&mut self.settles.doubtful) {
            let Some(unit) = self.units.get(id) else {
                continue;
            };
            let coordinator = Arc::clone(&self.source.coordinator);
            let task = unit.key().task.clone();
            self.call(
                async move { coordinator.inspect(&task).await },
                move |result| Done::Verified(id, result),
            );
        }
    }

    pub(super) fn verified(&mut self, id: UnitId, result: Result<Option<TaskView>, SourceError>) {
        let Some(unit) = self.units.get(id) else {
            return;
        };
        let Phase::Settling(state) = unit.phase else {
            return;
        };
        match result {
            Ok(Some(view)) if is_ours(unit, state, &view) => {
                let verdict = match state {
                    TaskState::Completed => {
                        Verdict::Completed(view.result.unwrap_or_else(rowcall_core::Payload::null))
                    }
                    TaskState::Canceled => Verdict::Canceled {
                        reason: view.error_message.unwrap_or_default(),
                    },
                    _ => Verdict::Failed {
                        error: view.error_message.unwrap_or_default(),
                        retry_in: None,
                    },
                };
                let mut to_announce = Vec::new();
                self.written(id, &verdict, &mut to_announce);
                self.announce(to_announce);
            }
            Ok(_) => self.lose(id, FencedAt::Settle),
            Err(error) => {
                self.failed_call("inspect", &error);
                self.settles.doubtful.push(id);
            }
        }
    }
}

/// Whether the stored state is the one that this unit's attempt wrote.
fn is_ours(unit: &Unit, state: TaskState, view: &TaskView) -> bool {
    view.state == Some(state)
        && view.task.attempt == unit.attempt()
        && view
            .locked_by
            .as_ref()
            .is_none_or(|by| *by == unit.key().machine)
}

fn answer(waiters: Vec<Waiter>, reply: impl Fn(&Waiter) -> ReportReply) {
    for waiter in waiters {
        let answer = reply(&waiter);
        // Whoever asked may have gone; the verdict stands all the same.
        let _ = waiter.reply.send(Some(answer));
    }
}
