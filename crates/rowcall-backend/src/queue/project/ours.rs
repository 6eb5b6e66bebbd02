//! Steps as one call of our function, which is one transaction.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use rowcall_core::Payload;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{QueueProject, call, error};
use crate::queue::{
    error::QueueError,
    layout::{Layout, Tables, check_order},
    name::QueueName,
    spec::{Finish, QueueSpec},
    step::{Answer, Change, Claim, Kind, Leases, Read, Step},
    view::Due,
};

/// A row of `rowcall_work`.
#[derive(Deserialize)]
struct Row {
    kind: i16,
    queue: usize,
    msg_id: i64,
    read_ct: i32,
    enqueued_at: Option<Timestamp>,
    message: Option<Payload>,
    headers: Option<Payload>,
    waited: Option<f64>,
}

/// A row of `rowcall_due`.
#[derive(Clone, Debug, Deserialize)]
struct DueRow {
    there: bool,
    archive: bool,
    orders: Option<Vec<String>>,
    ready: Option<bool>,
    next_in: Option<f64>,
}

impl QueueProject {
    /// Carries steps out in one transaction.
    pub(in crate::queue) async fn work(
        &self,
        doing: &'static str,
        steps: &[Step],
        specs: &[QueueSpec],
        layout: &Layout,
    ) -> Result<Vec<Answer>, QueueError> {
        let written = |step: &Step| match step {
            Step::Claim(claim) => claimed(claim, specs, layout),
            step => written(step, specs),
        };
        let body: Vec<Value> = steps.iter().map(written).collect();
        let rows: Result<Vec<Row>, _> = self
            .fetch(&call("rowcall_work", &json!({ "steps": body })))
            .await;
        let about = steps.iter().find_map(|step| match step {
            Step::Claim(claim) => claim.parts.first().map(|part| part.queue),
            Step::Done { queue, .. }
            | Step::Retry { queue, .. }
            | Step::GiveUp { queue, .. }
            | Step::Lease { queue, .. } => Some(*queue),
        });
        let rows = rows.map_err(|error| {
            if error.is_missing_function() {
                // Somebody took them away: the next steps do without.
                self.0.ours.store(false, Ordering::Relaxed);
            }
            error::explain(error, doing, about.map(|queue| &specs[queue].name))
        })?;
        let known = rows.into_iter().filter(|row| row.queue < specs.len());
        Ok(known.map(Row::answer).collect())
    }

    /// Tells sleeping workers of a queue, where the project has our function for it.
    pub(in crate::queue) async fn tell(&self, queue: &QueueName) -> Result<(), QueueError> {
        if !self.has_ours() {
            return Ok(());
        }
        let body = json!({ "steps": [{ "do": "tell", "name": queue }] });
        let told: Result<Vec<Value>, _> = self.fetch(&call("rowcall_work", &body)).await;
        told.map(drop)
            .map_err(|error| error::explain(error, "telling other workers", Some(queue)))
    }

    pub(super) async fn layout_by_ours(&self, specs: &[QueueSpec]) -> Result<Layout, QueueError> {
        let letters = specs.iter().filter_map(|spec| spec.dead_letters.as_ref());
        let names: Vec<&QueueName> = specs.iter().map(|spec| &spec.name).chain(letters).collect();
        let rows = self.rows(&names).await?;
        let (queues, dead) = rows.split_at(specs.len());
        let mut dead = dead.iter();
        let mut tables = Vec::with_capacity(specs.len());
        for (spec, row) in specs.iter().zip(queues) {
            let orders = row.orders.as_deref().unwrap_or_default();
            check_order(spec, row.there, |function| {
                orders.iter().any(|one| one == function)
            })?;
            tables.push(Tables {
                queue: row.there,
                archive: row.archive,
                dead_letters: spec.dead_letters.is_some()
                    && dead.next().is_some_and(|row| row.there),
                ..Tables::default()
            });
        }
        Ok(Layout { tables })
    }

