//! Capturing changes: triggers that write an activity in the writer's own transaction (`rowcall setup`).
//!
//! What is committed is captured, also while every daemon is off; what is rolled back is not. The triggers run with the rights
//! of whoever installed them, so writers need none on `rtx_activities`. A trigger that fails makes the write fail, which is why
//! they do as little as possible. Logical replication and `session_replication_role = replica` fire no triggers, so rows that
//! arrive that way are not captured.

mod error;
mod render;
mod script;
mod table;

use std::time::Duration;

pub use error::CaptureError;
use rowcall_core::{EventKind, EventSet, Filter, TableName};
pub use script::script;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_postgres::{Client, Transaction};

use self::table::Table;
use crate::sql::qualified;

/// Putting a trigger on a table waits this long for its writers, who in turn wait behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Captures of a database change one after the other: "capture" in ASCII.
const LOCK: i64 = 0x0063_6170_7475_7265;

/// What is to be captured.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureSpec {
    /// The table.
    pub table: TableName,
    /// Which changes.
    pub events: EventSet,
    /// Only rows that match: the new row, or the old one of a DELETE.
    pub filter: Option<Filter>,
}

/// Whether something had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The triggers are new.
    Installed,
    /// They were replaced.
    Updated,
    /// They were there already.
    Unchanged,
}

/// What [`install`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The table.
    pub table: TableName,
    /// Whether something had to be done.
    pub change: Change,
    /// The captured events.
    pub events: Vec<EventKind>,
    /// The filter in its canonical form.
    pub filter: Option<String>,
    /// The columns that name a row in `source_key`.
    pub key: Vec<String>,
    /// What to know about this table.
    pub notes: Vec<String>,
}

/// A captured table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Captured {
    /// Its name now; `None` when the table is gone.
    pub table: Option<TableName>,
    /// The name its tasks carry. Another one than `table` after a rename: install again.
    pub source: String,
    /// The captured events.
    pub events: Vec<EventKind>,
    /// The filter.
    pub filter: Option<String>,
    /// The columns that name a row.
    pub key: Vec<String>,
    /// Whether all triggers are there and enabled.
    pub active: bool,
}

/// Captures a table, or changes what is captured of it. Doing it twice changes nothing.
///
/// # Errors
/// When the table cannot be captured, with the reason and what to do; nothing is changed then.
pub async fn install(client: &mut Client, spec: &CaptureSpec) -> Result<Report, CaptureError> {
    if spec.events.is_empty() {
        return Err(CaptureError::NoEvents(spec.table.clone()));
    }
    let failed = CaptureError::on(&spec.table);
    let transaction = begin(client).await?;
    let table = table::inspect(&transaction, &spec.table).await?;
    check_filter(&table, spec.filter.as_ref())?;
    let may_write: bool = transaction
        .query_one(include_str!("../../sql/capture/rights.sql"), &[])
        .await?
        .get(0);
    if !may_write {
        return Err(CaptureError::NoRights);
    }
    let before = transaction
        .query_opt(include_str!("../../sql/capture/state.sql"), &[&table.oid])
        .await?;
    let number: i32 = match &before {
        Some(row) => row.get(0),
        None => transaction
            .query_one("select nextval('rowcall.capture_number')::integer", &[])
            .await?
            .get(0),
    };
    let captures: Vec<(EventKind, render::Capture)> = spec
        .events
        .iter()
        .map(|event| {
            (
                event,
                render::capture(&table, number, event, spec.filter.as_ref()),
            )
        })
        .collect();
    let definition = definition(&captures);
    let unchanged = before.as_ref().is_some_and(|row| {
        let (known, triggers): (&str, i64) = (row.get(1), row.get(2));
        known == definition && usize::try_from(triggers).ok() == Some(captures.len())
    });
    let change = match (&before, unchanged) {
        (None, _) => Change::Installed,
        (Some(_), false) => Change::Updated,
        (Some(_), true) => Change::Unchanged,
    };
    if change != Change::Unchanged {
        drop_triggers(&transaction, &table.name, number)
            .await
            .map_err(&failed)?;
        for (_, capture) in &captures {
            transaction
                .batch_execute(&capture.create_function)
                .await
                .map_err(&failed)?;
            // A trigger fires with the definer's rights; nobody calls the function by hand.
            let closed = format!(
                "revoke all on function rowcall.{}() from public",
                capture.function
            );
            transaction.batch_execute(&closed).await.map_err(&failed)?;
            transaction
                .batch_execute(&capture.create_trigger)
                .await
                .map_err(&failed)?;
        }
        note(&transaction, &table, number, spec, &definition).await?;
        transaction.commit().await.map_err(&failed)?;
    }
    Ok(Report {
        change,
        events: spec.events.iter().collect(),
        filter: spec.filter.as_ref().map(ToString::to_string),
        notes: notes(&table, spec),
        key: table.key,
        table: table.name,
    })
}

