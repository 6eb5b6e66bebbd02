//! What happened to a row, and the hints that wake the engine.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{MachineId, TaskRef},
    table::TableName,
};

/// The kind of change that made a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    /// A new row.
    Insert,
    /// A changed row.
    Update,
    /// A removed row.
    Delete,
}

impl EventKind {
    /// Every kind, in the order the catalogue lists them.
    pub const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    /// The name on the wire and in SQL: `INSERT`, `UPDATE` or `DELETE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown event {0:?}: use INSERT, UPDATE or DELETE")]
pub struct UnknownEvent(pub String);

impl FromStr for EventKind {
    type Err = UnknownEvent;
    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| UnknownEvent(text.chars().take(64).collect()))
    }
}

/// A set of event kinds. Empty means none; configuration that names no events means [`EventSet::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct EventSet(u8);

impl EventSet {
    /// All three kinds.
    pub const ALL: Self = Self(0b111);

    fn bit(kind: EventKind) -> u8 {
        1 << kind as u8
    }

    /// Whether `kind` is in the set.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    /// The kinds that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether no kind is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds in the set, in catalogue order.
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<EventKind> for EventSet {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        Self(
            kinds
                .into_iter()
                .fold(0, |bits, kind| bits | Self::bit(kind)),
        )
    }
}

/// A hint that work may be there. Signals may be lost, doubled, reordered or forged: they only decide *when* the engine
/// looks, the database decides *what* it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Something changed in a claimed table; `task` names the row when the source knows it.
    Dirty {
        /// The table to look at.
        table: TableName,
        /// The one row that changed, if known.
        task: Option<TaskRef>,
    },
    /// A task failed elsewhere, or was recovered, and may be tried again.
    Available {
        /// The task.
        task: TaskRef,
        /// The machine that gave it up; it does not try again.
        failed_by: Option<MachineId>,
    },
    /// The source is connected: signals flow from now on, so look for what was missed.
    Up,
    /// The source lost its connection. The engine goes on and polls more closely.
    Down {
        /// What happened, for people.
        reason: String,
        /// When the source tries again.
        retry_in: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: EventSet = [EventKind::Insert, EventKind::Delete].into_iter().collect();
        assert!(set.contains(EventKind::Insert) && !set.contains(EventKind::Update));
        assert_eq!(
            set.iter().map(EventKind::as_str).collect::<Vec<_>>(),
            ["INSERT", "DELETE"]
        );
        assert!(
            set.intersection([EventKind::Update].into_iter().collect())
                .is_empty()
        );
        assert_eq!(EventSet::ALL.iter().count(), 3);
    }

    #[test]
    fn events_parse_in_any_case() {
        assert_eq!("insert".parse(), Ok(EventKind::Insert));
        assert!("upsert".parse::<EventKind>().is_err());
    }
}
