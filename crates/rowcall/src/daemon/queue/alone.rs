//! `rowcall worker`: an engine that reads queues and nothing else.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rowcall_core::MachineId;
use rowcall_engine::{
    Engine, EngineError, EngineHandle, EngineOptions, PollOptions, StopSummary,
    store::{Store, StoreOptions, StoreWriter},
};
use rowcall_stack::cluster::DataDirLock;
use rowcall_supervisor::Runners;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Origin, QueuePlace, Queues, WORKER_APP};
use crate::{
    api,
    config::Config,
    daemon::{
        Addresses, STORE_FILE, database,
        engine::{self, EngineParts},
        machine::named,
    },
    exit::{Exit, UserError},
};

/// Where workers keep their state, below the data directory.
const WORKERS_DIR: &str = "workers";

/// A running worker.
pub struct WorkerDaemon {
    engine: EngineHandle,
    running: JoinHandle<Result<StopSummary, EngineError>>,
    runners: Arc<Runners>,
    store: Arc<StoreWriter>,
    place: QueuePlace,
    background: CancellationToken,
    tasks: TaskTracker,
    machine: MachineId,
    metrics: Option<SocketAddr>,
    _lock: DataDirLock,
}

impl std::fmt::Debug for WorkerDaemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerDaemon")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl WorkerDaemon {
    /// Starts it where the configuration says that the queues are. Workers on one data directory need
    /// different names.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        crate::prometheus::install();
        let name = config.worker.name.as_deref().unwrap_or(WORKER_APP);
        let dir = directory(config, name)?;
        let lock = DataDirLock::acquire(&dir).map_err(|error| {
            let user = database::user(error);
            match user.downcast::<UserError>() {
                Ok(error) => anyhow::Error::from(
                    error.help("give this worker another --name, or another --data-dir"),
                ),
                Err(error) => error,
            }
        })?;
        let dir = lock.data_dir().to_path_buf();
        let machine = named(config, &dir)?;
        let metrics = listen(config.worker.metrics).await?;
        let place = QueuePlace::of(config).await?;
        let started = Self::on(config, &dir, &machine, &place).await;
        let (engine, runners, store, mut queues) = match started {
            Ok(started) => started,
            Err(error) => {
                place.close().await;
                return Err(error);
            }
        };
        let (background, tasks) = (CancellationToken::new(), TaskTracker::new());
        queues.spawn(&tasks, &background);
        let handle = engine.handle();
        let metrics = metrics.map(|(address, listener)| {
            let hosts = config.api.hosts.clone();
            let router = api::worker_router(handle.clone(), queues.board(), hosts);
            tasks.spawn(api::serve(vec![listener], router, background.clone()));
            address
        });
        Ok(Self {
            running: tokio::spawn(engine.run()),
            engine: handle,
            runners,
            store,
            place,
            background,
            tasks,
            machine,
            metrics,
            _lock: lock,
        })
    }

    async fn on(
        config: &Config,
        dir: &std::path::Path,
        machine: &MachineId,
        place: &QueuePlace,
    ) -> anyhow::Result<(Engine, Arc<Runners>, Arc<StoreWriter>, Queues)> {
        let (database_url, origin, project) = match place {
            QueuePlace::Database(database) => {
                let url = database.url.as_str();
                (Some(url.to_owned()), Origin::Database(url), None)
            }
            QueuePlace::Project(queues, address) => {
                (None, Origin::Project(queues.clone()), Some(address))
            }
        };
        let queues = Queues::open(config, machine.as_str(), origin, project)
            .await?
            .ok_or_else(|| {
                UserError::new(Exit::Usage, "no queue is named")
                    .help("name one with --queue, or in [worker.queues]")
            })?;
        let store = Arc::new(Store::open(&dir.join(STORE_FILE), StoreOptions::default())?);
        let addresses = Addresses {
            machine: machine.clone(),
            data_dir: dir.to_path_buf(),
            database_url,
            // Where agents of queues find the local API, if a daemon runs here too.
            api_url: format!("http://localhost:{}", config.api.port),
            stack: None,
        };
        let EngineParts {
            builder,
            runners,
            writer,
        } = engine::prepare(&addresses, &store, options(config), Some(&queues))?;
        let engine = builder
            .source(queues.source())
            .apps(vec![queues.app().clone()])
            .build()?;
        Ok((engine, runners, writer, queues))
    }

    /// A handle to the engine.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Who it is.
    pub fn machine(&self) -> &MachineId {
        &self.machine
    }

    /// Where its numbers are served.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Waits until the engine has stopped by itself.
    pub async fn failed(&self) {
        self.engine.stopped().await;
    }

    /// Stops: what runs may finish within the grace, the rest is given back.
    pub async fn stop(mut self) -> anyhow::Result<StopSummary> {
        self.engine.shutdown();
        let ended = (&mut self.running).await;
        self.runners.shutdown().await;
        self.background.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // Dropping the last of them waits for its thread.
        tokio::task::spawn_blocking(move || drop(self.store)).await?;
        self.place.close().await;
        Ok(ended??)
    }
}

/// Takes the port for the numbers, before anything is started.
async fn listen(address: Option<SocketAddr>) -> anyhow::Result<Option<(SocketAddr, TcpListener)>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        Ok::<_, std::io::Error>((listener.local_addr()?, listener))
    };
    let bound = bound.await.map_err(|error| {
        UserError::new(
            Exit::Failure,
            format!("cannot listen on {address}: {error}"),
        )
        .help("choose another address with --metrics, or worker.metrics")
    })?;
    Ok(Some(bound))
}

/// A folder of its own below the data directory.
fn directory(config: &Config, name: &str) -> anyhow::Result<PathBuf> {
    let id = rowcall_core::AppId::new(name)
        .map_err(|error| UserError::new(Exit::Usage, error.to_string()))?;
    let workers = config.data_dir()?.join(WORKERS_DIR);
    let folder = super::super::app_dir(&workers, &id);
    Ok(workers.join(folder.file_name().unwrap_or_default()))
}

fn options(config: &Config) -> EngineOptions {
    EngineOptions {
        poll: PollOptions {
            up: config.worker.idle_wait_connected.0,
            down: config.worker.idle_wait.0,
            ..PollOptions::default()
        },
        concurrency: config.worker.concurrency,
        shutdown_grace: config.engine.shutdown_grace.0,
        ..EngineOptions::default()
    }
}
