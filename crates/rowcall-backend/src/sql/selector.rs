//! Selectors as SQL conditions on rows of `rtx_activities`.

use std::collections::BTreeMap;

use rowcall_core::{EventKind, EventSet, Selector, TableName};

use super::{
    filter::{self, Source},
    quote::literal,
};

/// Columns of an activity that work on it changes, with what they hold when it is new. Filters on `rtx_activities` see these
/// values, so that a task matches the same routes before, during and after its attempts.
pub(crate) const NEW_ACTIVITY: [(&str, &str); 8] = [
    ("status", "\"pending\""),
    ("locked_by", "null"),
    ("locked_at", "null"),
    ("completed_at", "null"),
    ("error_message", "null"),
    ("attempted_by", "[]"),
    ("retry_count", "0"),
    ("result", "null"),
];

/// Our own columns, which are not part of the activity.
pub(crate) const OWN_COLUMNS: [&str; 5] = [
    "attempt",
    "source_table",
    "source_event",
    "source_key",
    "retry_at",
];

/// What is selected of one source table.
pub(crate) struct TableSelector {
    /// `source_table` as it is stored.
    pub(crate) table: String,
    /// A condition on alias `a` beyond the table; `None` when every row of the table counts.
    pub(crate) condition: Option<String>,
}

/// The selectors by table, each table once.
pub(crate) fn by_table(selectors: &[Selector]) -> Vec<TableSelector> {
    let mut tables: BTreeMap<&TableName, Vec<Option<String>>> = BTreeMap::new();
    for selector in selectors.iter().filter(|one| !one.events.is_empty()) {
        tables
            .entry(&selector.table)
            .or_default()
            .push(condition(selector));
    }
    let render = |(table, conditions): (&TableName, Vec<Option<String>>)| TableSelector {
        table: table.to_string(),
        condition: conditions
            .into_iter()
            .collect::<Option<Vec<String>>>()
            .map(|all| format!("({})", all.join(" or "))),
    };
    tables.into_iter().map(render).collect()
}

/// Any of the selectors, as one condition on alias `a`; `false` when there are none.
pub(crate) fn any(selectors: &[Selector]) -> String {
    let parts: Vec<String> = by_table(selectors)
        .into_iter()
        .map(|one| {
            let table = format!("a.source_table = {}", literal(&one.table));
            match one.condition {
                Some(condition) => format!("({table} and {condition})"),
                None => table,
            }
        })
        .collect();
    if parts.is_empty() {
        "false".to_owned()
    } else {
        format!("({})", parts.join(" or "))
    }
}

/// What claimed tasks must carry of activities that were written directly, so that routes can filter them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActivityRow {
    /// Nothing: no filter looks at them.
    None,
    /// What the task holds anyway: filters look at `raw_data` and columns that are the same for every new activity.
    FromTask,
    /// The row, built by the database: filters look at columns that a task does not hold.
    FromDatabase,
}

/// What the filters of these selectors look at.
pub(crate) fn activity_row_for(selectors: &[Selector]) -> ActivityRow {
    let activities = TableName::activities();
    let filters = selectors
        .iter()
        .filter(|selector| selector.table == activities)
        .filter_map(|selector| selector.filter.as_ref());
    filters.fold(ActivityRow::None, |need, filter| {
        let held = filter.expr().columns().iter().all(|column| {
            matches!(*column, "id" | "raw_data" | "old_data" | "created_at")
                || NEW_ACTIVITY.iter().any(|(known, _)| known == column)
        });
        match (need, held) {
            (ActivityRow::FromDatabase, _) | (_, false) => ActivityRow::FromDatabase,
            (_, true) => ActivityRow::FromTask,
        }
    })
}

/// A `jsonb` expression: the activity `a` as it was when it was new.
pub(crate) fn activity_row() -> String {
    let members: Vec<String> = NEW_ACTIVITY
        .iter()
        .map(|(column, value)| format!("\"{column}\": {value}"))
        .collect();
    let own: Vec<String> = OWN_COLUMNS.iter().map(|column| literal(column)).collect();
    format!(
        "((to_jsonb(a) - array[{}]) || '{{{}}}'::jsonb)",
        own.join(", "),
        members.join(", ")
    )
}

/// What a selector asks beyond its table.
fn condition(selector: &Selector) -> Option<String> {
    let mut parts = Vec::with_capacity(2);
    if selector.events != EventSet::ALL {
        let events: Vec<String> = selector
            .events
            .iter()
            .map(|event| literal(event.as_str()))
            .collect();
        parts.push(format!("a.source_event in ({})", events.join(", ")));
    }
    if let Some(filter) = &selector.filter {
        parts.push(if selector.table == TableName::activities() {
            filter::render(filter, &activity_column)
        } else {
            let row = if selector.events.contains(EventKind::Delete) {
                "(case when a.source_event = 'DELETE' then coalesce(a.old_data, a.raw_data) else a.raw_data end)"
            } else {
                "a.raw_data"
            };
            filter::render(filter, &|_| Source::Document(row.to_owned()))
        });
    }
    match parts.len() {
        0 => None,
        _ => Some(format!("({})", parts.join(" and "))),
    }
}

/// A column of an activity as its filters see it, without building the whole row where possible.
fn activity_column(name: &str) -> Source {
    let fixed = NEW_ACTIVITY.iter().find(|(column, _)| *column == name);
    Source::Value(match (fixed, name) {
        (Some((_, value)), _) => format!("{}::jsonb", literal(value)),
        (None, "raw_data" | "old_data") => format!("a.{name}"),
        (None, "id" | "user_id" | "created_at") => format!("to_jsonb(a.{name})"),
        (None, name) if OWN_COLUMNS.contains(&name) => "null::jsonb".to_owned(),
        (None, name) => format!("(to_jsonb(a) -> {})", literal(name)),
    })
}
