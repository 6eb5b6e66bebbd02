//! Capture without a trigger: daemons write the activity themselves, from a Realtime event.
//!
//! Several daemons hear of one event. All of them make the same id from it, and the second insert of an id does nothing, so
//! that one event is one activity. What happens while no daemon listens is missed: a trigger (`rowcall setup`) is better.

use rowcall_core::{EventKind, Payload, Selector, TableName};
use rowcall_realtime::{channel::Change, join::ChangeEvent};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use uuid::Uuid;

use super::{
    error::RestError,
    http::Call,
    table::{MARKER, Table},
};

/// The namespace of ids that are made from events.
const NAMESPACE: Uuid = Uuid::from_u128(0x7c02_6a5e_0f4b_4d52_9a35_b4f1_6e8d_2c91);

/// The key of a row that has none.
static NULL: Value = Value::Null;

/// The kind of a change as the domain knows it.
pub(super) fn kind(change: &Change) -> Option<EventKind> {
    match change.kind {
        ChangeEvent::Insert => Some(EventKind::Insert),
        ChangeEvent::Update => Some(EventKind::Update),
        ChangeEvent::Delete => Some(EventKind::Delete),
        ChangeEvent::All => None,
    }
}

/// An activity that is to be written.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) id: Uuid,
    table: TableName,
    event: EventKind,
    key: Option<Value>,
    raw_data: Option<Box<RawValue>>,
    old_data: Option<Box<RawValue>>,
}

impl Captured {
    /// The activity of a change, if one of the selectors means it.
    pub(super) fn new(change: &Change, selectors: &[Selector]) -> Option<Self> {
        let table = TableName::new(&change.schema, &change.table).ok()?;
        let event = kind(change)?;
        let payload = |raw: &Option<Box<RawValue>>| {
            let raw = raw.as_ref()?;
            Payload::from_value(raw).ok()
        };
        let new = payload(&change.record);
        let old = payload(&change.old_record);
        let row = match event {
            EventKind::Delete => old.as_ref(),
            _ => new.as_ref(),
        }?;
        let wanted = selectors.iter().any(|one| one.matches(&table, event, row));
        if !wanted || !change.errors.is_empty() {
            return None;
        }
        let members: Map<String, Value> = serde_json::from_str(row.get()).ok()?;
        Some(Self {
            id: id(&table, event, &members, change.commit_timestamp.as_deref()),
            key: members.get("id").map(|id| json!({"id": id})),
            table,
            event,
            raw_data: change.record.clone(),
            old_data: match event {
                EventKind::Insert => None,
                _ => change.old_record.clone(),
            },
        })
    }

    /// The insert, into a table with or without columns for the source.
    pub(super) fn call(&self, activities: &Table) -> Call {
        let ours = activities.has("source_table");
        let body = Insert {
            id: self.id,
            old_data: self.old_data.as_deref(),
            source_table: ours.then_some(&self.table),
            source_event: ours.then_some(self.event),
            source_key: ours.then(|| self.key.as_ref().unwrap_or(&NULL)),
            raw_data: if ours {
                RawData::AsItIs(self.raw_data.as_deref())
            } else {
                RawData::Marked(self.marked())
            },
        };
        Call::post(&["rest", "v1", activities.name().name()])
            .schema(activities.name().schema())
            .query("on_conflict", "id")
            .prefer("resolution=ignore-duplicates")
            .json(&body)
    }

    /// The new row with a member that says where it comes from.
    fn marked(&self) -> Map<String, Value> {
        let row = self.raw_data.as_deref().map(RawValue::get);
        let mut row: Map<String, Value> = row
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let marker = json!({"table": self.table, "event": self.event, "key": self.key});
        row.insert(MARKER.to_owned(), marker);
        row
    }
}

/// A new activity. Rows go on as they came: they may hold numbers and texts that only PostgreSQL has a value for.
#[derive(Serialize)]
struct Insert<'a> {
    id: Uuid,
    old_data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_table: Option<&'a TableName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_event: Option<EventKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_key: Option<&'a Value>,
    raw_data: RawData<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RawData<'a> {
    AsItIs(Option<&'a RawValue>),
    Marked(Map<String, Value>),
}

