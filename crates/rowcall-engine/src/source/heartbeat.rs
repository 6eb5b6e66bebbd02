//! The heartbeat: one statement renews every lease of the source, every two minutes by default.
//!
//! Renewals that cannot be sent are tried again soon. The monotonic clock counts on: when no renewal of a lease got
//! through for as long as a lease lives, the unit is stopped as presumed lost, because another machine may have the task.
//! The database fences in any case; this only keeps two agents from working on one task for longer than they must.

use std::sync::Arc;

use rowcall_core::{AgentError, AgentErrorKind, ErrorClass, LeaseKey, SourceError, ports::Fence};
use tokio::time::Instant;

use super::{
    SourceLoop,
    call::{Done, bounded},
    timers::{due, sooner},
};
use crate::{
    bus::FencedAt,
    unit::{Phase, UnitId},
};

/// How many leases one statement renews at most.
const MAX_RENEWALS: usize = 5_000;

/// Where the heartbeat stands.
#[derive(Debug, Default)]
pub(super) struct Beat {
    renewing: bool,
    /// Failed renewals in a row.
    failures: u32,
    marking: bool,
}

impl SourceLoop {
    /// Renews and expires what is due.
    pub(super) fn tick_leases(&mut self) {
        if due(&mut self.timers.expiry, self.now) {
            self.expire();
        }
        // While a renewal is under way, its answer sets the next one.
        if due(&mut self.timers.heartbeat, self.now) && !self.beat.renewing {
            self.renew();
        }
    }

    fn renew(&mut self) {
        let ids = self.units.ids(|unit| unit.phase.is_leased());
        if ids.is_empty() || !self.source.coordinator.capabilities().renew {
            return;
        }
        self.beat.renewing = true;
        let keys: Vec<LeaseKey> = ids
            .iter()
            .filter_map(|id| self.units.get(*id))
            .map(|unit| unit.key().clone())
            .collect();
        let coordinator = Arc::clone(&self.source.coordinator);
        let options = &self.shared.options;
        // Several tries must fit into the life of a lease.
        let limit = options.call_timeout.min(self.rules.lease.ttl / 8);
        let sent = self.now;
        self.shared.counters.calls.add(1);
        self.calls.spawn(async move {
            let mut fences = Vec::with_capacity(keys.len());
            let mut error = None;
            for chunk in keys.chunks(MAX_RENEWALS) {
                match bounded(limit, coordinator.renew(chunk)).await {
                    Ok(answers) if answers.len() == chunk.len() => fences.extend(answers),
                    Ok(answers) => {
                        error = Some(SourceError::new(
                            ErrorClass::Bug,
                            format!(
                                "the source answered {} of {} renewals; please report this",
                                answers.len(),
                                chunk.len()
                            ),
                        ));
                        break;
                    }
                    Err(problem) => {
                        error = Some(problem);
                        break;
                    }
                }
            }
            Done::Renewed {
                ids,
                sent,
                fences,
                error,
            }
        });
    }

    pub(super) fn renewed(
        &mut self,
        ids: &[UnitId],
        sent: Instant,
        fences: &[Fence],
        error: Option<SourceError>,
    ) {
        self.beat.renewing = false;
        for (id, fence) in ids.iter().zip(fences) {
            let Some(unit) = self.units.get_mut(*id) else {
                continue;
            };
            match fence {
                Fence::Held => unit.renewed = sent,
                // A verdict that was written meanwhile also ends the lease: its own answer tells.
                Fence::Lost if unit.phase.is_open() => self.lose(*id, FencedAt::Renew),
                Fence::Lost => {}
            }
        }
        self.arm_expiry();
        if let Some(error) = error {
            self.beat.failures += 1;
            let options = &self.shared.options;
            let wait = options
                .trouble
                .delay(self.beat.failures, self.shared.ids.unit());
            self.timers.heartbeat = Some(self.now + wait);
            self.note_failure("renew", &error, wait);
        } else {
            self.beat.failures = 0;
            self.timers.heartbeat = self
                .units
                .iter()
                .any(|(_, unit)| unit.phase.is_leased())
                .then(|| sent + self.rules.lease.renew_every);
        }
    }

    fn arm_expiry(&mut self) {
        let ttl = self.rules.lease.ttl;
        self.timers.expiry = self
            .units
            .iter()
            .filter(|(_, unit)| unit.phase.is_open())
            .map(|(_, unit)| unit.expires(ttl))
            .min();
    }

