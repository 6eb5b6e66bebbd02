//! What a project has, found out once: which tables hold tasks, and how they are claimed.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use rowcall_core::{Selector, TableName};

use super::{
    batch::{Protocol, protocol},
    error::RestError,
    http::Rest,
    table::Table,
};

/// How a table's changes become tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// A trigger in the project writes activities: nothing is missed.
    Trigger,
    /// The table has lock columns; its rows are the tasks.
    Rows,
    /// The daemons write activities from Realtime events, because no trigger is installed. Changes that happen while no
    /// daemon listens are missed.
    Daemon,
}

/// What a project has.
pub(crate) struct Plan {
    /// `rtx_activities`, where there is one.
    pub(crate) activities: Option<Table>,
    /// Our functions are there.
    pub(crate) batch: bool,
    /// Whether row level security hides activities, where the project tells.
    pub(crate) row_security: Option<bool>,
    /// Tables of the user's own whose rows are tasks.
    pub(crate) own: Vec<Table>,
    /// Tables whose changes the daemons write to `rtx_activities`.
    pub(crate) captured_here: BTreeSet<TableName>,
    /// Tables of custom mode that cannot be read here: only the app knows them.
    pub(crate) blind: BTreeSet<TableName>,
}

impl Plan {
    /// Asks the project. `tables` are those that apps listen to.
    async fn make(rest: &Rest, tables: &BTreeSet<TableName>) -> Result<Self, RestError> {
        let activities = match Table::detect_activities(rest.clone()).await {
            Ok(table) => Some(table),
            Err(error) if error.is_missing_table() => None,
            Err(error) => return Err(error),
        };
        let protocol = match &activities {
            Some(table) if table.has("attempt") => protocol(rest).await?,
            _ => None,
        };
        let batch = protocol.is_some();
        let Protocol {
            captured,
            row_security,
            ..
        } = protocol.unwrap_or_default();
        let mut plan = Self {
            batch,
            row_security,
            activities,
            own: Vec::new(),
            captured_here: BTreeSet::new(),
            blind: BTreeSet::new(),
        };
        for table in tables {
            if *table == TableName::activities() || captured.contains(&table.to_string()) {
                continue;
            }
            match Table::detect_own(rest.clone(), table.clone()).await {
                Ok(Some(own)) => plan.own.push(own),
                Ok(None) if plan.activities.is_some() => {
                    plan.captured_here.insert(table.clone());
                }
                Ok(None) => tracing::warn!(
                    %table,
                    "the table has no columns status, locked_by and locked_at, and the project has no rtx_activities: its rows \
                     cannot become tasks; run `rowcall setup`"
                ),
                Err(error) if error.is_missing_table() => {
                    tracing::warn!(%table, "the project has no such table, or does not show it over REST");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(plan)
    }

    /// In custom mode every table is the app's own, whatever else the project has.
    async fn make_custom(rest: &Rest, tables: &BTreeSet<TableName>) -> Result<Self, RestError> {
        let mut plan = Self {
            batch: false,
            row_security: None,
            activities: None,
            own: Vec::new(),
            captured_here: BTreeSet::new(),
            blind: BTreeSet::new(),
        };
        for table in tables {
            let found = if *table == TableName::activities() {
                Table::detect_activities(rest.clone()).await.map(Some)
            } else {
                Table::detect_own(rest.clone(), table.clone()).await
            };
            match found {
                Ok(Some(found)) if found.is_activities() => plan.activities = Some(found),
                Ok(Some(found)) => plan.own.push(found),
                Ok(None) => {
                    plan.blind.insert(table.clone());
                }
                Err(error) if error.is_missing_table() || error.is_denied() => {
                    plan.blind.insert(table.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(plan)
    }

    /// What decides about channels and claims.
    fn shape(&self) -> impl PartialEq + '_ {
        let columns = |table: &Table| table.has("attempt");
        (
            self.activities.as_ref().map(columns),
            self.batch,
            self.own.iter().map(Table::name).collect::<Vec<_>>(),
            &self.captured_here,
            &self.blind,
        )
    }

    /// The table that holds a task.
    pub(crate) fn table(&self, name: &TableName) -> Option<&Table> {
        self.tables().find(|table| table.name() == name)
    }

    /// Every table that holds tasks.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.activities.iter().chain(&self.own)
    }

    /// Whether leases of a table go through our functions.
    pub(crate) fn is_batch(&self, table: &Table) -> bool {
        self.batch && table.is_activities()
    }

    /// How changes of a table become tasks; nothing when they do not.
    pub(crate) fn capture(&self, table: &TableName) -> Option<Capture> {
        if self.own.iter().any(|own| own.name() == table) {
            Some(Capture::Rows)
        } else if self.captured_here.contains(table) {
            Some(Capture::Daemon)
        } else {
            self.activities.as_ref().map(|_| Capture::Trigger)
        }
    }

    /// The selectors that mean rows of a table that holds tasks.
    pub(crate) fn selectors_for<'a>(
        &self,
        table: &Table,
        selectors: &'a [Selector],
    ) -> Vec<&'a Selector> {
        if table.is_activities() {
            return self.of_activities(selectors);
        }
        let own = selectors.iter();
        own.filter(|selector| selector.table == *table.name())
            .collect()
    }

    /// The selectors that mean activities: all but those of own tables.
    pub(crate) fn of_activities<'a>(&self, selectors: &'a [Selector]) -> Vec<&'a Selector> {
        let is_own = |selector: &Selector| self.own.iter().any(|own| *own.name() == selector.table);
        selectors.iter().filter(|one| !is_own(one)).collect()
    }
}

/// The plan, made when it is first needed, and anew after the project has changed.
pub(crate) struct Plans {
    rest: Rest,
    tables: Mutex<BTreeSet<TableName>>,
    custom: bool,
    known: Mutex<Option<Arc<Plan>>>,
    making: tokio::sync::Mutex<()>,
}

impl Plans {
    pub(crate) fn new(rest: Rest, tables: BTreeSet<TableName>, custom: bool) -> Self {
        Self {
            rest,
            tables: Mutex::new(tables),
            custom,
            known: Mutex::new(None),
            making: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn tables(&self) -> BTreeSet<TableName> {
        self.tables.lock().clone()
    }

    /// Apps listen to other tables now.
    pub(crate) fn look_for(&self, tables: BTreeSet<TableName>) {
        *self.tables.lock() = tables;
        self.forget();
    }

    /// Whether our functions are there, as far as was asked.
    pub(crate) fn is_batch(&self) -> bool {
        self.known.lock().as_ref().is_some_and(|plan| plan.batch)
    }

    /// Whether there are tables that only an app can read, as far as was asked.
    pub(crate) fn has_blind(&self) -> bool {
        let known = self.known.lock();
        known.as_ref().is_some_and(|plan| !plan.blind.is_empty())
    }

    /// Whether tasks can be looked for, as far as was asked.
    pub(crate) fn can_read(&self) -> bool {
        let known = self.known.lock();
        known
            .as_ref()
            .is_none_or(|plan| plan.tables().next().is_some())
    }

    pub(crate) async fn get(&self) -> Result<Arc<Plan>, RestError> {
        if let Some(plan) = self.known.lock().clone() {
            return Ok(plan);
        }
        let _one_at_a_time = self.making.lock().await;
        if let Some(plan) = self.known.lock().clone() {
            return Ok(plan);
        }
        loop {
            let tables = self.tables();
            let plan = Arc::new(self.make(&tables).await?);
            let mut known = self.known.lock();
            if *self.tables.lock() == tables {
                *known = Some(Arc::clone(&plan));
                return Ok(plan);
            }
            // The apps changed meanwhile: this one is for tables that nobody asked for.
        }
    }

    async fn make(&self, tables: &BTreeSet<TableName>) -> Result<Plan, RestError> {
        if self.custom {
            Plan::make_custom(&self.rest, tables).await
        } else {
            Plan::make(&self.rest, tables).await
        }
    }

    /// Asks the project again; says whether it has changed.
    pub(crate) async fn renew(&self) -> Result<bool, RestError> {
        let tables = self.tables();
        let plan = self.make(&tables).await?;
        let mut known = self.known.lock();
        let changed = known
            .as_ref()
            .is_none_or(|known| known.shape() != plan.shape());
        if changed && *self.tables.lock() == tables {
            *known = Some(Arc::new(plan));
        }
        Ok(changed)
    }

    /// The project has changed: something that was there is not any more.
    pub(crate) fn forget(&self) {
        *self.known.lock() = None;
    }
}
