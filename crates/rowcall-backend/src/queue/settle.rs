//! Settling, renewing and releasing, always fenced by the number of reads.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use rowcall_core::{
    LeaseKey,
    ports::{ClaimBatch, ClaimRules, Claimed, Fence, Settlement, Verdict},
};

use super::{
    backend::{MAX_QUEUES_AT_ONCE, QueueBackend},
    error::QueueError,
    name::QueueName,
    spec::{QueueSpec, RetryDelay},
    statement::combines,
    step::{Answer, Change, Kind, Leases, Step},
};

/// Error messages are stored in dead letters; longer ones are cut.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// A lease that ends this soon may have run out by the database's clock.
const CLOSE: Duration = Duration::from_secs(5);

/// The settlements of one queue.
#[derive(Default)]
struct QueueSettlement {
    done: Leases,
    retry: Leases,
    delays: Vec<Option<f64>>,
    dead: Leases,
    errors: Vec<String>,
}

impl QueueSettlement {
    fn push(&mut self, spec: &QueueSpec, gives_up: bool, id: i64, attempt: i32, verdict: &Verdict) {
        match verdict {
            Verdict::Completed(_) | Verdict::Canceled { .. } => self.done.push(id, attempt),
            Verdict::Failed { error, .. } if gives_up && spec.exhausted(attempt.unsigned_abs()) => {
                self.dead.push(id, attempt);
                self.errors.push(cut(error));
            }
            Verdict::Failed { retry_in, .. } => {
                let own = match spec.retry {
                    RetryDelay::AtExpiry => None,
                    RetryDelay::After(backoff) => Some(backoff.delay(attempt.unsigned_abs(), 0.0)),
                };
                self.retry.push(id, attempt);
                self.delays
                    .push(retry_in.or(own).map(|delay| delay.as_secs_f64()));
            }
        }
    }

    fn steps(&self, queue: usize) -> Vec<Step> {
        vec![
            Step::Done {
                queue,
                leases: self.done.clone(),
            },
            Step::Retry {
                queue,
                leases: self.retry.clone(),
                delays: self.delays.clone(),
            },
            Step::GiveUp {
                queue,
                leases: self.dead.clone(),
                errors: self.errors.clone(),
            },
        ]
    }

    /// Counts what was written, pauses a queue that only fails, and has somebody look at when messages become visible again,
    /// which no trigger tells.
    fn note(&self, queue: usize, backend: &QueueBackend) {
        let spec = &backend.specs()[queue];
        let (dead, retry) = (self.dead.ids.len(), self.retry.ids.len());
        backend.inner.meters[queue]
            .dead_letters
            .increment(dead as u64);
        backend.inner.pauses.lock().note(
            queue,
            self.done.ids.len(),
            dead + retry,
            spec.pause,
            tokio::time::Instant::now(),
        );
        let homeless = |attempt: &i32| spec.exhausted(attempt.unsigned_abs());
        if self.retry.attempts.iter().any(homeless) {
            tracing::error!(queue = %spec.name, dead_letters = spec.dead_letters.as_ref().map(QueueName::as_str),
                "the dead letter queue does not exist: messages that should go there are tried again; create it");
        }
        if dead + retry > 0 {
            backend.note_change(queue);
        }
    }

    /// Every message that this settles.
    fn ids(&self) -> impl Iterator<Item = i64> {
        [&self.done, &self.retry, &self.dead]
            .into_iter()
            .flat_map(|leases| leases.ids.iter().copied())
    }
}