    /// What is due in some queues, by their places.
    pub(in crate::queue) async fn due(
        &self,
        queues: &[usize],
        specs: &[QueueSpec],
    ) -> Result<Vec<Due>, QueueError> {
        let names: Vec<&QueueName> = queues.iter().map(|queue| &specs[*queue].name).collect();
        let rows = self.rows(&names).await?;
        if let Some(gone) = rows.iter().position(|row| !row.there) {
            return Err(QueueError::Missing(names[gone].clone()));
        }
        let due = |(queue, row): (&usize, &DueRow)| Due {
            queue: *queue,
            ready: row.ready == Some(true),
            known: true,
            next: row.next_in.map(|seconds| {
                Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
            }),
        };
        Ok(queues.iter().zip(&rows).map(due).collect())
    }

    async fn rows(&self, names: &[&QueueName]) -> Result<Vec<DueRow>, QueueError> {
        let doing = "looking what is due";
        let body = json!({ "queue_names": names });
        let rows: Vec<DueRow> = self
            .fetch(&call("rowcall_due", &body))
            .await
            .map_err(|error| error::explain(error, doing, names.first().copied()))?;
        if rows.len() == names.len() {
            Ok(rows)
        } else {
            Err(error::said(
                doing,
                "another number of queues than was asked for",
            ))
        }
    }
}

impl Row {
    fn answer(self) -> Answer {
        let kind = Kind::of(self.kind);
        Answer {
            kind,
            queue: self.queue,
            id: self.msg_id,
            attempt: self.read_ct,
            read: self
                .enqueued_at
                .filter(|_| kind == Kind::Claimed)
                .map(|enqueued_at| Read {
                    enqueued_at,
                    message: self.message.unwrap_or_else(Payload::null),
                    headers: self.headers,
                    waited: self
                        .waited
                        .and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
                    until: None,
                }),
        }
    }
}

/// A step other than a claim, as our function reads it.
fn written(step: &Step, specs: &[QueueSpec]) -> Value {
    match step {
        Step::Claim(_) => Value::Null,
        Step::Done { queue, leases } => json!({
            "do": "done", "queue": queue, "name": specs[*queue].name, "leases": pairs(leases),
            "archive": specs[*queue].finish == Finish::Archive,
        }),
        Step::Retry {
            queue,
            leases,
            delays,
        } => {
            let leases = leases.iter().zip(delays);
            let leases: Vec<Value> = leases
                .map(|((id, attempt), delay)| json!([id, attempt, delay]))
                .collect();
            json!({ "do": "retry", "queue": queue, "name": specs[*queue].name, "leases": leases })
        }
        Step::GiveUp {
            queue,
            leases,
            errors,
        } => {
            let leases = leases.iter().zip(errors);
            let leases: Vec<Value> = leases
                .map(|((id, attempt), error)| json!([id, attempt, error]))
                .collect();
            let spec = &specs[*queue];
            json!({
                "do": "dead", "queue": queue, "name": spec.name, "leases": leases, "letters": spec.dead_letters,
                "archive": Tables::archives_the_dead(spec),
            })
        }
        Step::Lease {
            queue,
            leases,
            change,
        } => json!({
            "do": match change {
                Change::Renew => "renew",
                Change::Check => "check",
                Change::Release => "release",
            },
            "queue": queue, "name": specs[*queue].name, "leases": pairs(leases),
            "seconds": specs[*queue].visibility.as_secs_f64(),
        }),
    }
}

fn claimed(claim: &Claim, specs: &[QueueSpec], layout: &Layout) -> Value {
    let part = |part: &crate::queue::step::ClaimPart| {
        let spec = &specs[part.queue];
        let gives_up = layout.tables[part.queue].gives_up(spec);
        json!({
            "queue": part.queue, "name": spec.name, "cap": part.cap, "vt": spec.visibility.as_secs_f64(), "pop": spec.pops(),
            "order": spec.order.function(), "tries": spec.max_attempts.filter(|_| gives_up), "letters": spec.dead_letters,
            "archive": Tables::archives_the_dead(spec),
        })
    };
    let queues: Vec<Value> = claim.parts.iter().map(part).collect();
    json!({
        "do": "claim", "max": claim.limit, "queues": queues, "newest": claim.newest_first, "only": claim.only,
    })
}

fn pairs(leases: &Leases) -> Vec<[i64; 2]> {
    leases
        .iter()
        .map(|(id, attempt)| [id, i64::from(attempt)])
        .collect()
}
