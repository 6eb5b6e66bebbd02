//! Compatible mode over direct SQL: any PostgreSQL from 14 on, Supabase with a database URL, or the embedded one.
//!
//! Tasks are rows of `public.rtx_activities`. A claim is one conditional update with `for update skip locked`; leases are
//! fenced by machine, attempt and state; only the database's clock counts. The statements are in `sql/postgres`, the tables in
//! `sql/migrations`.
//!
//! Waking up is [`rowcall_core::ports::SignalSource`]: writers notify only while this daemon waits (`sql/migrations/0003_wake.sql`).
//! An engine that finds itself in a backlog says so with `set_busy(true)`, again and again while it goes on, and `set_busy(false)`
//! before it waits for signals; the source then tells it to look once more. It must not say that it is busy while it has no
//! free permits: another machine may have some. A look every minute ([`maintain`]) finds what no signal announced.
//!
//! [`maintain`]: rowcall_core::ports::Coordinator::maintain

mod admin;
mod client;
mod config;
mod coordinator;
mod error;
mod listen;
mod pool;
mod row;
mod settle;
mod statement;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use client::connect;
pub use config::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_CONNECTIONS, DEFAULT_QUIET_FOR, DEFAULT_STATEMENT_TIMEOUT,
    PostgresConfig,
};
pub use coordinator::MAX_BATCH;
use rowcall_core::SourceError;
pub use rowcall_postgres::UrlError;

use self::{coordinator::Fixed, listen::Gate, pool::Connections, statement::Statements};

/// Tasks in PostgreSQL: the coordinator, the signal source and the administration of one database. Clones share connections.
#[derive(Clone)]
pub struct PostgresBackend(Arc<Inner>);

struct Inner {
    config: PostgresConfig,
    connections: Connections,
    statements: Statements,
    fixed: Fixed,
    gate: Gate,
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl PostgresBackend {
    /// Opens the first connection and checks that the database is prepared.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses ([`rowcall_core::ErrorClass::Retryable`] or `Unauthorized`), or when the database was not
    /// migrated or is newer than this program (`Permanent`).
    pub async fn connect(config: PostgresConfig) -> Result<Self, SourceError> {
        let backend = Self::without_check(config).map_err(|error| {
            SourceError::because(
                rowcall_core::ErrorClass::Permanent,
                error.to_string(),
                error,
            )
        })?;
        let client = backend
            .0
            .connections
            .get("connecting to the database")
            .await?;
        crate::migrate::require_current(&client)
            .await
            .map_err(SourceError::from)?;
        Ok(backend)
    }

    /// Opens nothing yet; the first statement does.
    pub(crate) fn without_check(config: PostgresConfig) -> Result<Self, UrlError> {
        let connections = Connections::new(&config)?;
        Ok(Self(Arc::new(Inner {
            connections,
            statements: Statements::default(),
            fixed: Fixed::new(),
            gate: Gate::default(),
            config,
        })))
    }

    /// Says goodbye: this daemon no longer counts among the listeners, and the connections are closed. What is called afterwards
    /// fails.
    pub async fn close(&self) {
        if let Err(error) = self.forget_listener().await {
            tracing::debug!(%error, "could not leave the list of listeners; it is forgotten after a day");
        }
        self.0.connections.close();
    }

    fn max_attempts(&self) -> i32 {
        i32::try_from(self.0.config.max_attempts).unwrap_or(i32::MAX)
    }
}
