//! Why a table cannot be captured.

use rowcall_core::TableName;
use tokio_postgres::error::SqlState;

/// Why a table cannot be captured; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The set-up of the database is missing.
    #[error("the database is not prepared for rowcall: run `rowcall db migrate`")]
    NotPrepared,
    /// There is no such table.
    #[error("there is no table {table}{}", did_you_mean(similar))]
    NoTable {
        /// What was asked for.
        table: TableName,
        /// What may have been meant.
        similar: Vec<TableName>,
    },
    /// It is a view, a foreign table, or the like.
    #[error(
        "{table} is {kind}: only tables have triggers that see every change. Capture the table the data is written to"
    )]
    NotATable {
        /// What was asked for.
        table: TableName,
        /// What it is.
        kind: &'static str,
    },
    /// Rows cannot be told apart.
    #[error(
        "{table} has no primary key, so its rows cannot be told apart. {}",
        add_key(table, usable)
    )]
    NoKey {
        /// What was asked for.
        table: TableName,
        /// Unique indexes over not-null columns, one of which may serve.
        usable: Vec<String>,
    },
    /// The activities themselves.
    #[error(
        "public.rtx_activities needs no capture: what is written to it is a task already. Name it in the app's tables instead"
    )]
    Activities,
    /// A schema of PostgreSQL or of ours.
    #[error("{table} belongs to {owner} and cannot be captured")]
    System {
        /// What was asked for.
        table: TableName,
        /// Whose schema it is.
        owner: &'static str,
    },
    /// No event is left.
    #[error("no events are selected for {0}: name at least one of insert, update and delete")]
    NoEvents(TableName),
    /// The filter could never match.
    #[error("the filter names the column {column:?}, which {table} does not have; it has {}", columns.join(", "))]
    UnknownColumn {
        /// What was asked for.
        table: TableName,
        /// The column that is not there.
        column: String,
        /// Those that are.
        columns: Vec<String>,
    },
    /// The role may not put triggers there.
    #[error(
        "{0} belongs to another role, and only its owner may put triggers on it: connect as the owner"
    )]
    NotOwner(TableName),
    /// The capture function would write nowhere.
    #[error(
        "this role may not insert into public.rtx_activities past its row level security, so captured changes would be refused: \
         connect as the owner of rtx_activities"
    )]
    NoRights,
    /// Something holds the table.
    #[error(
        "{0} is locked by a long transaction, so the triggers could not be put on it: try again when it has ended"
    )]
    Locked(TableName),
    /// Anything else that PostgreSQL says.
    #[error("capturing failed: {}", describe(.0))]
    Postgres(tokio_postgres::Error),
}

impl CaptureError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotPrepared => "db-outdated",
            Self::NoTable { .. } => "setup-no-table",
            Self::NotATable { .. } => "setup-not-a-table",
            Self::NoKey { .. } => "setup-no-key",
            Self::Activities | Self::System { .. } => "setup-reserved",
            Self::NoEvents(_) => "setup-no-events",
            Self::UnknownColumn { .. } => "setup-unknown-column",
            Self::NotOwner(_) | Self::NoRights => "setup-rights",
            Self::Locked(_) => "setup-locked",
            Self::Postgres(error) if error.code().is_none() => "db-unavailable",
            Self::Postgres(_) => "db-query",
        }
    }

    pub(super) fn on(table: &TableName) -> impl Fn(tokio_postgres::Error) -> Self + '_ {
        move |error| match error.code() {
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Self::Locked(table.clone()),
            _ => Self::from(error),
        }
    }
}

impl From<tokio_postgres::Error> for CaptureError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code)
                if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME =>
            {
                Self::NotPrepared
            }
            _ => Self::Postgres(error),
        }
    }
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(database) => database.message().to_owned(),
        None => error.to_string(),
    }
}

fn did_you_mean(similar: &[TableName]) -> String {
    if similar.is_empty() {
        return "; names are case sensitive and need their schema unless it is public".to_owned();
    }
    let names: Vec<String> = similar.iter().map(ToString::to_string).collect();
    format!("; did you mean {}?", names.join(" or "))
}

fn add_key(table: &TableName, usable: &[String]) -> String {
    let table = crate::sql::qualified(table);
    match usable.first() {
        Some(index) => format!(
            "It has a unique index that may serve: alter table {table} replica identity using index {}",
            crate::sql::ident(index)
        ),
        None => format!(
            "Add one: alter table {table} add primary key (…), or add column id bigint generated always as identity primary key"
        ),
    }
}
