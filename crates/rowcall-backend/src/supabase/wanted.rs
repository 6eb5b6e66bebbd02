//! What the apps of this machine listen to: it changes while the daemon runs.

use std::collections::BTreeSet;

use rowcall_core::{AppId, Selector, TableName};

/// What the apps of this machine listen to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The apps: machines of an app tell each other of failed tasks.
    pub apps: Vec<AppId>,
    /// Which changes of which tables.
    pub selectors: Vec<Selector>,
}

impl Wanted {
    pub(super) fn tables(&self) -> BTreeSet<TableName> {
        let tables = self.selectors.iter().map(|one| one.table.clone());
        tables.collect()
    }
}
