//! The published functions in schema `public`: ours are kept up to date, those of others are left alone.
//!
//! Names, argument names and types never change, because clients call by name; and there are no overloads, because callers over
//! REST could no longer choose. A function is ours when its body is still the one we installed.

use serde::Serialize;
use tokio_postgres::{Client, Transaction};

use super::{LOCK, MIGRATIONS, MigrateError, MigrateOptions, checksum};

struct Published {
    /// As `to_regprocedure` reads it.
    signature: &'static str,
    sql: &'static str,
}

macro_rules! published {
    ($($name:literal $arguments:literal),* $(,)?) => {
        [$(Published {
            signature: concat!("public.", $name, "(", $arguments, ")"),
            sql: include_str!(concat!("../../sql/functions/", $name, ".sql")),
        }),*]
    };
}

const PUBLISHED: [Published; 14] = published![
    "rtx_fn_claim_task" "uuid, text",
    "rtx_fn_complete_task" "uuid, jsonb",
    "rtx_fn_fail_task" "uuid, text, text",
    "rtx_fn_unlock_stale_locks" "",
    "unlock_stale_locks" "",
    "recover_stale_locks_custom" "text, integer",
    "get_publications_full" "",
    "rowcall_protocol" "",
    "rowcall_examine" "jsonb",
    "rowcall_claim" "text, uuid[], integer, boolean, double precision",
    "rowcall_claim_next" "text, jsonb, integer, boolean, boolean, integer, boolean",
    "rowcall_lease" "text, jsonb, text",
    "rowcall_settle" "text, jsonb",
    "rowcall_maintain" "text, jsonb, double precision, integer, boolean",
];

/// What a preparation is made of, for [`crate::setup`].
pub(crate) struct Parts {
    /// The advisory lock that one preparation at a time holds.
    pub(crate) lock: i64,
    /// In their order.
    pub(crate) migrations: Vec<Part>,
    /// In schema public.
    pub(crate) functions: Vec<Part>,
}

/// A migration or a function.
pub(crate) struct Part {
    /// Of a migration.
    pub(crate) version: i32,
    /// The migration's name, or the function's signature.
    pub(crate) name: &'static str,
    pub(crate) checksum: String,
    pub(crate) sql: &'static str,
}

impl MigrateOptions {
    pub(crate) fn parts() -> Parts {
        let migrations = MIGRATIONS.iter().map(|one| Part {
            version: one.version,
            name: one.name,
            checksum: one.checksum(),
            sql: one.sql,
        });
        let functions = PUBLISHED.iter().map(|one| Part {
            version: 0,
            name: one.signature,
            checksum: checksum(one.sql),
            sql: one.sql,
        });
        Parts {
            lock: LOCK,
            migrations: migrations.collect(),
            functions: functions.collect(),
        }
    }
}

/// A published function and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionStatus {
    /// As `public.rtx_fn_claim_task(uuid, text)`.
    pub signature: &'static str,
    /// Whose it is.
    pub state: FunctionState,
}

/// Whose a published function is, or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionState {
    /// Not there.
    Missing,
    /// Ours and up to date.
    Current,
    /// Ours, of an earlier version.
    Outdated,
    /// Somebody else made or changed it; it was left alone. Its known defects stay (`replace_functions` replaces it).
    Foreign,
    /// Made now.
    Installed,
    /// Replaced now.
    Replaced,
}

pub(super) async fn status(
    client: &Client,
    prepared: bool,
) -> Result<Vec<FunctionStatus>, MigrateError> {
    let mut all = Vec::with_capacity(PUBLISHED.len());
    for published in &PUBLISHED {
        let row = client
            .query_one("select p.prosrc from (select) one left join pg_catalog.pg_proc p on p.oid = to_regprocedure($1)", &[&published.signature])
            .await
            .map_err(MigrateError::query)?;
        let body: Option<String> = row.get(0);
        let known = if prepared {
            let sql =
                "select file_checksum, body_checksum from rowcall.functions where signature = $1";
            client
                .query_opt(sql, &[&published.signature])
                .await
                .map_err(MigrateError::query)?
        } else {
            None
        };
        let known = known.map(|row| (row.get(0), row.get(1)));
        all.push(FunctionStatus {
            signature: published.signature,
            state: state(published, body.as_deref(), known),
        });
    }
    Ok(all)
}

fn state(
    published: &Published,
    body: Option<&str>,
    known: Option<(String, String)>,
) -> FunctionState {
    match (body, known) {
        (None, _) => FunctionState::Missing,
        (Some(body), Some((file, installed))) if installed == checksum(body) => {
            if file == checksum(published.sql) {
                FunctionState::Current
            } else {
                FunctionState::Outdated
            }
        }
        (Some(_), _) => FunctionState::Foreign,
    }
}

pub(super) async fn install(
    client: &mut Client,
    replace: bool,
) -> Result<Vec<FunctionStatus>, MigrateError> {
    let mut all = status(client, true).await?;
    for (published, found) in PUBLISHED.iter().zip(&mut all) {
        found.state = match found.state {
            FunctionState::Missing => FunctionState::Installed,
            FunctionState::Outdated => FunctionState::Replaced,
            FunctionState::Foreign if replace => FunctionState::Replaced,
            _ => continue,
        };
        let failed = |source| MigrateError::Failed {
            migration: published.signature.to_owned(),
            source,
        };
        let transaction = client.transaction().await.map_err(failed)?;
        create(&transaction, published).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
    }
    Ok(all)
}

async fn create(
    transaction: &Transaction<'_>,
    published: &Published,
) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(published.sql).await?;
    let body: String = transaction
        .query_one(
            "select prosrc from pg_catalog.pg_proc where oid = to_regprocedure($1)",
            &[&published.signature],
        )
        .await?
        .get(0);
    let note = "insert into rowcall.functions (signature, file_checksum, body_checksum) values ($1, $2, $3) \
                on conflict (signature) do update set file_checksum = excluded.file_checksum, \
                body_checksum = excluded.body_checksum, installed_at = now()";
    let (file, body) = (checksum(published.sql), checksum(&body));
    transaction
        .execute(note, &[&published.signature, &file, &body])
        .await
        .map(drop)
}
