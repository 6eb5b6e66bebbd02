//! Preparing a database: numbered migrations, the published functions, and fitting in with what else is there.
//!
//! Forward only and additive. A migration runs once, in its own transaction, under a lock that keeps daemons that start
//! together apart; its checksum is kept, and a file that changed afterwards is an error. Nothing here needs a superuser.

mod error;
mod functions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

pub use error::MigrateError;
pub use functions::{FunctionState, FunctionStatus};

/// The advisory lock of migrations: "rowcall" in ASCII.
const LOCK: i64 = 0x0072_6f77_6361_6c6c;
/// How long one migration run waits for another one, and for locks on tables.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        [$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../sql/migrations/000", $version, "_", $name, ".sql")),
        }),*]
    };
}

/// In order, without gaps. A landed one never changes.
const MIGRATIONS: [Migration; 5] = migrations![
    1 "activities",
    2 "filter",
    3 "wake",
    4 "capture",
    5 "adapt",
];

impl Migration {
    fn checksum(&self) -> String {
        checksum(self.sql)
    }

    fn label(&self) -> String {
        format!("{:04}_{}", self.version, self.name)
    }
}

fn checksum(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// What to do beyond the numbered migrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MigrateOptions {
    /// Replaces published functions that somebody else made or changed (RealTimeX's set-up, for one) by ours. Without it they are
    /// left alone and reported.
    pub replace_functions: bool,
}

/// What [`apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The migrations that ran now, as `0001_activities`.
    pub migrations: Vec<String>,
    /// The published functions and what became of each.
    pub functions: Vec<FunctionStatus>,
    /// What was fitted to the rest of the database, or could not be, in words.
    pub notes: Vec<String>,
}

/// Where a database stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Migrations that ran, as `0001_activities`.
    pub applied: Vec<String>,
    /// Migrations that have not run yet.
    pub pending: Vec<String>,
    /// The published functions.
    pub functions: Vec<FunctionStatus>,
}

impl Status {
    /// Whether nothing is left to do.
    pub fn is_current(&self) -> bool {
        self.pending.is_empty()
    }
}

/// What stands in `rowcall.migrations`.
struct Record {
    version: i32,
    name: String,
    checksum: String,
}

/// Says where the database stands; changes nothing.
///
/// # Errors
/// [`MigrateError::ChecksumDiffers`] and [`MigrateError::NewerDatabase`] when the database and this program do not belong together.
pub async fn status(client: &Client) -> Result<Status, MigrateError> {
    let records = records(client).await?;
    check(&records)?;
    let (done, open) = MIGRATIONS
        .iter()
        .partition::<Vec<&Migration>, _>(|one| one.version <= last(&records));
    let labels = |all: Vec<&Migration>| all.into_iter().map(Migration::label).collect();
    Ok(Status {
        functions: functions::status(client, !records.is_empty()).await?,
        applied: labels(done),
        pending: labels(open),
    })
}

/// Brings the database up to date. Safe to call at every start, by several daemons at once.
///
/// # Errors
/// As [`status`], and [`MigrateError::Failed`] when PostgreSQL refuses a migration: that one is rolled back, earlier ones stand.
pub async fn apply(client: &mut Client, options: MigrateOptions) -> Result<Applied, MigrateError> {
    let seconds = LOCK_TIMEOUT.as_secs();
    // At every start: the cheap look first. Only a database that needs work takes the lock.
    client
        .batch_execute(&format!(
            "set lock_timeout = '{seconds}s'; set client_min_messages = warning; set rowcall.quiet = 'on'"
        ))
        .await
        .map_err(MigrateError::query)?;
    client
        .execute("select pg_advisory_lock($1)", &[&LOCK])
        .await
        .map_err(|error| {
            if error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) {
                MigrateError::Busy { seconds }
            } else {
                MigrateError::query(error)
            }
        })?;
    let outcome = run(client, options).await;
    // The session may be a pooled one: what was set for the run is taken back, and the lock with it.
    let release = "select pg_advisory_unlock_all(); reset lock_timeout; reset client_min_messages; reset rowcall.quiet";
    let released = client.batch_execute(release).await;
    let applied = outcome?;
    released.map_err(MigrateError::query)?;
    Ok(applied)
}

async fn run(client: &mut Client, options: MigrateOptions) -> Result<Applied, MigrateError> {
    let mut applied = Applied::default();
    let records = records(client).await?;
    check(&records)?;
    for migration in MIGRATIONS.iter().filter(|one| one.version > last(&records)) {
        run_one(client, migration).await?;
        applied.migrations.push(migration.label());
    }
    applied.functions = functions::install(client, options.replace_functions).await?;
    let rows = client
        .query("select rowcall.adapt()", &[])
        .await
        .map_err(MigrateError::query)?;
    applied.notes = rows.iter().map(|row| row.get(0)).collect();
    let changed = !applied.migrations.is_empty()
        || !applied.notes.is_empty()
        || applied.functions.iter().any(|one| {
            matches!(
                one.state,
                FunctionState::Installed | FunctionState::Replaced
            )
        });
    if changed {
        client
            .batch_execute("notify pgrst, 'reload schema'")
            .await
            .map_err(MigrateError::query)?;
    }
    Ok(applied)
}

async fn run_one(client: &mut Client, migration: &Migration) -> Result<(), MigrateError> {
    let failed = |source| MigrateError::Failed {
        migration: migration.label(),
        source,
    };
    let transaction = client.transaction().await.map_err(failed)?;
    if migration.version == 1 {
        transaction
            .batch_execute(include_str!("../../sql/migrations/bookkeeping.sql"))
            .await
            .map_err(failed)?;
    }
    transaction
        .batch_execute(migration.sql)
        .await
        .map_err(failed)?;
    let note = "insert into rowcall.migrations (version, name, checksum) values ($1, $2, $3)";
    transaction
        .execute(
            note,
            &[&migration.version, &migration.name, &migration.checksum()],
        )
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// For a daemon that connects: the database must be exactly as new as this program.
pub(crate) async fn require_current(client: &Client) -> Result<(), MigrateError> {
    let records = records(client).await?;
    check(&records)?;
    let missing = MIGRATIONS
        .iter()
        .filter(|one| one.version > last(&records))
        .count();
    if missing > 0 {
        return Err(MigrateError::Outdated { missing });
    }
    Ok(())
}

async fn records(client: &Client) -> Result<Vec<Record>, MigrateError> {
    let exists = "select to_regclass('rowcall.migrations') is not null";
    let exists: bool = client
        .query_one(exists, &[])
        .await
        .map_err(MigrateError::query)?
        .get(0);
    if !exists {
        return Ok(Vec::new());
    }
    let all = "select version, name, checksum from rowcall.migrations order by version";
    let rows = client.query(all, &[]).await.map_err(MigrateError::query)?;
    Ok(rows
        .iter()
        .map(|row| Record {
            version: row.get(0),
            name: row.get(1),
            checksum: row.get(2),
        })
        .collect())
}

fn last(records: &[Record]) -> i32 {
    records.last().map_or(0, |record| record.version)
}

/// What ran must be what this program knows.
fn check(records: &[Record]) -> Result<(), MigrateError> {
    for record in records {
        match MIGRATIONS.iter().find(|one| one.version == record.version) {
            None => {
                return Err(MigrateError::NewerDatabase {
                    found: last(records),
                    known: MIGRATIONS.len(),
                });
            }
            Some(migration) if migration.checksum() != record.checksum => {
                return Err(MigrateError::ChecksumDiffers {
                    migration: format!("{:04}_{}", record.version, record.name),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}
