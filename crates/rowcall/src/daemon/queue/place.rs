//! Where the queues are: in a database, or in a Supabase project of which only the URL and a key are known.

use std::sync::Arc;

use rowcall_backend::queue::{QueueError, QueueProject};
use rowcall_core::MachineId;
use secrecy::ExposeSecret as _;

use crate::{
    config::{Config, WakeBy},
    daemon::{Database, Project, StackAddress},
    exit::{Exit, UserError},
    system::SystemClock,
};

/// The machine that requests about queues come from; nothing is written under its name.
const READER: &str = "rowcall-queues";

/// Where the queues of a worker or of a command are.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one, for as long as it lives"
)]
pub enum QueuePlace {
    /// In a database, which may be ours for as long as this lives.
    Database(Database),
    /// In a project.
    Project(QueueProject, StackAddress),
}

impl QueuePlace {
    /// What the configuration names: a database, or else a project (of AIMQ's variables, `[worker.realtime]` or `[backend]`), or
    /// else the database of the daemon that runs here, or our own.
    pub async fn of(config: &Config) -> anyhow::Result<Self> {
        if let Some(place) = Self::project(config).await? {
            return Ok(place);
        }
        Ok(Self::Database(Database::for_command(config).await?))
    }

    async fn project(config: &Config) -> anyhow::Result<Option<Self>> {
        if config.database.url.is_some() || config.worker.wake == WakeBy::Direct {
            return Ok(None);
        }
        let realtime = &config.worker.realtime;
        if !realtime.url.is_empty() && !realtime.key.is_empty() {
            let queues = QueueProject::new(
                &realtime.url,
                realtime.key.clone().into(),
                config.backend.request_timeout.0,
                Arc::new(SystemClock),
            )
            .map_err(|error| refused(&error))?;
            let address = StackAddress {
                url: realtime.url.clone(),
                anon_key: None,
                own_key: realtime.key.clone(),
            };
            return Ok(Some(Self::Project(queues, address)));
        }
        if !config.backend.is_project() {
            return Ok(None);
        }
        let (config, data_dir) = (config.clone(), config.data_dir()?);
        // The keyring may block.
        let project = tokio::task::spawn_blocking(move || Project::of(&config, &data_dir, &[]));
        let project = project.await??;
        let address = StackAddress {
            url: project.url.clone(),
            anon_key: None,
            own_key: project.key.expose_secret().to_owned(),
        };
        let (backend, _driver) = project.backend(
            &MachineId::new(READER)?,
            rowcall_backend::supabase::Wanted::default(),
        )?;
        Ok(Some(Self::Project(backend.queues(), address)))
    }

    /// Stops the server when it is ours.
    pub async fn close(self) {
        if let Self::Database(database) = self {
            database.close().await;
        }
    }
}

/// An error of queues as people see it.
pub(super) fn refused(error: &QueueError) -> UserError {
    let exit = match error {
        QueueError::NeedsDatabase { .. } => Exit::Usage,
        _ => Exit::Database,
    };
    UserError::of(exit, error)
}
