//! Typed identifiers: a machine is never mistaken for an app, nor a task for a row key.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::table::TableName;

/// The longest identifier accepted from outside, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// An identifier that is empty, too long, or holds control characters.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid {kind} {value:?}: it must be 1 to {MAX_ID_BYTES} bytes without control characters"
)]
pub struct InvalidId {
    kind: &'static str,
    value: String,
}

fn check(kind: &'static str, value: &str) -> Result<(), InvalidId> {
    if value.is_empty() || value.len() > MAX_ID_BYTES || value.chars().any(char::is_control) {
        let value = value.chars().take(64).collect();
        return Err(InvalidId { kind, value });
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps an identifier.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidId> {
                check($kind, value.as_ref())?;
                Ok(Self(Arc::from(value.as_ref())))
            }

            /// The identifier as it is written on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }
    };
}

text_id!(
    /// One running daemon, stable across restarts: it is written into `locked_by` and `attempted_by`.
    MachineId,
    "machine id"
);
text_id!(
    /// A local app, by the `name` of its configuration.
    AppId,
    "app name"
);
text_id!(
    /// An agent, by the `agentId` that handlers name.
    AgentId,
    "agent id"
);

/// The id of a task inside its table: a uuid for `rtx_activities`, any key as text elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TaskId {
    /// The usual case; kept as 16 bytes.
    Uuid(Uuid),
    /// Any other primary key, as PostgreSQL prints it, or a message id of a queue.
    Key(Arc<str>),
}

impl TaskId {
    /// The uuid of this id, when it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(id) => Some(*id),
            Self::Key(_) => None,
        }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.fmt(f),
            Self::Key(key) => f.write_str(key),
        }
    }
}

impl FromStr for TaskId {
    type Err = InvalidId;
    /// A text in the hyphenated form of a uuid is one; everything else is a key.
    fn from_str(value: &str) -> Result<Self, InvalidId> {
        if value.len() == 36
            && let Ok(id) = Uuid::try_parse(value)
        {
            return Ok(Self::Uuid(id));
        }
        check("task id", value)?;
        Ok(Self::Key(Arc::from(value)))
    }
}

impl TryFrom<String> for TaskId {
    type Error = InvalidId;
    fn try_from(value: String) -> Result<Self, InvalidId> {
        value.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.to_string()
    }
}

impl From<Uuid> for TaskId {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

/// A task anywhere: the table that holds it (for activities `public.rtx_activities`) and its id there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskRef {
    /// The table that is claimed, not the table whose change was captured.
    pub table: TableName,
    /// The id inside that table.
    pub id: TaskId,
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_round_trip_as_text() {
        for text in ["7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11", "42", "a:b c"] {
            let id: TaskId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        assert!("".parse::<TaskId>().is_err());
        assert!("a\nb".parse::<TaskId>().is_err());
    }

    #[test]
    fn ids_are_bounded() {
        assert!(MachineId::new("m".repeat(MAX_ID_BYTES)).is_ok());
        let error = MachineId::new("m".repeat(MAX_ID_BYTES + 1)).unwrap_err();
        assert!(error.to_string().contains("machine id"));
    }
}
