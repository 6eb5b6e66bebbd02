//! What a worker tells about itself on its Realtime channel.
//!
//! The payload is AIMQ's (`worker`, `queues`, `status`, `current_jobs`, `job_count`) plus the streaming design's `current_job`.
//! It is tracked through `rowcall_realtime::client`, which spaces calls out so that a stock Realtime server does not close the
//! channel (five calls in thirty seconds): the last state wins.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rowcall_realtime::presence::Presences;
use serde::{Deserialize, Serialize};

use super::name::QueueName;

/// AIMQ's default channel; on the wire `realtime:aimq:jobs`.
pub const DEFAULT_CHANNEL: &str = "aimq:jobs";
/// The default event of wake-ups.
pub const DEFAULT_EVENT: &str = "job_enqueued";
/// Jobs named in a payload; the rest is only counted.
pub const MAX_NAMED_JOBS: usize = 50;
/// Workers kept of what presence shows.
pub const MAX_WORKERS: usize = 10_000;

/// Whether a worker has something to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    #[default]
    Idle,
    /// At least one job runs.
    Busy,
}

/// A worker as others see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerPresence {
    /// Its name.
    pub worker: String,
    /// The queues it reads.
    pub queues: Vec<QueueName>,
    /// Whether it has something to do.
    pub status: Status,
    /// When each job began, in seconds since 1970. At most [`MAX_NAMED_JOBS`], the oldest.
    pub current_jobs: BTreeMap<i64, f64>,
    /// How many jobs run.
    pub job_count: usize,
    /// The job that began first, or null.
    pub current_job: Option<i64>,
}

/// The jobs of a worker under way, from which its presence is made.
#[derive(Clone, Debug)]
pub struct PresenceBook {
    worker: String,
    queues: Vec<QueueName>,
    jobs: BTreeMap<(QueueName, i64), Timestamp>,
}

impl PresenceBook {
    /// A worker that has just come.
    pub fn new(worker: impl Into<String>, queues: impl IntoIterator<Item = QueueName>) -> Self {
        Self {
            worker: worker.into(),
            queues: queues.into_iter().collect(),
            jobs: BTreeMap::new(),
        }
    }

    /// A job begins. Say so before it runs, not after.
    pub fn begin(&mut self, queue: &QueueName, id: i64, now: Timestamp) {
        self.jobs.insert((queue.clone(), id), now);
    }

    /// A job ended.
    pub fn end(&mut self, queue: &QueueName, id: i64) {
        self.jobs.remove(&(queue.clone(), id));
    }

    /// The worker as it is now.
    pub fn presence(&self) -> WorkerPresence {
        let mut oldest: Vec<(Timestamp, i64)> = self
            .jobs
            .iter()
            .map(|((_, id), began)| (*began, *id))
            .collect();
        oldest.sort_unstable();
        WorkerPresence {
            worker: self.worker.clone(),
            queues: self.queues.clone(),
            status: if self.jobs.is_empty() {
                Status::Idle
            } else {
                Status::Busy
            },
            current_jobs: oldest
                .iter()
                .take(MAX_NAMED_JOBS)
                .map(|(began, id)| (*id, seconds(*began)))
                .collect(),
            job_count: self.jobs.len(),
            current_job: oldest.first().map(|(_, id)| *id),
        }
    }
}

/// The workers that presence shows, AIMQ's too, by name. What else is tracked on the channel is none.
pub fn workers(present: &Presences) -> Vec<WorkerPresence> {
    /// What is on the wire: other people's, so nothing but the name must be right.
    #[derive(Deserialize)]
    struct Wire {
        worker: String,
        #[serde(default)]
        queues: Vec<String>,
        #[serde(default)]
        status: Status,
        #[serde(default)]
        current_jobs: BTreeMap<i64, f64>,
        #[serde(default)]
        job_count: Option<usize>,
        #[serde(default)]
        current_job: Option<i64>,
    }
    let metas = present.values().flatten();
    let worker = metas.filter_map(|meta| {
        let payload = serde_json::Value::Object(meta.payload.clone());
        let wire: Wire = serde_json::from_value(payload).ok()?;
        Some(WorkerPresence {
            worker: wire.worker,
            queues: wire
                .queues
                .iter()
                .filter_map(|name| QueueName::new(name).ok())
                .collect(),
            status: wire.status,
            job_count: wire.job_count.unwrap_or(wire.current_jobs.len()),
            current_jobs: wire.current_jobs,
            current_job: wire.current_job,
        })
    });
    let mut workers: Vec<WorkerPresence> = worker.take(MAX_WORKERS).collect();
    workers.sort_by(|a, b| a.worker.cmp(&b.worker));
    workers
}

