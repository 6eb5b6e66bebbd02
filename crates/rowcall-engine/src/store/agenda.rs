//! The calendar from a person's side: one entry, and those whose time has come.

use jiff::Timestamp;
use rowcall_core::TaskRef;
use rusqlite::params;

use super::{
    calendar::{CalendarRow, read},
    open::{Store, StoreError},
};

impl Store {
    /// One entry by its number.
    pub fn calendar_entry(&self, id: i64) -> Result<Option<CalendarRow>, StoreError> {
        self.first(
            include_str!("sql/calendar_get.sql"),
            params![id, None::<&str>, None::<&str>],
            read,
        )?
        .transpose()
    }

    /// The entry of a task.
    pub fn calendar_of(&self, task: &TaskRef) -> Result<Option<CalendarRow>, StoreError> {
        self.first(
            include_str!("sql/calendar_get.sql"),
            params![None::<i64>, task.table.to_string(), task.id.to_string()],
            read,
        )?
        .transpose()
    }

    /// Entries that wait and whose time has come, the oldest first.
    pub fn calendar_due(&self, now: Timestamp, limit: u32) -> Result<Vec<CalendarRow>, StoreError> {
        self.rows(
            include_str!("sql/calendar_due.sql"),
            params![now.as_millisecond(), limit],
            read,
        )?
        .into_iter()
        .collect()
    }
}
