//! The replication slot and the session that reads it.

use std::time::Duration;

use pgwire_replication::{PgWireError, ReplicationClient, ReplicationConfig};
use rowcall_postgres::{Server, Tls};
use tokio_postgres::config::Host;

use super::tunnel::{self, Entrance};
use super::{MESSAGES_PUBLICATION, PUBLICATION};
use crate::realtime::database::{Database, OUTPUT_SETTINGS, QueryError};

const SLOT: &str = include_str!("../../../sql/realtime/slot.sql");
const DROP: &str = include_str!("../../../sql/realtime/drop_slot.sql");
const PUBLICATIONS: &str = include_str!("../../../sql/realtime/publications.sql");
/// Events that wait between the session and the reader.
const BUFFERED_EVENTS: usize = 1_024;
/// How often the server hears what we have read.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long the first attempt to open a session may take; each further one has twice as long.
///
/// Making a slot waits for all transactions that are open. Some of them wait for us (`drop database` does, on the servers
/// this was seen on), so waiting long at once would be a deadlock: an attempt is given up, which lets them finish.
const FIRST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long any attempt may take.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

/// How the server keeps its place in the WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A slot that outlives the connection: nothing is lost while PostgreSQL or this server restarts. The name is made from
    /// the database's when none is given.
    Durable {
        /// Name of the slot: lower case letters, digits and underscores.
        name: Option<String>,
        /// Keep the slot when the server is shut down. It holds WAL back until it is read or dropped.
        keep: bool,
    },
    /// A slot that ends with the connection.
    Temporary,
}

/// Why changes cannot be read now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error("the role of the database URL may not replicate: {0}")]
    Forbidden(String),
    #[error("slot `{slot}` is read by another server (process {pid})")]
    Busy { slot: String, pid: i32 },
    #[error("the replication session failed: {0}")]
    Session(PgWireError),
    #[error("the replication session was not ready within {} s; transactions that stay open may be in its way", .0.as_secs())]
    Timeout(Duration),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the database URL names no host to read changes from")]
    NoHost,
    #[error("no encrypted connection to read changes over: {}", rowcall_postgres::explain(.0))]
    Tls(#[source] std::io::Error),
}

impl From<tokio_postgres::Error> for SlotError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error.into())
    }
}

impl From<PgWireError> for SlotError {
    fn from(error: PgWireError) -> Self {
        let text = error.to_string();
        let is_forbidden = text.contains("SQLSTATE 42501")
            || (text.contains("replication") && text.contains("must be superuser"));
        if is_forbidden {
            Self::Forbidden(text)
        } else {
            Self::Session(error)
        }
    }
}

/// A session that streams, and whether it goes on where the last one stopped.
pub(crate) struct Streaming {
    pub(crate) client: ReplicationClient,
    /// Changes were lost: the slot was new although there had been one before, or PostgreSQL had given it up.
    pub(crate) has_gap: bool,
}

/// Opens a session. `application` is unique to this server, so that a session of ours that is still there can be told from
/// another server's. `had_slot` says whether a slot is expected, `failures` how many attempts there were before.
pub(crate) async fn open(
    database: &Database,
    slot: &Slot,
    application: &str,
    had_slot: bool,
    failures: u32,
) -> Result<Streaming, SlotError> {
    let timeout = FIRST_TIMEOUT
        .saturating_mul(1 << failures.min(8))
        .min(LONGEST_TIMEOUT);
    tokio::time::timeout(timeout, open_within(database, slot, application, had_slot))
        .await
        .unwrap_or(Err(SlotError::Timeout(timeout)))
}

