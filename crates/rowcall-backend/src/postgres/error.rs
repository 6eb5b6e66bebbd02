//! What PostgreSQL's errors mean to the engine.

use deadpool_postgres::PoolError;
use rowcall_core::{ErrorClass, SourceError};
use tokio_postgres::error::{DbError, SqlState};

/// Says what was attempted, what PostgreSQL answered, and what to do.
pub(super) fn from_postgres(what: &str, error: tokio_postgres::Error) -> SourceError {
    let (class, message) = match error.as_db_error() {
        Some(database) => {
            let (class, hint) = classify(database);
            let hint = if hint.is_empty() {
                String::new()
            } else {
                format!(". {hint}")
            };
            (
                class,
                format!("{what} failed: {}{hint}", database.message()),
            )
        }
        None if error.is_closed() => (
            ErrorClass::Retryable,
            format!("{what} failed: the connection to the database was lost; it is opened again"),
        ),
        None => {
            let cause = rowcall_postgres::explain(&error);
            // Whatever has no answer of the server behind it is the network, except values that could not be converted.
            let conversion = cause.contains("serializing") || cause.contains("deserializing");
            let class = if conversion {
                ErrorClass::Bug
            } else {
                ErrorClass::Retryable
            };
            (class, format!("{what} failed: {cause}"))
        }
    };
    SourceError::because(class, message, error)
}

pub(super) fn from_pool(what: &str, error: PoolError) -> SourceError {
    match error {
        PoolError::Backend(error)
        | PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
            from_postgres(what, error)
        }
        PoolError::Timeout(_) => SourceError::because(
            ErrorClass::Retryable,
            format!("{what} failed: no connection to the database became free in time"),
            error,
        ),
        other => SourceError::because(ErrorClass::Bug, format!("{what} failed: {other}"), other),
    }
}

pub(super) fn timed_out(what: &str) -> SourceError {
    SourceError::new(
        ErrorClass::Retryable,
        format!("{what} failed: the database did not answer in time; the connection is given up"),
    )
}

/// Whether PostgreSQL refused a value: JSON it cannot hold, a number too large, too deep a nesting.
pub(super) fn is_refused_value(error: &SourceError) -> bool {
    let source = error
        .source
        .as_deref()
        .and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    let code = source
        .and_then(tokio_postgres::Error::code)
        .map(SqlState::code);
    // Data exceptions and exceeded limits.
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("54"))
}

/// A value of ours or of the database that should not be.
pub(super) fn bug(message: impl Into<String>) -> SourceError {
    SourceError::new(ErrorClass::Bug, message)
}

fn classify(error: &DbError) -> (ErrorClass, &'static str) {
    let code = error.code();
    if *code == SqlState::QUERY_CANCELED {
        return (
            ErrorClass::Retryable,
            "It took longer than the statement time-out; something may hold a lock",
        );
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return (
            ErrorClass::Unauthorized,
            "Connect as the role that owns rtx_activities, or grant this one select, insert and update on it and usage on schema rowcall",
        );
    }
    if [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(code)
    {
        return (
            ErrorClass::Permanent,
            "The database is not prepared for rowcall: run `rowcall db migrate`",
        );
    }
    if *code == SqlState::INVALID_CATALOG_NAME {
        return (
            ErrorClass::Permanent,
            "Create the database or correct its name in the URL",
        );
    }
    match &code.code()[..2] {
        // Connection, resources, an administrator's hand, and conflicts between transactions.
        "08" | "53" | "57" | "40" | "55" => (ErrorClass::Retryable, ""),
        "28" => (
            ErrorClass::Unauthorized,
            "Check user and password in the database URL",
        ),
        _ => (ErrorClass::Permanent, ""),
    }
}
