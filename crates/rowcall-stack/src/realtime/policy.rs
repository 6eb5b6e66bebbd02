//! What a role may do on a private topic, by the policies on `realtime.messages`.
//!
//! The check runs in one transaction that is always rolled back: probe rows are inserted as owner and read back as the role
//! (what is visible may be received), then inserted as the role (what succeeds may be sent). Each attempt has a savepoint of
//! its own, so a policy that raises counts as denied for its own row only. All statements go out in one round trip.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::changes::parse_lsn;
use super::database::{Database, QueryError};
use super::token::Identity;
use super::topic::Reads;

const PROBE: &str = include_str!("../../sql/realtime/policy_probe.sql");
const SETTINGS: &str = include_str!("../../sql/realtime/policy_settings.sql");
const READ: &str = include_str!("../../sql/realtime/policy_read.sql");
const WRITE: &str = include_str!("../../sql/realtime/policy_write.sql");

/// What the policies allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) reads: Reads,
    /// Broadcasts may be sent.
    pub(crate) sends: bool,
    /// Presence may be tracked.
    pub(crate) tracks: bool,
    /// Where the WAL was when the policies were evaluated: messages stored before are not for the channel.
    pub(crate) from: u64,
}

impl Rights {
    /// A public topic allows everything.
    pub(crate) const ALL: Self = Self {
        reads: Reads {
            broadcast: true,
            presence: true,
        },
        sends: true,
        tracks: true,
        from: 0,
    };
}

/// Evaluates all four policies for a topic. `probes` are two fresh ids.
pub(crate) async fn rights(
    database: &Database,
    identity: &Identity,
    topic: &str,
    probes: [Uuid; 2],
) -> Result<Rights, QueryError> {
    let client = database.connection().await?;
    let [broadcast, presence] = probes;
    let probe = client.prepare_cached(PROBE).await?;
    let settings = client.prepare_cached(SETTINGS).await?;
    let (read, write) = (
        client.prepare_cached(READ).await?,
        client.prepare_cached(WRITE).await?,
    );
    let claims = &*identity.claims;
    let subject = identity.subject.as_deref().unwrap_or_default();
    let role = &*identity.role;

    // Named, because the futures borrow them.
    let probe_parameters: [&(dyn ToSql + Sync); 3] = [&topic, &broadcast, &presence];
    let set_parameters: [&(dyn ToSql + Sync); 4] = [&role, &topic, &claims, &subject];
    let read_parameters: [[&(dyn ToSql + Sync); 1]; 2] = [[&broadcast], [&presence]];
    let write_parameters: [[&(dyn ToSql + Sync); 2]; 2] =
        [[&topic, &"broadcast"], [&topic, &"presence"]];
    let attempt = |name: &'static str| client.batch_execute(name);
    let (
        begin,
        probe_rows,
        set,
        _,
        reads_broadcast,
        _,
        _,
        reads_presence,
        _,
        _,
        sends,
        _,
        _,
        tracks,
        _,
        _,
    ) = tokio::join!(
        biased;
        client.batch_execute("begin"),
        client.execute(&probe, &probe_parameters),
        client.query_one(&settings, &set_parameters),
        attempt("savepoint attempt"),
        client.query_opt(&read, &read_parameters[0]),
        attempt("rollback to attempt"),
        attempt("savepoint attempt"),
        client.query_opt(&read, &read_parameters[1]),
        attempt("rollback to attempt"),
        attempt("savepoint attempt"),
        client.execute(&write, &write_parameters[0]),
        attempt("rollback to attempt"),
        attempt("savepoint attempt"),
        client.execute(&write, &write_parameters[1]),
        attempt("rollback to attempt"),
        client.batch_execute("rollback"),
    );
    begin?;
    probe_rows?;
    let position: String = set?.get(0);
    let reads = |what, result: Result<Option<_>, tokio_postgres::Error>| match result {
        Ok(row) => row.is_some(),
        Err(error) => {
            tracing::debug!(topic, what, %error, "a policy raised; it counts as denied");
            false
        }
    };
    let writes = |what, result: Result<u64, tokio_postgres::Error>| match result {
        Ok(_) => true,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => false,
        Err(error) => {
            tracing::debug!(topic, what, %error, "a policy raised; it counts as denied");
            false
        }
    };
    Ok(Rights {
        reads: Reads {
            broadcast: reads("broadcast", reads_broadcast),
            presence: reads("presence", reads_presence),
        },
        sends: writes("broadcast", sends),
        tracks: writes("presence", tracks),
        from: parse_lsn(&position).unwrap_or_default(),
    })
}

/// Whether a broadcast may be sent, for the HTTP API.
///
/// # Errors
/// The database's error when a policy raises, apart from the usual denial.
pub(crate) async fn may_send(
    database: &Database,
    identity: &Identity,
    topic: &str,
) -> Result<bool, QueryError> {
    let client = database.connection().await?;
    let settings = client.prepare_cached(SETTINGS).await?;
    let write = client.prepare_cached(WRITE).await?;
    let claims = &*identity.claims;
    let subject = identity.subject.as_deref().unwrap_or_default();
    let role = &*identity.role;
    let set_parameters: [&(dyn ToSql + Sync); 4] = [&role, &topic, &claims, &subject];
    let write_parameters: [&(dyn ToSql + Sync); 2] = [&topic, &"broadcast"];
    let (begin, set, inserted, _) = tokio::join!(
        biased;
        client.batch_execute("begin"),
        client.execute(&settings, &set_parameters),
        client.execute(&write, &write_parameters),
        client.batch_execute("rollback"),
    );
    begin?;
    set?;
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