async fn open_within(
    database: &Database,
    slot: &Slot,
    application: &str,
    had_slot: bool,
) -> Result<Streaming, SlotError> {
    let connection = database.connection().await.map_err(QueryError::from)?;
    // Before the slot: decoding a change that is older than a publication fails for ever.
    connection.batch_execute(PUBLICATIONS).await?;
    let (name, is_temporary) = match slot {
        Slot::Durable {
            name: Some(name), ..
        } => (name.clone(), false),
        Slot::Durable { name: None, .. } => {
            let row = connection
                .query_one(
                    "select oid from pg_catalog.pg_database where datname = current_database()",
                    &[],
                )
                .await?;
            (format!("rowcall_realtime_{}", row.get::<_, u32>(0)), false)
        }
        Slot::Temporary => (
            format!("{}_temporary", application.replace([' ', '-'], "_")),
            true,
        ),
    };
    let mut exists = false;
    if let Some(row) = connection.query_opt(SLOT, &[&name]).await? {
        let is_lost: Option<bool> = row.get("is_lost");
        let active: Option<i32> = row.get("active_pid");
        let reader: Option<String> = row.get("reader");
        if let Some(pid) = active {
            if reader.as_deref() != Some(application) {
                return Err(SlotError::Busy { slot: name, pid });
            }
            // Our own session, whose connection broke before the server noticed.
            connection
                .execute("select pg_catalog.pg_terminate_backend($1)", &[&pid])
                .await?;
        }
        exists = is_lost != Some(true);
        if !exists {
            tracing::warn!(
                slot = name,
                "PostgreSQL has given the slot up; it is made anew and subscribers are told to catch up"
            );
            connection
                .execute("select pg_catalog.pg_drop_replication_slot($1)", &[&name])
                .await?;
        }
    }
    drop(connection);
    let server = database.server();
    let entrance = match server.tls() {
        Tls::Disable => direct(server)?,
        _ => tunnel::dig(server).await.map_err(SlotError::Tls)?,
    };
    let config = config(server, entrance, &name, application);
    let mut client = ReplicationClient::connect_gated(config).await?;
    if !exists {
        let temporary = if is_temporary { " TEMPORARY" } else { "" };
        let create = format!(
            "CREATE_REPLICATION_SLOT \"{name}\"{temporary} LOGICAL pgoutput NOEXPORT_SNAPSHOT"
        );
        client.simple_query(&create).await?;
    }
    client.start().await?;
    client.wait_started().await?;
    Ok(Streaming {
        client,
        has_gap: had_slot && !exists,
    })
}

/// The server itself, where nothing is encrypted.
fn direct(server: &Server) -> Result<Entrance, SlotError> {
    let config = server.config();
    let host = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (_, Some(address)) => address.to_string(),
        (Some(Host::Tcp(host)), None) => host.clone(),
        #[cfg(unix)]
        (Some(Host::Unix(path)), None) => path.to_string_lossy().into_owned(),
        (None, None) => return Err(SlotError::NoHost),
    };
    Ok(Entrance {
        host,
        port: server.port(),
    })
}

fn config(server: &Server, entrance: Entrance, slot: &str, application: &str) -> ReplicationConfig {
    let config = server.config();
    let user = config.get_user().unwrap_or("postgres");
    let password = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
    let replication = ReplicationConfig::new(
        entrance.host,
        user,
        password,
        config.get_dbname().unwrap_or(user),
        slot,
        [PUBLICATION, MESSAGES_PUBLICATION],
    );
    replication
        .with_port(entrance.port)
        .with_buffer_size(BUFFERED_EVENTS)
        .with_status_interval(STATUS_INTERVAL)
        .with_wakeup_interval(STATUS_INTERVAL)
        .with_options(OUTPUT_SETTINGS)
        .with_application_name(application)
}

/// How often dropping the slot is tried while PostgreSQL still thinks that somebody reads it.
const DROP_ATTEMPTS: u32 = 50;
/// The pause between two attempts.
const DROP_PAUSE: Duration = Duration::from_millis(100);

/// Drops a durable slot that is not to be kept. Called when nobody reads it any more.
pub(crate) async fn drop_slot(database: &Database, slot: &Slot) {
    let Slot::Durable { name, keep: false } = slot else {
        return;
    };
    let drop = async {
        let client = database.connection().await?;
        for _ in 0..DROP_ATTEMPTS {
            let row = client.query_one(DROP, &[name]).await?;
            if row.get("is_gone") {
                return Ok(());
            }
            tokio::time::sleep(DROP_PAUSE).await;
        }
        tracing::warn!("the replication slot is still read; it is not dropped and holds WAL back");
        Ok::<_, QueryError>(())
    };
    if let Err(error) = drop.await {
        tracing::warn!(%error, "the replication slot could not be dropped; it holds WAL back until it is");
    }
}
