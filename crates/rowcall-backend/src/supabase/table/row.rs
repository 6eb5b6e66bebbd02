//! One row of a task table as REST gives it.

use std::{collections::BTreeMap, fmt};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use rowcall_core::{
    EventKind, MachineId, Payload, RetryPolicy, Selector, TableName, Task, TaskId, TaskRef,
    TaskState, ports::TaskView,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Table;
use crate::{
    sql::selector::NEW_ACTIVITY,
    supabase::{error::RestError, memory::Heard},
};

/// The member of `raw_data` in which activities that were captured by a daemon say where they come from, in projects whose
/// `rtx_activities` has no columns for it: `{"table", "event", "key"}`. It is taken out before agents see the data.
pub(crate) const MARKER: &str = "rowcall_source";

/// A row, its members unparsed.
#[derive(Debug)]
pub(crate) struct Row {
    table: TableName,
    is_activities: bool,
    whole: Box<RawValue>,
    members: BTreeMap<String, Box<RawValue>>,
    pub(crate) id: TaskId,
    /// The status word; null counts as pending.
    pub(crate) status: String,
}

/// Where an activity comes from.
struct Origin {
    table: TableName,
    event: EventKind,
    key: Option<Payload>,
    raw_data: Payload,
}

impl Table {
    /// Reads the rows of an answer. A row without a usable id is a nonsensical answer.
    pub(crate) fn rows(&self, rows: Vec<Box<RawValue>>) -> Result<Vec<Row>, RestError> {
        rows.into_iter().map(|row| self.row(row)).collect()
    }

    /// Reads a row, also one that came with a Realtime event.
    pub(crate) fn row(&self, whole: Box<RawValue>) -> Result<Row, RestError> {
        let nonsense = || RestError::Nonsense(format!("a row of {} without an id", self.name()));
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(whole.get()).map_err(|_| nonsense())?;
        let id = members.get("id").ok_or_else(nonsense)?.get();
        let id = match id.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(id).map_err(|_| nonsense())?,
            Some(b'-' | b'0'..=b'9') => id.to_owned(),
            _ => return Err(nonsense()),
        };
        let id = id.parse().map_err(|_| nonsense())?;
        let status = members.get("status");
        let status = status.and_then(|raw| serde_json::from_str::<Option<String>>(raw.get()).ok());
        Ok(Row {
            table: self.name().clone(),
            is_activities: self.is_activities(),
            status: status.flatten().unwrap_or_else(|| "pending".to_owned()),
            whole,
            members,
            id,
        })
    }
}

