//! Row level security: which rows of a batch a role with its claims may see.
//!
//! One query per group and batch, pipelined over a few connections, in transactions that are rolled back. A policy that raises
//! ends its transaction; the groups after it are then checked each in a transaction of its own, and the rows of the group
//! that raised one by one, so that it hides nothing from others, nor the rows on which it does not raise.

use std::sync::Arc;

use deadpool_postgres::Object;
use futures_util::future::{maybe_done, try_join_all};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

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
    pub(crate) keys: Vec<&'a [&'a str]>,
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
    let groups: Vec<Group<'_>> = checks
        .iter()
        .zip(&statements)
        .map(|(check, statement)| Group {
            check,
            statement: statement.as_ref(),
            columns: columns(&check.keys),
        })
        .collect();
    let mut sights = together(&client, &settings, &groups).await?;
    // What comes after a policy that raised was not evaluated; one by one it is.
    for group in &groups[sights.len()..] {
        sights.push(match group.statement {
            Some(statement) => check_group(&client, &settings, statement, group.check).await?,
            None => vec![Sight::Hidden; group.check.keys.len()],
        });
    }
    Ok(sights)
}

/// One check with what the query needs.
struct Group<'a> {
    check: &'a Check<'a>,
    /// `None` when the table is gone.
    statement: Option<&'a Statement>,
    columns: Vec<Vec<&'a str>>,
}

/// The keys by column, as the query takes them.
fn columns<'a>(keys: &[&'a [&'a str]]) -> Vec<Vec<&'a str>> {
    let width = keys.first().map_or(0, |key| key.len());
    (0..width)
        .map(|column| keys.iter().map(|key| key[column]).collect())
        .collect()
}

fn parameters<'a>(columns: &'a [Vec<&str>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns
        .iter()
        .map(|column| column as &(dyn ToSql + Sync))
        .collect()
}

/// Makes all checks in one transaction and one round trip, up to the first policy that raises: the answers until there.
async fn together(
    client: &Object,
    settings: &Statement,
    groups: &[Group<'_>],
) -> Result<Vec<Vec<Sight>>, QueryError> {
    let begin = client.batch_execute("begin");
    let asked = groups.iter().map(|group| async move {
        let Some(statement) = group.statement else {
            return Ok(Vec::new());
        };
        let identity = group.check.identity;
        let (role, claims) = (&*identity.role, &*identity.claims);
        let set_parameters: [&(dyn ToSql + Sync); 2] = [&role, &claims];
        let parameters = parameters(&group.columns);
        let (set, rows) = tokio::join!(
            biased;
            client.execute(settings, &set_parameters),
            client.query(statement, &parameters),
        );
        set.and(rows)
    });
    let rollback = client.batch_execute("rollback");
    // Each sends its messages when it is first polled, so they have to be polled in order: first all of them once, then each
    // until its answer is there.
    let mut begin = std::pin::pin!(maybe_done(begin));
    let mut asked: Vec<_> = asked.map(|one| Box::pin(maybe_done(one))).collect();
    let mut rollback = std::pin::pin!(maybe_done(rollback));
    let _ = futures_util::poll!(begin.as_mut());
    for one in &mut asked {
        let _ = futures_util::poll!(one.as_mut());
    }
    let _ = futures_util::poll!(rollback.as_mut());
    begin.as_mut().await;
    begin.as_mut().take_output().expect("it was awaited")?;
    let mut sights = Vec::with_capacity(groups.len());
    let mut has_raised = false;
    for (group, one) in groups.iter().zip(&mut asked) {
        one.as_mut().await;
        match one.as_mut().take_output().expect("it was awaited") {
            Ok(rows) if !has_raised => sights.push(visible(group.check.keys.len(), &rows)),
            Ok(_) => {}
            Err(error) if error.as_db_error().is_some() => has_raised = true,
            Err(error) => return Err(error.into()),
        }
    }
    rollback.as_mut().await;
    rollback.as_mut().take_output().expect("it was awaited")?;
    Ok(sights)
}

/// What the query's answer says of `keys` rows.
fn visible(keys: usize, rows: &[Row]) -> Vec<Sight> {
    let mut sights = vec![Sight::Hidden; keys];
    for row in rows {
        let place = usize::try_from(row.get::<_, i64>(0) - 1).ok();
        if let Some(sight) = place.and_then(|place| sights.get_mut(place)) {
            *sight = Sight::Visible;
        }
    }
    sights
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

/// Makes one check in a transaction of its own, and row by row where a policy raises.
async fn check_group(
    client: &Object,
    settings: &Statement,
    statement: &Statement,
    check: &Check<'_>,
) -> Result<Vec<Sight>, QueryError> {
    match run(client, settings, statement, check.identity, &check.keys).await? {
        Ok(sights) => return Ok(sights),
        Err(error) if check.keys.len() > 1 => {
            tracing::warn!(
                error,
                table = check.relation.table,
                "a policy raised; rows are checked one by one"
            );
        }
        Err(error) => {
            tracing::warn!(error, table = check.relation.table, "a policy raised");
            return Ok(vec![Sight::Failed]);
        }
    }
    let mut sights = Vec::with_capacity(check.keys.len());
    for key in &check.keys {
        let key = std::slice::from_ref(key);
        match run(client, settings, statement, check.identity, key).await? {
            Ok(one) => sights.extend(one),
            Err(_) => sights.push(Sight::Failed),
        }
    }
    Ok(sights)
}

/// Runs the query as the identity; the inner error is what a policy raised.
async fn run(
    client: &Object,
    settings: &Statement,
    statement: &Statement,
    identity: &Identity,
    keys: &[&[&str]],
) -> Result<Result<Vec<Sight>, String>, QueryError> {
    let columns = columns(keys);
    let parameters = parameters(&columns);
    let (role, claims) = (&*identity.role, &*identity.claims);
    let set_parameters: [&(dyn ToSql + Sync); 2] = [&role, &claims];
    let (begin, set, answer, _) = tokio::join!(
        biased;
        client.batch_execute("begin"),
        client.execute(settings, &set_parameters),
        client.query(statement, &parameters),
        client.batch_execute("rollback"),
    );
    begin?;
    match set.and(answer) {
        Ok(rows) => Ok(Ok(visible(keys.len(), &rows))),
        Err(error) => match error.as_db_error() {
            // A role without rights on the table or its schema sees nothing; that is no failure.
            Some(database) if *database.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                Ok(Ok(vec![Sight::Hidden; keys.len()]))
            }
            Some(database) => Ok(Err(database.message().to_owned())),
            None => Err(error.into()),
        },
    }
}
