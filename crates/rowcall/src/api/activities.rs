//! The rows of `rtx_activities`, as the SDK reads and writes them.
//!
//! Statements run with the daemon's own rights. An app that has handed over its user's token works with that user's
//! rights instead, so row level security applies as if it spoke to the database itself.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use anyhow::Context as _;
use axum::http::StatusCode;
use deadpool::managed;
use rowcall_backend::{SupabaseBackend, supabase::ActivityRows};
use serde_json::value::RawValue;
use tokio_postgres::{Client, Statement, error::SqlState, types::ToSql};
use uuid::Uuid;

use super::{error::ApiError, tokens::UserClaims};

/// Connections for the SDK's activities, beside those of the engine.
const CONNECTIONS: usize = 4;

/// No statement takes longer; the SDK's clients give up after 5 s.
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);

/// How long a free connection is waited for, or a new one opened.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// As the engine's sessions: statements are planned once and find their rows by index, in the index's order. On a table whose rows
/// change state all the time statistics are never right.
const PLANS: &str = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off; \
                     set enable_sort = off; set jit = off";

/// One statement of `sql/activities`, with the columns put in.
macro_rules! statement {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<String> = LazyLock::new(|| {
            include_str!(concat!("../../sql/activities/", $file)).replace(
                "{columns}",
                include_str!("../../sql/activities/columns.sql").trim_end(),
            )
        });
    };
}

statement!(INSERT, "insert.sql");
statement!(LIST, "list.sql");
statement!(GET, "get.sql");
statement!(UPDATE, "update.sql");
statement!(DELETE, "delete.sql");
statement!(START, "start.sql");
statement!(ASSIGN, "assign.sql");

/// Makes the following statements of a transaction those of a user. $1 the claims
const BECOME: &str =
    "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)";

/// A connection with its prepared statements.
struct Session {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

struct Opener {
    url: String,
}

impl managed::Manager for Opener {
    type Type = Session;
    type Error = rowcall_core::SourceError;

    async fn create(&self) -> Result<Session, Self::Error> {
        let client = rowcall_backend::postgres::connect(&self.url).await?;
        let limit = STATEMENT_LIMIT.as_millis();
        client
            .batch_execute(&format!(
                "set statement_timeout = {limit}; set idle_in_transaction_session_timeout = '1min'; set timezone = 'UTC'; \
                 {PLANS}"
            ))
            .await
            .map_err(|error| {
                rowcall_core::SourceError::because(
                    rowcall_core::ErrorClass::Retryable,
                    format!("preparing a connection failed: {error}"),
                    error,
                )
            })?;
        Ok(Session {
            client,
            statements: HashMap::new(),
        })
    }

    async fn recycle(
        &self,
        session: &mut Session,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<Self::Error> {
        if session.client.is_closed() {
            return Err(managed::RecycleError::message("the connection is closed"));
        }
        Ok(())
    }
}

/// The table of activities.
pub(super) struct Activities {
    at: At,
}

/// Where it is.
enum At {
    Database(managed::Pool<Opener>),
    Project(SupabaseBackend),
}

impl std::fmt::Debug for Activities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Activities").finish_non_exhaustive()
    }
}

/// A change that found no row to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    /// There is none, as far as the caller may see.
    NotFound,
    /// The caller sees it and may not change it.
    Refused,
}

impl Activities {
    pub(super) fn new(
        url: Option<&str>,
        project: Option<&SupabaseBackend>,
    ) -> anyhow::Result<Self> {
        if let Some(project) = project {
            let at = At::Project(project.clone());
            return Ok(Self { at });
        }
        let url = url.context("a daemon without a project has a database")?;
        let opener = Opener {
            url: url.to_owned(),
        };
        let pool = managed::Pool::builder(opener)
            .max_size(CONNECTIONS)
            .runtime(deadpool::Runtime::Tokio1)
            .wait_timeout(Some(CONNECT_LIMIT))
            .create_timeout(Some(CONNECT_LIMIT))
            .build()?;
        Ok(Self {
            at: At::Database(pool),
        })
    }

