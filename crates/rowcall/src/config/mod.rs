//! Configuration: defaults, then `rowcall.toml`, then the environment, then the command line.
//!
//! Every key can be set in the file (`[engine] lease_ttl = "5m"`) or as `ROWCALL__ENGINE__LEASE_TTL=5m`. Unknown keys are
//! errors that name the nearest known one, and every error says whether the file or the environment brought the value.

mod aimq;
mod backend;
mod duration;
mod layers;
mod paths;
mod sections;
#[cfg(test)]
mod tests;
mod worker;

use std::path::{Path, PathBuf};

pub use backend::{Backend, BackendKind, Secret, SecretPlace};
pub use duration::Span;
pub use layers::ConfigError;
pub use sections::{
    Api, Database, Engine, Machine, Provider, SameMachineRetry, Stack, TokenlessReports,
};
use serde::{Deserialize, Serialize};
pub use worker::{RunKind, WakeBy, Worker, WorkerQueue, WorkerRealtime};

/// The file looked for in the working directory when `--config` is not given.
pub const CONFIG_FILE: &str = "rowcall.toml";

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where state lives; the platform's data home when absent, `/var/lib/rowcall` for root.
    pub data_dir: Option<PathBuf>,
    /// Who this machine is.
    pub machine: Machine,
    /// The database with the tasks.
    pub database: Database,
    /// Where the tasks are, when it is not a PostgreSQL.
    pub backend: Backend,
    /// Where tokens and keys are kept.
    pub secrets: SecretPlace,
    /// The local HTTP API.
    pub api: Api,
    /// The Supabase-compatible API over the database.
    pub stack: Stack,
    /// Claims, leases and retries.
    pub engine: Engine,
    /// Queues and who handles their messages.
    pub worker: Worker,
    /// The database that AIMQ's variables name: for commands on queues, when nothing else names one.
    #[serde(skip)]
    pub aimq_database: Option<String>,
}

impl Config {
    /// Reads `file` (or [`CONFIG_FILE`] when it is there) and the variables of `env`.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        layers::load(file, env)
    }

    /// The data directory to use.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => paths::data_home().ok_or(ConfigError::NoHome),
        }
    }

    /// Where provisioned PostgreSQL builds are kept.
    pub fn cache_dir(&self) -> Result<PathBuf, ConfigError> {
        paths::cache_home().ok_or(ConfigError::NoHome)
    }
}