/// The same id on every machine. A row is inserted once, so table and key say it all; it is changed often, so the time of
/// the commit and the row as it was then say which change it was.
fn id(
    table: &TableName,
    event: EventKind,
    row: &Map<String, Value>,
    commit_timestamp: Option<&str>,
) -> Uuid {
    let what = if let (EventKind::Insert, Some(id)) = (event, row.get("id")) {
        json!([table, event, id])
    } else {
        // Members in one order: servers may write them in any.
        let mut members: Vec<(&String, &Value)> = row.iter().collect();
        members.sort_by_key(|(name, _)| *name);
        json!([table, event, commit_timestamp, members])
    };
    Uuid::new_v5(&NAMESPACE, what.to_string().as_bytes())
}

/// Whether trying again could help.
pub(super) fn is_worth_another_try(error: &RestError) -> bool {
    match error {
        RestError::Refused { status, .. } => {
            status.is_server_error() || *status == reqwest::StatusCode::TOO_MANY_REQUESTS
        }
        RestError::Throttled(_) | RestError::Unreachable(_) | RestError::Nonsense(_) => true,
        RestError::TooLarge(_)
        | RestError::SignedOut(_)
        | RestError::App { .. }
        | RestError::Denied => false,
    }
}

#[cfg(test)]
mod tests {
    use rowcall_core::{EventSet, Filter};

    use super::*;

    fn change(kind: ChangeEvent, at: &str, record: Value, old: Value) -> Change {
        let raw = |value: Value| match value {
            Value::Null => None,
            value => Some(serde_json::value::to_raw_value(&value).unwrap()),
        };
        Change {
            filters: vec![0],
            schema: "public".to_owned(),
            table: "tickets".to_owned(),
            kind,
            commit_timestamp: Some(at.to_owned()),
            record: raw(record),
            old_record: raw(old),
            errors: Vec::new(),
        }
    }

    fn selectors(filter: Option<&str>) -> Vec<Selector> {
        vec![Selector {
            table: "public.tickets".parse().unwrap(),
            events: EventSet::ALL,
            filter: filter.map(|text| Filter::parse(text).unwrap()),
        }]
    }

    fn id_of(change: &Change) -> Uuid {
        Captured::new(change, &selectors(None)).unwrap().id
    }

    #[test]
    fn one_event_is_one_id_on_every_machine() {
        let insert = |at| {
            change(
                ChangeEvent::Insert,
                at,
                json!({"id": 7, "a": 1}),
                Value::Null,
            )
        };
        assert_eq!(
            id_of(&insert("t1")),
            id_of(&insert("t2")),
            "a row is inserted once"
        );
        let update = |at, a| {
            change(
                ChangeEvent::Update,
                at,
                json!({"id": 7, "a": a}),
                json!({"id": 7}),
            )
        };
        assert_eq!(id_of(&update("t1", 1)), id_of(&update("t1", 1)));
        assert_ne!(id_of(&update("t1", 1)), id_of(&update("t2", 1)));
        assert_ne!(
            id_of(&update("t1", 1)),
            id_of(&update("t1", 2)),
            "two in one transaction"
        );
        let turned = change(
            ChangeEvent::Update,
            "t1",
            json!({"a": 1, "id": 7}),
            json!({"id": 7}),
        );
        assert_eq!(id_of(&turned), id_of(&update("t1", 1)));
    }

    #[test]
    fn only_what_is_selected_is_captured() {
        let deleted = change(
            ChangeEvent::Delete,
            "t",
            Value::Null,
            json!({"id": 7, "a": "x"}),
        );
        assert!(Captured::new(&deleted, &selectors(Some("a=eq.x"))).is_some());
        assert!(Captured::new(&deleted, &selectors(Some("a=eq.y"))).is_none());
        let mut cut = change(ChangeEvent::Insert, "t", json!({"id": 7}), Value::Null);
        cut.errors.push("Error 413: Payload Too Large".to_owned());
        assert!(
            Captured::new(&cut, &selectors(None)).is_none(),
            "the record is incomplete"
        );
    }
}
