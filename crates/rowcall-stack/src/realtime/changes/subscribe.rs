//! Checking what a channel asks for: tables, columns, filters.
//!
//! What is wrong with a binding is told to the client in a `system` message and the channel stays; only trouble with the
//! database itself is an error here.

use std::fmt::Write as _;
use std::sync::Arc;

use rowcall_realtime::join::{Binding, Select};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::PUBLICATION;
use super::filter::{self, Operand, Operator, Segment};
use super::position::{Position, parse_lsn};
use super::predicate::{Checked, Predicate};
use super::subscription::{Subscription, Want};
use crate::realtime::channel::Wanted;
use crate::realtime::database::{Database, QueryError};
use crate::realtime::token::Identity;

const POSITION: &str = include_str!("../../../sql/realtime/position.sql");
const TABLE: &str = include_str!("../../../sql/realtime/table.sql");
const SETTINGS: &str = include_str!("../../../sql/realtime/settings.sql");

/// Why a binding is not subscribed.
enum Problem {
    /// For the client.
    Notice(String),
    /// The table is not published; the notice for the client.
    Unpublished(String),
    Database(QueryError),
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Checks all bindings of a channel.
pub(crate) async fn prepare(
    database: &Database,
    identity: &Arc<Identity>,
    wanted: &Arc<Wanted>,
    since: Option<Position>,
) -> Result<Subscription, QueryError> {
    let client = database.connection().await?;
    let position = client.prepare_cached(POSITION).await?;
    let text: String = client.query_one(&position, &[]).await?.get(0);
    let mut subscription = Subscription {
        identity: Arc::clone(identity),
        wanted: Arc::clone(wanted),
        wants: Vec::new(),
        dormant: Vec::new(),
        notice: Ok(()),
        from: Position::before(parse_lsn(&text).unwrap_or_default()),
        since,
    };
    for (binding, &id) in wanted.bindings.iter().zip(&wanted.ids) {
        match check(&client, identity, binding, id).await {
            Ok(want) => subscription.wants.push(want),
            Err(Problem::Notice(message)) => note(&mut subscription, message),
            Err(Problem::Unpublished(message)) => {
                subscription.dormant.extend(name(binding));
                note(&mut subscription, message);
            }
            Err(Problem::Database(error)) => return Err(error),
        }
    }
    Ok(subscription)
}

/// The first problem is the one the client hears of.
fn note(subscription: &mut Subscription, message: String) {
    if subscription.notice.is_ok() {
        subscription.notice = Err(message);
    }
}

fn named(text: Option<&str>) -> Option<&str> {
    text.filter(|&text| text != "*")
}

/// Schema and table of a binding on one table.
fn name(binding: &Binding) -> Option<(String, String)> {
    let schema = binding.schema.as_deref().unwrap_or("public");
    let table = named(binding.table.as_deref())?;
    Some((named(Some(schema))?.to_owned(), table.to_owned()))
}

async fn check(
    client: &deadpool_postgres::Object,
    identity: &Identity,
    binding: &Binding,
    id: u32,
) -> Result<Want, Problem> {
    if binding.schema.is_none() && binding.table.is_none() {
        return Err(Problem::Notice(format!(
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {}",
            serde_json::Value::Object(binding.requested.clone())
        )));
    }
    let select = match &binding.select {
        Select::All => None,
        Select::Columns(columns) => Some(columns.clone()),
        Select::Invalid => {
            return Err(Problem::Notice(
                "Error parsing `select` params: expected a list of column name strings".to_owned(),
            ));
        }
    };
    let mut want = Want {
        id,
        event: binding.event,
        schema: named(Some(binding.schema.as_deref().unwrap_or("public"))).map(str::to_owned),
        table: named(binding.table.as_deref()).map(str::to_owned),
        predicates: Vec::new(),
        select,
    };
    let (Some(schema), Some(table)) = (&want.schema, &want.table) else {
        // Filters count only with a table; upstream ignores them here, too.
        if want.select.is_some() {
            return Err(Problem::Notice(
                "Column selection is not supported for wildcard subscriptions. Please name a schema and a table"
                    .to_owned(),
            ));
        }
        want.table = None;
        return Ok(want);
    };
    let segments = filter::parse(binding.filter.as_deref().unwrap_or_default())
        .map_err(|error| Problem::Notice(error.to_string()))?;
    let statement = client.prepare_cached(TABLE).await?;
    let columns = client
        .query(&statement, &[schema, table, &PUBLICATION, &&*identity.role])
        .await?;
    if columns.is_empty() {
        return Err(Problem::Unpublished(format!(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
             connect parameters: {}",
            describe(&want, &segments)
        )));
    }
    let exception = |message: String| {
        Problem::Notice(format!(
            "Unable to subscribe to changes with given parameters. An exception happened so please check your \
             connect parameters: {}. Exception: ERROR {message}",
            describe(&want, &segments)
        ))
    };
    let column = |name: &str| {
        columns
            .iter()
            .find(|column| column.get::<_, &str>("name") == name && column.get("is_selectable"))
    };
    for name in want.select.iter().flatten() {
        if column(name).is_none() {
            return Err(exception(format!(
                "P0001 (raise_exception) invalid column for select {name}"
            )));
        }
    }
    let mut predicates = Vec::with_capacity(segments.len());
    for segment in &segments {
        let found = column(&segment.column).ok_or_else(|| {
            let column = &segment.column;
            exception(format!(
                "P0001 (raise_exception) invalid column for filter {column}"
            ))
        })?;
        let checked = check_segment(client, identity, segment, found).await?;
        predicates.push(Predicate::new(segment, checked.map_err(exception)?));
    }
    want.predicates = predicates;
    Ok(want)
}

/// Has PostgreSQL try the comparison and print the literals as it prints values (`format` does, a cast to text not always); the inner error is what is wrong with the segment.
async fn check_segment(
    client: &Client,
    identity: &Identity,
    segment: &Segment,
    column: &Row,
) -> Result<Result<Checked, String>, tokio_postgres::Error> {
    let is_text: bool = column.get("is_text");
    let mut checked = Checked {
        type_oid: column.get("type"),
        type_sql: column.get("type_sql"),
        is_enum: column.get("is_enum"),
        collation_sql: column.get("collation_sql"),
        is_deterministic: column.get("is_deterministic"),
        canonical: Vec::new(),
    };
    let Checked {
        type_sql,
        collation_sql,
        ..
    } = &checked;
    let operator = segment.operator;
    if operator.is_pattern() && !is_text {
        return Ok(Err(format!(
            "P0001 (raise_exception) operator {} needs a text column and `{}` is {type_sql}",
            operator.sql(),
            segment.column
        )));
    }
    let literals = match &segment.operand {
        Operand::One(literal) => vec![literal.clone()],
        Operand::Many(literals) => literals.clone(),
    };
    if operator == Operator::Is {
        const BOOL: u32 = 16;
        let needs_bool = segment.operand != Operand::One("null".to_owned());
        return Ok(if needs_bool && checked.type_oid != BOOL {
            Err(format!(
                "P0001 (raise_exception) `is` with a truth value needs a boolean column, not {type_sql}"
            ))
        } else {
            Ok(checked)
        });
    }
    if matches!(operator, Operator::Like | Operator::Ilike) && ends_in_escape(&literals[0]) {
        return Ok(Err(
            "22025 (invalid_escape_sequence) LIKE pattern must not end with escape character"
                .to_owned(),
        ));
    }
    let left = format!("null::{type_sql}{collation_sql}");
    let sql = match operator {
        Operator::In => format!(
            "select array(select pg_catalog.format('%s', v) from pg_catalog.unnest($1::text[]::{type_sql}[]) v), \
                    {left} = any ($1::text[]::{type_sql}[])"
        ),
        _ if operator.is_pattern() => {
            format!("select $1::text[], '' {} ($1::text[])[1]", operator.sql())
        }
        _ => format!(
            "select array[pg_catalog.format('%s', ($1::text[])[1]::{type_sql})], {left} {} ($1::text[])[1]::{type_sql}",
            operator.sql()
        ),
    };
    let parameter: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] =
        [(&literals, Type::TEXT_ARRAY)];
    let settings: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] = [
        (&&*identity.role, Type::TEXT),
        (&&*identity.claims, Type::TEXT),
    ];
    let (begin, set, answer, _) = tokio::join!(
        biased;
        client.batch_execute("begin"),
        client.query_typed(SETTINGS, &settings),
        client.query_typed(&sql, &parameter),
        client.batch_execute("rollback"),
    );
    begin?;
    set?;
    match answer {
        Ok(rows) => {
            let canonical: Vec<Option<String>> =
                rows.first().map(|row| row.get(0)).unwrap_or_default();
            checked.canonical = canonical.into_iter().flatten().collect();
            Ok(Ok(checked))
        }
        Err(error) => match error.as_db_error() {
            Some(database) => Ok(Err(format!(
                "{} {}",
                database.code().code(),
                database.message()
            ))),
            None => Err(error),
        },
    }
}

fn ends_in_escape(pattern: &str) -> bool {
    let escapes = pattern
        .bytes()
        .rev()
        .take_while(|&byte| byte == b'\\')
        .count();
    escapes % 2 == 1
}

/// The parameters of a binding, in the form upstream shows them.
fn describe(want: &Want, segments: &[Segment]) -> String {
    let mut filters = String::new();
    for segment in segments {
        let separator = if filters.is_empty() { "" } else { ", " };
        let operator = segment.operator.sql();
        write!(
            filters,
            "{separator}{{{:?}, {operator:?}, {:?}}}",
            segment.column, segment.operand
        )
        .expect("writing to a string");
    }
    let select = match &want.select {
        Some(columns) => format!("{columns:?}"),
        None => "nil".to_owned(),
    };
    format!(
        "[event: {}, schema: {}, table: {}, filters: [{filters}], select: {select}]",
        want.event.as_str(),
        want.schema.as_deref().unwrap_or("*"),
        want.table.as_deref().unwrap_or("*"),
    )
}
