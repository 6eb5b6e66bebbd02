//! Runs one request's transaction: who asks and what about first, then the one statement, then the end.
//!
//! Where nothing has to be checked between the statement and the commit, all of it travels in one round trip.

use std::borrow::Cow;
use std::sync::LazyLock;

use futures_util::future::{join, join4, join5};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};

use super::error::RestError;
use super::pool::{Connection, Lease, Pool, Seen};
use super::sql::{Sql, TextValue};
use super::sqlstate::from_database;

/// How many settings a transaction usually has at most.
const USUAL_SETTINGS: usize = 24;

/// A setting's name and value.
pub(crate) type Setting = (Cow<'static, str>, String);

/// The transaction around a statement.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// `begin …`
    pub begin: &'static str,
    /// Settings for this transaction, in order; `role` is among them.
    pub settings: Vec<Setting>,
    /// `select …` to run before the statement.
    pub pre_request: Option<String>,
    /// Whether the request has no user, which decides the status of missing rights.
    pub anonymous: bool,
}

/// What to do after the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Keep what was done.
    Commit,
    /// Undo it.
    Rollback,
}

/// Runs statements in transactions.
#[derive(Debug)]
pub(crate) struct Runner {
    /// The connections.
    pub pool: Pool,
    /// Which shapes come back.
    pub seen: Seen,
}

impl Runner {
    /// A connection, or the error of there being none.
    pub(crate) async fn lease(&self) -> Result<Lease, RestError> {
        use deadpool::managed::{PoolError, TimeoutType};
        match self.pool.get().await {
            Ok(object) => Ok(Lease::new(object)),
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(RestError::pool_timeout()),
            Err(PoolError::Backend(error)) => Err(from_database(&error, false)),
            Err(_) => Err(RestError::no_connection(
                "no connection to the database could be opened in time",
            )),
        }
    }

    /// Runs `main` in a transaction that is committed unless it fails. One round trip when the shape is known.
    ///
    /// # Errors
    /// The first error of the transaction.
    pub(crate) async fn committed(
        &self,
        transaction: &Transaction,
        main: &Sql,
    ) -> Result<Vec<Row>, RestError> {
        let mut lease = self.lease().await?;
        let connection = lease.connection();
        let rows = match Self::known(connection, transaction, main) {
            Some((prelude, statement)) => {
                let settings = parameters(&transaction.settings);
                let client = &connection.client;
                let main_values = values(main);
                let (began, set, pre, rows, ended) = join5(
                    client.batch_execute(transaction.begin),
                    client.query(&prelude, &settings),
                    optional(client, transaction.pre_request.as_deref()),
                    client.query(&statement, &main_values),
                    client.batch_execute("commit"),
                )
                .await;
                first_error(began, set, pre)
                    .and(rows)
                    .and_then(|rows| ended.map(|()| rows))
            }
            None => self.unknown(connection, transaction, main, true).await,
        };
        finish(lease, rows, transaction)
    }

    /// Runs `main`, lets `decide` look at the rows, and ends the transaction as it says.
    ///
    /// # Errors
    /// The first error of the transaction, or that of `decide`, which undoes everything.
    pub(crate) async fn decided<T>(
        &self,
        transaction: &Transaction,
        main: &Sql,
        decide: impl FnOnce(&[Row]) -> Result<(T, End), RestError>,
    ) -> Result<T, RestError> {
        let mut lease = self.lease().await?;
        let connection = lease.connection();
        let rows = match Self::known(connection, transaction, main) {
            Some((prelude, statement)) => {
                let settings = parameters(&transaction.settings);
                let client = &connection.client;
                let main_values = values(main);
                let (began, set, pre, rows) = join4(
                    client.batch_execute(transaction.begin),
                    client.query(&prelude, &settings),
                    optional(client, transaction.pre_request.as_deref()),
                    client.query(&statement, &main_values),
                )
                .await;
                first_error(began, set, pre).and(rows)
            }
            None => self.unknown(connection, transaction, main, false).await,
        };
        let decided = match rows {
            Ok(rows) => decide(&rows),
            Err(error) => Err(from_database(&error, transaction.anonymous)),
        };
        let end = match &decided {
            Ok((_, End::Commit)) => "commit",
            Ok((_, End::Rollback)) | Err(_) => "rollback",
        };
        let ended = lease.connection().client.batch_execute(end).await;
        let (value, _) = decided?;
        finish(lease, ended, transaction)?;
        Ok(value)
    }

