//! The embedded PostgreSQL: found or fetched, made once, run as a supervised child, stopped last.
//!
//! A [`DataDirLock`] is the right to a data directory; [`Cluster::start`] makes or opens the cluster
//! in it. `rowcall` itself never runs SQL as an unknown server: what a data directory was made with
//! is written down in it, and nothing that is not ours is touched.
//!
//! The directory holds `rowcall.lock`, `cluster.json` (what it was made with), `secret/postgres`
//! (the superuser's password), `pg/<major>` (PostgreSQL's own), `run/` (the socket) and
//! `postgres.log`.

mod account;
mod command;
mod config;
mod discover;
mod durable;
mod error;
mod event;
mod guard;
mod initdb;
mod install;
mod keeper;
mod layout;
mod leftover;
mod lock;
mod log;
mod make;
mod password;
mod port;
mod process;
mod provision;
mod ready;
mod resolve;
#[cfg(feature = "testing")]
pub(crate) mod scratch;
mod server;
mod settings;
mod start;
mod state;
mod version;

pub use config::ClusterConfig;
pub use discover::SearchPaths;
pub use error::ClusterError;
pub use event::{ClusterEvent, Events};
pub use guard::{GuardCommand, run_guard};
pub use install::{Install, ProviderKind, UnknownProvider};
pub use layout::Directories;
pub use lock::DataDirLock;
pub use password::PasswordChoice;
pub use port::{DEFAULT_PORT, PortChoice};
pub use resolve::Findings;
pub use server::Phase;
pub use version::{BadVersion, NEWEST_TESTED_MAJOR, OLDEST_MAJOR, PREFERRED_MAJOR, PgVersion};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::initdb::SUPERUSER;
use self::log::ServerLog;
use self::server::Server;

/// The database that always exists.
const DATABASE: &str = "postgres";

/// A running PostgreSQL of our own.
///
/// Dropping it asks the server to stop without waiting; [`Cluster::stop`] waits.
pub struct Cluster {
    server: Server,
    info: ClusterInfo,
    port: u16,
    password: String,
    log: Arc<ServerLog>,
    stop_grace: Duration,
}

/// What is running, and why that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The server programs.
    pub install: Install,
    /// Why these.
    pub why: String,
    /// Name of the user the server runs as.
    pub user: String,
    /// PostgreSQL's data directory.
    pub pg_dir: PathBuf,
    /// The directory of the unix socket.
    pub socket_dir: PathBuf,
    /// The server's log.
    pub log_file: PathBuf,
}

impl Cluster {
    /// Makes the cluster of the locked data directory when there is none, stops what a killed
    /// daemon left running, starts the server, and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// See [`ClusterError`]; nothing is running then.
    pub async fn start(
        config: ClusterConfig,
        lock: &DataDirLock,
        events: Events,
    ) -> Result<Self, ClusterError> {
        start::start(config, lock.clone(), events).await
    }

    /// URL over loopback TCP with the superuser's name and **password**.
    pub fn url(&self) -> String {
        let Self { port, password, .. } = self;
        format!("postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{DATABASE}")
    }

    /// The same over the unix socket, which only root and the server's user can reach.
    pub fn socket_url(&self) -> String {
        let Self { port, password, .. } = self;
        let host = percent_encoding::percent_encode(
            self.info.socket_dir.as_os_str().as_encoded_bytes(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        format!("postgresql://{SUPERUSER}:{password}@{host}:{port}/{DATABASE}")
    }

    /// Port on `127.0.0.1` (and `::1` where the host has it).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is running, and why that.
    pub fn info(&self) -> &ClusterInfo {
        &self.info
    }

    /// How the server is doing now.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.server.phase()
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> Vec<String> {
        self.log.tail(lines)
    }

    /// Waits until the server has failed for good. Ends never while it runs or is started again, nor
    /// after it was stopped.
    ///
    /// Cancel-safe.
    pub async fn wait_failed(&self) -> Arc<ClusterError> {
        let mut phase = self.server.phase();
        loop {
            if let Phase::Failed(error) = &*phase.borrow_and_update() {
                return Arc::clone(error);
            }
            if phase.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops the server: clients are disconnected and a checkpoint is written. To be called last.
    ///
    /// Returns when it has ended.
    pub async fn stop(self) {
        stop(self.server, self.stop_grace).await;
    }
}

async fn stop(server: Server, grace: Duration) {
    // Blocks at most three times the grace period.
    let stopped = tokio::task::spawn_blocking(move || server.stop(grace)).await;
    if let Err(error) = stopped {
        tracing::error!(%error, "stopping PostgreSQL failed");
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("port", &self.port)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}
