//! Where the database is and how it is spoken to.

use std::time::Duration;

use rowcall_postgres::{Server, UrlError};

/// A statement that takes longer is canceled by the server. Claims and settlements take milliseconds; what takes this long
/// waits for a lock or for a broken network.
pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Opening a connection, TLS and login included.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections for claims, settlements and everything else but listening.
pub const DEFAULT_CONNECTIONS: usize = 4;
/// How far the gate of a busy daemon is pushed ahead each time.
pub const DEFAULT_QUIET_FOR: Duration = Duration::from_secs(2);

/// A database and the manners towards it.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    pub(crate) server: Server,
    /// How many connections besides the listening one.
    pub connections: usize,
    /// After this the server cancels a statement.
    pub statement_timeout: Duration,
    /// After this a connection attempt is given up.
    pub connect_timeout: Duration,
    /// The name of this daemon among the listeners; its machine id.
    pub listener: String,
    /// The limit that lists use where no rules are given: a task that failed so often needs attention.
    pub max_attempts: u32,
    /// How far a busy daemon pushes its gate ahead each time.
    pub quiet_for: Duration,
}

impl PostgresConfig {
    /// Reads `postgres://user:password@host:port/database?sslmode=…` (or libpq's `key=value` form). `listener` names this daemon.
    ///
    /// The URL must lead to PostgreSQL itself or to a pooler in session mode: listening and prepared statements do not
    /// survive a pooler in transaction mode (port 6543 on Supabase).
    pub fn new(url: &str, listener: impl Into<String>) -> Result<Self, UrlError> {
        let mut server = Server::parse(url)?;
        server.config_mut().connect_timeout(DEFAULT_CONNECT_TIMEOUT);
        Ok(Self {
            server,
            connections: DEFAULT_CONNECTIONS,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            listener: listener.into(),
            max_attempts: rowcall_core::RetryPolicy::default().max_attempts,
            quiet_for: DEFAULT_QUIET_FOR,
        })
    }

    /// The name shown in `pg_stat_activity`.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.server.config_mut().application_name(name);
        self
    }

    /// `user@host:port/database`, for people.
    pub fn target(&self) -> String {
        self.server.target()
    }
}