    /// The prepared statements, when both are there.
    fn known(
        connection: &Connection,
        transaction: &Transaction,
        main: &Sql,
    ) -> Option<(Statement, Statement)> {
        let prelude = connection.prepared(&prelude(transaction.settings.len()))?;
        let statement = connection.prepared(main.text())?;
        Some((prelude.clone(), statement.clone()))
    }

    /// Runs with statements that are not prepared yet; those that were seen before are prepared on the way.
    ///
    /// Everything is parsed inside the transaction, after `search_path` is set, as names may depend on it.
    async fn unknown(
        &self,
        connection: &mut Connection,
        transaction: &Transaction,
        main: &Sql,
        commit: bool,
    ) -> Result<Vec<Row>, Error> {
        let prelude_text = prelude(transaction.settings.len());
        let prelude = if let Some(prelude) = connection.prepared(&prelude_text) {
            prelude.clone()
        } else {
            let prelude = connection.client.prepare(&prelude_text).await?;
            connection.keep(&prelude_text, prelude.clone());
            prelude
        };
        let settings = parameters(&transaction.settings);
        let client = &connection.client;
        let comes_back = self.seen.check(main.text());
        if !comes_back && commit {
            let main_values = typed(main);
            let (began, set, pre, rows, ended) = join5(
                client.batch_execute(transaction.begin),
                client.query(&prelude, &settings),
                optional(client, transaction.pre_request.as_deref()),
                client.query_typed(main.text(), &main_values),
                client.batch_execute("commit"),
            )
            .await;
            return first_error(began, set, pre)
                .and(rows)
                .and_then(|rows| ended.map(|()| rows));
        }
        if !comes_back {
            let main_values = typed(main);
            let (began, set, pre, rows) = join4(
                client.batch_execute(transaction.begin),
                client.query(&prelude, &settings),
                optional(client, transaction.pre_request.as_deref()),
                client.query_typed(main.text(), &main_values),
            )
            .await;
            return first_error(began, set, pre).and(rows);
        }
        let (began, set, pre, statement) = join4(
            client.batch_execute(transaction.begin),
            client.query(&prelude, &settings),
            optional(client, transaction.pre_request.as_deref()),
            client.prepare(main.text()),
        )
        .await;
        let statement = match first_error(began, set, pre).and(statement) {
            Ok(statement) => statement,
            Err(error) => {
                if commit {
                    client.batch_execute("rollback").await?;
                }
                return Err(error);
            }
        };
        connection.keep(main.text(), statement.clone());
        let client = &connection.client;
        let main_values = values(main);
        if !commit {
            return client.query(&statement, &main_values).await;
        }
        let (rows, ended) = join(
            client.query(&statement, &main_values),
            client.batch_execute("commit"),
        )
        .await;
        rows.and_then(|rows| ended.map(|()| rows))
    }
}

/// Gives the connection back, unless it is broken.
fn finish<T>(
    lease: Lease,
    result: Result<T, Error>,
    transaction: &Transaction,
) -> Result<T, RestError> {
    lease.done();
    result.map_err(|error| from_database(&error, transaction.anonymous))
}

/// `select set_config(…), …` for so many settings; the usual numbers are written once.
fn prelude(settings: usize) -> Cow<'static, str> {
    static USUAL: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..USUAL_SETTINGS).map(write_prelude).collect());
    match USUAL.get(settings) {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(write_prelude(settings)),
    }
}

fn write_prelude(settings: usize) -> String {
    let calls: Vec<String> = (0..settings)
        .map(|i| {
            format!(
                "pg_catalog.set_config(${}, ${}, true)",
                2 * i + 1,
                2 * i + 2
            )
        })
        .collect();
    format!("select {}", calls.join(", "))
}

fn parameters(settings: &[Setting]) -> Vec<&(dyn ToSql + Sync)> {
    settings
        .iter()
        .flat_map(|(name, value)| [name as &(dyn ToSql + Sync), value as _])
        .collect()
}

fn values(sql: &Sql) -> Vec<&(dyn ToSql + Sync)> {
    sql.values()
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

fn typed(sql: &Sql) -> Vec<(&(dyn ToSql + Sync), Type)> {
    sql.values()
        .iter()
        .map(|value: &TextValue| (value as &(dyn ToSql + Sync), Type::UNKNOWN))
        .collect()
}

async fn optional(client: &tokio_postgres::Client, statement: Option<&str>) -> Result<(), Error> {
    match statement {
        Some(statement) => client.batch_execute(statement).await,
        None => Ok(()),
    }
}

/// What failed first; later statements fail only because of it.
fn first_error<T>(
    began: Result<(), Error>,
    set: Result<T, Error>,
    pre: Result<(), Error>,
) -> Result<(), Error> {
    began?;
    set?;
    pre
}
