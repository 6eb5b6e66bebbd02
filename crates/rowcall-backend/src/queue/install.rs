//! pgmq and our helpers in a database: looks first, installs what is missing, respects what is there.

use deadpool_postgres::GenericClient;
use serde::Serialize;

use super::{database::Database, error::QueueError};

/// The pgmq this crate carries as SQL.
pub const EMBEDDED_VERSION: &str = "1.13.0";

const PGMQ: &str = include_str!("../../sql/queue/pgmq/1.13.0.sql");
const LOOK: &str = include_str!("../../sql/queue/look.sql");

/// Wake-ups, in the order they must run.
pub(super) const WAKE: [(&str, &str); 4] = [
    (
        "wake_schema",
        include_str!("../../sql/queue/wake_schema.sql"),
    ),
    (
        "wake_notify",
        include_str!("../../sql/queue/wake_notify.sql"),
    ),
    (
        "wake_broadcast",
        include_str!("../../sql/queue/wake_broadcast.sql"),
    ),
    (
        "wake_control",
        include_str!("../../sql/queue/wake_control.sql"),
    ),
];

/// The Data API, in the order it must run, after [`WAKE`].
pub(super) const PUBLIC: [(&str, &str); 4] = [
    ("public_rpc", include_str!("../../sql/queue/public_rpc.sql")),
    (
        "public_control",
        include_str!("../../sql/queue/public_control.sql"),
    ),
    (
        "public_work",
        include_str!("../../sql/queue/public_work.sql"),
    ),
    (
        "public_grants",
        include_str!("../../sql/queue/public_grants.sql"),
    ),
];

/// How pgmq got into a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `create extension pgmq`.
    Extension,
    /// Its SQL was run.
    Sql,
}

/// The pgmq of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pgmq {
    /// How it got there.
    pub origin: Origin,
    /// Its version; `None` when somebody else ran the SQL and it cannot be told.
    pub version: Option<String>,
}

/// What to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Install {
    /// The Data API functions (`pgmq_public`) as well.
    pub data_api: bool,
}

impl Default for Install {
    fn default() -> Self {
        Self { data_api: true }
    }
}

/// Looks which pgmq a database has.
pub async fn find(database: &Database) -> Result<Option<Pgmq>, QueueError> {
    let client = database.get().await?;
    Ok(look(&client).await?.0)
}

/// Installs pgmq where it is missing, and the wake-up helpers, in one transaction. Needs CREATE on the database, not a
/// superuser. Running it again changes nothing.
///
/// An extension that is there is used, whatever its version; one that the server offers is created, if this role may;
/// otherwise pgmq comes as SQL and does not appear in `pg_extension`.
pub async fn install(database: &Database, what: Install) -> Result<Pgmq, QueueError> {
    let mut client = database.get().await?;
    let transaction = client
        .transaction()
        .await
        .map_err(QueueError::doing("the installation"))?;
    transaction
        .batch_execute("select pg_advisory_xact_lock(hashtext('rowcall_queue.install'))")
        .await
        .map_err(QueueError::doing("the installation"))?;
    let (found, available) = look(&transaction).await?;
    let mut transaction = transaction;
    let pgmq = match found {
        Some(pgmq) => pgmq,
        None if available && create_extension(&mut transaction).await? => look(&transaction)
            .await?
            .0
            .ok_or(QueueError::NotInstalled)?,
        None => run_sql(&transaction).await?,
    };
    for (_, sql) in WAKE
        .iter()
        .chain(what.data_api.then_some(&PUBLIC).into_iter().flatten())
    {
        transaction
            .batch_execute(sql)
            .await
            .map_err(QueueError::doing("the installation of the wake-up helpers"))?;
    }
    transaction
        .commit()
        .await
        .map_err(QueueError::doing("the installation"))?;
    tracing::info!(version = pgmq.version.as_deref(), origin = ?pgmq.origin, "pgmq is installed");
    Ok(pgmq)
}

/// What is there, and whether the server offers the extension.
async fn look(client: &impl GenericClient) -> Result<(Option<Pgmq>, bool), QueueError> {
    let row = client
        .query_one(LOOK, &[])
        .await
        .map_err(QueueError::doing("looking for pgmq"))?;
    let extension: Option<String> = row.get("extension");
    let present: bool = row.get("present");
    let noted: Option<String> = row.get("noted");
    let found = if extension.is_some() {
        Some(Pgmq {
            origin: Origin::Extension,
            version: extension,
        })
    } else {
        present.then_some(Pgmq {
            origin: Origin::Sql,
            version: noted,
        })
    };
    Ok((found, row.get("available")))
}

/// Whether the extension could be created; not being allowed to is an answer.
async fn create_extension(
    transaction: &mut deadpool_postgres::Transaction<'_>,
) -> Result<bool, QueueError> {
    let doing = QueueError::doing("create extension pgmq");
    let savepoint = transaction.savepoint("extension").await.map_err(&doing)?;
    match savepoint.batch_execute("create extension pgmq").await {
        Ok(()) => {
            savepoint.commit().await.map_err(&doing)?;
            Ok(true)
        }
        Err(error) => {
            tracing::info!(%error, "the server offers pgmq, but this role may not create it: running its SQL instead");
            savepoint.rollback().await.map_err(&doing)?;
            Ok(false)
        }
    }
}

async fn run_sql(client: &impl GenericClient) -> Result<Pgmq, QueueError> {
    let doing = QueueError::doing("the installation of pgmq");
    client.batch_execute(PGMQ).await.map_err(&doing)?;
    let note =
        format!("comment on schema pgmq is 'pgmq {EMBEDDED_VERSION}, installed as SQL by rowcall'");
    client.batch_execute(&note).await.map_err(&doing)?;
    Ok(Pgmq {
        origin: Origin::Sql,
        version: Some(EMBEDDED_VERSION.into()),
    })
}
