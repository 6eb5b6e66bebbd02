//! Workspaces and their threads: names under which clients start agents.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::open::{Store, StoreError, time};

/// How many workspaces there may be.
pub const MAX_WORKSPACES: u32 = 10_000;

/// How many threads one workspace may have.
pub const MAX_THREADS: u32 = 10_000;

/// One workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkspaceRow {
    /// Its number.
    pub id: i64,
    /// What requests call it.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// Its kind, `workspace`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One thread of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadRow {
    /// Its number.
    pub id: i64,
    /// What requests call it.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What became of a new workspace or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// The slug is taken.
    Taken,
    /// There are as many as there may be.
    Full,
    /// There is no such workspace.
    NoWorkspace,
}

impl Store {
    /// All workspaces, the oldest first.
    pub fn workspaces(&self) -> Result<Vec<WorkspaceRow>, StoreError> {
        self.workspace_rows(None)
    }

    /// One workspace.
    pub fn workspace(&self, slug: &str) -> Result<Option<WorkspaceRow>, StoreError> {
        Ok(self.workspace_rows(Some(slug))?.pop())
    }

    fn workspace_rows(&self, slug: Option<&str>) -> Result<Vec<WorkspaceRow>, StoreError> {
        self.rows(
            include_str!("sql/workspace_list.sql"),
            params![slug],
            |row| {
                Ok(WorkspaceRow {
                    id: row.get(0)?,
                    slug: row.get(1)?,
                    name: row.get(2)?,
                    kind: row.get(3)?,
                    created_at: time(row.get(4)?),
                })
            },
        )
    }

    /// Adds a workspace, with a thread `general`.
    pub fn add_workspace(
        &self,
        slug: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        let at = now.as_millisecond();
        self.together(|connection| {
            let count: u32 = connection
                .prepare_cached(include_str!("sql/workspace_count.sql"))?
                .query_row([], |row| row.get(0))?;
            if count >= MAX_WORKSPACES {
                return Ok(Added::Full);
            }
            let added = connection
                .prepare_cached(include_str!("sql/workspace_add.sql"))?
                .execute(params![slug, name, at])?;
            if added == 0 {
                return Ok(Added::Taken);
            }
            connection
                .prepare_cached(include_str!("sql/thread_add.sql"))?
                .execute(params![slug, "general", "General", at])?;
            Ok(Added::Done)
        })
    }

    /// Gives a workspace another name; `false` when there is none.
    pub fn rename_workspace(
        &self,
        slug: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/workspace_rename.sql"),
            params![slug, name, now.as_millisecond()],
        )
    }

    /// Removes a workspace and its threads; `false` when there is none.
    pub fn remove_workspace(&self, slug: &str) -> Result<bool, StoreError> {
        self.change(include_str!("sql/workspace_remove.sql"), params![slug])
    }

    /// The threads of a workspace, the oldest first; empty when there is no such workspace.
    pub fn threads(&self, workspace: &str) -> Result<Vec<ThreadRow>, StoreError> {
        self.rows(
            include_str!("sql/thread_list.sql"),
            params![workspace],
            |row| {
                Ok(ThreadRow {
                    id: row.get(0)?,
                    slug: row.get(1)?,
                    name: row.get(2)?,
                    created_at: time(row.get(3)?),
                })
            },
        )
    }

    /// Adds a thread.
    pub fn add_thread(
        &self,
        workspace: &str,
        slug: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        if self.workspace(workspace)?.is_none() {
            return Ok(Added::NoWorkspace);
        }
        self.together(|connection| {
            let count: u32 = connection
                .prepare_cached(include_str!("sql/thread_count.sql"))?
                .query_row([workspace], |row| row.get(0))?;
            if count >= MAX_THREADS {
                return Ok(Added::Full);
            }
            let added = connection
                .prepare_cached(include_str!("sql/thread_add.sql"))?
                .execute(params![workspace, slug, name, now.as_millisecond()])?;
            Ok(if added > 0 { Added::Done } else { Added::Taken })
        })
    }

    /// Removes a thread; `false` when there is none.
    pub fn remove_thread(&self, workspace: &str, slug: &str) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/thread_remove.sql"),
            params![workspace, slug],
        )
    }
}
