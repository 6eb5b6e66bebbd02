//! Exchanges: verdicts go out and tasks come in, in one round trip where both are there.
//!
//! Batching is natural: whatever is there goes, and what arrives meanwhile waits for the exchange under way, which is at
//! most one round trip. Only a claim after a fresh signal, or a good part of a full batch, starts a second exchange beside
//! it. Permits are taken before the claim, and the claim asks for exactly as many tasks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rowcall_core::{
    AgentId, AppId, Backoff, ErrorClass, SourceError, TaskRef, Trigger,
    ports::{ClaimBatch, ClaimOrder, Claimed, Fence},
};
use tokio::time::Instant;

use super::{
    MAX_WAITING_RECORDS, SourceLoop,
    call::{Done, bounded},
    settle_queue::Queued,
    start::Start,
    timers::sooner,
};
use crate::{admission::Permits, apps::AppEntry};

/// How long small work waits at most for the exchange under way.
const NUDGE_AFTER: Duration = Duration::from_millis(20);

/// Waiting times after the source refused an app's claim for good: somebody has to change something first.
const REFUSED_CLAIM: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_mins(1),
};

/// Tasks that signals named and no claim has asked for yet; with more of them the claim asks for whatever is next.
const MAX_HINTS: usize = 256;

/// One app's agents as this loop claims for them.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, read by name"
)]
pub(super) struct AppState {
    pub(super) entry: AppEntry,
    /// Something happened since the last claim was sent.
    pub(super) dirty: bool,
    /// The tasks that it happened to, where that is known.
    hints: BTreeSet<TaskRef>,
    /// Something else than these may be there.
    anywhere: bool,
    /// The next claim also takes failed tasks that may be tried again.
    pub(super) retryable: bool,
    /// The last claim came back full: there may be more.
    pub(super) more: bool,
    /// How many claims in a row came back full.
    pub(super) streak: u32,
    /// How many of the newest tasks the start-up sweep still takes first.
    pub(super) newest_left: u32,
    /// How often in a row the source refused this app's claims for good (a filter it cannot evaluate, a right it lacks).
    refusals: u32,
    /// Until when it is not asked again.
    pub(super) blocked: Option<Instant>,
}

impl AppState {
    pub(super) fn new(entry: AppEntry, newest_left: u32) -> Self {
        Self {
            entry,
            dirty: true,
            hints: BTreeSet::new(),
            anywhere: true,
            retryable: true,
            more: false,
            streak: 0,
            newest_left,
            refusals: 0,
            blocked: None,
        }
    }

    /// Anything may be there.
    pub(super) fn look_anywhere(&mut self) {
        self.dirty = true;
        self.anywhere = true;
    }

    /// One task may be there.
    pub(super) fn look_at(&mut self, task: &TaskRef) {
        self.dirty = true;
        if self.hints.len() < MAX_HINTS {
            self.hints.insert(task.clone());
        } else {
            self.anywhere = true;
        }
    }

    /// The tasks that the next claim of so many is about; none when it is about anything.
    fn take_hints(&mut self, limit: u32) -> Arc<[TaskRef]> {
        let hints = std::mem::take(&mut self.hints);
        let anywhere = std::mem::take(&mut self.anywhere) || self.more || self.newest_left > 0;
        if anywhere || hints.len() > limit as usize {
            return Arc::default();
        }
        hints.into_iter().collect()
    }
}

/// The claim of one exchange.
pub(super) struct ClaimPart {
    permits: Permits,
    /// The agent of the entry it is for.
    agent: Option<AgentId>,
    batch: ClaimBatch,
    sent: Instant,
}

/// What goes out in one round trip.
pub(super) struct Exchange {
    pub(super) settles: Vec<Queued>,
    pub(super) claim: Option<ClaimPart>,
}

/// What a claim could take.
struct Candidate {
    index: usize,
    count: u32,
    fresh: bool,
}

impl SourceLoop {
    /// Turns flags and queues into calls.
    pub(super) fn pump(&mut self) {
        if self.timers.trouble.is_some() {
            return;
        }
        while self.exchanges < self.shared.options.lanes && self.start_exchange() {}
        self.start_verify();
        self.start_release();
        self.start_sweep();
        self.steer_gate();
    }

