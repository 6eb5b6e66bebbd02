//! A worker as a library: typed handlers on queues, without the engine.

mod builder;
mod job;
mod presence;
mod run;

use std::{collections::HashMap, sync::Arc, time::Duration};

use rowcall_core::{Clock, MachineId, TableName};
use rowcall_realtime::client::Client;

pub use builder::{QueueBuilder, WorkerBuilder};
pub use job::{Job, JobError};

use self::builder::{Handler, OnError};
use super::{backend::QueueBackend, name::QueueName, realtime::Broadcast, signals::SignalOptions};

/// Runs handlers on the messages of queues.
///
/// ```no_run
/// use std::time::Duration;
/// use rowcall_backend::queue::{Job, JobError, QueueName, Worker};
/// use tokio_util::sync::CancellationToken;
///
/// #[derive(serde::Deserialize)]
/// struct Email {
///     to: String,
///     subject: String,
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let dead = QueueName::new("emails-dead")?;
/// let worker = Worker::builder()
///     .queue("emails")
///     .with(|spec| spec.visibility(Duration::from_secs(30)).dead_letters(dead))
///     .handler(|job: Job<Email>| async move {
///         if job.data.to.is_empty() {
///             return Err(JobError::from("nobody to write to"));
///         }
///         println!("to {}: {} ({})", job.data.to, job.data.subject, job.idempotency_key());
///         Ok(())
///     })
///     .concurrency(20)
///     .connect("postgres://postgres@localhost:54322/postgres")
///     .await?;
///
/// // Runs until the token is canceled, then finishes what is in work.
/// worker.run(CancellationToken::new()).await;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    backend: QueueBackend,
    machine: MachineId,
    handlers: HashMap<TableName, Handler>,
    concurrency: u32,
    grace: Duration,
    signals: SignalOptions,
    channel: Option<Channel>,
    on_error: Option<OnError>,
}

/// The Realtime channel of a worker, and the clock by which it says since when it works.
struct Channel {
    client: Client,
    broadcast: Broadcast,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("machine", &self.machine)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// A failed attempt, for the error hook.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The queue.
    pub queue: QueueName,
    /// The message.
    pub id: i64,
    /// Which attempt it was.
    pub attempt: u32,
    /// What happened.
    pub error: JobError,
}

impl Worker {
    /// Starts putting a worker together.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// The queues behind it, for producers and people in the same process.
    pub fn backend(&self) -> &QueueBackend {
        &self.backend
    }
}
