//! Steps by the functions that every project with queues has: read, pop, send, archive, delete.
//!
//! They know nothing of leases. So what is ours is decided by our own clock: a message that was read is ours for a visibility
//! time-out from before the request, less a margin, and then it is not settled any more, because somebody else may have it.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use rowcall_core::Payload;
use serde_json::json;
use tokio::time::Instant;

use super::QueueProject;
use crate::queue::{
    backend::QueueBackend,
    error::QueueError,
    in_flight::Kept,
    layout::Tables,
    spec::{Finish, QueueSpec},
    step::{Answer, Change, Claim, Kind, Leases, Read, Step},
    store::Message,
    view::Due,
};

/// Requests that settle at a time.
const MAX_REQUESTS: usize = 8;

/// A message that is given up.
struct Dead {
    kept: Kept,
    error: String,
    error_type: &'static str,
}

impl QueueBackend {
    /// Carries out steps one by one.
    pub(in crate::queue) async fn run_stock(
        &self,
        project: &QueueProject,
        steps: &[Step],
    ) -> Result<Vec<Answer>, QueueError> {
        let mut answers = Vec::new();
        for step in steps {
            match step {
                Step::Claim(claim) => answers.extend(self.stock_claim(project, claim).await?),
                Step::Done { queue, leases } => {
                    answers.extend(self.stock_done(project, *queue, leases).await?);
                }
                Step::Retry { queue, leases, .. } => {
                    answers.extend(self.stock_held(*queue, leases, true));
                }
                Step::GiveUp {
                    queue,
                    leases,
                    errors,
                } => answers.extend(self.stock_dead(project, *queue, leases, errors).await?),
                Step::Lease {
                    queue,
                    leases,
                    change,
                } => {
                    let comes_back = *change == Change::Release;
                    answers.extend(self.stock_held(*queue, leases, comes_back));
                }
            }
        }
        Ok(answers)
    }

