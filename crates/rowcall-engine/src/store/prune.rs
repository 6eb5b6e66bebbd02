//! Forgetting: the store is bounded by age, by rows and by what lines take.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::open::StoreOptions;

/// How many attempts lose their lines in one transaction.
const PRUNE_AT_ONCE: u32 = 200;

/// Forgets what is too old or too much. Each step is its own transaction, so that the writer's pauses stay short.
pub(super) fn prune(
    connection: &Connection,
    options: &StoreOptions,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let keep = i64::try_from(options.keep.as_millis()).unwrap_or(i64::MAX);
    let before = now.as_millisecond().saturating_sub(keep);
    connection.execute(
        include_str!("sql/prune_attempts.sql"),
        params![before, options.keep_rows],
    )?;
    connection.execute(
        include_str!("sql/prune_calendar.sql"),
        params![before, options.keep_rows],
    )?;
    let total: i64 =
        connection.query_row(include_str!("sql/log_total.sql"), [], |row| row.get(0))?;
    let allowed = i64::try_from(options.log_total).unwrap_or(i64::MAX);
    let mut excess = total - allowed;
    while excess > 0 {
        let oldest: Vec<(i64, i64)> = connection
            .prepare_cached(include_str!("sql/prune_candidates.sql"))?
            .query_map([PRUNE_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if oldest.is_empty() {
            break;
        }
        let transaction = connection.unchecked_transaction()?;
        for (id, bytes) in oldest {
            if excess <= 0 {
                break;
            }
            transaction.execute(include_str!("sql/prune_lines.sql"), [id])?;
            transaction.execute(include_str!("sql/prune_forget_lines.sql"), [id])?;
            excess -= bytes;
        }
        transaction.commit()?;
    }
    Ok(())
}
