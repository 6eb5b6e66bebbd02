//! The daemon: everything wired together, started in order and stopped in the reverse one.

mod agents;
mod apps;
mod backend;
mod database;
mod engine;
mod http_agent;
mod machine;
mod mask;
mod project;
mod queue;
mod runfile;
mod start;

use std::{path::PathBuf, sync::Arc};

use crate::exit::{Exit, UserError};
pub use agents::{app_dir, app_launch};
pub use apps::load as load_apps;
pub use backend::{Backend, Tasks};
pub use database::Database;
pub use machine::{host_name, machine_id};
pub use mask::mask_url;
pub use project::{Project, is_service_key, session_text, wanted};
pub use queue::{
    JobState, QueueBoard, QueuePlace, QueueState, Seen, Snapshot, WORKER_APP, WorkerDaemon,
    WorkerState,
};
use rowcall_core::MachineId;
use rowcall_engine::{EngineError, EngineHandle, StopSummary};
use rowcall_stack::cluster::{ClusterError, DataDirLock};
use rowcall_supervisor::{AppHost, Runners};
pub use runfile::{RunFile, RunFileGuard};
pub(crate) use start::STACK_PORTS_TRIED;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The file of the local store, below the data directory.
pub const STORE_FILE: &str = "state.db";

/// A running daemon.
pub struct Daemon {
    engine: EngineHandle,
    running: JoinHandle<Result<StopSummary, EngineError>>,
    runners: Arc<Runners>,
    apps: AppHost,
    store: Arc<rowcall_engine::store::StoreWriter>,
    stack: Option<start::RunningStack>,
    database: Option<Database>,
    _lock: Option<DataDirLock>,
    background: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
    addresses: Addresses,
    _run_file: RunFileGuard,
}

/// Where a running daemon can be reached.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// This machine.
    pub machine: MachineId,
    /// Its data.
    pub data_dir: PathBuf,
    /// The database, with its password, where the tasks are in one.
    pub database_url: Option<String>,
    /// The local API.
    pub api_url: String,
    /// The Supabase-compatible API over our own database, or the project.
    pub stack: Option<StackAddress>,
}

/// The Supabase-compatible API and its keys.
#[derive(Clone, Debug)]
pub struct StackAddress {
    /// Its URL, as clients take it.
    pub url: String,
    /// The key for clients that row level security applies to, where one is known.
    pub anon_key: Option<String>,
    /// The key that the daemon's own programs use: that of its own stack holds nothing back.
    pub own_key: String,
}

impl Addresses {
    /// The database, for what works on one only.
    pub fn database(&self) -> anyhow::Result<&str> {
        self.database_url.as_deref().ok_or_else(|| {
            UserError::new(
                Exit::Usage,
                "this needs a database, and the daemon works on a Supabase project",
            )
            .into()
        })
    }
}

impl Daemon {
    /// A handle to the engine.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until something the daemon cannot live without has failed for good.
    pub async fn failed(&self) -> Option<Arc<ClusterError>> {
        let server = async {
            match self.database.as_ref().map(|database| &database.cluster) {
                Some(Some(cluster)) => cluster.wait_failed().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            error = server => Some(error),
            () = self.engine.stopped() => None,
        }
    }

    /// Stops everything: no more claims, agents finish or are given back, servers end, PostgreSQL last. Waits for it; a
    /// second signal is [`EngineHandle::abort`] on the handle meanwhile.
    pub async fn stop(mut self) -> anyhow::Result<StopSummary> {
        self.engine.shutdown();
        let ended = (&mut self.running).await;
        self.apps.shutdown().await;
        self.runners.shutdown().await;
        self.background.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(stack) = self.stack.take() {
            stack.stop().await;
        }
        // Dropping the last of them waits for its thread.
        tokio::task::spawn_blocking(move || drop(self.store)).await?;
        if let Some(database) = self.database {
            database.close().await;
        }
        Ok(ended??)
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon")
            .field("addresses", &self.addresses.api_url)
            .finish_non_exhaustive()
    }
}
