//! Queues and workers as people see them: how deep the queues are now, who reads them, and what they run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use rowcall_backend::queue::{
    Database, Depth, QueueBackend, QueueError, QueueName, QueueStore,
    presence::{PresenceBook, Status, WorkerPresence, drift, workers},
};
use rowcall_realtime::{
    channel::ChannelSpec,
    client::{Client, Config as RealtimeConfig, Subscription},
    presence::Presences,
};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use utoipa::ToSchema;

use super::wake;
use crate::{
    config::Config,
    exit::{Exit, UserError},
};

/// Connections for looking.
const CONNECTIONS: usize = 1;
/// A queue may be dropped between listing and measuring; then both are done again, so often.
const TRIES: usize = 3;
/// PostgreSQL cuts the names of connections; a worker's name of this length may be cut.
const CUT: usize = 48;

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QueueState {
    /// Its name.
    pub name: String,
    /// Messages in it: waiting, delayed, or in work.
    pub depth: u64,
    /// Messages that could be read now.
    pub visible: u64,
    /// How long the oldest message has been in it.
    pub oldest_age_seconds: Option<f64>,
    /// The same of those that could be read now.
    pub oldest_visible_age_seconds: Option<f64>,
    /// The workers that say they read it, by name.
    pub workers: Vec<String>,
}

/// How a worker is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// It is the process that answers.
    Own,
    /// It shows itself on the Realtime channel.
    Presence,
    /// It listens to the database for wake-ups, and says no more.
    Database,
}

/// A message in work.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct JobState {
    /// The message's id in its queue.
    pub id: i64,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WorkerState {
    /// Its name.
    pub name: String,
    /// How it is known.
    pub seen: Seen,
    /// The queues it reads, where it says so.
    pub queues: Option<Vec<String>>,
    /// `idle` or `busy`, where it says so.
    pub status: Option<&'static str>,
    /// How many messages it handles, where it says so.
    pub running: Option<usize>,
    /// Which; at most fifty, the oldest.
    pub jobs: Vec<JobState>,
}

/// All queues and workers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Snapshot {
    /// The queues of the database, by name.
    pub queues: Vec<QueueState>,
    /// The workers: this one first, then the others by name.
    pub workers: Vec<WorkerState>,
    /// Whether pgmq is there.
    pub installed: bool,
    /// Whether others can be seen on a Realtime channel.
    pub presence: bool,
}

impl Snapshot {
    /// Whether nothing but the passing of time is between the two.
    pub fn same(&self, other: &Self) -> bool {
        let ageless = |one: &Self| {
            let mut one = one.clone();
            for queue in &mut one.queues {
                queue.oldest_age_seconds = None;
                queue.oldest_visible_age_seconds = None;
            }
            one
        };
        ageless(self) == ageless(other)
    }
}

/// This process as a worker, in numbers.
pub(crate) struct OwnNumbers {
    /// Messages in work.
    pub(crate) running: usize,
    /// Workers that presence shows, and this one.
    pub(crate) workers: usize,
    /// What presence shows wrongly of this one.
    pub(crate) drift: usize,
}

/// Looks at queues and workers. Cheap to clone.
#[derive(Clone)]
pub struct QueueBoard(Arc<Inner>);

struct Inner {
    store: Option<QueueStore>,
    own: Option<Own>,
    present: Option<watch::Receiver<Arc<Presences>>>,
    last: tokio::sync::Mutex<Option<Look>>,
    last_own: tokio::sync::Mutex<Option<(Instant, Vec<Depth>)>>,
    _watching: Option<(Subscription, AbortOnDropHandle<()>)>,
}

/// The worker in this process.
struct Own {
    backend: QueueBackend,
    book: Arc<Mutex<PresenceBook>>,
}

struct Look {
    at: Instant,
    installed: bool,
    depths: Vec<Depth>,
    listeners: Vec<String>,
}

impl std::fmt::Debug for QueueBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueBoard").finish_non_exhaustive()
    }
}

