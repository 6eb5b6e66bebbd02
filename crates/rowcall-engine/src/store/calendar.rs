//! The calendar: every task this machine has seen, each once.

use jiff::Timestamp;
use rowcall_core::{TaskId, TaskRef, Trigger};
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::{
    open::{Store, StoreError, time},
    record::{CalendarState, Seen},
};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CalendarRow {
    /// Grows with each entry of this store.
    pub id: i64,
    /// The table that is claimed.
    pub task_table: String,
    /// The task's id there.
    pub task_id: String,
    /// The table whose change made the task.
    pub source_table: String,
    /// The change.
    pub event: String,
    /// The app that handles it.
    pub app: String,
    /// The agent.
    pub agent: String,
    /// By itself or after review.
    pub trigger: Trigger,
    /// Where it stands.
    pub state: CalendarState,
    /// The last attempt on this machine.
    pub attempt: Option<u32>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was seen first.
    pub seen_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When it shall run, where a person said so.
    pub scheduled_for: Option<Timestamp>,
}

/// Which entries are listed.
#[derive(Clone, Debug, Default)]
pub struct CalendarQuery {
    /// Only this state.
    pub state: Option<CalendarState>,
    /// Only this app.
    pub app: Option<String>,
    /// Only this task.
    pub task: Option<TaskId>,
    /// At most this many.
    pub limit: u32,
    /// Skip this many.
    pub offset: u32,
}

impl Store {
    /// Entries, the newest first.
    pub fn calendar(&self, query: &CalendarQuery) -> Result<Vec<CalendarRow>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(include_str!("sql/calendar_list.sql"))
            .map_err(|error| self.error(error))?;
        let rows = statement
            .query_map(
                params![
                    query.state.map(CalendarState::as_str),
                    query.app,
                    query.task.as_ref().map(ToString::to_string),
                    query.limit,
                    query.offset
                ],
                read,
            )
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(|error| self.error(error))?;
        rows.into_iter().collect()
    }

    /// A person skips an entry, or puts it back to wait, or says when it shall run. `false` when there is no such entry
    /// or it runs.
    pub fn mark_calendar(
        &self,
        task: &TaskRef,
        state: CalendarState,
        scheduled_for: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/calendar_mark.sql"),
            params![
                task.table.to_string(),
                task.id.to_string(),
                state.as_str(),
                scheduled_for.map(Timestamp::as_millisecond),
                now.as_millisecond()
            ],
        )
    }
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Result<CalendarRow, StoreError>> {
    let state: String = row.get(8)?;
    let Some(state) = CalendarState::from_word(&state) else {
        return Ok(Err(StoreError::Unreadable {
            what: "a calendar state",
            value: state,
        }));
    };
    let trigger: String = row.get(7)?;
    Ok(Ok(CalendarRow {
        id: row.get(0)?,
        task_table: row.get(1)?,
        task_id: row.get(2)?,
        source_table: row.get(3)?,
        event: row.get(4)?,
        app: row.get(5)?,
        agent: row.get(6)?,
        trigger: if trigger == "review" {
            Trigger::Review
        } else {
            Trigger::Auto
        },
        state,
        attempt: row.get(9)?,
        error: row.get(10)?,
        seen_at: time(row.get(11)?),
        updated_at: time(row.get(12)?),
        scheduled_for: row.get::<_, Option<i64>>(13)?.map(time),
    }))
}

pub(super) fn trigger_word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Auto => "auto",
        Trigger::Review => "review",
    }
}

/// Remembers a task that was seen.
pub(super) fn add_seen(connection: &Connection, seen: &Seen) -> rusqlite::Result<()> {
    let state = match seen.trigger {
        Trigger::Auto => CalendarState::Seen,
        Trigger::Review => CalendarState::Waiting,
    };
    connection
        .prepare_cached(include_str!("sql/calendar_seen.sql"))?
        .execute(params![
            seen.task.table.to_string(),
            seen.task.id.to_string(),
            seen.source.to_string(),
            seen.event.as_str(),
            seen.app.as_str(),
            seen.agent.as_str(),
            trigger_word(seen.trigger),
            state.as_str(),
            seen.at.as_millisecond(),
        ])?;
    Ok(())
}

/// Remembers an attempt of a task, running or ended.
pub(super) fn add_attempt(
    connection: &Connection,
    seen: &Seen,
    attempt: u32,
    state: CalendarState,
    error: Option<&str>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(include_str!("sql/calendar_attempt.sql"))?
        .execute(params![
            seen.task.table.to_string(),
            seen.task.id.to_string(),
            seen.source.to_string(),
            seen.event.as_str(),
            seen.app.as_str(),
            seen.agent.as_str(),
            trigger_word(seen.trigger),
            state.as_str(),
            at.as_millisecond(),
            attempt,
            error,
        ])?;
    Ok(())
}
