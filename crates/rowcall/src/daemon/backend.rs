//! The backend of the daemon: a database or a project, as the engine and the local API see it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rowcall_backend::{
    PostgresBackend, SupabaseBackend,
    supabase::{Load, Machine, Wanted},
};
use rowcall_core::{
    App, SourceError, TableName, TaskId, TaskRef,
    ports::{Coordinator, SignalSource, TaskAdmin},
};
use rowcall_engine::{EngineHandle, Heard, What};
use tokio_util::sync::CancellationToken;

use super::project;
use crate::config::BackendKind;

/// How often other machines can hear of this one's load. The client keeps to the limits of Realtime beyond that.
const LOAD_EVERY: Duration = Duration::from_secs(1);

/// Where tasks are claimed, settled, and looked after by people.
pub trait Tasks: Coordinator + TaskAdmin {}

impl<T: Coordinator + TaskAdmin> Tasks for T {}

/// `rtx_activities` and the tables that apps listen to, each once.
fn tables(wanted: &Wanted) -> Vec<TableName> {
    let listened = wanted.selectors.iter().map(|one| one.table.clone());
    let all: BTreeSet<TableName> = listened.chain([TableName::activities()]).collect();
    all.into_iter().collect()
}

/// The backend of the daemon.
#[derive(Clone)]
pub struct Backend {
    /// Where tasks are claimed and settled.
    pub tasks: Arc<dyn Tasks>,
    /// Which kind.
    pub kind: BackendKind,
    project: Option<SupabaseBackend>,
    signals: Arc<dyn SignalSource>,
    /// The tables that hold tasks, in a project.
    tables: Arc<RwLock<Vec<TableName>>>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl From<PostgresBackend> for Backend {
    fn from(backend: PostgresBackend) -> Self {
        Self {
            tasks: Arc::new(backend.clone()),
            kind: BackendKind::Postgres,
            project: None,
            signals: Arc::new(backend),
            tables: Arc::default(),
        }
    }
}

impl Backend {
    /// A project, with the tables that apps listen to there.
    pub fn project(backend: SupabaseBackend, kind: BackendKind, wanted: &Wanted) -> Self {
        Self {
            tables: Arc::new(RwLock::new(tables(wanted))),
            tasks: Arc::new(backend.clone()),
            kind,
            signals: Arc::new(backend.clone()),
            project: Some(backend),
        }
    }

    /// The coordinator and the signals, for the engine.
    pub(super) fn ports(&self) -> (Arc<dyn Coordinator>, Arc<dyn SignalSource>) {
        (Arc::clone(&self.tasks) as _, Arc::clone(&self.signals))
    }

    /// The project, where the tasks are in one.
    pub fn over_http(&self) -> Option<&SupabaseBackend> {
        self.project.as_ref()
    }

    /// Which task an id means. In a database all are in `rtx_activities`; in a project they may be in tables of the apps' own.
    pub async fn find(&self, id: &TaskId) -> Result<TaskRef, SourceError> {
        let at = |table: &TableName| TaskRef {
            table: table.clone(),
            id: id.clone(),
        };
        let tables = self.tables.read().clone();
        for table in &tables {
            let task = at(table);
            if self.tasks.inspect(&task).await?.is_some() {
                return Ok(task);
            }
        }
        Ok(at(&TableName::activities()))
    }

    /// The machines that presence shows; `None` where there is no presence.
    pub fn machines(&self) -> Option<Vec<Machine>> {
        let project = self.project.as_ref()?;
        Some(project.machines().borrow().clone())
    }

    /// The apps have changed.
    pub(super) fn set_apps(&self, apps: &[App]) {
        project::warn_of_modes(self.kind, apps);
        if let Some(project) = &self.project {
            let wanted = project::wanted(apps);
            *self.tables.write() = tables(&wanted);
            project.set_wanted(wanted);
        }
    }

    /// Tells other machines how busy this one is, until `stop`.
    pub(super) async fn publish_load(self, engine: EngineHandle, stop: CancellationToken) {
        let Some(project) = self.project else {
            return;
        };
        let mut events = engine.events();
        let mut dirty = true;
        loop {
            if dirty {
                // What happened before this look is in it.
                events = engine.events();
                if let Ok(status) = engine.status().await {
                    project.set_load(Load {
                        running: status.slots_used,
                        capacity: status.slots,
                    });
                }
            }
            // Cancel-safe: all arms only wait.
            dirty = tokio::select! {
                () = stop.cancelled() => return,
                heard = events.next() => match heard {
                    Heard::Event(event) => matches!(event.what, What::Claimed { .. } | What::Settled { .. } | What::Failed { .. }),
                    Heard::Missed(_) => true,
                },
            };
            if dirty {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOAD_EVERY) => {}
                }
            }
        }
    }
}
