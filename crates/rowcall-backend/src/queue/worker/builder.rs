//! Putting a worker together.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use rowcall_core::{Clock, MachineId, Task};
use rowcall_realtime::client::Client;
use serde::de::DeserializeOwned;

use super::{
    Channel, Failure, Worker,
    job::{Job, JobError},
};
use crate::queue::{
    backend::{QueueBackend, QueueOptions},
    database::Database,
    error::QueueError,
    name::{QueueName, QueueNameError},
    place::Place,
    project::QueueProject,
    realtime::Broadcast,
    signals::SignalOptions,
    spec::QueueSpec,
};

/// Messages in work at a time unless told otherwise.
const DEFAULT_CONCURRENCY: u32 = 10;
/// How long running handlers may go on after a stop unless told otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// A handler, its types erased.
pub(super) type Handler =
    Arc<dyn Fn(QueueName, Task) -> BoxFuture<'static, Result<(), JobError>> + Send + Sync>;
/// Told of every failure.
pub(super) type OnError = Arc<dyn Fn(&Failure) + Send + Sync>;

/// A worker in the making; see [`Worker`].
#[must_use = "a builder does nothing until it connects"]
pub struct WorkerBuilder {
    queues: Vec<(QueueSpec, Handler)>,
    invalid: Option<QueueNameError>,
    name: String,
    concurrency: u32,
    grace: Duration,
    signals: SignalOptions,
    options: QueueOptions,
    channel: Option<Channel>,
    on_error: Option<OnError>,
}

impl Default for WorkerBuilder {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            invalid: None,
            name: "rowcall-worker".to_owned(),
            concurrency: DEFAULT_CONCURRENCY,
            grace: DEFAULT_GRACE,
            signals: SignalOptions::default(),
            options: QueueOptions::default(),
            channel: None,
            on_error: None,
        }
    }
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues: Vec<&QueueName> = self.queues.iter().map(|(spec, _)| &spec.name).collect();
        f.debug_struct("WorkerBuilder")
            .field("queues", &queues)
            .finish_non_exhaustive()
    }
}

/// One queue of a worker, still without its handler.
#[must_use = "a queue without a handler is not read"]
#[derive(Debug)]
pub struct QueueBuilder {
    worker: WorkerBuilder,
    spec: Result<QueueSpec, QueueNameError>,
}

impl QueueBuilder {
    /// Changes the queue's settings: `.with(|spec| spec.visibility(Duration::from_secs(30)))`.
    pub fn with(self, change: impl FnOnce(QueueSpec) -> QueueSpec) -> Self {
        Self {
            spec: self.spec.map(change),
            ..self
        }
    }

    /// Gives the queue its handler. The message is read as JSON into `T`; one that does not fit fails like an error of the
    /// handler does, and ends in the dead letter queue. A handler that panics fails, too; others are not affected.
    ///
    /// Delivery is at least once: a handler may see a message again after a crash. See [`Job::idempotency_key`].
    pub fn handler<T, F, Fut, E>(self, handler: F) -> WorkerBuilder
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<JobError>,
    {
        let handler = Arc::new(handler);
        let erased: Handler = Arc::new(move |queue, task| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let job = Job::read(&queue, &task)?;
                handler(job).await.map_err(Into::into)
            })
        });
        let mut worker = self.worker;
        match self.spec {
            Ok(spec) => worker.queues.push((spec, erased)),
            Err(error) => worker.invalid = Some(error),
        }
        worker
    }
}

impl WorkerBuilder {
    /// Adds a queue; its settings are AIMQ's defaults until changed.
    pub fn queue(self, name: &str) -> QueueBuilder {
        QueueBuilder {
            worker: self,
            spec: QueueName::new(name).map(QueueSpec::new),
        }
    }

    /// Names the worker, in logs.
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, ..self }
    }

    /// How many messages are in work at a time.
    pub fn concurrency(self, concurrency: u32) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            concurrency,
            ..self
        }
    }

    /// How long running handlers may go on after a stop; what is not done then is given back.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// How the worker is woken.
    pub fn signals(self, signals: SignalOptions) -> Self {
        Self { signals, ..self }
    }

    /// Wakes the worker over a Realtime channel instead of by the database, and shows there what it does: *busy* before a
    /// handler runs, *idle* after the last one. Whoever made the client runs its driver.
    pub fn realtime(self, client: Client, broadcast: Broadcast, clock: Arc<dyn Clock>) -> Self {
        Self {
            channel: Some(Channel {
                client,
                broadcast,
                clock,
            }),
            ..self
        }
    }

    /// How the worker connects.
    pub fn options(self, options: QueueOptions) -> Self {
        Self { options, ..self }
    }

    /// Called for every failure, before it is settled. It must not block; what it panics with is caught.
    pub fn on_error(self, hook: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        Self {
            on_error: Some(Arc::new(hook)),
            ..self
        }
    }

    /// Connects to `postgres://…`.
    ///
    /// # Errors
    ///
    /// When a name is not usable, or as [`QueueBackend::connect`].
    pub async fn connect(self, url: &str) -> Result<Worker, QueueError> {
        let database = Database::new(url, self.options.connections)?;
        self.open(database).await
    }

    /// The same on a database that is already there.
    pub async fn open(self, database: Database) -> Result<Worker, QueueError> {
        self.at(Place::Database(database)).await
    }

    /// The same in a Supabase project, with nothing but its URL and a key. Without our functions there, leases are not renewed:
    /// a handler must end within its queue's time-out.
    pub async fn open_project(self, project: QueueProject) -> Result<Worker, QueueError> {
        self.at(Place::Project(project)).await
    }

    async fn at(self, place: Place) -> Result<Worker, QueueError> {
        if let Some(error) = self.invalid {
            return Err(error.into());
        }
        let machine = MachineId::new(&self.name)?;
        let (specs, handlers): (Vec<_>, Vec<_>) = self.queues.into_iter().unzip();
        let tables = specs.iter().map(|spec| spec.name.table());
        let handlers: HashMap<_, _> = tables.zip(handlers).collect();
        let backend = QueueBackend::at(place, specs, self.options).await?;
        Ok(Worker {
            backend,
            machine,
            handlers,
            concurrency: self.concurrency,
            grace: self.grace,
            signals: self.signals,
            channel: self.channel,
            on_error: self.on_error,
        })
    }
}