impl QueueBoard {
    fn new(
        store: Option<QueueStore>,
        own: Option<Own>,
        present: Option<watch::Receiver<Arc<Presences>>>,
        watching: Option<(Subscription, AbortOnDropHandle<()>)>,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            own,
            present,
            last: tokio::sync::Mutex::default(),
            last_own: tokio::sync::Mutex::default(),
            _watching: watching,
        }))
    }

    /// Of the worker in this process; `present` is who shows himself on its channel, when it has one.
    pub(super) fn of_worker(
        backend: &QueueBackend,
        book: Arc<Mutex<PresenceBook>>,
        present: Option<watch::Receiver<Arc<Presences>>>,
    ) -> Self {
        let own = Own {
            backend: backend.clone(),
            book,
        };
        // Over HTTP nothing can be measured; workers are seen all the same.
        let store = backend.in_database().then(|| backend.store());
        Self::new(store, Some(own), present, None)
    }

    /// Of a database, for a process that reads no queues. Nothing is connected before somebody looks.
    pub(crate) fn of_database(url: Option<&str>) -> anyhow::Result<Self> {
        Ok(Self::new(store(url)?, None, None, None))
    }

    /// Of a database and the workers' channel, if the configuration names one.
    pub(crate) async fn observing(config: &Config, url: &str) -> anyhow::Result<Self> {
        let Some((url_of_project, key, broadcast)) = wake::observed(&config.worker) else {
            return Self::of_database(Some(url));
        };
        let realtime = RealtimeConfig::new(&url_of_project, key).map_err(|error| {
            UserError::new(Exit::Usage, format!("worker.realtime.url: {error}"))
        })?;
        let (client, driver) = Client::new(realtime);
        let driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        let mut spec = ChannelSpec::new(&broadcast.channel).presence("");
        if broadcast.private {
            spec = spec.private();
        }
        let channel = client.join(spec).await?;
        let present = channel.present();
        Ok(Self::new(
            store(Some(url))?,
            None,
            Some(present),
            Some((channel, driver)),
        ))
    }

    /// This process as a worker; nothing when it is none.
    pub(crate) fn own(&self) -> Option<OwnNumbers> {
        let now = self.0.own.as_ref()?.book.lock().presence();
        let shown = self.shown();
        let listed = shown.iter().any(|one| one.worker == now.worker);
        Some(OwnNumbers {
            running: now.job_count,
            workers: shown.len() + usize::from(!listed),
            drift: match self.0.present {
                Some(_) => drift(&now, &shown),
                None => 0,
            },
        })
    }

    /// How deep the queues are that this process reads; at most so old.
    pub(crate) async fn own_depths(&self, max_age: Duration) -> Result<Vec<Depth>, QueueError> {
        let (Some(own), Some(store)) = (&self.0.own, &self.0.store) else {
            return Ok(Vec::new());
        };
        // Whoever asks meanwhile waits and gets the same answer.
        let mut last = self.0.last_own.lock().await;
        if let Some((at, depths)) = &*last
            && at.elapsed() < max_age
        {
            return Ok(depths.clone());
        }
        let depths = store.depths(&own.backend.existing()).await?;
        *last = Some((Instant::now(), depths.clone()));
        Ok(depths)
    }

    /// All queues and workers; what the database says is at most so old.
    ///
    /// # Errors
    /// What the database says. A missing pgmq is none.
    pub async fn look(&self, max_age: Duration) -> Result<Snapshot, QueueError> {
        let mut last = self.0.last.lock().await;
        let fresh = last
            .as_ref()
            .is_some_and(|look| look.at.elapsed() < max_age);
        if !fresh {
            *last = Some(self.read().await?);
        }
        let look = last.as_ref().expect("it was just read");
        let workers = self.workers(&look.listeners);
        let queues = look.depths.iter().map(|depth| state(depth, &workers));
        Ok(Snapshot {
            queues: queues.collect(),
            installed: look.installed,
            presence: self.0.present.is_some(),
            workers,
        })
    }

    async fn read(&self) -> Result<Look, QueueError> {
        let mut look = Look {
            at: Instant::now(),
            installed: false,
            depths: Vec::new(),
            listeners: Vec::new(),
        };
        let Some(store) = &self.0.store else {
            return Ok(look);
        };
        for attempt in 1..=TRIES {
            let queues = match store.list().await {
                Ok(queues) => queues,
                Err(QueueError::NotInstalled) => return Ok(look),
                Err(error) => return Err(error),
            };
            let names: Vec<QueueName> = queues
                .iter()
                .filter_map(|queue| queue.name.parse().ok())
                .collect();
            match store.depths(&names).await {
                Err(QueueError::Missing(_)) if attempt < TRIES => {}
                depths => {
                    look.depths = depths?;
                    break;
                }
            }
        }
        look.installed = true;
        look.listeners = store.listeners().await?;
        Ok(look)
    }

    fn shown(&self) -> Vec<WorkerPresence> {
        let present = self.0.present.as_ref();
        present.map_or_else(Vec::new, |present| workers(&present.borrow()))
    }

    fn workers(&self, listeners: &[String]) -> Vec<WorkerState> {
        let mut all = Vec::new();
        let own = self.0.own.as_ref().map(|own| own.book.lock().presence());
        let mut shown = self.shown();
        if let Some(own) = own {
            // Presence is a little behind what we know ourselves.
            if let Some(at) = shown.iter().position(|one| one.worker == own.worker) {
                shown.remove(at);
            }
            all.push(worker(Seen::Own, own));
        }
        all.extend(shown.into_iter().map(|one| worker(Seen::Presence, one)));
        for name in listeners {
            let known = all.iter().any(|one| {
                one.name == *name || (name.len() >= CUT && one.name.starts_with(name.as_str()))
            });
            if !known {
                all.push(WorkerState {
                    name: name.clone(),
                    seen: Seen::Database,
                    queues: None,
                    status: None,
                    running: None,
                    jobs: Vec::new(),
                });
            }
        }
        all
    }
}

