//! The functions and triggers of a captured table, as SQL.
//!
//! On plain tables INSERT and DELETE are captured once per statement, from its transition table: one function call and one
//! insert however many rows. UPDATE needs old and new row side by side, and partitions see no statement of their parent: there
//! the trigger fires for each row, and a filter keeps it from being called at all.

use rowcall_core::{EventKind, Filter, TableName};

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

/// What the SQL of a capture depends on.
pub(super) struct Shape<'a> {
    pub(super) table: &'a TableName,
    pub(super) event: EventKind,
    /// The name of the function in schema `rowcall`.
    pub(super) function: &'a str,
    /// The key of a row, by the row's name.
    pub(super) key: &'a dyn Fn(&str) -> String,
    /// What is taken from rows before they are compared: nothing, or ` - array[…]`.
    pub(super) ignored: &'a str,
    /// Whether the table has a column.
    pub(super) has: &'a dyn Fn(&str) -> bool,
    pub(super) row_filter: Option<&'a Filter>,
}

pub(super) fn capture(
    table: &Table,
    number: i32,
    event: EventKind,
    row_filter: Option<&Filter>,
) -> Capture {
    let function = function_name(number, event);
    let ignored: Vec<String> = table.bookkeeping().into_iter().map(literal).collect();
    let ignored = if ignored.is_empty() {
        String::new()
    } else {
        format!(" - array[{}]", ignored.join(", "))
    };
    let shape = Shape {
        table: &table.name,
        event,
        function: &function,
        key: &|row| key(table, row),
        ignored: &ignored,
        has: &|column| table.columns.iter().any(|own| own == column),
        row_filter,
    };
    let per_statement = table.plain && event != EventKind::Update;
    let (create_function, create_trigger) = if per_statement {
        shape.per_statement()
    } else {
        shape.per_row()
    };
    Capture {
        function,
        create_function,
        create_trigger,
    }
}

/// The row that a row-level trigger captures.
pub(super) fn record(event: EventKind) -> &'static str {
    match event {
        EventKind::Delete => "old",
        _ => "new",
    }
}

impl Shape<'_> {
    /// Function and trigger that fire once for each statement.
    pub(super) fn per_statement(&self) -> (String, String) {
        let (mut guard, mut filtered) = (String::new(), String::new());
        if let Some(condition) = self.condition("r") {
            // An insert of nothing would still fire the wake-up trigger.
            guard = format!(
                "if not exists (select from rowcall_rows r where {condition}) then\n    return null;\n  end if;\n  "
            );
            filtered = format!("\n   where {condition}");
        }
        let function = fill(
            include_str!("../../sql/capture/statement_function.sql"),
            &[
                ("function", self.function),
                ("guard", &guard),
                ("column", column(self.event)),
                ("source", &literal(&self.table.to_string())),
                ("event", &literal(self.event.as_str())),
                ("key", &(self.key)("r")),
                ("condition", &filtered),
            ],
        );
        let rows = match self.event {
            EventKind::Delete => " referencing old table as rowcall_rows",
            _ => " referencing new table as rowcall_rows",
        };
        (function, self.trigger(rows, "statement", ""))
    }

    /// Function and trigger that fire for each row.
    pub(super) fn per_row(&self) -> (String, String) {
        let record = record(self.event);
        let source = literal(&self.table.to_string());
        let key = (self.key)(record);
        let function = if self.event == EventKind::Update {
            fill(
                include_str!("../../sql/capture/update_function.sql"),
                &[
                    ("function", self.function),
                    ("ignored", self.ignored),
                    ("source", &source),
                    ("key", &key),
                ],
            )
        } else {
            fill(
                include_str!("../../sql/capture/row_function.sql"),
                &[
                    ("function", self.function),
                    ("column", column(self.event)),
                    ("row", record),
                    ("source", &source),
                    ("event", &literal(self.event.as_str())),
                    ("key", &key),
                ],
            )
        };
        let when = self.condition(record);
        let when = when.map_or(String::new(), |condition| format!(" when ({condition})"));
        (function, self.trigger("", "row", &when))
    }

    fn trigger(&self, rows: &str, level: &str, when: &str) -> String {
        format!(
            "create trigger {} after {} on {}{rows} for each {level}{when} execute function rowcall.{}()",
            trigger_name(self.event),
            self.event.as_str().to_ascii_lowercase(),
            qualified(self.table),
            self.function,
        )
    }

    /// The filter on the columns of `row`, without building the whole row as JSON first.
    fn condition(&self, row: &str) -> Option<String> {
        let condition = filter::render(self.row_filter?, &|column| {
            Source::Value(if (self.has)(column) {
                format!("to_jsonb({row}.{})", ident(column))
            } else {
                "null::jsonb".to_owned()
            })
        });
        Some(format!("({condition})"))
    }
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

/// Puts texts into the `{names}` of a template, each once, so that what is put in is never read as a name.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
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
