//! The `data` of an event, as JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use rowcall_realtime::frame::{json_string, push_json_string};
use rowcall_realtime::join::ChangeEvent;

use super::pgoutput::{Cell, OldTuple, Tuple};
use super::position::Position;
use super::relation::Relation;
use super::value::push_value;

/// Values a change that is too large keeps: those whose JSON has at most so many bytes.
const SMALL_VALUE_BYTES: usize = 64;

/// One row that was changed.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) relation: Arc<Relation>,
    pub(crate) position: Position,
    pub(crate) committed_at: Timestamp,
    pub(crate) row: Row,
}

/// The rows of a change.
#[derive(Debug)]
pub(crate) enum Row {
    Insert { new: Tuple },
    Update { old: Option<OldTuple>, new: Tuple },
    Delete { old: OldTuple },
}

/// What a filter sees of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen<'a> {
    /// There is nothing to look at: no filter on it holds.
    Unknown,
    Null,
    Text(&'a str),
}

impl Change {
    pub(crate) fn kind(&self) -> ChangeEvent {
        match self.row {
            Row::Insert { .. } => ChangeEvent::Insert,
            Row::Update { .. } => ChangeEvent::Update,
            Row::Delete { .. } => ChangeEvent::Delete,
        }
    }

    /// The value of a column that filters look at: of the new row, or for a delete of the old identity.
    pub(crate) fn filter_value(&self, column: usize) -> Seen<'_> {
        let cell = match &self.row {
            Row::Insert { new } => new.get(column),
            Row::Update { old, new } => current(old.as_ref(), new, column),
            Row::Delete {
                old: OldTuple::Row(old),
            } => old.get(column),
            Row::Delete {
                old: OldTuple::Key(old),
            } => {
                if !self.relation.columns[column].is_key {
                    return Seen::Unknown;
                }
                old.get(column)
            }
        };
        match cell {
            Cell::Null => Seen::Null,
            Cell::Unchanged => Seen::Unknown,
            Cell::Text(text) => std::str::from_utf8(text).map_or(Seen::Unknown, Seen::Text),
        }
    }

    /// The primary key of the row as it is now, as text; `None` for a delete or when part of it is not known.
    pub(crate) fn current_key(&self) -> Option<Vec<&str>> {
        let (Row::Insert { new } | Row::Update { new, .. }) = &self.row else {
            return None;
        };
        let text = |&column: &usize| match new.get(column) {
            Cell::Text(text) => std::str::from_utf8(text).ok(),
            Cell::Null | Cell::Unchanged => None,
        };
        self.relation.primary_key.iter().map(text).collect()
    }

    /// Roughly how much memory the change holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let old = |old: &OldTuple| old.tuple().bytes();
        size_of::<Self>()
            + match &self.row {
                Row::Insert { new } => new.bytes(),
                Row::Update { old: before, new } => new.bytes() + before.as_ref().map_or(0, old),
                Row::Delete { old: before } => old(before),
            }
    }

    /// The `data` object for one set of columns. A change whose JSON is larger than `limit` keeps only its small values and
    /// says so.
    pub(crate) fn data(&self, columns: &ColumnSet, limit: usize) -> String {
        if let Some(error) = columns.refusal
            && self.kind() != ChangeEvent::Delete
        {
            return self.refused(error);
        }
        let data = self.data_with(columns, usize::MAX, "null");
        if data.len() <= limit {
            return data;
        }
        self.data_with(
            columns,
            SMALL_VALUE_BYTES,
            r#"["Error 413: Payload Too Large"]"#,
        )
    }

    /// The object for those who may not see the row, or whose policies failed.
    pub(crate) fn refused(&self, error: &str) -> String {
        let mut json = self.head("[]");
        json.push_str(r#","record":{},"errors":["#);
        push_json_string(&mut json, error);
        json.push_str("]}");
        json
    }

    fn head(&self, columns: &str) -> String {
        let mut json = String::with_capacity(512);
        let Relation { schema, table, .. } = &*self.relation;
        let kind = self.kind().as_str();
        write!(
            json,
            r#"{{"schema":{},"table":{},"type":"{kind}","commit_timestamp":"{:.3}","position":"{}","columns":{columns}"#,
            json_string(schema),
            json_string(table),
            self.committed_at,
            self.position,
        )
        .expect("writing to a string");
        json
    }

    fn data_with(&self, columns: &ColumnSet, max_value: usize, errors: &str) -> String {
        let mut json = self.head(&columns.description);
        let visible = &columns.indices;
        match &self.row {
            Row::Insert { new } => {
                json.push_str(r#","record":"#);
                self.push_record(&mut json, visible, max_value, |column| new.get(column));
            }
            Row::Update { old, new } => {
                json.push_str(r#","record":"#);
                self.push_record(&mut json, visible, max_value, |column| {
                    current(old.as_ref(), new, column)
                });
                json.push_str(r#","old_record":"#);
                self.push_old(&mut json, visible, max_value, old.as_ref(), Some(new));
            }
            Row::Delete { old } => {
                json.push_str(r#","old_record":"#);
                self.push_old(&mut json, visible, max_value, Some(old), None);
            }
        }
        json.push_str(r#","errors":"#);
        json.push_str(errors);
        json.push('}');
        json
    }

    /// The whole old row where the identity is full (for a delete only without row level security), else the primary key.
    fn push_old(
        &self,
        json: &mut String,
        visible: &[usize],
        max_value: usize,
        old: Option<&OldTuple>,
        new: Option<&Tuple>,
    ) {
        let relation = &self.relation;
        match old {
            Some(OldTuple::Row(row)) if new.is_some() || !relation.has_policies => {
                self.push_record(json, visible, max_value, |column| row.get(column));
            }
            _ => {
                let columns = &relation.columns;
                let is_old_known = |column: usize| match old {
                    Some(OldTuple::Row(_)) => true,
                    Some(OldTuple::Key(_)) => columns[column].is_key,
                    None => false,
                };
                let is_part = |column: &usize| {
                    if relation.primary_key.is_empty() {
                        columns[*column].is_key && is_old_known(*column)
                    } else {
                        relation.primary_key.contains(column)
                            && (new.is_some() || is_old_known(*column))
                    }
                };
                let key: Vec<usize> = visible.iter().copied().filter(is_part).collect();
                self.push_record(json, &key, max_value, |column| match (old, new) {
                    (Some(old), _) if is_old_known(column) => old.tuple().get(column),
                    (_, Some(new)) => new.get(column),
                    _ => &Cell::Null,
                });
            }
        }
    }

    fn push_record<'a>(
        &self,
        json: &mut String,
        columns: &[usize],
        max_value: usize,
        cell: impl Fn(usize) -> &'a Cell,
    ) {
        json.push('{');
        let mut is_first = true;
        for &index in columns {
            let column = &self.relation.columns[index];
            let before = json.len();
            if !is_first {
                json.push(',');
            }
            json.push_str(&column.key_json);
            let value = json.len();
            match cell(index) {
                Cell::Null => json.push_str("null"),
                // Not sent and not known: the key is left out.
                Cell::Unchanged => {
                    json.truncate(before);
                    continue;
                }
                Cell::Text(text) => {
                    push_value(json, &column.shape, &String::from_utf8_lossy(text));
                }
            }
            if json.len() - value > max_value {
                json.truncate(before);
                continue;
            }
            is_first = false;
        }
        json.push('}');
    }
}

/// The value a row has now: what the update sent, or the old value where it left it alone and it is known.
fn current<'a>(old: Option<&'a OldTuple>, new: &'a Tuple, column: usize) -> &'a Cell {
    match (new.get(column), old) {
        (Cell::Unchanged, Some(OldTuple::Row(old))) => old.get(column),
        (cell, _) => cell,
    }
}

/// The columns some subscribers get.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ColumnSet {
    indices: Vec<usize>,
    /// The `columns` array.
    description: String,
    /// Why inserts and updates are not shown at all.
    refusal: Option<&'static str>,
}

impl ColumnSet {
    /// The columns of `relation` a role may select, cut down to `select` and the primary key where a binding says so.
    pub(crate) fn new(relation: &Relation, selectable: &[bool], select: Option<&[String]>) -> Self {
        let is_selectable = |column: usize| selectable.get(column).copied().unwrap_or(false);
        let refusal = if relation.primary_key.is_empty() {
            Some("Error 400: Bad Request, no primary key")
        } else if !relation
            .primary_key
            .iter()
            .all(|&column| is_selectable(column))
        {
            Some("Error 401: Unauthorized")
        } else {
            None
        };
        let is_wanted = |column: usize| {
            select.is_none_or(|names| names.contains(&relation.columns[column].name))
                || relation.primary_key.contains(&column)
        };
        let indices: Vec<usize> = (0..relation.columns.len())
            .filter(|&column| is_selectable(column) && is_wanted(column))
            .collect();
        let descriptions: Vec<&str> = indices
            .iter()
            .map(|&column| relation.columns[column].description.as_str())
            .collect();
        Self {
            description: format!("[{}]", descriptions.join(",")),
            indices,
            refusal,
        }
    }

    /// Whether inserts and updates come as an error, to everybody and without any check.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }
}