/// How many jobs of a worker presence shows wrongly: those that run and are not shown, and those shown that have ended.
pub fn drift(now: &WorkerPresence, shown: &[WorkerPresence]) -> usize {
    let ids = |one: &WorkerPresence| one.current_jobs.keys().copied().collect::<BTreeSet<i64>>();
    let jobs = ids(now);
    shown
        .iter()
        .filter(|one| one.worker == now.worker)
        .map(|one| {
            let named = jobs.symmetric_difference(&ids(one)).count();
            named.max(one.job_count.abs_diff(now.job_count))
        })
        // Two workers of one name are told apart by what they do.
        .min()
        .unwrap_or(now.job_count)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn b8_the_payload_is_aimqs_and_the_designs() {
        let emails = QueueName::new("incoming-messages").unwrap();
        let mut book = PresenceBook::new("w1", [emails.clone()]);
        let idle = serde_json::to_value(book.presence()).unwrap();
        assert_eq!(
            idle,
            serde_json::json!({
                "worker": "w1", "queues": ["incoming-messages"], "status": "idle", "current_jobs": {}, "job_count": 0,
                "current_job": null
            })
        );
        book.begin(&emails, 7, at(1_795_246_742));
        book.begin(&emails, 5, at(1_795_246_741));
        let busy = serde_json::to_value(book.presence()).unwrap();
        assert_eq!(busy["status"], "busy");
        assert_eq!(
            busy["current_jobs"],
            serde_json::json!({"5": 1_795_246_741.0, "7": 1_795_246_742.0})
        );
        assert_eq!(
            (&busy["job_count"], &busy["current_job"]),
            (&2.into(), &5.into())
        );
        assert!(
            busy.as_object().unwrap().len() <= 10,
            "hosted Realtime takes ten keys"
        );
        book.end(&emails, 5);
        book.end(&emails, 7);
        assert_eq!(serde_json::to_value(book.presence()).unwrap(), idle);
    }

    #[test]
    fn e7_e8_workers_are_read_from_presence_and_drift_is_what_it_shows_wrongly() {
        let mut board = rowcall_realtime::presence::Board::new();
        let state = r#"{
            "a": {"metas": [{"phx_ref": "1", "worker": "peon", "queues": ["emails", "not;a;queue"], "status": "busy",
                  "current_jobs": {"5": 1.5, "6": 2.5}, "job_count": 2}]},
            "b": {"metas": [{"phx_ref": "2", "worker": "b"}, {"phx_ref": "3", "worker": "b", "status": "busy", "job_count": 70}]},
            "x": {"metas": [{"phx_ref": "4", "cursor": [1, 2]}, {"phx_ref": "5", "worker": 7}]}
        }"#;
        board.apply_state(state).unwrap();
        let seen = workers(board.present());
        let names: Vec<&str> = seen.iter().map(|one| one.worker.as_str()).collect();
        assert_eq!(names, ["b", "b", "peon"]);
        assert_eq!(
            (seen[2].queues.len(), seen[2].status, seen[2].job_count),
            (1, Status::Busy, 2)
        );
        let emails = QueueName::new("emails").unwrap();
        let mut book = PresenceBook::new("peon", [emails.clone()]);
        assert_eq!(drift(&book.presence(), &seen), 2, "both have ended");
        book.begin(&emails, 5, at(1));
        book.begin(&emails, 9, at(1));
        assert_eq!(drift(&book.presence(), &seen), 2, "one ended, one is new");
        assert_eq!(drift(&book.presence(), &[]), 2, "nobody is shown");
        book.end(&emails, 9);
        book.begin(&emails, 6, at(1));
        assert_eq!(drift(&book.presence(), &seen), 0);
        let many = PresenceBook::new("b", []);
        assert_eq!(drift(&many.presence(), &seen), 0, "the nearest of one name");
    }

    #[test]
    fn b8_a_thousand_jobs_make_a_small_payload() {
        let queue = QueueName::new("q").unwrap();
        let mut book = PresenceBook::new("w", [queue.clone()]);
        for id in 0..1_000 {
            book.begin(&queue, id, at(id));
        }
        let presence = book.presence();
        assert_eq!(
            (presence.current_jobs.len(), presence.job_count),
            (MAX_NAMED_JOBS, 1_000)
        );
        assert_eq!(presence.current_job, Some(0));
    }
}
