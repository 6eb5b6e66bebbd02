//! A table of the project that holds tasks, through REST.
//!
//! Two kinds: `rtx_activities`, whose rows carry the changed row in `raw_data`, and a table of the user's own with the lock
//! columns `status`, `locked_by` and `locked_at`, whose rows are the tasks themselves. What may be missing is found out
//! once, by [`Table::detect_activities`] and [`Table::detect_own`].

mod admin;
mod read;
mod row;
mod write;

use std::collections::BTreeSet;

use rowcall_core::TableName;

use super::{
    error::RestError,
    http::{Call, Rest},
    query::table_path,
};

pub(crate) use read::{MAX_PAGE, Page};
pub(crate) use row::{MARKER, Row};
pub(crate) use write::MAX_IDS;

/// Columns of our own in `rtx_activities`.
const OURS: [&str; 5] = [
    "attempt",
    "source_table",
    "source_event",
    "source_key",
    "retry_at",
];
/// Columns that every published `rtx_activities` has and that a table of one's own may have.
const OPTIONAL: [&str; 6] = [
    "attempted_by",
    "retry_count",
    "error_message",
    "completed_at",
    "result",
    "created_at",
];
/// Without these a table cannot be locked by us.
const LOCK: [&str; 4] = ["id", "status", "locked_by", "locked_at"];

/// A table that holds tasks.
#[derive(Clone)]
pub(crate) struct Table {
    rest: Rest,
    name: TableName,
    columns: BTreeSet<&'static str>,
    is_activities: bool,
}

impl Table {
    /// `rtx_activities`, with or without our columns.
    pub(crate) async fn detect_activities(rest: Rest) -> Result<Self, RestError> {
        let mut table = Self {
            rest,
            name: TableName::activities(),
            columns: OPTIONAL.into(),
            is_activities: true,
        };
        if table.has_columns(&OURS).await? {
            table.columns.extend(OURS);
        } else {
            // The same request without our columns tells a missing table from a missing column.
            table.has_columns(&LOCK).await?;
        }
        Ok(table)
    }

    /// A table of the user's own; nothing when it has no lock columns.
    pub(crate) async fn detect_own(rest: Rest, name: TableName) -> Result<Option<Self>, RestError> {
        let mut table = Self {
            rest,
            name,
            columns: BTreeSet::new(),
            is_activities: false,
        };
        if !table.has_columns(&LOCK).await? {
            return Ok(None);
        }
        if table.has_columns(&OPTIONAL).await? {
            table.columns.extend(OPTIONAL);
            return Ok(Some(table));
        }
        for column in OPTIONAL {
            if table.has_columns(&[column]).await? {
                table.columns.insert(column);
            }
        }
        Ok(Some(table))
    }

    /// A table that can only be heard of, never asked: its rows come with Realtime events.
    pub(crate) fn unseen(rest: Rest, name: TableName) -> Self {
        Self {
            rest,
            name,
            columns: BTreeSet::new(),
            is_activities: false,
        }
    }

    async fn has_columns(&self, columns: &[&str]) -> Result<bool, RestError> {
        let call = self
            .call(Call::get)
            .query("select", &columns.join(","))
            .query("limit", "0");
        match self.rest.send(&call).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing_column() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn name(&self) -> &TableName {
        &self.name
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.contains(column)
    }

    pub(crate) fn is_activities(&self) -> bool {
        self.is_activities
    }

    pub(crate) fn rest(&self) -> &Rest {
        &self.rest
    }

    fn call(&self, method: impl FnOnce(&[&str]) -> Call) -> Call {
        method(&table_path(&self.name)).schema(self.name.schema())
    }
}
