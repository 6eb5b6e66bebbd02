//! A few connections, each prepared for what the statements here need.

use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use rowcall_core::SourceError;
use rowcall_postgres::UrlError;
use tokio_postgres::{Row, types::ToSql};

use super::{config::PostgresConfig, error};

/// The server cancels first, so that its answer says what happened; this much later the client gives up by itself.
const CLIENT_GRACE: Duration = Duration::from_secs(5);

/// Hands out connections and runs statements with a limit on their time.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    limit: Duration,
}

/// What every session of the daemon sets.
///
/// `rowcall.quiet` keeps its own claims from waking anybody. Statements are prepared once and planned once, and always by
/// index: on a table whose rows change state all the time statistics are never right, and one sequential scan per claim is
/// what a wrong guess costs.
pub(super) fn session_setup(config: &PostgresConfig) -> String {
    format!(
        "set rowcall.quiet = 'on'; set statement_timeout = {}; set idle_in_transaction_session_timeout = '1min'; set timezone = 'UTC'; \
         set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off; \
         set jit = off",
        config.statement_timeout.as_millis()
    )
}

impl Connections {
    pub(super) fn new(config: &PostgresConfig) -> Result<Self, UrlError> {
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let server = &config.server;
        let manager = Manager::from_config(server.config().clone(), server.connector(), manager);
        let setup = session_setup(config);
        let limit = config.statement_timeout + CLIENT_GRACE;
        let pool = Pool::builder(manager)
            .max_size(config.connections.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limit))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .post_create(Hook::async_fn(move |client, _| {
                let setup = setup.clone();
                Box::pin(async move {
                    client
                        .batch_execute(&setup)
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|error| UrlError::new(error.to_string()))?;
        Ok(Self { pool, limit })
    }

    /// A connection of one's own, for transactions and schema changes.
    pub(super) async fn get(&self, what: &str) -> Result<Object, SourceError> {
        self.pool
            .get()
            .await
            .map_err(|error| error::from_pool(what, error))
    }

    /// Runs one statement, prepared once per connection. After a time-out the connection is closed: whether the statement
    /// took effect is then unknown, and nothing may queue behind it.
    pub(super) async fn query(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        let client = self.get(what).await?;
        let work = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        match tokio::time::timeout(self.limit, work).await {
            Ok(answer) => answer.map_err(|error| error::from_postgres(what, error)),
            Err(_) => {
                drop(Object::take(client));
                Err(error::timed_out(what))
            }
        }
    }

    /// The same, for the one row a statement always returns.
    pub(super) async fn query_one(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, SourceError> {
        let mut rows = self.query(what, sql, parameters).await?;
        rows.pop()
            .ok_or_else(|| error::bug(format!("{what} failed: the database answered with no row")))
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }
}
