//! What [`super::install`] does, as one text of SQL that looks at the table by itself: for an API that takes a query, or for a
//! person with a SQL editor. The functions and triggers are the same to the letter, and so is what is noted of them.

use rowcall_core::EventKind;

use super::{
    CaptureError, CaptureSpec, LOCK,
    render::{Shape, fill, record, trigger_name},
    table::{BOOKKEEPING, check_name},
};
use crate::sql::literal;

/// The block that captures a table. It stands in a transaction in which the database has been prepared.
///
/// # Errors
/// When the table or the events can be told to be impossible without looking.
pub fn script(spec: &CaptureSpec) -> Result<String, CaptureError> {
    check_name(&spec.table)?;
    if spec.events.is_empty() {
        return Err(CaptureError::NoEvents(spec.table.clone()));
    }
    let mark = mark(spec);
    let (number, key, ignored) = (
        format!("{mark}number{mark}"),
        format!("{mark}key{mark}"),
        format!("{mark}ignored{mark}"),
    );
    let events = spec.events.iter().map(|event| {
        let function = format!("capture_{number}_{}", lower(event));
        let shape = Shape {
            table: &spec.table,
            event,
            function: &function,
            key: &|_| key.clone(),
            ignored: &ignored,
            // A column that is not there is an error, which the block raises.
            has: &|_| true,
            row_filter: spec.filter.as_ref(),
        };
        let (statement, row) = (shape.per_statement(), shape.per_row());
        let texts = [
            event.as_str(),
            record(event),
            &statement.0,
            &statement.1,
            &row.0,
            &row.1,
        ];
        format!("({})", texts.map(literal).join(", "))
    });
    let filter = spec.filter.as_ref().map(ToString::to_string);
    let columns = spec.filter.as_ref().map_or(Vec::new(), |filter| {
        let columns = filter.expr().columns().into_iter();
        columns.map(str::to_owned).collect()
    });
    let triggers: Vec<String> = EventKind::ALL
        .into_iter()
        .map(|event| {
            format!(
                "({}, {})",
                literal(trigger_name(event)),
                literal(&lower(event))
            )
        })
        .collect();
    let (schema, name) = (literal(spec.table.schema()), literal(spec.table.name()));
    Ok(fill(
        without_comments(include_str!("../../sql/capture/script.sql")).as_str(),
        &[
            ("lock", &LOCK.to_string()),
            ("mark", &literal(&mark)),
            ("table", &literal(&spec.table.to_string())),
            (
                "inspect",
                &without_comments(include_str!("../../sql/capture/table.sql"))
                    .replace("$1", &schema)
                    .replace("$2", &name),
            ),
            (
                "rights",
                &without_comments(include_str!("../../sql/capture/rights.sql")),
            ),
            (
                "state",
                &without_comments(include_str!("../../sql/capture/state.sql")).replace("$1", "rel"),
            ),
            ("schema", &schema),
            ("name", &name),
            (
                "filter",
                &filter.map_or("null".to_owned(), |text| literal(&text)),
            ),
            ("filter_columns", &array(&columns)),
            ("bookkeeping", &array(&BOOKKEEPING.map(str::to_owned))),
            ("triggers", &triggers.join(", ")),
            ("events", &events.collect::<Vec<_>>().join(",\n      ")),
        ],
    ))
}

fn lower(event: EventKind) -> String {
    event.as_str().to_ascii_lowercase()
}

fn array(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
    format!("array[{}]::text[]", texts.join(", "))
}

/// What stands around the names of what only the database knows: nothing that the table or the filter holds.
fn mark(spec: &CaptureSpec) -> String {
    let filter = spec.filter.as_ref().map(ToString::to_string);
    let texts = [spec.table.to_string(), filter.unwrap_or_default()];
    let mut mark = "@@".to_owned();
    while texts.iter().any(|text| text.contains(&mark)) {
        mark.push('@');
    }
    mark
}

/// The statement of a file: what it says of itself is not for the reader of a script, and may not be filled in.
fn without_comments(file: &str) -> String {
    let lines = file.lines().filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}