impl Row {
    /// A member, if it is there, not null, and of the type.
    fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str::<Option<T>>(self.members.get(name)?.get()).ok()?
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        let text: String = self.get(name)?;
        // A `timestamp without time zone` is taken as UTC.
        let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
        let at = text.parse().ok();
        at.or_else(|| Some(civil()?.timestamp()))
    }

    fn payload(&self, name: &str) -> Option<Payload> {
        let raw = self.members.get(name)?.get();
        (raw != "null").then(|| Payload::from_text(raw.to_owned()).ok())?
    }

    pub(crate) fn task_ref(&self) -> TaskRef {
        TaskRef {
            table: self.table.clone(),
            id: self.id.clone(),
        }
    }

    /// The state; `None` for a word we do not know.
    pub(crate) fn state(&self) -> Option<TaskState> {
        self.status.parse().ok()
    }

    pub(crate) fn locked_by(&self) -> Option<MachineId> {
        MachineId::new(self.get::<String>("locked_by")?).ok()
    }

    pub(crate) fn locked_at(&self) -> Option<Timestamp> {
        self.time("locked_at")
    }

    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        self.time("retry_at")
    }

    /// When it came to be; the beginning of time when the row does not say.
    pub(crate) fn created_at(&self) -> Timestamp {
        self.time("created_at").unwrap_or(Timestamp::UNIX_EPOCH)
    }

    pub(crate) fn attempted_by(&self) -> Vec<MachineId> {
        let machines: Vec<String> = self.get("attempted_by").unwrap_or_default();
        let machines = machines.into_iter();
        machines.filter_map(|id| MachineId::new(id).ok()).collect()
    }

    /// Whether the original claim function would compare with null, and so never grant a claim.
    pub(crate) fn has_null_attempts(&self) -> bool {
        self.members
            .get("attempted_by")
            .is_some_and(|raw| raw.get() == "null")
    }

    /// Whether the original claim function would compare the status with null.
    pub(crate) fn has_null_status(&self) -> bool {
        self.members
            .get("status")
            .is_some_and(|raw| raw.get() == "null")
    }

    pub(crate) fn retry_count(&self) -> u32 {
        self.get("retry_count").unwrap_or(0)
    }

    /// How often it was claimed, as far as the row tells.
    pub(crate) fn attempt(&self) -> u32 {
        self.get("attempt").unwrap_or_else(|| self.retry_count())
    }

    fn origin(&self) -> Origin {
        if !self.is_activities {
            return Origin {
                table: self.table.clone(),
                event: EventKind::Insert,
                key: None,
                raw_data: payload(&self.whole),
            };
        }
        let raw_data = self.payload("raw_data").unwrap_or_else(Payload::null);
        let parse = |text: Option<String>| text.and_then(|text| text.parse::<TableName>().ok());
        if let Some(table) = parse(self.get("source_table")) {
            let event = self.get::<String>("source_event");
            return Origin {
                table,
                event: event
                    .and_then(|event| event.parse().ok())
                    .unwrap_or(EventKind::Insert),
                key: self.payload("source_key"),
                raw_data,
            };
        }
        marked(&raw_data).unwrap_or_else(|| Origin {
            table: self.table.clone(),
            event: EventKind::Insert,
            key: None,
            raw_data,
        })
    }

    /// What Realtime told, when this row came from there.
    pub(crate) fn heard(&self) -> Heard {
        let origin = self.origin();
        Heard {
            source: origin.table,
            event: self.is_activities.then_some(origin.event),
            failed: self.state() == Some(TaskState::Failed),
        }
    }

    /// Whether one of the selectors means this task.
    pub(crate) fn is_selected(&self, selectors: &[Selector]) -> bool {
        let origin = self.origin();
        let needs_row = |selector: &&Selector| {
            selector.table == origin.table
                // The row of an own table does not say what happened to it last.
                && (!self.is_activities || selector.events.contains(origin.event))
        };
        selectors.iter().filter(needs_row).any(|selector| {
            selector.filter.as_ref().is_none_or(|filter| {
                if origin.table == self.table {
                    return filter.matches(&self.as_new());
                }
                let old = (origin.event == EventKind::Delete).then(|| self.payload("old_data"));
                filter.matches(old.flatten().as_ref().unwrap_or(&origin.raw_data))
            })
        })
    }

    /// The row as it was when it was new, which is what filters on the task table look at: work on it must not change whether
    /// it matches.
    fn as_new(&self) -> Payload {
        let members = self.members.iter();
        let members = members
            .filter(|(name, _)| !super::OURS.contains(&name.as_str()) || !self.is_activities);
        let texts: Vec<String> = members
            .map(|(name, raw)| {
                let fixed = NEW_ACTIVITY.iter().find(|(column, _)| column == name);
                let value = fixed.map_or(raw.get(), |(_, value)| *value);
                format!("{}:{value}", serde_json::Value::from(name.as_str()))
            })
            .collect();
        let text = format!("{{{}}}", texts.join(","));
        Payload::from_text(text).expect("members of a JSON object make one")
    }

    /// The task, with the attempt it is (or was) claimed for.
    pub(crate) fn task(&self, attempt: u32) -> Task {
        let origin = self.origin();
        Task {
            row: (origin.table == self.table).then(|| self.as_new()),
            task: self.task_ref(),
            source: origin.table,
            event: origin.event,
            key: origin.key,
            raw_data: origin.raw_data,
            old_data: self
                .is_activities
                .then(|| self.payload("old_data"))
                .flatten(),
            attempt,
            retry_count: self.retry_count(),
            attempted_by: self.attempted_by(),
            created_at: self.created_at(),
        }
    }

    /// The row as lists show it.
    pub(crate) fn view(&self, retry: &RetryPolicy) -> TaskView {
        let state = self.state();
        let open = matches!(state, Some(TaskState::Pending | TaskState::Failed));
        TaskView {
            task: self.task(self.attempt()),
            state,
            status: self.status.clone(),
            locked_by: self.locked_by(),
            locked_at: self.locked_at(),
            completed_at: self.time("completed_at"),
            retry_at: self.retry_at(),
            error_message: self.get("error_message"),
            result: self.payload("result"),
            needs_attention: open && self.retry_count() >= retry.max_attempts,
        }
    }
}

fn payload(raw: &RawValue) -> Payload {
    Payload::from_value(&raw).expect("JSON serialises as itself")
}

/// Reads the marker of an activity that a daemon captured.
fn marked(raw_data: &Payload) -> Option<Origin> {
    #[derive(Deserialize)]
    struct Marker {
        table: TableName,
        event: EventKind,
        #[serde(default)]
        key: Option<Box<RawValue>>,
    }
    let Members(mut members) = serde_json::from_str(raw_data.get()).ok()?;
    let at = members.iter().position(|(name, _)| name == MARKER)?;
    let marker: Marker = serde_json::from_str(members.remove(at).1.get()).ok()?;
    let rest = members.iter().map(|(name, raw)| {
        let name = serde_json::Value::from(name.as_str());
        format!("{name}: {raw}")
    });
    let rest = format!("{{{}}}", rest.collect::<Vec<_>>().join(", "));
    Some(Origin {
        table: marker.table,
        event: marker.event,
        key: marker.key.as_deref().map(payload),
        raw_data: Payload::from_text(rest).ok()?,
    })
}

/// The members of an object in their order, unparsed: what is taken apart is put together again as PostgreSQL wrote it.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
