//! Why a database could not be prepared.

use rowcall_core::{ErrorClass, SourceError};
use tokio_postgres::error::SqlState;

/// Why a database could not be prepared, or does not fit this program.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A migration that ran is not the one this program holds.
    #[error(
        "migration {migration} ran in this database with other contents than this program holds, so what the tables look like is \
         unknown. Use the program version that migrated it, or restore the database from before"
    )]
    ChecksumDiffers {
        /// As `0001_activities`.
        migration: String,
    },
    /// A newer program was here.
    #[error(
        "the database is at migration {found}, this program knows {known}: a newer rowcall migrated it. Update this program"
    )]
    NewerDatabase {
        /// The last migration in the database.
        found: i32,
        /// The last one here.
        known: usize,
    },
    /// Migrations are missing.
    #[error(
        "the database is not prepared for this version of rowcall ({missing} migrations are missing): run `rowcall db migrate`"
    )]
    Outdated {
        /// How many.
        missing: usize,
    },
    /// Somebody else is at it.
    #[error(
        "another migration of this database has been running for {seconds} seconds; wait for it and try again"
    )]
    Busy {
        /// How long was waited.
        seconds: u64,
    },
    /// PostgreSQL refused a migration or a function; it was rolled back.
    #[error(
        "migration {migration} failed and was rolled back: {}",
        describe(source)
    )]
    Failed {
        /// As `0001_activities`, or the name of a function.
        migration: String,
        /// What PostgreSQL said.
        source: tokio_postgres::Error,
    },
    /// The database could not be asked.
    #[error("the database could not be examined: {}", describe(source))]
    Query {
        /// What PostgreSQL said.
        source: tokio_postgres::Error,
    },
}

impl MigrateError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ChecksumDiffers { .. } => "db-checksum",
            Self::NewerDatabase { .. } => "db-newer",
            Self::Outdated { .. } => "db-outdated",
            Self::Busy { .. } => "db-busy",
            Self::Failed { .. } | Self::Query { .. } => match (self.class(), self) {
                (ErrorClass::Unauthorized, _) => "db-refused",
                (ErrorClass::Retryable, _) => "db-unavailable",
                (_, Self::Failed { .. }) => "db-migration",
                _ => "db-query",
            },
        }
    }

    /// What a caller can do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Busy { .. } => ErrorClass::Retryable,
            Self::Query { source } | Self::Failed { source, .. } => match source.code() {
                Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => ErrorClass::Unauthorized,
                Some(_) => ErrorClass::Permanent,
                None => ErrorClass::Retryable,
            },
            Self::ChecksumDiffers { .. } | Self::NewerDatabase { .. } | Self::Outdated { .. } => {
                ErrorClass::Permanent
            }
        }
    }

    pub(super) fn query(source: tokio_postgres::Error) -> Self {
        Self::Query { source }
    }
}

/// The server's message with its hint, and what to do about missing rights.
fn describe(error: &tokio_postgres::Error) -> String {
    let Some(database) = error.as_db_error() else {
        return std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    };
    let mut text = database.message().to_owned();
    if let Some(hint) = database.hint() {
        text.push_str(". ");
        text.push_str(hint);
    }
    if *database.code() == SqlState::INSUFFICIENT_PRIVILEGE {
        text.push_str(". Connect as the owner of the database (on Supabase: the role postgres)");
    }
    text
}

impl From<MigrateError> for SourceError {
    fn from(error: MigrateError) -> Self {
        Self::because(error.class(), error.to_string(), error)
    }
}
