//! Queues of pgmq as a source of the engine: what `[worker]` says, wired.
//!
//! All queues of a daemon are one source and one app, so that priorities between them count and one claim reads them all.
//! The same parts run in `rowcall up` (beside the tables) and in `rowcall worker` (alone).

mod alone;
mod board;
mod plan;
mod presence;
mod setup;
mod wake;

use std::sync::Arc;

pub use alone::WorkerDaemon;
pub use board::{JobState, QueueBoard, QueueState, Seen, Snapshot, WorkerState};
use rowcall_backend::queue::{Database, QueueBackend, QueueOptions};
use rowcall_core::{App, AppId, RetryPolicy, ports::AgentRunner};
use rowcall_engine::Source;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{plan::Plan, presence::Announcing, wake::Wakes};
use super::StackAddress;
use crate::{
    config::Config,
    exit::{Exit, UserError},
};

/// The app that all queues of a daemon belong to.
pub const WORKER_APP: &str = "worker";

/// The name of the source, in logs and events.
const SOURCE: &str = "queues";

/// The queues of a daemon, ready to be given to an engine.
pub(super) struct Queues {
    backend: QueueBackend,
    app: App,
    wakes: Wakes,
}

impl Queues {
    /// Sets up what is missing, connects, and says what to run. `None` when no queue is configured.
    pub(super) async fn open(
        config: &Config,
        worker: &str,
        database_url: Option<&str>,
        stack: Option<&StackAddress>,
    ) -> anyhow::Result<Option<Self>> {
        if config.worker.queues.is_empty() {
            return Ok(None);
        }
        let database_url = database_url.ok_or_else(|| {
            UserError::new(
                Exit::Usage,
                "the queues of [worker] are read from the database itself, and only a project is configured",
            )
            .help("set database.url to the project's direct connection")
        })?;
        let plan = Plan::of(&config.worker)?;
        let refused =
            |error: &(dyn std::error::Error + 'static)| UserError::of(Exit::Database, error);
        let connections = usize::try_from(config.database.pool_size)?;
        let database = Database::new(database_url, connections).map_err(|error| refused(&error))?;
        let by = wake::choose(&config.worker, stack, config.backend.is_project());
        if config.worker.setup {
            setup::prepare(&database, &plan, by.broadcast.as_ref()).await?;
        }
        let options = QueueOptions {
            connections,
            create_missing: config.worker.setup,
        };
        let backend = QueueBackend::open(database, plan.specs, options)
            .await
            .map_err(|error| refused(&error))?;
        let name = config.worker.name.as_deref().unwrap_or(worker);
        let wakes = Wakes::new(&backend, &config.worker, by, name)?;
        Ok(Some(Self {
            backend,
            app: plan.app,
            wakes,
        }))
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

    /// A runner that says *busy* before a message is handled and *idle* after it: on the workers' channel, and to people who
    /// ask this process.
    pub(super) fn announcing(&self, runner: Arc<dyn AgentRunner>) -> Arc<dyn AgentRunner> {
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

fn app_id() -> AppId {
    AppId::new(WORKER_APP).expect("a constant")
}
