//! What can go wrong with queues.

use rowcall_core::{ErrorClass, SourceError};
use tokio_postgres::error::SqlState;

use super::name::{QueueName, QueueNameError};

/// A failure of a queue operation. Losing a lease is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The name cannot be a queue's.
    #[error(transparent)]
    Name(#[from] QueueNameError),
    /// There is no such queue.
    #[error("the queue {0} does not exist (42P01): create it with `rowcall queue create {0}`")]
    Missing(QueueName),
    /// There is no pgmq.
    #[error(
        "pgmq is not installed in this database: run `rowcall setup`, or `create extension pgmq`"
    )]
    NotInstalled,
    /// The pgmq at hand is too old for what the configuration asks.
    #[error(
        "the queue {queue} is configured for {order}, which pgmq offers since {needed}: upgrade pgmq or use order `oldest`"
    )]
    TooOld {
        /// Which queue.
        queue: QueueName,
        /// The order asked for.
        order: &'static str,
        /// The pgmq that has it.
        needed: &'static str,
    },
    /// A queue appears twice among the queues of one worker.
    #[error("the queue {0} is configured twice: names that differ in case only are one queue")]
    Twice(QueueName),
    /// Filters would have to read a message to decide whether to read it.
    #[error(
        "the route on {0} has a filter: a queue's messages all go to its handler, so decide there"
    )]
    Filtered(rowcall_core::TableName),
    /// The name of a worker cannot be used.
    #[error(transparent)]
    WorkerName(#[from] rowcall_core::id::InvalidId),
    /// The address of the database cannot be read.
    #[error("the database URL is not usable: {0}")]
    Url(String),
    /// The database refused, or is out of reach.
    #[error("{doing} failed: {}", explain(.source))]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A Supabase project did not do what it was asked.
    #[error("{message}")]
    Project {
        /// What kind of failure it is.
        class: ErrorClass,
        /// What was tried, what happened, what to do.
        message: String,
    },
    /// Something that a project does not offer to those who have only its URL and a key.
    #[error(
        "{doing} needs a connection to the database: give its URL with --database-url or DATABASE_URL"
    )]
    NeedsDatabase {
        /// What was tried.
        doing: &'static str,
    },
    /// A connection that answers nothing any more.
    #[error("the database does not answer on the listening connection")]
    Silent,
    /// No connection could be had.
    #[error("no connection to the database: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
}

/// The server's own words; tokio-postgres prints only "db error".
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return rowcall_postgres::explain(error);
    };
    let hint = db
        .hint()
        .map(|hint| format!(" ({hint})"))
        .unwrap_or_default();
    format!("{} ({}){hint}", db.message(), db.code().code())
}

impl QueueError {
    /// Names what was tried, for `map_err`.
    pub(super) fn doing(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// The server's error code, when the server answered.
    pub fn sql_state(&self) -> Option<&SqlState> {
        match self {
            Self::Database { source, .. }
            | Self::Pool(deadpool_postgres::PoolError::Backend(source)) => source.code(),
            _ => None,
        }
    }

    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::WorkerName(_) => "queue-name",
            Self::Missing(_) => "queue-missing",
            Self::NotInstalled | Self::TooOld { .. } => "queue-pgmq",
            Self::Twice(_) | Self::Filtered(_) => "config-value",
            Self::Url(_) => "db-url",
            Self::Project { .. } | Self::NeedsDatabase { .. } => "queue-project",
            Self::Database { .. } | Self::Pool(_) | Self::Silent => match self.class() {
                ErrorClass::Retryable => "db-unavailable",
                ErrorClass::Unauthorized => "db-refused",
                ErrorClass::Permanent | ErrorClass::Conflict | ErrorClass::Bug => "db-query",
            },
        }
    }

    /// What a caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Name(_)
            | Self::Missing(_)
            | Self::NotInstalled
            | Self::TooOld { .. }
            | Self::Twice(_)
            | Self::Filtered(_)
            | Self::WorkerName(_)
            | Self::NeedsDatabase { .. }
            | Self::Url(_) => ErrorClass::Permanent,
            Self::Project { class, .. } => *class,
            Self::Silent => ErrorClass::Retryable,
            Self::Database { .. } | Self::Pool(_) => match self.sql_state() {
                // The connection broke, or a pool had none in time.
                None => ErrorClass::Retryable,
                Some(code) => classify(code.code()),
            },
        }
    }
}

/// By the class of the code: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn classify(code: &str) -> ErrorClass {
    match code {
        "42501" => ErrorClass::Unauthorized,
        "55P03" => ErrorClass::Retryable, // lock not available
        _ => match &code[..2] {
            "28" => ErrorClass::Unauthorized,
            // Connections, rollbacks (deadlocks, serialisation), resources, operator intervention, system errors.
            "08" | "40" | "53" | "57" | "58" => ErrorClass::Retryable,
            _ => ErrorClass::Permanent,
        },
    }
}

impl From<QueueError> for SourceError {
    fn from(error: QueueError) -> Self {
        Self {
            class: error.class(),
            message: error.to_string(),
            source: Some(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classified() {
        for (code, class) in [
            ("42501", ErrorClass::Unauthorized),
            ("28P01", ErrorClass::Unauthorized),
            ("40001", ErrorClass::Retryable),
            ("57P01", ErrorClass::Retryable),
            ("42P01", ErrorClass::Permanent),
        ] {
            assert_eq!(classify(code), class, "{code}");
        }
    }

    #[test]
    fn missing_queues_name_the_code_that_clients_look_for() {
        let error = QueueError::Missing(QueueName::new("nope").unwrap());
        assert!(error.to_string().contains("42P01"));
    }
}
