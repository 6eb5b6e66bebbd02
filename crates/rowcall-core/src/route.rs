//! From a change to the agent that handles it.

use serde::{Deserialize, Serialize};

use crate::{
    event::{EventKind, EventSet},
    filter::Filter,
    id::{AgentId, AppId},
    table::TableName,
    task::Payload,
};

/// Whether tasks run by themselves or wait for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Claimed and run as soon as there is a free slot.
    #[default]
    Auto,
    /// Put into the calendar until a person approves.
    Review,
}

/// Which tasks are meant: a source table, event kinds, and a condition on the row.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// The table whose changes count; `rtx_activities` for rows written there directly.
    pub table: TableName,
    /// The event kinds that count.
    pub events: EventSet,
    /// The row must match this as well.
    pub filter: Option<Filter>,
}

impl Selector {
    /// Whether a change is selected. `row` is the new row, or the old one of a DELETE.
    pub fn matches(&self, table: &TableName, event: EventKind, row: &Payload) -> bool {
        self.table == *table
            && self.events.contains(event)
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(row))
    }
}

/// One line of the routing table: what is selected, and who handles it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The app the route belongs to; its concurrency limit applies.
    pub app: AppId,
    /// The agent that runs.
    pub agent: AgentId,
    /// Which tasks.
    pub selector: Selector,
    /// By itself or after review.
    pub trigger: Trigger,
}

/// The first route that selects a change.
pub fn find<'a>(
    routes: &'a [Route],
    table: &TableName,
    event: EventKind,
    row: &Payload,
) -> Option<&'a Route> {
    routes
        .iter()
        .find(|route| route.selector.matches(table, event, row))
}