    fn expire(&mut self) {
        if !self.source.coordinator.capabilities().renew {
            // Such a source has leases without an end, or ends them by itself.
            return;
        }
        let (now, ttl) = (self.now, self.rules.lease.ttl);
        for id in self
            .units
            .ids(|unit| unit.phase.is_open() && unit.expires(ttl) <= now)
        {
            self.lose(id, FencedAt::Presumed);
        }
        self.arm_expiry();
    }

    /// Asks an agent to end. When it does not within the stop limit, its run is dropped.
    pub(super) fn order_stop(&mut self, id: UnitId) {
        let at = self.now + self.shared.options.stop_limit;
        if let Some(unit) = self.units.get_mut(id)
            && unit.running()
            && !unit.stop.is_cancelled()
        {
            unit.stop.cancel();
            unit.abort_at = Some(at);
            sooner(&mut self.timers.scan, at);
        }
    }

    /// Marks long-running tasks, ends those that take too long, and drops those that do not end.
    pub(super) fn scan(&mut self) {
        let (now, after) = (self.now, self.shared.options.mark_processing_after);
        let mut next: Option<Instant> = None;
        let (mut overdue, mut stubborn, mut to_mark) = (Vec::new(), Vec::new(), Vec::new());
        for (id, unit) in self.units.iter().filter(|(_, unit)| unit.running()) {
            let due = match (unit.abort_at, unit.phase) {
                (Some(at), _) if at <= now => {
                    stubborn.push(id);
                    continue;
                }
                (Some(at), _) => at,
                (None, Phase::Running) if unit.deadline <= now => {
                    overdue.push(id);
                    continue;
                }
                (None, Phase::Running) if unit.marked => unit.deadline,
                (None, Phase::Running) => {
                    let mark_at = unit.claimed + after;
                    if mark_at <= now {
                        to_mark.push(id);
                    }
                    // Once more after the marking, in case it fails.
                    unit.deadline.min(mark_at.max(now + after))
                }
                (None, _) => continue,
            };
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        // Starts close together are marked together.
        self.timers.scan = next.map(|at| at.max(now + after / 4));
        for id in overdue {
            self.time_out(id);
        }
        for id in stubborn {
            self.drop_agent(id);
        }
        self.mark(to_mark);
    }

    fn drop_agent(&mut self, id: UnitId) {
        let Some(unit) = self.units.get(id) else {
            return;
        };
        tracing::warn!(task.id = %unit.key().task, agent.id = %unit.agent.id, "agent did not end when asked; dropped");
        if let Some(abort) = &unit.abort {
            abort.abort();
        }
        let gone = AgentError::new(AgentErrorKind::Canceled, "did not end when asked to stop");
        self.agent_ended(id, Err(gone));
    }

    fn time_out(&mut self, id: UnitId) {
        self.order_stop(id);
        let Some(unit) = self.units.get(id) else {
            return;
        };
        let text = format!(
            "the agent took longer than its time-out of {:?}; raise timeout_seconds if it needs more",
            unit.agent.timeout
        );
        let task = Arc::clone(&unit.task);
        let verdict = self.shared.failure(&self.rules.retry, &task, &text);
        self.settle(id, verdict);
    }

    fn mark(&mut self, ids: Vec<UnitId>) {
        if ids.is_empty() || self.beat.marking || self.timers.trouble.is_some() {
            return;
        }
        self.beat.marking = true;
        let mut keys = Vec::with_capacity(ids.len());
        for id in &ids {
            if let Some(unit) = self.units.get_mut(*id) {
                unit.marked = true;
                keys.push(unit.key().clone());
            }
        }
        let coordinator = Arc::clone(&self.source.coordinator);
        self.call(
            async move { coordinator.mark_processing(&keys).await },
            move |result| Done::Marked(ids, result),
        );
    }

    pub(super) fn marked(&mut self, ids: &[UnitId], result: Result<Vec<Fence>, SourceError>) {
        self.beat.marking = false;
        match result {
            Ok(fences) => {
                for (id, fence) in ids.iter().zip(fences) {
                    let open = self.units.get(*id).is_some_and(|unit| unit.phase.is_open());
                    if fence == Fence::Lost && open {
                        self.lose(*id, FencedAt::Renew);
                    }
                }
            }
            // For people's eyes only: the next look marks them again.
            Err(error) => {
                for id in ids {
                    if let Some(unit) = self.units.get_mut(*id) {
                        unit.marked = false;
                    }
                }
                self.failed_call("mark", &error);
            }
        }
    }
}
