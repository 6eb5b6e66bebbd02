//! Attempts in the store.

use jiff::Timestamp;
use rowcall_core::{TableName, TaskId};
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::{
    calendar,
    open::{Store, StoreError, time},
    record::{CalendarState, Ended, Outcome, Started},
};

/// One attempt on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    /// Grows with each attempt of this store.
    pub id: i64,
    /// The table that is claimed.
    pub task_table: String,
    /// The task's id there.
    pub task_id: String,
    /// Which claim of the task it was.
    pub attempt: u32,
    /// The app.
    pub app: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The machine: this one, under the name it had then.
    pub machine: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it failed.
    pub error: Option<String>,
    /// How many lines it printed.
    pub log_lines: i64,
    /// How many bytes of them are kept.
    pub log_bytes: i64,
    /// How many lines were thrown away.
    pub cut_lines: i64,
}

impl Store {
    /// The attempts of a task, the oldest first. Without a table, those of every task with this id.
    pub fn attempts(
        &self,
        task: &TaskId,
        table: Option<&TableName>,
    ) -> Result<Vec<AttemptRow>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(include_str!("sql/attempt_list.sql"))
            .map_err(|error| self.error(error))?;
        let rows = statement
            .query_map(
                params![task.to_string(), table.map(ToString::to_string)],
                read,
            )
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(|error| self.error(error))?;
        rows.into_iter().collect()
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Result<AttemptRow, StoreError>> {
    let word: Option<String> = row.get(9)?;
    let outcome = match word {
        None => None,
        Some(word) => match Outcome::from_word(&word) {
            Some(outcome) => Some(outcome),
            None => {
                return Ok(Err(StoreError::Unreadable {
                    what: "an outcome",
                    value: word,
                }));
            }
        },
    };
    Ok(Ok(AttemptRow {
        id: row.get(0)?,
        task_table: row.get(1)?,
        task_id: row.get(2)?,
        attempt: row.get(3)?,
        app: row.get(4)?,
        agent: row.get(5)?,
        machine: row.get(6)?,
        started_at: time(row.get(7)?),
        ended_at: row.get::<_, Option<i64>>(8)?.map(time),
        outcome,
        error: row.get(10)?,
        log_lines: row.get(11)?,
        log_bytes: row.get(12)?,
        cut_lines: row.get(13)?,
    }))
}

/// Remembers that an attempt began.
pub(super) fn add_started(connection: &Connection, started: &Started) -> rusqlite::Result<()> {
    let seen = &started.seen;
    calendar::add_attempt(
        connection,
        seen,
        started.attempt,
        CalendarState::Running,
        None,
        seen.at,
    )?;
    connection
        .prepare_cached(include_str!("sql/attempt_started.sql"))?
        .execute(params![
            seen.task.table.to_string(),
            seen.task.id.to_string(),
            started.attempt,
            seen.app.as_str(),
            seen.agent.as_str(),
            started.machine.as_str(),
            seen.at.as_millisecond(),
        ])?;
    Ok(())
}

/// Remembers an attempt whose start and end came in one batch.
pub(super) fn add_whole(
    connection: &Connection,
    started: &Started,
    ended: &Ended,
) -> rusqlite::Result<()> {
    let seen = &started.seen;
    calendar::add_attempt(
        connection,
        seen,
        started.attempt,
        ended.outcome.calendar(seen.trigger),
        ended.error.as_deref(),
        ended.at,
    )?;
    connection
        .prepare_cached(include_str!("sql/attempt_whole.sql"))?
        .execute(params![
            seen.task.table.to_string(),
            seen.task.id.to_string(),
            started.attempt,
            seen.app.as_str(),
            seen.agent.as_str(),
            started.machine.as_str(),
            seen.at.as_millisecond(),
            ended.at.as_millisecond(),
            ended.outcome.as_str(),
            ended.error,
        ])?;
    Ok(())
}

/// Remembers that an attempt ended.
pub(super) fn add_ended(connection: &Connection, ended: &Ended) -> rusqlite::Result<()> {
    let (table, id) = (ended.task.table.to_string(), ended.task.id.to_string());
    let at = ended.at.as_millisecond();
    connection
        .prepare_cached(include_str!("sql/calendar_ended.sql"))?
        .execute(params![
            table,
            id,
            ended.attempt,
            ended.outcome.calendar(rowcall_core::Trigger::Auto).as_str(),
            ended
                .outcome
                .calendar(rowcall_core::Trigger::Review)
                .as_str(),
            ended.error,
            at,
        ])?;
    connection
        .prepare_cached(include_str!("sql/attempt_ended.sql"))?
        .execute(params![
            table,
            id,
            ended.attempt,
            at,
            ended.outcome.as_str(),
            ended.error,
        ])?;
    Ok(())
}