fn cut(error: &str) -> String {
    let mut end = error.len().min(MAX_ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    // PostgreSQL's text has no NUL.
    error[..end].replace('\0', "\u{fffd}")
}

/// Settlements or leases by queue; popped ones need no statement, unknown tasks have no lease.
struct Sorted<'a, T> {
    by_queue: BTreeMap<usize, Vec<(i64, i32, &'a T)>>,
    popped: HashSet<(usize, i64)>,
}

impl QueueBackend {
    fn sort<'a, T>(&self, all: &'a [T], key: impl Fn(&T) -> &LeaseKey) -> Sorted<'a, T> {
        let mut sorted = Sorted {
            by_queue: BTreeMap::new(),
            popped: HashSet::new(),
        };
        for one in all {
            let key = key(one);
            let Some((queue, id)) = self.locate(&key.task) else {
                continue;
            };
            let Ok(attempt) = i32::try_from(key.attempt) else {
                continue;
            };
            if self.specs()[queue].pops() {
                sorted.popped.insert((queue, id));
            } else {
                sorted
                    .by_queue
                    .entry(queue)
                    .or_default()
                    .push((id, attempt, one));
            }
        }
        sorted
    }

    /// Which of the leases asked for were still ours, in the order asked.
    fn fences<'a>(
        &self,
        keys: impl Iterator<Item = &'a LeaseKey>,
        held: &HashSet<(usize, i64)>,
    ) -> Vec<Fence> {
        keys.map(|key| match self.locate(&key.task) {
            Some(place) if held.contains(&place) => Fence::Held,
            Some((queue, id)) => {
                self.inner.in_flight.lock().end(queue, id);
                self.inner.meters[queue].fenced.increment(1);
                let queue = &self.specs()[queue].name;
                tracing::warn!(%queue, msg_id = id, attempt = key.attempt, "the lease on a message was lost");
                Fence::Lost
            }
            None => Fence::Lost,
        })
        .collect()
    }

    /// Writes verdicts, one statement per queue.
    pub(super) async fn settle_all(
        &self,
        settlements: &[Settlement],
    ) -> Result<Vec<Fence>, QueueError> {
        let (mut held, work) = self.verdicts(settlements);
        for (queue, work) in work {
            let answers = self.run("settling messages", work.steps(queue)).await?;
            held.extend(held_of(&answers));
            work.note(queue, self);
        }
        self.ended(&held);
        Ok(self.fences(settlements.iter().map(|one| &one.lease), &held))
    }

    /// Sorts verdicts by queue; those on popped messages are settled by this.
    fn verdicts(
        &self,
        settlements: &[Settlement],
    ) -> (HashSet<(usize, i64)>, BTreeMap<usize, QueueSettlement>) {
        let layout = self.layout();
        let sorted = self.sort(settlements, |one| &one.lease);
        let mut work: BTreeMap<usize, QueueSettlement> = BTreeMap::new();
        for (queue, ones) in sorted.by_queue {
            let spec = &self.specs()[queue];
            let gives_up = layout.tables[queue].gives_up(spec);
            let entry = work.entry(queue).or_default();
            for (id, attempt, one) in ones {
                entry.push(spec, gives_up, id, attempt, &one.verdict);
            }
        }
        (sorted.popped, work)
    }

    fn ended(&self, held: &HashSet<(usize, i64)>) {
        let mut in_flight = self.inner.in_flight.lock();
        for (queue, id) in held {
            in_flight.end(*queue, *id);
        }
    }

    /// Settles and claims, in one statement where that is possible: one queue to settle, no groups, not too many queues.
    pub(super) async fn settle_and_claim_all(
        &self,
        rules: &ClaimRules,
        settlements: &[Settlement],
        batch: &ClaimBatch,
    ) -> Result<(Vec<Fence>, Vec<Claimed>), QueueError> {
        let queues = self.queues(&batch.selectors)?;
        let (mut held, mut work) = self.verdicts(settlements);
        let together = work.len() == 1
            && batch.limit > 0
            && self.inner.place.combines()
            && queues.len() <= MAX_QUEUES_AT_ONCE
            && queues.iter().all(|queue| combines(&self.specs()[*queue]));
        let Some((queue, one)) = together.then(|| work.pop_first()).flatten() else {
            let fences = self.settle_all(settlements).await?;
            // The verdicts are written: a claim that fails now must not make the caller write them again.
            let claimed = self
                .claim_batch(rules, batch)
                .await
                .unwrap_or_else(|error| {
                    tracing::warn!(%error, "settled, but could not claim");
                    Vec::new()
                });
            return Ok((fences, claimed));
        };
        let mut steps = one.steps(queue);
        // What is being settled makes room for as many of the same queue; it must not be read again by this statement.
        let soon = tokio::time::Instant::now() + CLOSE;
        let again: Vec<i64> = {
            let mut in_flight = self.inner.in_flight.lock();
            let again = one
                .ids()
                .filter(|id| in_flight.ends_before(queue, *id, soon))
                .collect();
            one.ids().for_each(|id| drop(in_flight.end(queue, id)));
            again
        };
        let limit = i64::from(batch.limit);
        steps.push(Step::Claim(self.claim_step(
            &queues,
            limit,
            batch.order,
            Some((queue, again)),
        )));
        let answers = self.run("settling and claiming messages", steps).await?;
        held.extend(held_of(&answers));
        one.note(queue, self);
        let (mut claimed, given_up) = self.take(&rules.machine, answers);
        let short = batch
            .limit
            .saturating_sub(u32::try_from(claimed.len()).unwrap_or(u32::MAX));
        if given_up > 0 && short > 0 {
            let rest = ClaimBatch {
                limit: short,
                ..batch.clone()
            };
            match self.claim_batch(rules, &rest).await {
                Ok(more) => claimed.extend(more),
                Err(error) => tracing::warn!(%error, "could not claim the rest"),
            }
        }
        Ok((
            self.fences(settlements.iter().map(|one| &one.lease), &held),
            claimed,
        ))
    }

    /// Prolongs leases.
    pub(super) async fn renew_all(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, QueueError> {
        let held = self
            .each_queue("renewing leases", leases, Change::Renew)
            .await?;
        if self.renews() {
            let mut in_flight = self.inner.in_flight.lock();
            for &(queue, id) in &held {
                in_flight.hold(queue, id, self.lease_end(queue));
            }
        }
        Ok(self.fences(leases.iter(), &held))
    }

    /// Says which leases are still ours.
    pub(super) async fn check_all(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, QueueError> {
        let held = self
            .each_queue("checking leases", leases, Change::Check)
            .await?;
        Ok(self.fences(leases.iter(), &held))
    }

    /// Gives messages back. Popped ones are sent again, because they are nowhere else.
    pub(super) async fn release_all(&self, leases: &[LeaseKey]) -> Result<Vec<Fence>, QueueError> {
        let held = self
            .each_queue("releasing messages", leases, Change::Release)
            .await?;
        let popped: Vec<(usize, rowcall_core::Payload)> = {
            let mut in_flight = self.inner.in_flight.lock();
            held.iter()
                .filter_map(|(queue, id)| Some((*queue, in_flight.end(*queue, *id)?)))
                .collect()
        };
        for (queue, message) in popped {
            let name = &self.specs()[queue].name;
            self.store().send(name, &message, Duration::ZERO).await?;
        }
        let queues: HashSet<usize> = held.iter().map(|(queue, _)| *queue).collect();
        self.announce(&queues).await;
        Ok(self.fences(leases.iter(), &held))
    }

    /// Runs one kind of statement per queue over leases; those on popped messages always hold.
    async fn each_queue(
        &self,
        doing: &'static str,
        leases: &[LeaseKey],
        change: Change,
    ) -> Result<HashSet<(usize, i64)>, QueueError> {
        let sorted = self.sort(leases, |key| key);
        let mut held = sorted.popped;
        for (queue, ones) in sorted.by_queue {
            let mut these = Leases::default();
            for (id, attempt, _) in ones {
                these.push(id, attempt);
            }
            let step = Step::Lease {
                queue,
                leases: these,
                change,
            };
            held.extend(held_of(&self.run(doing, vec![step]).await?));
        }
        Ok(held)
    }

    /// Tells sleeping workers that messages came back, which no trigger sees. A hint only: polling finds them as well.
    pub(super) async fn announce(&self, queues: &HashSet<usize>) {
        for &queue in queues {
            if let Err(error) = self.inner.place.tell(&self.specs()[queue].name).await {
                tracing::debug!(%error, "nobody was told about a message that came back");
            }
        }
    }
}

fn held_of(answers: &[Answer]) -> impl Iterator<Item = (usize, i64)> {
    answers
        .iter()
        .filter(|answer| answer.kind == Kind::Held)
        .map(|answer| (answer.queue, answer.id))
}
