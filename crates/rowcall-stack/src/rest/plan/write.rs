//! Plans of writes: which columns, which rows, which conflicts, and what to read back.

use std::collections::BTreeSet;

use super::condition::{Condition, root_conditions};
use super::read::{ReadNode, expand_star};
use crate::rest::body::Payload;
use crate::rest::error::RestError;
use crate::rest::parse::ast::{Operation, QuantOp, Query};
use crate::rest::schema::{Column, Relation};

/// What is done to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteKind {
    /// POST
    Insert,
    /// PATCH
    Update,
    /// PUT: insert or replace exactly the row that the URL names.
    Put,
    /// DELETE
    Delete,
}

/// What an insert does where a row is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The columns of the unique constraint.
    pub columns: Vec<String>,
    /// Leave the old row as it is, rather than replace it.
    pub ignore: bool,
}

/// What is read back of the rows written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Returning {
    /// Only how many.
    Nothing,
    /// These columns.
    Columns(Vec<String>),
    /// All of them.
    Star,
}

/// A planned write.
#[derive(Debug)]
pub(crate) struct WritePlan<'a> {
    /// What is done.
    pub kind: WriteKind,
    /// To what.
    pub relation: &'a Relation,
    /// The columns that the body gives.
    pub columns: Vec<&'a Column>,
    /// The body; deletes have none.
    pub payload: Option<Payload>,
    /// Which rows, or for PUT: what the body must say.
    pub conditions: Vec<Condition>,
    /// Upserts.
    pub conflict: Option<Conflict>,
    /// Missing keys take the column's default instead of null.
    pub defaults: bool,
    /// What is read back.
    pub returning: Returning,
    /// Whether to tell inserted rows from updated ones.
    pub count_inserted: bool,
}

/// What a request says about its write, beyond the query string.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    /// The method.
    pub kind: WriteKind,
    /// The body.
    pub payload: Option<Payload>,
    /// `Prefer: resolution=`: `Some(true)` to ignore duplicates, `Some(false)` to merge.
    pub ignore_duplicates: Option<bool>,
    /// `Prefer: missing=default`
    pub defaults: bool,
    /// `Prefer: return=representation`
    pub representation: bool,
    /// `Prefer: return=headers-only`
    pub headers_only: bool,
}

/// Plans a write whose answer is shaped by `shape`.
///
/// # Errors
/// Keys of the body that are no columns; a PUT whose filters are not exactly the primary key.
pub(crate) fn plan_write<'a>(
    relation: &'a Relation,
    request: WriteRequest,
    query: &Query,
    shape: &mut ReadNode<'a>,
) -> Result<WritePlan<'a>, RestError> {
    let conditions = match request.kind {
        WriteKind::Insert => Vec::new(),
        WriteKind::Update | WriteKind::Put | WriteKind::Delete => root_conditions(query),
    };
    let keys = match (&query.columns, &request.payload) {
        (_, None) => Vec::new(),
        (Some(columns), Some(_)) => columns.clone(),
        (None, Some(payload)) => payload.keys.clone(),
    };
    let columns = keys
        .iter()
        .map(|key| {
            relation
                .column(key)
                .ok_or_else(|| RestError::no_column(key, &relation.name.name))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let conflict = match request.kind {
        WriteKind::Put => {
            check_put(relation, query)?;
            Some(Conflict {
                columns: relation.primary_key.clone(),
                ignore: false,
            })
        }
        WriteKind::Insert => request
            .ignore_duplicates
            .map(|ignore| Conflict {
                columns: query
                    .on_conflict
                    .clone()
                    .unwrap_or_else(|| relation.primary_key.clone()),
                ignore,
            })
            .filter(|conflict| !conflict.columns.is_empty()),
        WriteKind::Update | WriteKind::Delete => None,
    };
    let count_inserted =
        conflict.as_ref().is_some_and(|conflict| !conflict.ignore) && relation.has_system_columns();
    if count_inserted {
        // One more column comes back, which `*` would show.
        expand_star(shape);
    }
    let returning = if request.representation {
        needed(shape, relation)
    } else if request.headers_only
        && request.kind == WriteKind::Insert
        && !relation.primary_key.is_empty()
    {
        Returning::Columns(relation.primary_key.clone())
    } else {
        Returning::Nothing
    };
    Ok(WritePlan {
        kind: request.kind,
        relation,
        columns,
        payload: request.payload,
        conditions,
        conflict,
        defaults: request.defaults,
        returning,
        count_inserted,
    })
}

/// The filters of a PUT are the primary key, each column once with `eq`.
fn check_put(relation: &Relation, query: &Query) -> Result<(), RestError> {
    let root: Vec<_> = query
        .filters
        .iter()
        .filter(|(path, _)| path.is_empty())
        .map(|(_, filter)| filter)
        .collect();
    let named: BTreeSet<&str> = root
        .iter()
        .map(|filter| filter.field.name.as_str())
        .collect();
    let key: BTreeSet<&str> = relation.primary_key.iter().map(String::as_str).collect();
    let plain = root.iter().all(|filter| {
        !filter.negated
            && filter.field.path.is_empty()
            && matches!(
                filter.operation,
                Operation::Quantified(QuantOp::Eq, None, _)
            )
    });
    if key.is_empty()
        || named != key
        || root.len() != key.len()
        || !plain
        || !query.logic.is_empty()
    {
        return Err(RestError::put_filters());
    }
    let window = query.root_window();
    if window.limit.is_some() || window.offset.is_some() {
        return Err(RestError::put_range());
    }
    Ok(())
}

/// The columns that a read over written or returned rows needs, computed ones included.
pub(super) fn needed(shape: &ReadNode<'_>, relation: &Relation) -> Returning {
    let mut columns = BTreeSet::new();
    let mut star = false;
    for child in &shape.children {
        match child.linked().relationship.origin_columns() {
            Some(names) => columns.extend(names.into_iter().map(str::to_owned)),
            // The function takes the whole row, which must then be the row and nothing else.
            None => return Returning::Star,
        }
    }
    for column in &shape.columns {
        if column.field.name == "*" {
            star |= column.is_star();
        } else {
            columns.insert(column.field.name.clone());
        }
    }
    columns.extend(
        shape
            .order
            .iter()
            .filter(|order| order.child.is_none())
            .map(|order| order.field.name.clone()),
    );
    collect_condition_columns(&shape.conditions, &mut columns);
    if star {
        let computed: Vec<_> = columns
            .into_iter()
            .filter(|name| relation.column(name).is_none())
            .collect();
        if computed.is_empty() {
            return Returning::Star;
        }
        return Returning::Columns(
            relation
                .columns
                .iter()
                .map(|column| column.name.clone())
                .chain(computed)
                .collect(),
        );
    }
    if columns.is_empty() {
        Returning::Nothing
    } else {
        Returning::Columns(columns.into_iter().collect())
    }
}

fn collect_condition_columns(conditions: &[Condition], columns: &mut BTreeSet<String>) {
    for condition in conditions {
        match condition {
            Condition::Filter(filter) => {
                columns.insert(filter.field.name.clone());
            }
            Condition::Group { terms, .. } => collect_condition_columns(terms, columns),
            Condition::Embedded { .. } => {}
        }
    }
}
