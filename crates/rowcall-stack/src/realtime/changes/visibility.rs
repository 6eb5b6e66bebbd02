//! Row level security: which rows of a batch a role with its claims may see.
//!
//! One query per group and batch, each in a transaction of its own that is rolled back, all of them pipelined over a few
//! connections. A policy that raises fails its own group only; then its rows are tried one by one, so that a row on which it
//! raises hides no other.

use std::sync::Arc;

use deadpool_postgres::Object;
use futures_util::future::{join_all, try_join_all};
use tokio_postgres::Statement;

use super::relation::Relation;
use crate::realtime::database::{Database, QueryError};
use crate::realtime::token::Identity;

const SETTINGS: &str = include_str!("../../../sql/realtime/settings.sql");

/// What row level security says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    Visible,
    Hidden,
    /// A policy raised.
    Failed,
}

/// One group and the rows to check for it.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    pub(crate) relation: &'a Relation,
    pub(crate) identity: &'a Arc<Identity>,
    /// Primary keys as text.
    pub(crate) keys: Vec<Vec<&'a str>>,
}

/// The query: which of the rows with these primary keys there are. `lateral` with `limit` makes each key one index lookup,
/// whatever the planner thinks of the number of keys.
fn query(relation: &Relation) -> String {
    let ident = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (mut arrays, mut names, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    for (number, &column) in relation.primary_key.iter().enumerate() {
        let column = &relation.columns[column];
        arrays.push(format!("${}::text[]", number + 1));
        names.push(format!("c{number}"));
        conditions.push(format!(
            "t.{} = k.c{number}::{}",
            ident(&column.name),
            column.type_sql
        ));
    }
    format!(
        "select k.number from unnest({}) with ordinality as k ({}, number) \
         cross join lateral (select from {}.{} t where {} limit 1) as visible",
        arrays.join(", "),
        names.join(", "),
        ident(&relation.schema),
        ident(&relation.table),
        conditions.join(" and "),
    )
}

/// Makes all checks; the answers are in their order.
///
/// # Errors
/// Only when the database cannot be asked at all.
pub(crate) async fn check(
    database: &Database,
    connections: usize,
    checks: &[Check<'_>],
) -> Result<Vec<Vec<Sight>>, QueryError> {
    let share = checks.len().div_ceil(connections.max(1)).max(1);
    let parts = checks.chunks(share).map(|part| check_part(database, part));
    let parts: Vec<Vec<Vec<Sight>>> = try_join_all(parts).await?;
    Ok(parts.into_iter().flatten().collect())
}

async fn check_part(
    database: &Database,
    checks: &[Check<'_>],
) -> Result<Vec<Vec<Sight>>, QueryError> {
    let client = database.check_connection().await?;
    let settings = client.prepare_cached(SETTINGS).await?;
    let mut statements = Vec::with_capacity(checks.len());
    for check in checks {
        statements.push(prepare(&client, check.relation).await?);
    }
    let groups = checks
        .iter()
        .zip(&statements)
        .map(|(check, statement)| async {
            match statement {
                Some(statement) => check_group(&client, &settings, statement, check).await,
                None => Ok(vec![Sight::Hidden; check.keys.len()]),
            }
        });
    // Each sends its four messages when it is first polled, so groups do not mix on the wire.
    join_all(groups).await.into_iter().collect()
}

/// Prepares the query; `None` when the table is gone or not what it was.
async fn prepare(client: &Object, relation: &Relation) -> Result<Option<Statement>, QueryError> {
    match client.prepare_cached(&query(relation)).await {
        Ok(statement) => Ok(Some(statement)),
        Err(error) if error.as_db_error().is_some() => {
            tracing::debug!(%error, relation.table, "rows cannot be looked up; they count as not visible");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn check_group(
    client: &Object,
    settings: &Statement,
    statement: &Statement,
    check: &Check<'_>,
) -> Result<Vec<Sight>, QueryError> {
    let mut sights = vec![Sight::Hidden; check.keys.len()];
    match run(client, settings, statement, check.identity, &check.keys).await? {
        Ok(visible) => {
            for row in visible {
                if let Some(sight) = sights.get_mut(row) {
                    *sight = Sight::Visible;
                }
            }
        }
        Err(error) if check.keys.len() > 1 => {
            tracing::warn!(
                error,
                table = check.relation.table,
                "a policy raised; rows are checked one by one"
            );
            for (key, sight) in check.keys.iter().zip(&mut sights) {
                let key = std::slice::from_ref(key);
                *sight = match run(client, settings, statement, check.identity, key).await? {
                    Ok(visible) if visible.is_empty() => Sight::Hidden,
                    Ok(_) => Sight::Visible,
                    Err(_) => Sight::Failed,
                };
            }
        }
        Err(error) => {
            tracing::warn!(error, table = check.relation.table, "a policy raised");
            sights.fill(Sight::Failed);
        }
    }
    Ok(sights)
}

/// Runs the query as the identity: places of the visible rows, or what a policy raised.
async fn run(
    client: &Object,
    settings: &Statement,
    statement: &Statement,
    identity: &Identity,
    keys: &[Vec<&str>],
) -> Result<Result<Vec<usize>, String>, QueryError> {
    let width = keys.first().map_or(0, Vec::len);
    let columns: Vec<Vec<&str>> = (0..width)
        .map(|column| keys.iter().map(|key| key[column]).collect())
        .collect();
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = columns
        .iter()
        .map(|column| column as &(dyn tokio_postgres::types::ToSql + Sync))
        .collect();
    let (role, claims) = (&*identity.role, &*identity.claims);
    let set_parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&role, &claims];
    let (begin, set, answer, _) = tokio::join!(
        biased;
        client.batch_execute("begin"),
        client.execute(settings, &set_parameters),
        client.query(statement, &parameters),
        client.batch_execute("rollback"),
    );
    begin?;
    let answer = match set {
        Ok(_) => answer,
        Err(error) => Err(error),
    };
    match answer {
        Ok(rows) => Ok(Ok(rows
            .iter()
            .filter_map(|row| usize::try_from(row.get::<_, i64>(0) - 1).ok())
            .collect())),
        Err(error) => match error.as_db_error() {
            // A role without rights on the table or its schema sees nothing; that is no failure.
            Some(database) if database.code().code() == "42501" => Ok(Ok(Vec::new())),
            Some(database) => Ok(Err(database.message().to_owned())),
            None => Err(error.into()),
        },
    }
}