    /// Adds an activity.
    pub(super) async fn insert(
        &self,
        user: Option<&UserClaims>,
        raw_data: &str,
    ) -> Result<Box<RawValue>, ApiError> {
        let rows = match &self.at {
            At::Database(_) => self.query(user, &INSERT, &[&raw_data]).await?,
            At::Project(project) => rows_of(project, user).insert(&json_text(raw_data)?).await?,
        };
        rows.into_iter()
            .next()
            .ok_or_else(|| ApiError::internal("an insert returned no row"))
    }

    /// Activities, the newest first.
    pub(super) async fn list(
        &self,
        user: Option<&UserClaims>,
        status: Option<&str>,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Box<RawValue>>, ApiError> {
        match &self.at {
            At::Database(_) => self.query(user, &LIST, &[&status, &limit, &offset]).await,
            At::Project(project) => Ok(rows_of(project, user).list(status, limit, offset).await?),
        }
    }

    /// One activity.
    pub(super) async fn get(
        &self,
        user: Option<&UserClaims>,
        id: Uuid,
    ) -> Result<Option<Box<RawValue>>, ApiError> {
        let rows = match &self.at {
            At::Database(_) => self.query(user, &GET, &[&id]).await?,
            At::Project(project) => rows_of(project, user).get(id).await?,
        };
        Ok(rows.into_iter().next())
    }

    /// Changes the columns that `changes`, a JSON object, names.
    pub(super) async fn update(
        &self,
        user: Option<&UserClaims>,
        id: Uuid,
        changes: &str,
    ) -> Result<Box<RawValue>, ApiError> {
        let rows = match &self.at {
            At::Database(_) => self.query(user, &UPDATE, &[&id, &changes]).await?,
            At::Project(project) => {
                let changes = json_text(changes)?;
                rows_of(project, user).update(id, &changes).await?
            }
        };
        match rows.into_iter().next() {
            Some(row) => Ok(row),
            None => Err(self.missed(user, id).await?.into()),
        }
    }

    /// Removes an activity.
    pub(super) async fn delete(&self, user: Option<&UserClaims>, id: Uuid) -> Result<(), ApiError> {
        let none = match &self.at {
            At::Database(_) => self.texts(user, &DELETE, &[&id]).await?.is_empty(),
            At::Project(project) => rows_of(project, user).delete(id).await?.is_empty(),
        };
        if none {
            return Err(self.missed(user, id).await?.into());
        }
        Ok(())
    }

    /// Adds a task that names its agent; a repeat changes nothing.
    pub(super) async fn start(
        &self,
        id: Uuid,
        raw_data: &str,
        table: &str,
        key: &str,
    ) -> Result<(), ApiError> {
        if let At::Project(project) = &self.at {
            let (raw_data, key) = (json_text(raw_data)?, json_text(key)?);
            rows_of(project, None)
                .start(id, &raw_data, table, &key)
                .await?;
            return Ok(());
        }
        self.texts(None, &START, &[&id, &raw_data, &table, &key])
            .await?;
        Ok(())
    }

    /// Hands a task that waits for a person to its agent; whether it still waited.
    pub(super) async fn assign(&self, id: Uuid, table: &str) -> Result<bool, ApiError> {
        if let At::Project(project) = &self.at {
            let table = table.parse().map_err(ApiError::internal)?;
            return Ok(rows_of(project, None).assign(id, &table).await?);
        }
        Ok(!self.texts(None, &ASSIGN, &[&id, &table]).await?.is_empty())
    }

    /// Zero changed rows are never a success: row level security hides rows without a word.
    async fn missed(&self, user: Option<&UserClaims>, id: Uuid) -> Result<Missed, ApiError> {
        Ok(match self.get(user, id).await? {
            Some(_) => Missed::Refused,
            None => Missed::NotFound,
        })
    }

    async fn query(
        &self,
        user: Option<&UserClaims>,
        sql: &'static LazyLock<String>,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Box<RawValue>>, ApiError> {
        self.texts(user, sql, parameters)
            .await?
            .into_iter()
            .map(|text| RawValue::from_string(text).map_err(ApiError::internal))
            .collect()
    }

    /// The first column of all rows, which is a text in every statement here.
    async fn texts(
        &self,
        user: Option<&UserClaims>,
        sql: &'static LazyLock<String>,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<String>, ApiError> {
        let At::Database(pool) = &self.at else {
            return Err(ApiError::internal("statements need a database"));
        };
        let mut session = pool.get().await.map_err(no_connection)?;
        let work = session.run(user, sql.as_str(), parameters);
        // The server cancels first; whoever waits longer waits for the network.
        match tokio::time::timeout(STATEMENT_LIMIT + CONNECT_LIMIT, work).await {
            Ok(Ok(texts)) => Ok(texts),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => {
                // Whether it took effect is unknown, and nothing may queue behind it.
                drop(managed::Object::take(session));
                Err(ApiError::unavailable(
                    "DATABASE_UNAVAILABLE",
                    "The database did not answer in time",
                ))
            }
        }
    }
}

/// The rows of a project, with the rights of a user where there is one.
fn rows_of<'a>(project: &'a SupabaseBackend, user: Option<&'a UserClaims>) -> ActivityRows<'a> {
    project.activities(user.map(|user| user.token.as_secret()))
}

fn json_text(text: &str) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(text.to_owned()).map_err(ApiError::internal)
}

