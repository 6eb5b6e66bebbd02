//! Rows of `rtx_activities` as tasks.

use std::fmt::Write;

use bytes::BytesMut;
use jiff::Timestamp;
use rowcall_core::{
    EventKind, Lease, LeaseKey, MachineId, Payload, SourceError, TableName, Task, TaskId, TaskRef,
    ports::{Claimed, TaskView},
};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked},
};
use uuid::Uuid;

use super::error;
use crate::{
    sql::selector::{self, ActivityRow},
    text::storable_json,
};

/// The version byte that PostgreSQL puts before the text of a `jsonb` value on the wire.
const JSONB_VERSION: u8 = 1;
/// How many columns [`task_columns`] lists.
pub(super) const TASK_COLUMNS: usize = 11;

/// The columns of a task, in the order [`task`] reads them. With `with_row`, an activity that was written directly carries its
/// own row for filters.
pub(super) fn task_columns(with_row: bool) -> String {
    let row = if with_row {
        format!(
            "case when a.source_table = 'public.rtx_activities' then {} end",
            selector::activity_row()
        )
    } else {
        "null::jsonb".to_owned()
    };
    format!(
        "a.id, a.source_table, a.source_event, a.source_key, a.raw_data, a.old_data, {row}, a.attempt, coalesce(a.retry_count, 0), \
         coalesce(a.attempted_by, '{{}}'), coalesce(a.created_at, now())"
    )
}

/// The types of [`task_columns`] as nulls, for the branch of a union that carries no task.
pub(super) const TASK_NULLS: &str = "null::uuid, null::text, null::text, null::jsonb, null::jsonb, null::jsonb, null::jsonb, \
                                     null::integer, null::integer, null::text[], null::timestamptz";

/// The columns of a view: a task and where it stands. `limit` is the parameter with the highest number of attempts.
/// Infinite times, which foreign clients may write, become null.
pub(super) fn view_columns(limit: &str) -> String {
    let finite = |column: &str| format!("nullif(nullif(a.{column}, '-infinity'), 'infinity')");
    format!(
        "{}, coalesce(a.status, 'pending'), a.locked_by, {}, {}, {}, a.error_message, a.result, \
         coalesce(a.status, 'pending') in ('pending', 'failed') and coalesce(a.retry_count, 0) >= {limit}::integer",
        task_columns(true),
        finite("locked_at"),
        finite("completed_at"),
        finite("retry_at"),
    )
}

/// JSON text as it comes from a `jsonb` column, not parsed into a tree.
struct JsonText(String);

impl<'a> FromSql<'a> for JsonText {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let text = match (ty == &Type::JSONB, raw) {
            (true, [JSONB_VERSION, text @ ..]) => text,
            (true, _) => return Err("unknown version of jsonb".into()),
            (false, text) => text,
        };
        Ok(Self(std::str::from_utf8(text)?.to_owned()))
    }

    accepts!(JSON, JSONB);
}

/// A payload on its way into a `jsonb` column.
#[derive(Debug)]
pub(super) struct JsonValue<'a>(pub(super) &'a Payload);

impl ToSql for JsonValue<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        if ty == &Type::JSONB {
            out.extend_from_slice(&[JSONB_VERSION]);
        }
        out.extend_from_slice(storable_json(self.0.get()).as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSON, JSONB);
    to_sql_checked!();
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, SourceError> {
    row.try_get(index).map_err(|error| {
        error::bug(format!(
            "a task could not be read: {error}: {:?}",
            std::error::Error::source(&error)
        ))
    })
}

fn payload(row: &Row, index: usize) -> Result<Option<Payload>, SourceError> {
    let text: Option<JsonText> = column(row, index)?;
    text.map(|JsonText(text)| Payload::from_text(text))
        .transpose()
        .map_err(|error| error::bug(format!("a task holds JSON that cannot be read: {error}")))
}

fn count(row: &Row, index: usize) -> Result<u32, SourceError> {
    let count: i32 = column(row, index)?;
    Ok(u32::try_from(count).unwrap_or(0))
}

