//! Connections of the queue source: a pool for statements, and single ones for listening.

use std::{fmt, time::Duration};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts,
};
use rowcall_postgres::Connection;
use tokio_postgres::Client;

use super::error::QueueError;
use crate::postgres::{PostgresConfig, UrlError};

/// How long a statement waits for a free connection, and a connection for the server.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The server cancels a statement that takes longer; what takes this long waits for a lock.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// A database with queues.
#[derive(Clone)]
pub struct Database {
    config: PostgresConfig,
    pool: Pool,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the URL: it holds a password.
        f.debug_struct("Database")
            .field("target", &self.config.target())
            .field("pool", &self.pool.status())
            .finish_non_exhaustive()
    }
}

/// Settings of our own connections. The statements touch a handful of rows by their keys, but the planner, which sees a limit
/// it does not know, would like to hash whole queues; and planning anew each time costs more than running.
fn session() -> String {
    format!(
        "set plan_cache_mode = force_generic_plan; set enable_hashjoin = off; \
         set enable_mergejoin = off; set enable_seqscan = off; set jit = off; set timezone = 'UTC'; \
         set statement_timeout = {}",
        STATEMENT_LIMIT.as_millis()
    )
}

impl Database {
    /// Prepares a pool of at most `connections`; nothing is connected yet. The URL is read as
    /// [`PostgresConfig::new`] says; it must lead to PostgreSQL itself or to a pooler in session mode.
    ///
    /// # Errors
    ///
    /// When the URL cannot be used.
    pub fn new(url: &str, connections: usize) -> Result<Self, QueueError> {
        let mut config = PostgresConfig::new(url, "queue")?.application_name("rowcall-queue");
        config.connections = connections.max(1);
        Self::from_config(config)
    }

    /// The same from settings that are read already.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn from_config(config: PostgresConfig) -> Result<Self, QueueError> {
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let server = &config.server;
        let manager = Manager::from_config(server.config().clone(), server.connector(), manager);
        let pool = Pool::builder(manager)
            .max_size(config.connections.max(1))
            .timeouts(Timeouts {
                wait: Some(CONNECT_LIMIT),
                create: Some(CONNECT_LIMIT),
                recycle: Some(CONNECT_LIMIT),
            })
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    let session = session();
                    client
                        .batch_execute(&session)
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .build()
            .expect("a runtime is set");
        Ok(Self { config, pool })
    }

    /// A connection for statements, back to the pool when dropped.
    pub(super) async fn get(&self) -> Result<Object, QueueError> {
        Ok(self.pool.get().await?)
    }

    /// A connection of its own, for listening. Somebody has to drive it.
    pub(super) async fn connect(&self) -> Result<(Client, Connection), QueueError> {
        let opened = self.config.server.connect().await;
        opened.map_err(QueueError::doing("connecting to listen"))
    }
}

impl From<UrlError> for QueueError {
    fn from(error: UrlError) -> Self {
        Self::Url(error.reason)
    }
}
