//! Connections of the queue source: a pool for statements, and single ones for listening.

use std::{fmt, str::FromStr as _, time::Duration};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts,
};
use tokio_postgres::{Client, Config, NoTls, Socket, tls::NoTlsStream};

use super::error::QueueError;

/// How long a statement waits for a free connection, and a connection for the server.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Settings of our own connections. The statements touch a handful of rows by their keys, but the planner, which sees a limit
/// it does not know, would like to hash whole queues; and planning anew each time costs more than running.
const SESSION: &str = "set plan_cache_mode = force_generic_plan; set enable_hashjoin = off; \
                       set enable_mergejoin = off; set enable_seqscan = off; set jit = off; set timezone = 'UTC'";

/// What a listening connection is driven by.
pub(super) type Connection = tokio_postgres::Connection<Socket, NoTlsStream>;

/// A database with queues.
#[derive(Clone)]
pub struct Database {
    config: Config,
    pool: Pool,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the URL: it holds a password.
        f.debug_struct("Database")
            .field("name", &self.config.get_dbname())
            .field("pool", &self.pool.status())
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Prepares a pool of at most `connections`; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// When the URL cannot be read.
    pub fn new(url: &str, connections: usize) -> Result<Self, QueueError> {
        let mut config =
            Config::from_str(url).map_err(|error| QueueError::Url(error.to_string()))?;
        config
            .application_name("rowcall-queue")
            .connect_timeout(CONNECT_LIMIT);
        let manager = Manager::from_config(
            config.clone(),
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(connections.max(1))
            .timeouts(Timeouts {
                wait: Some(CONNECT_LIMIT),
                create: Some(CONNECT_LIMIT),
                recycle: Some(CONNECT_LIMIT),
            })
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    client
                        .batch_execute(SESSION)
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
        self.config
            .connect(NoTls)
            .await
            .map_err(QueueError::doing("connecting to listen"))
    }
}