pub(super) fn activity(id: Uuid) -> TaskRef {
    TaskRef {
        table: TableName::activities(),
        id: TaskId::Uuid(id),
    }
}

/// The table names in the rows of one answer: nearly all the same, so each is made once and shared.
pub(super) struct Names {
    activities: TableName,
    source: Option<(Box<str>, TableName)>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            activities: TableName::activities(),
            source: None,
        }
    }

    fn source(&mut self, text: &str) -> TableName {
        match &self.source {
            Some((known, name)) if **known == *text => name.clone(),
            _ => {
                // Words that foreign writers put there count as what a direct write is.
                let name = text.parse().unwrap_or_else(|_| self.activities.clone());
                self.source = Some((text.into(), name.clone()));
                name
            }
        }
    }
}

/// Reads [`task_columns`].
fn task(row: &Row, names: &mut Names) -> Result<Task, SourceError> {
    let event: &str = column(row, 2)?;
    let machines: Vec<Option<&str>> = column(row, 9)?;
    Ok(Task {
        task: TaskRef {
            table: names.activities.clone(),
            id: TaskId::Uuid(column(row, 0)?),
        },
        source: names.source(column(row, 1)?),
        event: event.parse().unwrap_or(EventKind::Insert),
        key: payload(row, 3)?,
        raw_data: payload(row, 4)?.unwrap_or_else(Payload::null),
        old_data: payload(row, 5)?,
        row: payload(row, 6)?,
        attempt: count(row, 7)?,
        retry_count: count(row, 8)?,
        attempted_by: machines
            .into_iter()
            .flatten()
            .filter_map(|machine| MachineId::new(machine).ok())
            .collect(),
        created_at: column(row, 10)?,
    })
}

/// The row of an activity that was written directly, as [`selector::activity_row`] builds it, from what the task holds.
fn activity_row(task: &Task) -> Result<Payload, SourceError> {
    let json = |text: &str| serde_json::to_string(text).expect("texts are JSON");
    let mut row = format!(
        "{{\"id\":{},\"created_at\":{},\"raw_data\":{},\"old_data\":{}",
        json(&task.task.id.to_string()),
        json(&task.created_at.to_string()),
        task.raw_data.get(),
        task.old_data.as_ref().map_or("null", Payload::get),
    );
    for (column, value) in selector::NEW_ACTIVITY {
        let _ = write!(row, ",\"{column}\":{value}");
    }
    row.push('}');
    Payload::from_text(row)
        .map_err(|error| error::bug(format!("an activity could not be written as JSON: {error}")))
}

/// Reads [`task_columns`] of a row that was just claimed.
pub(super) fn claimed(
    row: &Row,
    machine: &MachineId,
    needs: ActivityRow,
    names: &mut Names,
) -> Result<Claimed, SourceError> {
    let mut task = task(row, names)?;
    if needs == ActivityRow::FromTask && task.source.is_activities() {
        task.row = Some(activity_row(&task)?);
    }
    let lease = Lease::granted(LeaseKey {
        task: task.task.clone(),
        machine: machine.clone(),
        attempt: task.attempt,
    });
    Ok(Claimed { lease, task })
}

/// Reads [`view_columns`].
pub(super) fn view(row: &Row) -> Result<TaskView, SourceError> {
    let at = TASK_COLUMNS;
    let status: String = column(row, at)?;
    let locked_by: Option<&str> = column(row, at + 1)?;
    let time = |index: usize| column::<Option<Timestamp>>(row, index);
    Ok(TaskView {
        task: task(row, &mut Names::new())?,
        state: status.parse().ok(),
        status,
        locked_by: locked_by.and_then(|machine| MachineId::new(machine).ok()),
        locked_at: time(at + 2)?,
        completed_at: time(at + 3)?,
        retry_at: time(at + 4)?,
        error_message: column(row, at + 5)?,
        result: payload(row, at + 6)?,
        needs_attention: column(row, at + 7)?,
    })
}
