//! The functions and triggers of a captured table, as SQL.
//!
//! On plain tables INSERT and DELETE are captured once per statement, from its transition table: one function call and one
//! insert however many rows. UPDATE needs old and new row side by side, and partitions see no statement of their parent: there
//! the trigger fires for each row, and a filter keeps it from being called at all.

use rowcall_core::{EventKind, Filter};

use super::table::Table;
use crate::sql::{
    filter::{self, Source},
    ident, literal, qualified,
};

/// One event's function and trigger.
pub(super) struct Capture {
    pub(super) function: String,
    pub(super) create_function: String,
    pub(super) create_trigger: String,
}

/// The name of an event's trigger, the same on every table.
pub(super) fn trigger_name(event: EventKind) -> &'static str {
    match event {
        EventKind::Insert => "rowcall_capture_insert",
        EventKind::Update => "rowcall_capture_update",
        EventKind::Delete => "rowcall_capture_delete",
    }
}

/// The name of an event's function in schema `rowcall`.
pub(super) fn function_name(number: i32, event: EventKind) -> String {
    format!("capture_{number}_{}", event.as_str().to_ascii_lowercase())
}

pub(super) fn capture(
    table: &Table,
    number: i32,
    event: EventKind,
    row_filter: Option<&Filter>,
) -> Capture {
    let function = function_name(number, event);
    let per_statement = table.plain && event != EventKind::Update;
    let create_function = if per_statement {
        statement_function(table, &function, event, row_filter)
    } else {
        row_function(table, &function, event)
    };
    let (transition, level, when) = if per_statement {
        let transition = match event {
            EventKind::Delete => " referencing old table as rowcall_rows",
            _ => " referencing new table as rowcall_rows",
        };
        (transition, "statement", String::new())
    } else {
        let when = row_filter.map_or(String::new(), |one| {
            format!(" when ({})", condition(table, one, record(event)))
        });
        ("", "row", when)
    };
    let create_trigger = format!(
        "create trigger {} after {} on {}{transition} for each {level}{when} execute function rowcall.{function}()",
        trigger_name(event),
        event.as_str().to_ascii_lowercase(),
        qualified(&table.name),
    );
    Capture {
        function,
        create_function,
        create_trigger,
    }
}

/// The row that a row-level trigger captures.
fn record(event: EventKind) -> &'static str {
    match event {
        EventKind::Delete => "old",
        _ => "new",
    }
}

fn statement_function(
    table: &Table,
    function: &str,
    event: EventKind,
    row_filter: Option<&Filter>,
) -> String {
    let (mut guard, mut filtered) = (String::new(), String::new());
    if let Some(one) = row_filter {
        let condition = condition(table, one, "r");
        // An insert of nothing would still fire the wake-up trigger.
        guard = format!(
            "if not exists (select from rowcall_rows r where {condition}) then\n    return null;\n  end if;\n  "
        );
        filtered = format!("\n   where {condition}");
    }
    fill(
        include_str!("../../sql/capture/statement_function.sql"),
        &[
            ("function", function),
            ("guard", &guard),
            ("column", column(event)),
            ("source", &literal(&table.name.to_string())),
            ("event", &literal(event.as_str())),
            ("key", &key(table, "r")),
            ("condition", &filtered),
        ],
    )
}

fn row_function(table: &Table, function: &str, event: EventKind) -> String {
    let record = record(event);
    let source = literal(&table.name.to_string());
    let key = key(table, record);
    if event == EventKind::Update {
        let ignored: Vec<String> = table.bookkeeping().into_iter().map(literal).collect();
        let ignored = if ignored.is_empty() {
            String::new()
        } else {
            format!(" - array[{}]", ignored.join(", "))
        };
        return fill(
            include_str!("../../sql/capture/update_function.sql"),
            &[
                ("function", function),
                ("ignored", &ignored),
                ("source", &source),
                ("key", &key),
            ],
        );
    }
    fill(
        include_str!("../../sql/capture/row_function.sql"),
        &[
            ("function", function),
            ("column", column(event)),
            ("row", record),
            ("source", &source),
            ("event", &literal(event.as_str())),
            ("key", &key),
        ],
    )
}

/// Where the captured row goes.
fn column(event: EventKind) -> &'static str {
    match event {
        EventKind::Delete => "old_data",
        _ => "raw_data",
    }
}

fn key(table: &Table, row: &str) -> String {
    let members: Vec<String> = table
        .key
        .iter()
        .map(|column| format!("{}, {row}.{}", literal(column), ident(column)))
        .collect();
    format!("jsonb_build_object({})", members.join(", "))
}

/// A filter on the columns of `row`, without building the whole row as JSON first.
fn condition(table: &Table, row_filter: &Filter, row: &str) -> String {
    let condition = filter::render(row_filter, &|column| {
        Source::Value(if table.columns.iter().any(|own| own == column) {
            format!("to_jsonb({row}.{})", ident(column))
        } else {
            "null::jsonb".to_owned()
        })
    });
    format!("({condition})")
}

/// Puts texts into the `{names}` of a template, each once, so that what is put in is never read as a name.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let known = from[1..]
            .find('}')
            .map(|end| (&from[1..=end], &from[end + 2..]))
            .and_then(|(name, after)| {
                values
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value, after))
            });
        match known {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