    fn start_exchange(&mut self) -> bool {
        if let Some(settles) = self.settles.take_aside(self.now) {
            self.timers.aside = self.settles.aside_due();
            self.send(settles, None);
            return true;
        }
        let settles = self.settles.ready_len();
        let candidate = if self.settles.is_careful() {
            None
        } else {
            self.candidate()
        };
        let claims = candidate.as_ref().map_or(0, |candidate| candidate.count);
        if settles == 0 && claims == 0 {
            return false;
        }
        let fresh = candidate.as_ref().is_some_and(|candidate| candidate.fresh);
        let large = settles.max(claims as usize) * 4 >= self.shared.options.batch as usize * 3;
        if self.exchanges > 0 && !fresh && !large {
            // Small work rides with the answer of the exchange under way, unless that takes long.
            if !self.nudged {
                if self.timers.nudge.is_none() {
                    self.timers.nudge = Some(self.now + NUDGE_AFTER);
                }
                return false;
            }
        }
        self.timers.nudge = None;
        self.nudged = false;
        let claim = candidate.and_then(|candidate| self.claim_part(&candidate));
        let settles = self.settles.take_ready();
        if settles.is_empty() && claim.is_none() {
            return false;
        }
        self.send(settles, claim);
        true
    }

    /// The next app in the round that wants tasks and has places: fresh signals go first.
    fn candidate(&self) -> Option<Candidate> {
        if self.stop.has_begun()
            || self.records.len() >= MAX_WAITING_RECORDS
            || self.settles.len() > 4 * self.shared.options.batch as usize
        {
            return None;
        }
        let round = || (0..self.apps.len()).map(|step| (self.next_app + step) % self.apps.len());
        let able = |index: usize, wanted: fn(&AppState) -> bool| {
            let app = &self.apps[index];
            let blocked = app.blocked.is_some_and(|until| until > self.now);
            if !wanted(app) || blocked || app.entry.auto.is_empty() {
                return None;
            }
            let mut count = app.entry.slots.free().min(self.shared.options.batch);
            if app.newest_left > 0 {
                count = count.min(app.newest_left);
            }
            (count > 0).then_some(Candidate {
                index,
                count,
                fresh: app.dirty,
            })
        };
        round()
            .find_map(|index| able(index, |app| app.dirty))
            .or_else(|| round().find_map(|index| able(index, |app| app.more)))
    }

    fn claim_part(&mut self, candidate: &Candidate) -> Option<ClaimPart> {
        self.next_app = candidate.index + 1;
        let app = &mut self.apps[candidate.index];
        let permits = app.entry.slots.take(candidate.count);
        if permits.count() == 0 {
            return None;
        }
        // `more` stays until an answer says otherwise, so that the next lane goes on while this claim is under way.
        app.dirty = false;
        let hints = app.take_hints(permits.count());
        let batch = ClaimBatch {
            app: app.entry.id.clone(),
            selectors: Arc::clone(&app.entry.auto),
            limit: permits.count(),
            retryable: std::mem::take(&mut app.retryable),
            order: if app.newest_left > 0 {
                ClaimOrder::NewestFirst
            } else {
                ClaimOrder::OldestFirst
            },
            hints,
        };
        Some(ClaimPart {
            permits,
            agent: app.entry.agent.clone(),
            batch,
            sent: self.now,
        })
    }

    fn send(&mut self, settles: Vec<Queued>, claim: Option<ClaimPart>) {
        self.exchanges += 1;
        self.shared.counters.calls.add(1);
        let limit = self.shared.options.call_timeout;
        let coordinator = Arc::clone(&self.source.coordinator);
        let rules = Arc::clone(&self.rules);
        self.calls.spawn(async move {
            let (settles, settlements) = Queued::split(settles);
            let result = bounded(limit, async {
                match &claim {
                    None => Ok((coordinator.settle(&settlements).await?, Vec::new())),
                    Some(claim) if settlements.is_empty() => Ok((
                        Vec::new(),
                        coordinator.claim_next(&rules, &claim.batch).await?,
                    )),
                    Some(claim) => {
                        coordinator
                            .settle_and_claim(&rules, &settlements, &claim.batch)
                            .await
                    }
                }
            })
            .await;
            let settles = Queued::join(settles, settlements);
            Done::Exchanged(Box::new(Exchange { settles, claim }), result)
        });
    }

