//! Keeps the schema cache: loads it, loads it again when the schema changes, and on request.
//!
//! The old cache serves while the new one loads. Whoever misses a name may ask for a load that starts after its request
//! came in; all who ask meanwhile share one load, and loads keep a distance that grows with what they cost.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rowcall_postgres::Server;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;

use super::config::RestConfig;
use super::limits::{LOAD_TIMEOUT, RELOAD_SETTLE};
use super::schema::{LoadError, SchemaCache, load};

/// How long to wait before connecting again; doubles up to [`MAX_RETRY`].
const MIN_RETRY: Duration = Duration::from_millis(100);
/// The longest wait between two attempts to connect.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// The least distance between two loads that requests asked for.
const MIN_DISTANCE: Duration = Duration::from_millis(200);
/// Loads asked for by requests take at most one part in this many of the time.
const LOAD_SHARE: u32 = 4;
/// How many notifications may wait; they only say "again", so more than one is as good as one.
const NOTIFICATIONS: usize = 1;
/// How many requests may wait for a load.
const RELOAD_REQUESTS: usize = 1_024;

/// The schema cache with the configuration that was in force when it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The cache.
    pub cache: SchemaCache,
    /// The configuration, in-database settings included.
    pub config: RestConfig,
}

/// The way to the newest schema cache.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    current: watch::Receiver<Option<Arc<Loaded>>>,
    trouble: Arc<Mutex<Option<String>>>,
    requests: mpsc::Sender<oneshot::Sender<()>>,
}

impl Schema {
    /// The newest cache; before the first load, waits up to `wait` for it.
    pub(crate) async fn get(&self, wait: Duration) -> Option<Arc<Loaded>> {
        if let Some(loaded) = self.current.borrow().clone() {
            return Some(loaded);
        }
        let mut current = self.current.clone();
        let first = tokio::time::timeout(wait, current.wait_for(Option::is_some))
            .await
            .ok()?
            .ok()?;
        first.clone()
    }

    /// Why the last attempt failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Waits for a load that starts after this call, then gives its result.
    pub(crate) async fn reload(&self) -> Option<Arc<Loaded>> {
        let (done, finished) = oneshot::channel();
        self.requests.try_send(done).ok()?;
        tokio::time::timeout(LOAD_TIMEOUT, finished)
            .await
            .ok()?
            .ok()?;
        self.current.borrow().clone()
    }
}

/// What the task that keeps the cache needs.
#[derive(Debug)]
pub(crate) struct Keeper {
    database: Server,
    config: RestConfig,
    generation: Arc<AtomicU64>,
    current: watch::Sender<Option<Arc<Loaded>>>,
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    trouble: Arc<Mutex<Option<String>>>,
    last_load: Option<(Instant, Duration)>,
}

/// Prepares the keeper; nothing happens until [`Keeper::run`].
pub(crate) fn keeper(
    database: Server,
    config: RestConfig,
    generation: Arc<AtomicU64>,
) -> (Keeper, Schema) {
    let (current, receiver) = watch::channel(None);
    let (sender, requests) = mpsc::channel(RELOAD_REQUESTS);
    let trouble = Arc::new(Mutex::new(None));
    let keeper = Keeper {
        database,
        config,
        generation,
        current,
        requests,
        trouble: Arc::clone(&trouble),
        last_load: None,
    };
    let schema = Schema {
        current: receiver,
        trouble,
        requests: sender,
    };
    (keeper, schema)
}

impl Keeper {
    /// Keeps the cache until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut retry = MIN_RETRY;
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.connected(&mut retry) => ended,
            };
            if let Err(error) = ended {
                *self.trouble.lock() = Some(error.to_string());
                tracing::warn!(%error, retry_in = ?retry, "the schema cache is not kept up to date");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(retry) => {}
            }
            retry = (retry * 2).min(MAX_RETRY);
        }
    }

    /// One connection, from the first load to its end.
    async fn connected(&mut self, retry: &mut Duration) -> Result<(), LoadError> {
        let (client, mut connection) = self.database.connect().await?;
        let (notify, mut notified) = mpsc::channel(NOTIFICATIONS);
        // The connection is driven by a task of its own, so that a load can wait for answers here.
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(_) = message? {
                    let _ = notify.try_send(());
                }
            }
            Ok::<(), tokio_postgres::Error>(())
        });
        let result = self.listen(&client, &mut notified, retry).await;
        drop(client);
        driver.abort();
        result
    }

    async fn listen(
        &mut self,
        client: &Client,
        notified: &mut mpsc::Receiver<()>,
        retry: &mut Duration,
    ) -> Result<(), LoadError> {
        client.batch_execute("listen pgrst").await?;
        self.load(client).await?;
        *retry = MIN_RETRY;
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            // Cancel-safe: both are channel receives, and what was received is kept in `waiting`.
            tokio::select! {
                notification = notified.recv() => {
                    if notification.is_none() {
                        return Ok(()); // the connection ended; its error says nothing more
                    }
                    tokio::time::sleep(RELOAD_SETTLE).await;
                    while notified.try_recv().is_ok() {}
                }
                Some(request) = self.requests.recv() => {
                    waiting.push(request);
                    self.keep_distance().await;
                }
            }
            while let Ok(request) = self.requests.try_recv() {
                waiting.push(request);
            }
            self.load(client).await?;
            for request in waiting.drain(..) {
                let _ = request.send(());
            }
        }
    }

    /// Waits as long as the last load's cost demands.
    async fn keep_distance(&self) {
        if let Some((ended, took)) = self.last_load {
            tokio::time::sleep_until(ended + MIN_DISTANCE.max(took * LOAD_SHARE)).await;
        }
    }

    async fn load(&mut self, client: &Client) -> Result<(), LoadError> {
        let started = Instant::now();
        let loaded = tokio::time::timeout(LOAD_TIMEOUT, self.read(client))
            .await
            .map_err(|_| LoadError::TimedOut)??;
        let took = started.elapsed();
        tracing::debug!(
            relations = loaded.cache.relations.len(),
            functions = loaded.cache.routines.len(),
            elapsed_ms = took.as_millis(),
            "read the database's schema"
        );
        self.last_load = Some((Instant::now(), took));
        self.generation.fetch_add(1, Ordering::AcqRel);
        *self.trouble.lock() = None;
        self.current.send_replace(Some(Arc::new(loaded)));
        Ok(())
    }

    async fn read(&self, client: &Client) -> Result<Loaded, LoadError> {
        let mut config = self.config.clone();
        let mut cache = load(client, &config.schemas).await?;
        let overridden = config.overridden_by(cache.roles.get("authenticator"));
        if overridden.schemas != config.schemas {
            cache = load(client, &overridden.schemas).await?;
        }
        config = overridden;
        Ok(Loaded { cache, config })
    }
}
