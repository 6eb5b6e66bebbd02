//! Claiming: reading messages, with what was tried too often taken out on the way.

use rowcall_core::{
    EventKind, Lease, LeaseKey, MachineId, Payload, Task,
    ports::{ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Claimed, Ineligible},
};
use serde_json::value::RawValue;

use super::{
    backend::{MAX_QUEUES_AT_ONCE, QueueBackend},
    error::QueueError,
    in_flight::Kept,
    step::{Answer, Claim, ClaimPart, Kind, Read, Step},
};

/// A claim that found messages to give up reads again, this many times at most.
const MAX_ROUNDS: u32 = 16;

impl QueueBackend {
    /// A claim of some queues, as far as there is room for their messages.
    pub(super) fn claim_step(
        &self,
        queues: &[usize],
        limit: i64,
        order: ClaimOrder,
        settled: Option<(usize, Vec<i64>)>,
    ) -> Claim {
        let parts = queues.iter().map(|&queue| ClaimPart {
            queue,
            cap: self.room(queue, limit),
        });
        Claim {
            limit,
            parts: parts.filter(|part| part.cap > 0).collect(),
            newest_first: order == ClaimOrder::NewestFirst,
            only: None,
            settled,
        }
    }
}

impl QueueBackend {
    /// Claims from any number of queues.
    pub(super) async fn claim_batch(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, QueueError> {
        match self.claim_groups(rules, batch).await {
            Err(error) if Self::is_stale(&error) => {
                self.reload().await?;
                self.claim_groups(rules, batch).await
            }
            other => other,
        }
    }

    async fn claim_groups(
        &self,
        rules: &ClaimRules,
        batch: &ClaimBatch,
    ) -> Result<Vec<Claimed>, QueueError> {
        let queues = self.queues(&batch.selectors)?;
        let mut all = Vec::new();
        for group in queues.chunks(MAX_QUEUES_AT_ONCE) {
            for _ in 0..MAX_ROUNDS {
                let limit = i64::from(batch.limit) - i64::try_from(all.len()).unwrap_or(i64::MAX);
                if limit <= 0 {
                    return Ok(all);
                }
                let claim = self.claim_step(group, limit, batch.order, None);
                let answers = self
                    .run("claiming messages", vec![Step::Claim(claim)])
                    .await?;
                let (claimed, given_up) = self.take(&rules.machine, answers);
                all.extend(claimed);
                if given_up == 0 {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// Turns an answer into claimed tasks, in the order of their ids within each queue, and counts those given up.
    pub(super) fn take(&self, machine: &MachineId, answers: Vec<Answer>) -> (Vec<Claimed>, usize) {
        let mut given_up = 0;
        let mut claimed = Vec::with_capacity(answers.len());
        for answer in answers {
            let queue = &self.specs()[answer.queue].name;
            match answer.kind {
                Kind::Held => {}
                Kind::GivenUp => {
                    given_up += 1;
                    tracing::warn!(%queue, msg_id = answer.id, attempts = answer.attempt,
                        "gave up a message: none of its attempts ended");
                    self.inner.meters[answer.queue].dead_letters.increment(1);
                }
                Kind::Claimed => {
                    let (place, id, attempt) = (answer.queue, answer.id, answer.attempt);
                    let Some(read) = answer.read else { continue };
                    claimed.push((id, self.claimed(machine, (place, id, attempt), read)));
                }
            }
        }
        // Parts of a statement answer in any order of rows; queues stay together.
        for same in claimed.chunk_by_mut(|(_, a), (_, b)| a.task.task.table == b.task.task.table) {
            same.sort_by_key(|(id, _)| *id);
        }
        (
            claimed.into_iter().map(|(_, claimed)| claimed).collect(),
            given_up,
        )
    }

    fn claimed(
        &self,
        machine: &MachineId,
        (queue, id, attempt): (usize, i64, i32),
        read: Read,
    ) -> Claimed {
        let spec = &self.specs()[queue];
        let until = read.until.unwrap_or_else(|| self.lease_end(queue));
        let popped = spec.pops();
        let kept = (popped || self.inner.place.keeps()).then(|| Kept {
            message: read.message.clone(),
            enqueued_at: read.enqueued_at,
            attempt,
            back: tokio::time::Instant::now() + spec.visibility,
            popped,
        });
        self.inner
            .in_flight
            .lock()
            .claim((queue, id), until, kept, read.waited);
        let task = self.task_ref(queue, id);
        let attempt = u32::try_from(attempt).unwrap_or(1);
        let lease = Lease::granted(LeaseKey {
            task: task.clone(),
            machine: machine.clone(),
            attempt,
        });
        let task = Task {
            source: task.table.clone(),
            task,
            event: EventKind::Insert,
            key: Some(key(spec.name.as_str(), id, read.headers.as_ref())),
            raw_data: read.message,
            old_data: None,
            row: None,
            attempt,
            retry_count: attempt.saturating_sub(1),
            attempted_by: Vec::new(),
            created_at: read.enqueued_at,
        };
        Claimed { lease, task }
    }

    /// Claims one named message.
    pub(super) async fn claim_one(
        &self,
        rules: &ClaimRules,
        queue: usize,
        id: i64,
    ) -> Result<ClaimOutcome, QueueError> {
        let mut claim = self.claim_step(&[queue], 1, ClaimOrder::OldestFirst, None);
        claim.only = Some(id);
        // Naming a message would jump the queue of its group.
        let grouped = self.specs()[queue].order.function().is_some();
        let steps = if grouped {
            Vec::new()
        } else {
            vec![Step::Claim(claim)]
        };
        let answers = self.run("claiming a message", steps).await?;
        let (claimed, given_up) = self.take(&rules.machine, answers);
        if let Some(claimed) = claimed.into_iter().next() {
            return Ok(ClaimOutcome::Won(Box::new(claimed)));
        }
        if given_up > 0 {
            return Ok(ClaimOutcome::Ineligible(Ineligible::NeedsAttention));
        }
        let Some(view) = self.view_one(queue, id).await? else {
            return Ok(ClaimOutcome::Gone);
        };
        Ok(match view.state {
            Some(state) if state.is_final() => ClaimOutcome::Ineligible(Ineligible::Final),
            // Delayed by its sender, or between two attempts.
            _ if view.retry_at.is_some() && view.task.attempt == 0 => {
                ClaimOutcome::Ineligible(Ineligible::AlreadyAttempted)
            }
            _ => ClaimOutcome::Held { by: None },
        })
    }
}

/// What names a message for its handler: `{queue, msg_id}`, and its headers where it has some.
pub(super) fn key(queue: &str, id: i64, headers: Option<&Payload>) -> Payload {
    #[derive(serde::Serialize)]
    struct Key<'a> {
        queue: &'a str,
        msg_id: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        headers: Option<&'a RawValue>,
    }
    Payload::from_value(&Key {
        queue,
        msg_id: id,
        headers: headers.map(Payload::raw),
    })
    .expect("plain data serialises")
}
