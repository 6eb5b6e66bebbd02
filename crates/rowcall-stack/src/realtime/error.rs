//! Why the server could not be started.

/// The Realtime server could not be started. What happens later shows in the log and in what clients are told.
#[derive(Debug, thiserror::Error)]
pub enum RealtimeError {
    /// The database URL cannot be read.
    #[error(transparent)]
    Url(#[from] rowcall_postgres::UrlError),
    /// A connection pool could not be built.
    #[error("the connection pool could not be made: {0}")]
    Pool(String),
    /// The database cannot be reached.
    #[error(
        "Realtime cannot connect to the database: {}. Check that PostgreSQL runs and that the URL is right", rowcall_postgres::explain(.0)
    )]
    Connect(#[source] deadpool_postgres::PoolError),
    /// Something of schema `realtime`, a publication or the slot could not be made.
    #[error("Realtime could not prepare {what}: {source}. Connect as a role that may create it")]
    Prepare {
        /// What was to be made.
        what: &'static str,
        /// What PostgreSQL answered.
        source: tokio_postgres::Error,
    },
    /// Logical replication is off.
    #[error(
        "the server runs with wal_level={found}, and reading changes needs wal_level=logical. Set it \
         (`alter system set wal_level = logical`) and restart PostgreSQL"
    )]
    WalLevel {
        /// The setting found.
        found: String,
    },
    /// No replication session could be opened.
    #[error(
        "Realtime cannot read changes: {reason}. The role of the database URL needs the attribute REPLICATION \
         (`alter role … with replication`), and PostgreSQL a free replication slot"
    )]
    Stream {
        /// What went wrong.
        reason: String,
    },
}

impl RealtimeError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "db-url",
            Self::Pool(_) | Self::Connect(_) => "db-unavailable",
            Self::Prepare { .. } => "stack-bootstrap",
            Self::WalLevel { .. } => "stack-wal-level",
            Self::Stream { .. } => "stack-replication",
        }
    }
}
