//! The database: the one that was given, the running daemon's, or our own.

use anyhow::Context as _;
use rowcall_stack::cluster::{
    Cluster, ClusterConfig, ClusterError, DataDirLock, Events, GuardCommand, PasswordChoice,
    PortChoice, ProviderKind, SearchPaths,
};

use super::RunFile;
use crate::{
    cli::POSTGRES_GUARD,
    config::{Config, Provider},
    exit::{Exit, UserError},
};

/// A database that can be connected to, and the server behind it when it is ours.
#[derive(Debug)]
pub struct Database {
    /// Where it is.
    pub url: String,
    /// Our own server: stops when [`Database::close`] is called.
    pub cluster: Option<Cluster>,
    /// The right to the data directory, while our own server runs.
    pub lock: Option<DataDirLock>,
}

impl Database {
    /// The database for a daemon that holds the data directory.
    pub async fn for_daemon(
        config: &Config,
        lock: DataDirLock,
        events: Events,
    ) -> anyhow::Result<Self> {
        if let Some(url) = &config.database.url {
            return Ok(Self {
                url: url.clone(),
                cluster: None,
                lock: Some(lock),
            });
        }
        let cluster = start(config, &lock, events).await?;
        Ok(Self {
            url: cluster.url(),
            cluster: Some(cluster),
            lock: Some(lock),
        })
    }

    /// The database for a single command: the given one, the running daemon's, or our own, started for this command.
    pub async fn for_command(config: &Config) -> anyhow::Result<Self> {
        if config.backend.is_project() && config.database.url.is_none() {
            return Err(no_database().into());
        }
        if let Some(url) = &config.database.url {
            return Ok(Self {
                url: url.clone(),
                cluster: None,
                lock: None,
            });
        }
        let data_dir = config.data_dir()?;
        match DataDirLock::acquire(&data_dir) {
            Ok(lock) => {
                let events = Events::to(|event| tracing::debug!("{event}"));
                Self::for_daemon(config, lock, events).await
            }
            Err(locked @ ClusterError::Locked { .. }) => match RunFile::read(&data_dir)? {
                Some(RunFile {
                    database_url: Some(url),
                    ..
                }) => Ok(Self {
                    url,
                    cluster: None,
                    lock: None,
                }),
                Some(_) => Err(no_database().into()),
                None => Err(UserError::new(
                    Exit::Database,
                    "the daemon is starting: it has no database yet",
                )
                .help(format!(
                    "try again in a moment ({})",
                    locked.to_string().lines().next().unwrap_or_default()
                ))
                .into()),
            },
            Err(error) => Err(user(error)),
        }
    }

    /// Stops the server when it is ours.
    pub async fn close(self) {
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

fn no_database() -> UserError {
    UserError::new(
        Exit::Usage,
        "this works on a database, and the tasks are in a Supabase project that is reached over HTTP",
    )
    .help("give the database's URL with --database-url (Project Settings, Database), or print the SQL with `rowcall setup --print`")
}

async fn start(config: &Config, lock: &DataDirLock, events: Events) -> anyhow::Result<Cluster> {
    let guard =
        GuardCommand::own_binary([POSTGRES_GUARD]).context("cannot find out our own path")?;
    let search = SearchPaths::new(std::env::var_os("PATH").as_deref());
    let cluster = ClusterConfig {
        port: PortChoice::NextFree(config.database.port),
        provider: match config.database.provider {
            Provider::Auto => None,
            Provider::Installed => Some(ProviderKind::Installed),
            Provider::Provisioned => Some(ProviderKind::Provisioned),
        },
        offline: config.database.offline,
        password: if config.database.well_known_password {
            PasswordChoice::WellKnown
        } else {
            PasswordChoice::Generated
        },
        runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").map(Into::into),
        ..ClusterConfig::new(config.cache_dir()?, guard, search)
    };
    Cluster::start(cluster, lock, events).await.map_err(user)
}

/// Cluster errors carry their own help, after a line that begins with it.
pub(super) fn user(error: ClusterError) -> anyhow::Error {
    let text = error.to_string();
    let user = match text.rsplit_once("\n  help: ") {
        Some((message, help)) => UserError::new(Exit::Database, message).help(help),
        None => UserError::new(Exit::Database, text),
    };
    user.code(error.code()).into()
}
