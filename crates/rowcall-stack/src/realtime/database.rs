//! Connections to the database.

use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
    Timeouts,
};
use rowcall_postgres::Server;

use super::error::RealtimeError;
use super::limits::Limits;

/// Session settings under which PostgreSQL prints values the way the wire format wants them.
pub(crate) const OUTPUT_SETTINGS: &str = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres \
     -c bytea_output=hex -c extra_float_digits=1";

/// The pools of one server, and how to connect besides them.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Joins, policies, subscriptions, housekeeping.
    pool: Pool,
    /// Row level security checks of changes; apart, so that a storm of joins does not hold changes up.
    checks: Pool,
    server: Server,
}

impl Database {
    /// Prepares the pools; connects to nothing yet.
    pub(crate) fn new(url: &str, limits: &Limits) -> Result<Self, RealtimeError> {
        let mut server = Server::parse(url)?;
        let config = server.config_mut();
        let timeout = limits.query_timeout.as_millis();
        let options = [config.get_options().unwrap_or_default(), OUTPUT_SETTINGS].join(" ");
        config
            .options(format!("{options} -c statement_timeout={timeout}"))
            .application_name("rowcall realtime")
            .connect_timeout(limits.join_timeout);
        let pool = |connections: usize| -> Result<Pool, RealtimeError> {
            let manager = Manager::from_config(
                server.config().clone(),
                server.connector(),
                ManagerConfig {
                    recycling_method: RecyclingMethod::Fast,
                },
            );
            Pool::builder(manager)
                .max_size(connections)
                .runtime(Runtime::Tokio1)
                .timeouts(Timeouts {
                    wait: Some(limits.join_timeout),
                    create: Some(limits.join_timeout),
                    recycle: Some(limits.join_timeout),
                })
                .pre_recycle(Hook::sync_fn(|client, _| {
                    if client.is_closed() {
                        return Err(HookError::message("the connection is gone"));
                    }
                    Ok(())
                }))
                .build()
                .map_err(|error| RealtimeError::Pool(error.to_string()))
        };
        Ok(Self {
            pool: pool(limits.pool_connections)?,
            checks: pool(limits.visibility_connections)?,
            server,
        })
    }

    /// A connection for joins, policies, subscriptions and housekeeping.
    pub(crate) async fn connection(&self) -> Result<Object, PoolError> {
        self.pool.get().await
    }

    /// A connection for row level security checks.
    pub(crate) async fn check_connection(&self) -> Result<Object, PoolError> {
        self.checks.get().await
    }

    /// How to connect, for the replication session.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Closes the pools.
    pub(crate) fn close(&self) {
        self.pool.close();
        self.checks.close();
    }
}

/// Why a query for a client did not succeed, told apart where clients are told apart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl QueryError {
    /// The reason of a join that failed on the database: `CODE: message`. Details belong in the log.
    pub(crate) fn reason(&self) -> String {
        use tokio_postgres::error::SqlState;
        let (code, message) = match self {
            Self::Pool(PoolError::Timeout(_)) => (
                "IncreaseConnectionPool",
                "Please increase your connection pool size",
            ),
            Self::Timeout(_) => ("QueryCanceled", "The database took too long to answer"),
            Self::Pool(PoolError::Backend(error)) | Self::Postgres(error) => match error.code() {
                Some(&SqlState::TOO_MANY_CONNECTIONS) => (
                    "DatabaseLackOfConnections",
                    "Database can't accept more connections, Realtime won't connect",
                ),
                Some(&SqlState::QUERY_CANCELED) => {
                    ("QueryCanceled", "The database took too long to answer")
                }
                Some(&SqlState::CHECK_VIOLATION) => (
                    "MissingPartition",
                    "realtime.messages has no partition for today",
                ),
                Some(_) => return "Unknown Error on Channel".to_owned(),
                None => (
                    "UnableToConnectToProject",
                    "Realtime was unable to connect to the project database",
                ),
            },
            Self::Pool(_) => (
                "UnableToConnectToProject",
                "Realtime was unable to connect to the project database",
            ),
        };
        format!("{code}: {message}")
    }
}
