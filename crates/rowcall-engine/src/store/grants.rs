//! What apps may do: decisions, questions that wait for one, and the log of both.

use jiff::Timestamp;
use rowcall_core::AppId;
use rusqlite::{Row, params};
use serde::Serialize;

use super::open::{Store, StoreError, time};

/// How many entries of the log are kept.
const KEEP_LOG: u32 = 10_000;

/// How many permissions of one app are decided or asked for at most: an app must not fill the disk with inventions.
pub const MAX_PERMISSIONS_PER_APP: u32 = 200;

/// What a person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The app may.
    Granted,
    /// It may not, and is not asked about again.
    Denied,
}

impl Decision {
    /// The word in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
        }
    }

    pub(super) fn checked(mut row: GrantRow, word: &str) -> Result<GrantRow, StoreError> {
        row.decision = match word {
            "granted" => Self::Granted,
            "denied" => Self::Denied,
            other => {
                return Err(StoreError::Unreadable {
                    what: "a decision",
                    value: other.to_owned(),
                });
            }
        };
        Ok(row)
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantRow {
    /// The app.
    pub app: String,
    /// The permission.
    pub permission: String,
    /// What was decided.
    pub decision: Decision,
    /// By whom: `cli`, `api`, `policy`.
    pub decided_by: String,
    /// When.
    pub decided_at: Timestamp,
}

/// A question that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromptRow {
    /// The app.
    pub app: String,
    /// The permission.
    pub permission: String,
    /// What the app calls itself.
    pub asked_as: String,
    /// Since when.
    pub asked_at: Timestamp,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PermissionLogRow {
    /// Grows with every entry.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// The app.
    pub app: String,
    /// The permission; `*` for all.
    pub permission: String,
    /// `asked`, `granted`, `denied` or `reset`.
    pub what: String,
    /// By whom.
    pub decided_by: String,
}

/// How often an app used a permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PermissionUseRow {
    /// The app.
    pub app: String,
    /// The permission.
    pub permission: String,
    /// How often.
    pub uses: i64,
    /// The first time.
    pub first_at: Timestamp,
    /// The last time.
    pub last_at: Timestamp,
}

pub(super) fn read_grant(row: &Row<'_>) -> rusqlite::Result<(GrantRow, String)> {
    let grant = GrantRow {
        app: row.get(0)?,
        permission: row.get(1)?,
        decision: Decision::Denied,
        decided_by: row.get(3)?,
        decided_at: time(row.get(4)?),
    };
    Ok((grant, row.get(2)?))
}

impl Store {
    /// Decisions, of one app or of all.
    pub fn grants(&self, app: Option<&AppId>) -> Result<Vec<GrantRow>, StoreError> {
        let rows = self.rows(
            include_str!("sql/grant_list.sql"),
            params![app.map(AppId::as_str)],
            read_grant,
        )?;
        rows.into_iter()
            .map(|(row, word)| Decision::checked(row, &word))
            .collect()
    }

    /// Questions that wait, the oldest first.
    pub fn prompts(&self) -> Result<Vec<PromptRow>, StoreError> {
        self.rows(include_str!("sql/prompt_list.sql"), params![], |row| {
            Ok(PromptRow {
                app: row.get(0)?,
                permission: row.get(1)?,
                asked_as: row.get(2)?,
                asked_at: time(row.get(3)?),
            })
        })
    }

    /// Decides, and closes the question. `false` when there is no such app.
    pub fn decide(
        &self,
        app: &AppId,
        permission: &str,
        decision: Decision,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if self.app(app)?.is_none() {
            return Ok(false);
        }
        let (app, at) = (app.as_str(), now.as_millisecond());
        self.together(|connection| {
            connection
                .prepare_cached(include_str!("sql/grant_put.sql"))?
                .execute(params![app, permission, decision.as_str(), by, at])?;
            connection
                .prepare_cached(include_str!("sql/prompt_remove.sql"))?
                .execute(params![app, permission])?;
            log(connection, at, app, permission, decision.as_str(), by)
        })?;
        Ok(true)
    }

    /// Remembers a question; whether there is room for it.
    pub fn ask(
        &self,
        app: &AppId,
        permission: &str,
        asked_as: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (app, at) = (app.as_str(), now.as_millisecond());
        self.together(|connection| {
            let count: u32 = connection
                .prepare_cached(include_str!("sql/grant_count.sql"))?
                .query_row([app], |row| row.get(0))?;
            if count >= MAX_PERMISSIONS_PER_APP {
                return Ok(false);
            }
            let added = connection
                .prepare_cached(include_str!("sql/prompt_put.sql"))?
                .execute(params![app, permission, asked_as, at])?;
            if added > 0 {
                log(connection, at, app, permission, "asked", asked_as)?;
            }
            Ok(true)
        })
    }

    /// Closes questions of an app without a decision.
    pub fn dismiss(&self, app: &AppId, permission: Option<&str>) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/prompt_remove.sql"),
            params![app.as_str(), permission],
        )
    }

    /// Forgets decisions and questions of an app, all or those of one permission: it will be asked about again.
    pub fn reset_grants(
        &self,
        app: &AppId,
        permission: Option<&str>,
        by: &str,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let (app, at) = (app.as_str(), now.as_millisecond());
        self.together(|connection| {
            let forgotten = connection
                .prepare_cached(include_str!("sql/grant_remove.sql"))?
                .execute(params![app, permission])?;
            connection
                .prepare_cached(include_str!("sql/prompt_remove.sql"))?
                .execute(params![app, permission])?;
            log(connection, at, app, permission.unwrap_or("*"), "reset", by)?;
            Ok(forgotten)
        })
    }

    /// What was decided, the newest first.
    pub fn permission_log(
        &self,
        app: Option<&AppId>,
        limit: u32,
    ) -> Result<Vec<PermissionLogRow>, StoreError> {
        self.rows(
            include_str!("sql/permission_log_list.sql"),
            params![app.map(AppId::as_str), limit],
            |row| {
                Ok(PermissionLogRow {
                    id: row.get(0)?,
                    at: time(row.get(1)?),
                    app: row.get(2)?,
                    permission: row.get(3)?,
                    what: row.get(4)?,
                    decided_by: row.get(5)?,
                })
            },
        )
    }

    /// Counts uses of permissions: app, permission, how many.
    pub fn count_uses(
        &self,
        uses: &[(AppId, String, u64)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.together(|connection| {
            let mut add = connection.prepare_cached(include_str!("sql/permission_use_add.sql"))?;
            for (app, permission, count) in uses {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                add.execute(params![
                    app.as_str(),
                    permission,
                    count,
                    now.as_millisecond()
                ])?;
            }
            Ok(())
        })
    }

    /// How often permissions were used.
    pub fn permission_uses(
        &self,
        app: Option<&AppId>,
    ) -> Result<Vec<PermissionUseRow>, StoreError> {
        self.rows(
            include_str!("sql/permission_use_list.sql"),
            params![app.map(AppId::as_str)],
            |row| {
                Ok(PermissionUseRow {
                    app: row.get(0)?,
                    permission: row.get(1)?,
                    uses: row.get(2)?,
                    first_at: time(row.get(3)?),
                    last_at: time(row.get(4)?),
                })
            },
        )
    }
}

fn log(
    connection: &rusqlite::Connection,
    at: i64,
    app: &str,
    permission: &str,
    what: &str,
    by: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(include_str!("sql/permission_log_add.sql"))?
        .execute(params![at, app, permission, what, by])?;
    connection
        .prepare_cached(include_str!("sql/permission_log_prune.sql"))?
        .execute([KEEP_LOG])?;
    Ok(())
}