/// Stops capturing a table; tasks that were captured stay. `false` when it was not captured.
pub async fn remove(client: &mut Client, table: &TableName) -> Result<bool, CaptureError> {
    let failed = CaptureError::on(table);
    let transaction = begin(client).await?;
    // By the name of now or by the name of then: a table that was renamed or dropped must be removable by either.
    let sql = "select c.number, n.nspname::text, t.relname::text from rowcall.captures c \
               left join pg_catalog.pg_class t on t.oid = c.relation \
               left join pg_catalog.pg_namespace n on n.oid = t.relnamespace \
               where c.source = $1 or (n.nspname = $2 and t.relname = $3)";
    let rows = transaction
        .query(sql, &[&table.to_string(), &table.schema(), &table.name()])
        .await?;
    for row in &rows {
        let number: i32 = row.get(0);
        if let (Some(schema), Some(name)) =
            (row.get::<_, Option<&str>>(1), row.get::<_, Option<&str>>(2))
            && let Ok(now) = TableName::new(schema, name)
        {
            drop_triggers(&transaction, &now, number)
                .await
                .map_err(&failed)?;
        }
        for event in EventKind::ALL {
            let function = render::function_name(number, event);
            transaction
                .batch_execute(&format!("drop function if exists rowcall.{function}()"))
                .await
                .map_err(&failed)?;
        }
        transaction
            .execute("delete from rowcall.captures where number = $1", &[&number])
            .await?;
    }
    transaction.commit().await.map_err(&failed)?;
    Ok(!rows.is_empty())
}

/// All captured tables.
pub async fn list(client: &Client) -> Result<Vec<Captured>, CaptureError> {
    let rows = client
        .query(include_str!("../../sql/capture/list.sql"), &[])
        .await?;
    let captured = rows.iter().map(|row| {
        let (schema, name): (Option<&str>, Option<&str>) = (row.get(0), row.get(1));
        let events: Vec<&str> = row.get(3);
        Captured {
            table: schema
                .zip(name)
                .and_then(|(schema, name)| TableName::new(schema, name).ok()),
            source: row.get(2),
            events: events
                .into_iter()
                .filter_map(|event| event.parse().ok())
                .collect(),
            filter: row.get(4),
            key: row.get(5),
            active: row.get(6),
        }
    });
    Ok(captured.collect())
}

async fn begin(client: &mut Client) -> Result<Transaction<'_>, CaptureError> {
    let transaction = client.transaction().await?;
    let setup = format!(
        "set local lock_timeout = {}; set local client_min_messages = warning; select pg_advisory_xact_lock({LOCK})",
        LOCK_TIMEOUT.as_millis()
    );
    transaction.batch_execute(&setup).await?;
    Ok(transaction)
}

fn check_filter(table: &Table, filter: Option<&Filter>) -> Result<(), CaptureError> {
    let unknown = filter.and_then(|filter| {
        let columns = filter.expr().columns();
        columns
            .into_iter()
            .find(|column| !table.columns.iter().any(|own| own == column))
    });
    match unknown {
        None => Ok(()),
        Some(column) => Err(CaptureError::UnknownColumn {
            table: table.name.clone(),
            column: column.to_owned(),
            columns: table.columns.clone(),
        }),
    }
}

/// What tells one set of triggers from another.
fn definition(captures: &[(EventKind, render::Capture)]) -> String {
    let mut hash = Sha256::new();
    for (_, capture) in captures {
        hash.update(&capture.create_function);
        hash.update(&capture.create_trigger);
    }
    hex::encode(hash.finalize())
}

async fn drop_triggers(
    transaction: &Transaction<'_>,
    table: &TableName,
    number: i32,
) -> Result<(), tokio_postgres::Error> {
    for event in EventKind::ALL {
        let drop = format!(
            "drop trigger if exists {} on {}; drop function if exists rowcall.{}()",
            render::trigger_name(event),
            qualified(table),
            render::function_name(number, event)
        );
        transaction.batch_execute(&drop).await?;
    }
    Ok(())
}

async fn note(
    transaction: &Transaction<'_>,
    table: &Table,
    number: i32,
    spec: &CaptureSpec,
    definition: &str,
) -> Result<(), CaptureError> {
    let sql = "insert into rowcall.captures (number, relation, source, events, filter, key_columns, definition) \
               values ($1, $2::oid, $3, $4, $5, $6, $7) \
               on conflict (number) do update set source = excluded.source, events = excluded.events, \
               filter = excluded.filter, key_columns = excluded.key_columns, definition = excluded.definition, installed_at = now()";
    let events: Vec<&str> = spec.events.iter().map(EventKind::as_str).collect();
    let filter = spec.filter.as_ref().map(ToString::to_string);
    transaction
        .execute(
            sql,
            &[
                &number,
                &table.oid,
                &table.name.to_string(),
                &events,
                &filter,
                &table.key,
                &definition,
            ],
        )
        .await?;
    Ok(())
}

fn notes(table: &Table, spec: &CaptureSpec) -> Vec<String> {
    let mut notes = Vec::new();
    let ignored = table.bookkeeping();
    if spec.events.contains(EventKind::Update) && !ignored.is_empty() {
        notes.push(format!(
            "updates that change nothing but {} make no task: the table carries the lock columns of the protocol",
            ignored.join(", ")
        ));
    }
    if !table.virtual_columns.is_empty() {
        notes.push(format!(
            "virtual generated columns are computed when they are read, so tasks do not carry {}",
            table.virtual_columns.join(", ")
        ));
    }
    if !table.plain {
        notes.push("partitioned or inherited: captured row by row, partitions that are added later included".to_owned());
    }
    notes
}
