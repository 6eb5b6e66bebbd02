//! What commands share: the configuration, the store, the database.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Context as _;
use rowcall_backend::{PostgresBackend, PostgresConfig};
use rowcall_core::MachineId;
use rowcall_engine::store::{Store, StoreOptions};

use crate::{
    config::Config,
    daemon::{Backend, Database, Project, STORE_FILE, load_apps, wanted},
    exit::{Exit, UserError},
};

/// The name of commands where a machine has to be named; they claim nothing.
const CLI_MACHINE: &str = "rowcall-cli";

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration in force.
    pub config: Config,
}

impl Context {
    /// A context for a configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Works with the database that AIMQ's variables name, when nothing else names one.
    pub fn use_aimq_database(&mut self) {
        let url = &mut self.config.database.url;
        *url = url.take().or_else(|| self.config.aimq_database.take());
    }

    /// The data directory, made when it is missing.
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        let dir = self.config.data_dir()?;
        std::fs::create_dir_all(&dir).map_err(|error| {
            UserError::new(
                Exit::Failure,
                format!("cannot make the data directory {}: {error}", dir.display()),
            )
            .help("choose another one with --data-dir")
        })?;
        Ok(dir)
    }

    /// The local store.
    pub fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(
            &self.data_dir()?.join(STORE_FILE),
            StoreOptions::default(),
        )?)
    }

    /// Works with the database, which is started for this when no daemon runs, and stopped again afterwards.
    pub async fn with_database<T>(
        &self,
        work: impl AsyncFnOnce(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let database = Database::for_command(&self.config).await?;
        let url = database.url.clone();
        // Ctrl-C must not leave a server without its command.
        let result = tokio::select! {
            result = work(&url) => result,
            signal = tokio::signal::ctrl_c() => {
                Err(signal.err().map_or_else(|| anyhow::anyhow!("interrupted"), anyhow::Error::from))
            }
        };
        database.close().await;
        result
    }
}

impl Context {
    /// The project of the configuration, as the apps of this machine use it.
    pub(crate) async fn project(&self) -> anyhow::Result<(Project, Vec<rowcall_core::App>)> {
        let data_dir = self.data_dir()?;
        let apps = load_apps(&self.store()?)?;
        let (config, known) = (self.config.clone(), apps.clone());
        // The keyring may block.
        let project =
            tokio::task::spawn_blocking(move || Project::of(&config, &data_dir, &known)).await??;
        Ok((project, apps))
    }

    /// Works with the tasks, wherever they are.
    pub(crate) async fn with_tasks<T>(
        &self,
        work: impl AsyncFnOnce(&Backend) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if self.config.backend.is_project() {
            let (project, apps) = self.project().await?;
            let wanted = wanted(&apps);
            let (backend, _driver) =
                project.backend(&MachineId::new(CLI_MACHINE)?, wanted.clone())?;
            let kind = self.config.backend.kind();
            return work(&Backend::project(backend, kind, &wanted)).await;
        }
        self.with_database(async |url| {
            let config = PostgresConfig::new(url, CLI_MACHINE)?;
            let backend = PostgresBackend::connect(config)
                .await
                .map_err(|error| UserError::of(Exit::Database, &error))?;
            work(&Backend::from(backend)).await
        })
        .await
    }
}

/// A connection for one command.
pub async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    rowcall_backend::postgres::connect(url).await.map_err(|error| {
        UserError::of(Exit::Database, &error)
            .help("check that PostgreSQL runs and that --database-url is right; `rowcall doctor` looks closer")
            .into()
    })
}

pub(super) fn postgres_guard(args: &[OsString]) -> Exit {
    // Becomes the server, and returns only when it could not.
    let _ = rowcall_stack::cluster::run_guard(args.iter().cloned());
    Exit::Failure
}

pub(super) fn process_guard(_: &[OsString]) -> Exit {
    let _ = rowcall_supervisor::guard::run_guard();
    Exit::Success
}

/// Reads a file that a person named.
pub(crate) fn read_file(path: &std::path::Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(path).map_err(|error| {
        UserError::new(
            Exit::NotFound,
            format!("cannot read {}: {error}", path.display()),
        )
        .into()
    })
}