fn store(url: Option<&str>) -> anyhow::Result<Option<QueueStore>> {
    let Some(url) = url else {
        return Ok(None);
    };
    let database =
        Database::new(url, CONNECTIONS).map_err(|error| UserError::of(Exit::Database, &error))?;
    Ok(Some(QueueStore::new(database)))
}

fn state(depth: &Depth, workers: &[WorkerState]) -> QueueState {
    let name = depth.queue.to_string();
    let reads = |one: &&WorkerState| one.queues.iter().flatten().any(|queue| *queue == name);
    let readers = workers.iter().filter(reads);
    QueueState {
        workers: readers.map(|one| one.name.clone()).collect(),
        depth: depth.length,
        visible: depth.visible,
        oldest_age_seconds: depth.oldest.map(|age| age.as_secs_f64()),
        oldest_visible_age_seconds: depth.oldest_visible.map(|age| age.as_secs_f64()),
        name,
    }
}

fn worker(seen: Seen, one: WorkerPresence) -> WorkerState {
    let job = |(id, since): (i64, f64)| JobState {
        id,
        since: jiff::SignedDuration::try_from_secs_f64(since)
            .ok()
            .and_then(|since| Timestamp::from_duration(since).ok()),
    };
    // By age, not by id.
    let by_age: BTreeMap<(u64, i64), (i64, f64)> = one
        .current_jobs
        .into_iter()
        .map(|(id, since)| ((since.max(0.0).to_bits(), id), (id, since)))
        .collect();
    WorkerState {
        name: one.worker,
        seen,
        queues: Some(one.queues.iter().map(ToString::to_string).collect()),
        status: Some(match one.status {
            Status::Idle => "idle",
            Status::Busy => "busy",
        }),
        running: Some(one.job_count),
        jobs: by_age.into_values().map(job).collect(),
    }
}
