//! Which changes are listened to.

use std::collections::BTreeSet;

use rowcall_core::{EventKind, EventSet, TableName};
use rowcall_realtime::{
    channel::{ChangeFilter, ChannelSpec},
    join::ChangeEvent,
};

use super::dispatch::Dispatch;
use crate::supabase::table::Table;

impl Dispatch<'_> {
    /// One channel for each table: what is wrong with one must not silence the others.
    pub(super) fn change_channels(&self) -> Vec<(TableName, ChannelSpec)> {
        let spec = |table: &TableName| ChannelSpec::new(format!("rowcall-changes:{table}"));
        let locked = self.plan.tables().map(|table| {
            let name = table.name();
            let events = self.events_of(table);
            // Heartbeats and settlements of all machines are updates too; those that leave work to do are few.
            let open = ChangeFilter::table(name.schema(), name.name())
                .event(ChangeEvent::Update)
                .filter("status=in.(pending,failed)");
            let new = ChangeFilter::table(name.schema(), name.name()).event(ChangeEvent::Insert);
            let mut spec = spec(name);
            if events.contains(EventKind::Insert) {
                spec = spec.changes(new);
            }
            (name.clone(), spec.changes(open))
        });
        let listened = self.plan.captured_here.iter().chain(&self.plan.blind);
        let captured = listened.map(|name| {
            let events = self.selected_events(name).into_iter();
            let filters = events.map(|event| {
                let filter = ChangeFilter::table(name.schema(), name.name());
                filter.event(ChangeEvent::parse(event.as_str()))
            });
            (name.clone(), filters.fold(spec(name), ChannelSpec::changes))
        });
        locked.chain(captured).collect()
    }

    fn events_of(&self, table: &Table) -> EventSet {
        if table.is_activities() {
            return EventSet::ALL;
        }
        self.selected_events(table.name()).into_iter().collect()
    }

    fn selected_events(&self, table: &TableName) -> BTreeSet<EventKind> {
        let wanted = self.wanted.borrow();
        let selectors = wanted.selectors.iter();
        let here = selectors.filter(|selector| selector.table == *table);
        here.flat_map(|selector| selector.events.iter()).collect()
    }
}
