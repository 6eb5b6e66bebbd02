//! Queues of pgmq as a source of the engine: what `[worker]` says, wired.
//!
//! All queues of a daemon are one source and one app, so that priorities between them count and one claim reads them all.
//! The same parts run in `rowcall up` (beside the tables) and in `rowcall worker` (alone).

mod alone;
mod board;
mod overriding;
mod place;
mod plan;
mod presence;
mod setup;
mod wake;

use std::{collections::BTreeMap, sync::Arc};

pub use alone::WorkerDaemon;
pub use board::{JobState, QueueBoard, QueueState, Seen, Snapshot, WorkerState};
pub use place::QueuePlace;
use rowcall_backend::queue::{Database, QueueBackend, QueueName, QueueOptions, QueueProject};
use rowcall_core::{
    App, AppId, RetryPolicy, TableName, overrides::OverrideRules, ports::AgentRunner,
};
use rowcall_engine::Source;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    overriding::Overriding,
    place::refused,
    plan::Plan,
    presence::Announcing,
    wake::{Choice, Wakes},
};
use super::StackAddress;
use crate::config::Config;

/// The app that all queues of a daemon belong to.
pub const WORKER_APP: &str = "worker";

/// The name of the source, in logs and events.
const SOURCE: &str = "queues";

/// Where messages are read.
pub(super) enum Origin<'a> {
    /// In the database at this URL.
    Database(&'a str),
    /// In a project, over HTTP.
    Project(QueueProject),
}

/// The queues of a daemon, ready to be given to an engine.
pub(super) struct Queues {
    backend: QueueBackend,
    app: App,
    wakes: Wakes,
    overrides: Arc<BTreeMap<TableName, OverrideRules>>,
}

impl Queues {
    /// Sets up what is missing, connects, and says what to run. `None` when no queue is configured.
    pub(super) async fn open(
        config: &Config,
        worker: &str,
        origin: Origin<'_>,
        stack: Option<&StackAddress>,
    ) -> anyhow::Result<Option<Self>> {
        if config.worker.queues.is_empty() {
            return Ok(None);
        }
        let by = wake::choose(&config.worker, stack, config.backend.is_project());
        let (backend, app) = match origin {
            Origin::Database(url) => Self::in_database(config, url, &by).await?,
            Origin::Project(project) => Self::in_project(config, project, &by).await?,
        };
        let name = config.worker.name.as_deref().unwrap_or(worker);
        let wakes = Wakes::new(&backend, &config.worker, by, name)?;
        Ok(Some(Self {
            backend,
            app,
            wakes,
            overrides: Arc::new(overrides(config)?),
        }))
    }

    async fn in_database(
        config: &Config,
        url: &str,
        by: &Choice,
    ) -> anyhow::Result<(QueueBackend, App)> {
        let plan = Plan::of(&config.worker, true)?;
        let connections = usize::try_from(config.database.pool_size)?;
        let database = Database::new(url, connections).map_err(|error| refused(&error))?;
        if config.worker.setup {
            setup::prepare(&database, &plan, by.broadcast.as_ref()).await?;
        }
        let options = QueueOptions {
            connections,
            create_missing: config.worker.setup,
        };
        let backend = QueueBackend::open(database, plan.specs, options).await;
        Ok((backend.map_err(|error| refused(&error))?, plan.app))
    }

    async fn in_project(
        config: &Config,
        project: QueueProject,
        by: &Choice,
    ) -> anyhow::Result<(QueueBackend, App)> {
        let renews = project.look().await.map_err(|error| refused(&error))?;
        let plan = Plan::of(&config.worker, renews)?;
        if config.worker.setup {
            setup::prepare_project(&project, &plan, by.broadcast.as_ref()).await;
        }
        let options = QueueOptions::default();
        let backend = QueueBackend::project(project, plan.specs, options).await;
        Ok((backend.map_err(|error| refused(&error))?, plan.app))
    }

    /// The app whose routes the queues are.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// The source.
    pub(super) fn source(&self) -> Source {
        let first = self.backend.specs()[0].name.table();
        Source::new(SOURCE, Arc::new(self.backend.clone()), self.wakes.signals())
            .serving([app_id()])
            .claiming(first)
            .leasing(self.backend.lease_policy())
            // The queue's own settings say when and how often.
            .retrying(RetryPolicy {
                max_attempts: u32::MAX,
                same_machine: None,
            })
            .in_order()
    }

    /// A runner that refuses jobs that ask for more than their queue allows, and says *busy* before a message is handled and
    /// *idle* after it: on the workers' channel, and to people who ask this process.
    pub(super) fn announcing(&self, runner: Arc<dyn AgentRunner>) -> Arc<dyn AgentRunner> {
        let runner = if self.overrides.is_empty() {
            runner
        } else {
            Arc::new(Overriding::new(runner, Arc::clone(&self.overrides)))
        };
        let presence = self.wakes.presence();
        Arc::new(Announcing::new(runner, self.backend.clone(), presence))
    }

    /// Queues and workers, as people see them.
    pub(super) fn board(&self) -> QueueBoard {
        let presence = self.wakes.presence();
        QueueBoard::of_worker(
            &self.backend,
            Arc::clone(&presence.book),
            presence.present(),
        )
    }

    /// Starts what runs beside the engine, until `stop`.
    pub(super) fn spawn(&mut self, tasks: &TaskTracker, stop: &CancellationToken) {
        self.wakes.spawn(tasks, stop);
        tasks.spawn(crate::prometheus::upkeep(stop.clone()));
    }
}

/// What jobs may override, by the tables of their queues.
fn overrides(config: &Config) -> anyhow::Result<BTreeMap<TableName, OverrideRules>> {
    let mut all = BTreeMap::new();
    for (name, queue) in &config.worker.queues {
        if let Some(rules) = &queue.overrides {
            all.insert(QueueName::new(name)?.table(), rules.clone());
        }
    }
    Ok(all)
}

fn app_id() -> AppId {
    AppId::new(WORKER_APP).expect("a constant")
}