    /// Reads or pops. What was read before something went wrong is handled all the same.
    async fn stock_claim(
        &self,
        project: &QueueProject,
        claim: &Claim,
    ) -> Result<Vec<Answer>, QueueError> {
        let mut answers = Vec::new();
        if claim.only.is_some() {
            // Nothing reads a message by its name.
            return Ok(answers);
        }
        let mut left = claim.limit;
        for part in &claim.parts {
            let room = u32::try_from(part.cap.min(left)).unwrap_or(0);
            if room == 0 {
                continue;
            }
            let result = self
                .stock_read(project, part.queue, room, &mut answers)
                .await;
            match result {
                Ok(read) => left -= i64::from(read),
                Err(error) if answers.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(queue = %self.specs()[part.queue].name, %error, "not everything could be read");
                    break;
                }
            }
        }
        Ok(answers)
    }

    /// Reads one queue; says how many messages there were.
    async fn stock_read(
        &self,
        project: &QueueProject,
        queue: usize,
        room: u32,
        answers: &mut Vec<Answer>,
    ) -> Result<u32, QueueError> {
        let spec = &self.specs()[queue];
        if spec.pops() {
            for popped in 0..room {
                let Some(message) = project.pop(&spec.name).await? else {
                    return Ok(popped);
                };
                // pgmq counts reads only.
                let attempt = message.read_ct + 1;
                answers.push(claimed(queue, attempt, message, None));
            }
            return Ok(room);
        }
        let asked = Instant::now();
        let messages = project.read(&spec.name, spec.visibility, room).await?;
        let count = u32::try_from(messages.len()).unwrap_or(room);
        let until = asked + spec.visibility.saturating_sub(spec.margin());
        let gives_up = self.layout().tables[queue].gives_up(spec);
        for message in messages {
            let before = message.read_ct - 1;
            if !gives_up || !spec.exhausted(before.unsigned_abs()) {
                let attempt = message.read_ct;
                answers.push(claimed(queue, attempt, message, Some(until)));
                continue;
            }
            let dead = Dead {
                error: format!("no attempt of {before} ended"),
                error_type: "AttemptsExhausted",
                kept: Kept {
                    message: message.message,
                    enqueued_at: message.enqueued_at,
                    attempt: before,
                    back: until,
                    popped: false,
                },
            };
            let id = message.msg_id;
            match self.bury(project, spec, id, &dead).await {
                Ok(true) => answers.push(Answer {
                    kind: Kind::GivenUp,
                    ..Answer::held(queue, id, before)
                }),
                Ok(false) => {}
                // It comes back, and is given up then.
                Err(error) => {
                    tracing::warn!(queue = %spec.name, msg_id = id, %error, "a message could not be given up");
                }
            }
        }
        Ok(count)
    }

    /// Ends messages that are still ours.
    async fn stock_done(
        &self,
        project: &QueueProject,
        queue: usize,
        leases: &Leases,
    ) -> Result<Vec<Answer>, QueueError> {
        let spec = &self.specs()[queue];
        let archive = spec.finish == Finish::Archive;
        let ends = self
            .ours(queue, leases)
            .into_iter()
            .map(|(id, kept)| self.once(queue, id, kept.attempt, end(project, spec, id, archive)));
        collect(stream::iter(ends).buffer_unordered(MAX_REQUESTS)).await
    }

    /// Gives up messages that are still ours.
    async fn stock_dead(
        &self,
        project: &QueueProject,
        queue: usize,
        leases: &Leases,
        errors: &[String],
    ) -> Result<Vec<Answer>, QueueError> {
        let spec = &self.specs()[queue];
        let errors: HashMap<i64, &String> = leases.ids.iter().copied().zip(errors).collect();
        let ours = self.ours(queue, leases).into_iter().map(|(id, kept)| {
            let error = errors.get(&id).map(|error| (*error).clone());
            let dead = Dead {
                kept,
                error: error.unwrap_or_default(),
                error_type: "AgentError",
            };
            let attempt = dead.kept.attempt;
            self.once(queue, id, attempt, async move {
                self.bury(project, spec, id, &dead).await
            })
        });
        collect(stream::iter(ours).buffer_unordered(MAX_REQUESTS)).await
    }

    /// Ends a message, unless an earlier try of the same settlement has ended it.
    async fn once(
        &self,
        queue: usize,
        id: i64,
        attempt: i32,
        end: impl Future<Output = Result<bool, QueueError>>,
    ) -> Result<Option<Answer>, QueueError> {
        let before = self.inner.in_flight.lock().has_ended(queue, id);
        let ended = before || end.await?;
        if ended {
            self.inner.in_flight.lock().note_end(queue, id);
        }
        Ok(ended.then(|| Answer::held(queue, id, attempt)))
    }

    /// Which leases are ours still, as far as our clock tells; messages that come back do so at the end of their time.
    fn stock_held(&self, queue: usize, leases: &Leases, comes_back: bool) -> Vec<Answer> {
        let now = Instant::now();
        let in_flight = self.inner.in_flight.lock();
        let mut held = Vec::new();
        for (id, attempt) in leases.iter() {
            let Some((kept, _)) = in_flight.kept(queue, id, now) else {
                continue;
            };
            if kept.attempt != attempt {
                continue;
            }
            if comes_back {
                self.inner.returns.lock().note(queue, kept.back);
            }
            held.push(Answer::held(queue, id, attempt));
        }
        held
    }

    /// The leases that are ours still, with what was kept of their messages.
    fn ours(&self, queue: usize, leases: &Leases) -> Vec<(i64, Kept)> {
        let (now, in_flight) = (Instant::now(), self.inner.in_flight.lock());
        let kept = |(id, attempt)| {
            let (kept, _) = in_flight.kept(queue, id, now)?;
            (kept.attempt == attempt).then(|| (id, kept.clone()))
        };
        leases.iter().filter_map(kept).collect()
    }

    /// Sends the dead letter, then ends the message. When something breaks in between, both are there, and the letter is sent
    /// again when the message is given up again: its `dead_letter_id` is the same then.
    async fn bury(
        &self,
        project: &QueueProject,
        spec: &QueueSpec,
        id: i64,
        dead: &Dead,
    ) -> Result<bool, QueueError> {
        if let Some(letters) = &spec.dead_letters {
            let letter = letter(spec, id, dead, project.now());
            project.send(letters, &letter, Duration::ZERO).await?;
        }
        end(project, spec, id, Tables::archives_the_dead(spec)).await
    }

    /// What is due in a project's queues. Supabase's own functions do not tell, so they are looked at, and what is known of the
    /// future is what was read before.
    pub(in crate::queue) async fn due_in_project(
        &self,
        project: &QueueProject,
        queues: &[usize],
    ) -> Result<Vec<Due>, QueueError> {
        let due = if project.has_ours() {
            project.due(queues, self.specs()).await?
        } else {
            let now = Instant::now();
            let mut returns = self.inner.returns.lock();
            let due = |&queue: &usize| Due {
                queue,
                ready: true,
                known: false,
                next: returns.next(queue, now).map(|at| at - now),
            };
            queues.iter().map(due).collect()
        };
        Ok(due.into_iter().map(|due| self.unless_paused(due)).collect())
    }
}

fn claimed(queue: usize, attempt: i32, message: Message, until: Option<Instant>) -> Answer {
    Answer {
        kind: Kind::Claimed,
        queue,
        id: message.msg_id,
        attempt,
        read: Some(Read {
            enqueued_at: message.enqueued_at,
            message: message.message,
            headers: message.headers,
            waited: None,
            until,
        }),
    }
}

async fn end(
    project: &QueueProject,
    spec: &QueueSpec,
    id: i64,
    archive: bool,
) -> Result<bool, QueueError> {
    if archive {
        project.archive(&spec.name, id).await
    } else {
        project.delete(&spec.name, id).await
    }
}

async fn collect(
    answers: impl stream::Stream<Item = Result<Option<Answer>, QueueError>>,
) -> Result<Vec<Answer>, QueueError> {
    let all: Vec<_> = answers.collect().await;
    // All are tried before an error is told: the next try is only about those that failed.
    let all: Result<Vec<Option<Answer>>, QueueError> = all.into_iter().collect();
    Ok(all?.into_iter().flatten().collect())
}

/// AIMQ's dead letter, with an id by which one that was sent twice is recognised.
fn letter(spec: &QueueSpec, id: i64, dead: &Dead, now: Option<Timestamp>) -> Payload {
    let letter = json!({
        "original_queue": spec.name,
        "original_job_id": id,
        "attempt_count": dead.kept.attempt,
        "error_type": dead.error_type,
        "error_message": dead.error,
        "timestamp": now.map(|now| now.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()),
        "job_data": dead.kept.message,
        "dead_letter_id": format!("{}/{id}/{}", spec.name, dead.kept.enqueued_at),
    });
    Payload::from_value(&letter).expect("plain data serialises")
}
