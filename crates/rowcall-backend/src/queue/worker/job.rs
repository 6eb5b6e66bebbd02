//! What a handler is given, and what it may answer.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use rowcall_core::{Payload, Task, ports::Verdict};
use serde::{Deserialize, de::DeserializeOwned};

use crate::queue::name::QueueName;

/// One attempt at a message.
#[derive(Clone, Debug)]
pub struct Job<T> {
    /// The queue it came from.
    pub queue: QueueName,
    /// The message's id in the queue.
    pub id: i64,
    /// Which attempt this is: 1 for the first. Attempts that crashed count.
    pub attempt: u32,
    /// When the message was sent.
    pub enqueued_at: Timestamp,
    /// Its headers, from pgmq 1.5 on.
    pub headers: Option<Payload>,
    /// The message.
    pub data: T,
}

impl<T> Job<T> {
    /// The key to give to other systems so that a second run of this job does no second harm: the same for every attempt.
    pub fn idempotency_key(&self) -> String {
        format!("rowcall:{}/{}", self.queue.table(), self.id)
    }
}

impl<T: DeserializeOwned> Job<T> {
    pub(super) fn read(queue: &QueueName, task: &Task) -> Result<Self, JobError> {
        #[derive(Deserialize)]
        struct Key {
            msg_id: i64,
            #[serde(default)]
            headers: Option<Payload>,
        }
        let key: Key = serde_json::from_str(task.key.as_ref().map_or("null", Payload::get))?;
        let data = serde_json::from_str(task.raw_data.get()).map_err(|error| {
            JobError::from(format!(
                "the message is not what its handler takes: {error}"
            ))
        })?;
        Ok(Self {
            queue: queue.clone(),
            id: key.msg_id,
            attempt: task.attempt,
            enqueued_at: task.created_at,
            headers: key.headers,
            data,
        })
    }
}

/// Why an attempt failed. Made from anything that can be displayed, so `?` works on every error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError {
    /// What happened; the dead letter shows it.
    pub message: String,
    /// When to try again; `None` leaves it to the queue's settings.
    pub retry_in: Option<Duration>,
}

impl JobError {
    /// A failure that is worth another attempt after a while.
    pub fn retry_in(message: impl fmt::Display, delay: Duration) -> Self {
        Self {
            message: message.to_string(),
            retry_in: Some(delay),
        }
    }

    pub(super) fn into_verdict(self) -> Verdict {
        Verdict::Failed {
            error: self.message,
            retry_in: self.retry_in,
        }
    }
}

impl<E: fmt::Display> From<E> for JobError {
    fn from(error: E) -> Self {
        Self {
            message: format!("{error:#}"),
            retry_in: None,
        }
    }
}
