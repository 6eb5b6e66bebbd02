//! What a worker wants of one queue.

use std::time::Duration;

use rowcall_core::{Backoff, LeasePolicy};
use serde::{Deserialize, Serialize};

use super::name::QueueName;

/// AIMQ's default visibility time-out.
pub const DEFAULT_VISIBILITY: Duration = Duration::from_mins(5);
/// AIMQ's default of `QUEUE_MAX_RETRIES`.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;

/// The longest time that is kept free for settling at the end of a lease that cannot be renewed.
const MAX_MARGIN: Duration = Duration::from_secs(5);

/// AIMQ's pauses after failures in a row: `WORKER_IDLE_WAIT`, doubling up to `QUEUE_MAX_BACKOFF`.
pub const DEFAULT_PAUSE: Backoff = Backoff {
    base: Duration::from_secs(10),
    cap: Duration::from_mins(5),
};

/// What becomes of a message that was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It moves to the archive table.
    #[default]
    Archive,
    /// It is gone.
    Delete,
}

/// When a failed message is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryDelay {
    /// When its visibility time-out runs out, as AIMQ does.
    #[default]
    AtExpiry,
    /// After a delay that doubles with each attempt.
    After(Backoff),
}

/// In which order messages are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadOrder {
    /// By message id; messages that failed are overtaken.
    #[default]
    Oldest,
    /// First in, first out within each group (header `x-pgmq-group`), filling a batch from one group before the next. Needs
    /// pgmq 1.9.
    Grouped,
    /// The same, taking turns between groups. Needs pgmq 1.9.
    RoundRobin,
    /// At most one message of each group at a time: strict order, groups in parallel. Needs pgmq 1.12.
    GroupHeads,
}

impl ReadOrder {
    /// The pgmq function that reads in this order, where it is not the plain one.
    pub(super) fn function(self) -> Option<&'static str> {
        match self {
            Self::Oldest => None,
            Self::Grouped => Some("read_grouped"),
            Self::RoundRobin => Some("read_grouped_rr"),
            Self::GroupHeads => Some("read_grouped_head"),
        }
    }

    /// The oldest pgmq that has it.
    pub(super) fn needs(self) -> &'static str {
        match self {
            Self::GroupHeads => "1.12",
            _ => "1.9",
        }
    }
}

/// One queue as a worker reads it. The defaults are AIMQ's.
///
/// ```
/// use std::time::Duration;
/// use rowcall_backend::queue::{Finish, QueueName, QueueSpec};
///
/// let emails = QueueSpec::new(QueueName::new("emails")?)
///     .visibility(Duration::from_secs(30))
///     .dead_letters(QueueName::new("emails-dead")?)
///     .finish(Finish::Delete);
/// assert_eq!(emails.max_attempts, Some(5));
/// # Ok::<(), rowcall_backend::queue::QueueNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// Which queue.
    pub name: QueueName,
    /// The visibility time-out: the lease on a message. Zero pops messages instead: they are gone before they are handled,
    /// at most once.
    pub visibility: Duration,
    /// What becomes of handled messages.
    pub finish: Finish,
    /// After this many attempts a message is given up: it goes to `dead_letters`, or to the archive when there is none.
    /// Attempts that crashed count. `None` tries for ever.
    pub max_attempts: Option<u32>,
    /// The queue for messages that were given up.
    pub dead_letters: Option<QueueName>,
    /// When a failed message is tried again.
    pub retry: RetryDelay,
    /// How long the queue is not read after failures in a row (from the second on); a success ends it. AIMQ's `idle_wait`
    /// and `QUEUE_MAX_BACKOFF`.
    pub pause: Option<Backoff>,
    /// In which order messages are read.
    pub order: ReadOrder,
    /// Queues of higher priority are emptied first; queues of equal priority take turns.
    pub priority: i32,
    /// At most this many messages of this queue at a time in this process.
    pub concurrency: Option<u32>,
}

impl QueueSpec {
    /// A queue with AIMQ's defaults: five minutes, archived, five attempts, no dead letter queue.
    pub fn new(name: QueueName) -> Self {
        Self {
            name,
            visibility: DEFAULT_VISIBILITY,
            finish: Finish::Archive,
            max_attempts: Some(DEFAULT_MAX_ATTEMPTS),
            dead_letters: None,
            retry: RetryDelay::AtExpiry,
            pause: Some(DEFAULT_PAUSE),
            order: ReadOrder::Oldest,
            priority: 0,
            concurrency: None,
        }
    }

    /// Sets the visibility time-out; zero pops.
    #[must_use]
    pub fn visibility(self, visibility: Duration) -> Self {
        Self { visibility, ..self }
    }

    /// Sets what becomes of handled messages.
    #[must_use]
    pub fn finish(self, finish: Finish) -> Self {
        Self { finish, ..self }
    }

    /// Sets after how many attempts a message is given up.
    #[must_use]
    pub fn max_attempts(self, max_attempts: impl Into<Option<u32>>) -> Self {
        let max_attempts = max_attempts.into();
        Self {
            max_attempts,
            ..self
        }
    }

    /// Sets the queue for messages that were given up.
    #[must_use]
    pub fn dead_letters(self, queue: impl Into<Option<QueueName>>) -> Self {
        let dead_letters = queue.into();
        Self {
            dead_letters,
            ..self
        }
    }

    /// Sets when failed messages are tried again.
    #[must_use]
    pub fn retry(self, retry: RetryDelay) -> Self {
        Self { retry, ..self }
    }

    /// Sets the pauses after failures in a row.
    #[must_use]
    pub fn pause(self, pause: impl Into<Option<Backoff>>) -> Self {
        let pause = pause.into();
        Self { pause, ..self }
    }

    /// Sets the order of reading.
    #[must_use]
    pub fn order(self, order: ReadOrder) -> Self {
        Self { order, ..self }
    }

    /// Sets the priority among the queues of one worker.
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        Self { priority, ..self }
    }

    /// Limits how many messages of this queue run at a time in this process.
    #[must_use]
    pub fn concurrency(self, concurrency: impl Into<Option<u32>>) -> Self {
        let concurrency = concurrency.into();
        Self {
            concurrency,
            ..self
        }
    }

    /// Whether messages are popped.
    pub fn pops(&self) -> bool {
        self.visibility.is_zero()
    }

    /// Whether a message that was tried `attempts` times is given up.
    pub fn exhausted(&self, attempts: u32) -> bool {
        self.max_attempts.is_some_and(|max| attempts >= max)
    }

    /// How long before the end of a visibility time-out nothing is settled any more, where that cannot be fenced: requests take
    /// time.
    pub(super) fn margin(&self) -> Duration {
        (self.visibility / 20).min(MAX_MARGIN)
    }

    /// The longest attempt that can still be settled, where leases are not renewed.
    pub fn attempt_limit(&self) -> Option<Duration> {
        (!self.pops()).then(|| self.visibility.saturating_sub(self.margin() * 2))
    }

    /// The lease of this queue as the engine counts it: renewed three times within a visibility time-out.
    pub fn lease(&self) -> LeasePolicy {
        let ttl = if self.pops() {
            DEFAULT_VISIBILITY
        } else {
            self.visibility
        };
        LeasePolicy {
            ttl,
            renew_every: ttl / 3,
        }
    }
}
