//! Bindings: which changes of the database a join asks for.

use serde_json::{Map, Value};

/// What kinds of change a binding asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeEvent {
    /// All kinds, `*`.
    All,
    /// Only new rows.
    Insert,
    /// Only changed rows.
    Update,
    /// Only removed rows.
    Delete,
}

impl ChangeEvent {
    /// Reads an event in any case; what is not known means all.
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_uppercase().as_str() {
            "INSERT" => Self::Insert,
            "UPDATE" => Self::Update,
            "DELETE" => Self::Delete,
            _ => Self::All,
        }
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a binding on `self` wants a change of kind `kind`.
    pub fn covers(self, kind: Self) -> bool {
        self == Self::All || self == kind
    }
}

/// One binding: which changes a client wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The object as the client wrote it.
    pub requested: Map<String, Value>,
    /// Kinds of change.
    pub event: ChangeEvent,
    /// Schema, or `*` for all.
    pub schema: Option<String>,
    /// Table; none or `*` for all.
    pub table: Option<String>,
    /// The filter, not parsed.
    pub filter: Option<String>,
    /// Columns wanted.
    pub select: Select,
}

/// The columns a binding wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// All of them.
    All,
    /// These ones, and the primary key.
    Columns(Vec<String>),
    /// Something that is not a list of names.
    Invalid,
}

impl Binding {
    pub(super) fn read(requested: Map<String, Value>) -> Self {
        let text = |key: &str| match requested.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null) | None => None,
            // A filter that is not text must not widen the binding to everything: it becomes one that parses as an error.
            Some(other) => Some(other.to_string()),
        };
        let event = text("event").map_or(ChangeEvent::All, |event| ChangeEvent::parse(&event));
        let select = match requested.get("select") {
            None | Some(Value::Null) => Select::All,
            Some(Value::Array(columns)) => columns
                .iter()
                .map(|column| column.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map_or(Select::Invalid, Select::Columns),
            Some(_) => Select::Invalid,
        };
        Self {
            event,
            schema: text("schema"),
            table: text("table"),
            filter: text("filter"),
            select,
            requested,
        }
    }

    /// A positive 31-bit number that depends only on the object: equal bindings have equal ids.
    pub fn id(&self) -> u32 {
        // FNV-1a: stable across versions and platforms, which std's hasher does not promise.
        let text = Value::Object(self.requested.clone()).to_string();
        let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        (hash & 0x7fff_ffff).max(1)
    }

    /// The object of the reply: what was requested, untouched, and the id.
    pub fn reply(&self, id: u32) -> Value {
        let mut object = self.requested.clone();
        object.insert("id".to_owned(), Value::from(id));
        Value::Object(object)
    }
}

/// Ids of a channel's bindings, in their order: equal bindings share one, different ones never do.
pub fn binding_ids(bindings: &[Binding]) -> Vec<u32> {
    let mut ids: Vec<u32> = Vec::with_capacity(bindings.len());
    for (index, binding) in bindings.iter().enumerate() {
        let earlier = || bindings[..index].iter().zip(&ids);
        let twin = earlier().find(|(other, _)| other.requested == binding.requested);
        let mut id = twin.map_or_else(|| binding.id(), |(_, &id)| id);
        if twin.is_none() {
            while earlier().any(|(_, &taken)| taken == id) {
                id = if id == 0x7fff_ffff { 1 } else { id + 1 };
            }
        }
        ids.push(id);
    }
    ids
}