    pub(super) fn exchanged(
        &mut self,
        exchange: Exchange,
        result: Result<(Vec<Fence>, Vec<Claimed>), SourceError>,
    ) {
        self.exchanges -= 1;
        let Exchange { settles, claim } = exchange;
        // Places that the claim does not use are free again.
        self.freed |= claim.is_some();
        match result {
            Ok((fences, claimed)) => {
                self.worked();
                self.settled(settles, &fences);
                if let Some(claim) = claim {
                    self.claimed(claim, claimed);
                }
            }
            Err(error) => {
                let combined = claim.is_some();
                if let Some(claim) = claim {
                    self.unclaimed(&claim, settles.is_empty(), &error);
                }
                self.unsettled(settles, combined, &error);
            }
        }
    }

    /// A claim came back with an error.
    fn unclaimed(&mut self, claim: &ClaimPart, alone: bool, error: &SourceError) {
        let refused = match error.class {
            ErrorClass::Permanent | ErrorClass::Unauthorized | ErrorClass::Bug => alone,
            ErrorClass::Retryable | ErrorClass::Conflict => false,
        };
        let now = self.now;
        let unit = self.shared.ids.unit();
        let mut blocked = None;
        if let Some(app) = self.app_mut(&claim.batch.app, claim.agent.as_ref()) {
            app.look_anywhere();
            app.retryable |= claim.batch.retryable;
            if refused {
                app.refusals += 1;
                blocked = Some(now + REFUSED_CLAIM.delay(app.refusals, unit));
                app.blocked = blocked;
            }
        }
        match blocked {
            // The error is this app's alone: the others go on.
            Some(until) => {
                sooner(&mut self.timers.blocked, until);
                self.note_failure("claim", error, until - now);
            }
            None if alone => self.failed_call("claim", error),
            None => {}
        }
    }

    fn app_mut(&mut self, id: &AppId, agent: Option<&AgentId>) -> Option<&mut AppState> {
        self.apps.iter_mut().find(|app| app.entry.is(id, agent))
    }

    fn claimed(&mut self, claim: ClaimPart, claimed: Vec<Claimed>) {
        let ClaimPart {
            mut permits,
            agent,
            batch,
            sent,
        } = claim;
        let count = u32::try_from(claimed.len()).unwrap_or(u32::MAX);
        let full = count >= batch.limit;
        self.shared.counters.claimed.add(u64::from(count));
        if count > 0 {
            self.activity();
        }
        let Some(app) = self.app_mut(&batch.app, agent.as_ref()) else {
            return self.give_back(claimed);
        };
        app.refusals = 0;
        app.blocked = None;
        app.more = full;
        app.streak = if full {
            app.streak.saturating_add(1)
        } else {
            0
        };
        app.retryable |= full && batch.retryable;
        if batch.order == ClaimOrder::NewestFirst {
            // After the newest come the others, whether or not there were as many.
            app.newest_left = if full {
                app.newest_left.saturating_sub(count)
            } else {
                0
            };
            if app.newest_left == 0 {
                app.look_anywhere();
            }
            app.retryable = true;
        }
        let entry = app.entry.clone();
        if self.stop.has_begun() {
            return self.give_back(claimed);
        }
        let mut unwanted = Vec::new();
        for one in claimed {
            let route = entry.route(&one.task, Some(Trigger::Auto));
            // No permit left means that the source gave more than was asked for.
            match (route, permits.split()) {
                (Some(route), Some(permit)) => {
                    self.start(Start {
                        lease: one.lease,
                        task: one.task,
                        app: &entry.id,
                        route,
                        permit,
                        sent,
                    });
                }
                _ => unwanted.push(one),
            }
        }
        self.give_back(unwanted);
    }
}
