//! Makes what the server needs in the database, where it is missing.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::database::Database;
use super::error::RealtimeError;

/// How often partitions are made and dropped.
const JANITOR_INTERVAL: Duration = Duration::from_hours(4);
/// How soon the janitor tries again after a failure.
const JANITOR_RETRY: Duration = Duration::from_mins(1);

const PARTITIONS: &str = include_str!("../../sql/realtime/partitions.sql");

/// Creates schema, table, functions and publications that are absent. On a Supabase project nothing is.
pub(crate) async fn apply(database: &Database) -> Result<(), RealtimeError> {
    let client = database
        .connection()
        .await
        .map_err(RealtimeError::Connect)?;
    for (what, sql) in [
        (
            "realtime.messages",
            include_str!("../../sql/realtime/messages.sql"),
        ),
        ("the partitions of realtime.messages", PARTITIONS),
        (
            "the functions of schema realtime",
            include_str!("../../sql/realtime/functions.sql"),
        ),
        (
            "the publications",
            include_str!("../../sql/realtime/publications.sql"),
        ),
    ] {
        client
            .batch_execute(sql)
            .await
            .map_err(|source| RealtimeError::Prepare { what, source })?;
    }
    Ok(())
}

/// Keeps the partitions of our own `realtime.messages` ahead of time until `stop`.
pub(crate) async fn janitor_loop(database: Arc<Database>, stop: CancellationToken) {
    let mut pause = JANITOR_INTERVAL;
    while stop
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        pause = JANITOR_INTERVAL;
        let result = match database.connection().await {
            Ok(client) => client
                .batch_execute(PARTITIONS)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            tracing::warn!(
                error,
                "partitions of realtime.messages could not be kept; trying again"
            );
            pause = JANITOR_RETRY;
        }
    }
}