impl Session {
    async fn run(
        &mut self,
        user: Option<&UserClaims>,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<String>, tokio_postgres::Error> {
        let statement = self.prepare(sql).await?;
        let rows = match user {
            None => self.client.query(&statement, parameters).await?,
            Some(user) => {
                let becoming = self.prepare(BECOME).await?;
                let transaction = self.client.transaction().await?;
                transaction
                    .query(&becoming, &[&user.role, &user.claims])
                    .await?;
                let rows = transaction.query(&statement, parameters).await?;
                transaction.commit().await?;
                rows
            }
        };
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    async fn prepare(&mut self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl From<Missed> for ApiError {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::NotFound => Self::not_found("Activity"),
            Missed::Refused => {
                security("Row level security does not let this user change the activity")
            }
        }
    }
}

/// Never `PERMISSION_REQUIRED`: that would make the SDK ask a person, who cannot help.
fn security(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "RLS_DENIED", message)
}

fn no_connection(error: managed::PoolError<rowcall_core::SourceError>) -> ApiError {
    let message = match error {
        managed::PoolError::Backend(error) => error.to_string(),
        other => format!("the database cannot be reached: {other}"),
    };
    ApiError::unavailable("DATABASE_UNAVAILABLE", message)
}

/// What the database said: bad values are the client's, missing rights the user's, everything else ours.
fn refused(error: &tokio_postgres::Error) -> ApiError {
    let Some(said) = error.as_db_error() else {
        if error.is_closed() || error.to_string().contains("communicating") {
            return ApiError::unavailable(
                "DATABASE_UNAVAILABLE",
                "The connection to the database was lost",
            );
        }
        // A value that cannot be sent, such as a text with NUL.
        return ApiError::invalid(format!("The database does not take this value: {error}"));
    };
    let code = said.code();
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return security("Row level security or missing rights refuse this to the user");
    }
    match code.code().get(..2) {
        Some("22" | "23") => ApiError::invalid(format!(
            "The database does not take this value: {}",
            said.message()
        )),
        Some("57" | "53" | "08") => {
            ApiError::unavailable("DATABASE_UNAVAILABLE", said.message().to_owned())
        }
        _ => ApiError::internal(format!("{}: {}", code.code(), said.message())),
    }
}

#[cfg(test)]
mod tests;
