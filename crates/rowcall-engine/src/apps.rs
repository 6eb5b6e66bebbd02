//! The routing table: apps resolved into what is claimed and who runs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rowcall_core::{AgentId, AgentSpec, App, AppId, Selector, TableName, Task, Trigger};
use serde::Serialize;

use crate::admission::{AppSlots, Slots};

/// Something about an app that keeps it from working as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppProblem {
    /// The app.
    pub app: AppId,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// One line of an app's routing with its agent found.
#[derive(Clone, Debug)]
pub(crate) struct AgentRoute {
    pub(crate) selector: Selector,
    pub(crate) agent: Arc<AgentSpec>,
    pub(crate) trigger: Trigger,
}

/// One app as the source loops see it.
#[derive(Clone, Debug)]
pub(crate) struct AppEntry {
    pub(crate) id: AppId,
    pub(crate) slots: Arc<AppSlots>,
    /// What is claimed by itself.
    pub(crate) auto: Arc<[Selector]>,
    /// What waits for a person.
    pub(crate) review: Arc<[Selector]>,
    pub(crate) routes: Arc<[AgentRoute]>,
}

impl AppEntry {
    /// The route of a claimed task. The database has applied the filters already and counts: when no route matches here,
    /// the first of the right table and event is taken. `None` means that routes changed while the claim was under way.
    pub(crate) fn route(&self, task: &Task, trigger: Option<Trigger>) -> Option<&AgentRoute> {
        let eligible = || {
            self.routes
                .iter()
                .filter(move |route| trigger.is_none_or(|trigger| route.trigger == trigger))
        };
        let mut all = eligible();
        if let (Some(only), None) = (all.next(), all.next()) {
            // The usual app has one route: no need to look into the row again.
            return same_change(only, task).then_some(only);
        }
        eligible()
            .find(|route| {
                route
                    .selector
                    .matches(&task.source, task.event, task.filter_row())
            })
            .or_else(|| eligible().find(|route| same_change(route, task)))
    }

    /// The tables whose changes the app handles.
    pub(crate) fn tables(&self) -> BTreeSet<&TableName> {
        self.routes
            .iter()
            .map(|route| &route.selector.table)
            .collect()
    }
}

fn same_change(route: &AgentRoute, task: &Task) -> bool {
    route.selector.table == task.source && route.selector.events.contains(task.event)
}

/// All apps, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct AppTable {
    pub(crate) entries: Vec<AppEntry>,
    pub(crate) problems: Vec<AppProblem>,
}

impl AppTable {
    /// Resolves apps. `known` are the slots of all apps that have or had running tasks: they are kept, so that no app
    /// exceeds its limit by leaving and coming back, and get the new limit.
    pub(crate) fn resolve(
        apps: &[App],
        agents: &BTreeMap<AgentId, Arc<AgentSpec>>,
        machine: &Arc<Slots>,
        known: &mut BTreeMap<AppId, Arc<AppSlots>>,
    ) -> Self {
        let mut table = Self::default();
        known.retain(|_, slots| slots.used() > 0);
        for app in apps {
            if table.entries.iter().any(|entry| entry.id == app.name) {
                table.problem(
                    app,
                    "it is configured twice; the second one is ignored".into(),
                );
                continue;
            }
            let limit = app.max_concurrent_tasks();
            if limit == 0 {
                table.problem(
                    app,
                    "max_concurrent_tasks is 0, so none of its tasks run; set it to 1 or more"
                        .into(),
                );
            }
            let routes = table.routes(app, agents);
            let slots = known
                .entry(app.name.clone())
                .or_insert_with(|| Arc::new(AppSlots::new(limit, Arc::clone(machine))));
            slots.set_limit(limit);
            let slots = Arc::clone(slots);
            let selectors = |trigger| {
                routes
                    .iter()
                    .filter(|route| route.trigger == trigger)
                    .map(|route| route.selector.clone())
                    .collect()
            };
            table.entries.push(AppEntry {
                id: app.name.clone(),
                slots,
                auto: selectors(Trigger::Auto),
                review: selectors(Trigger::Review),
                routes: routes.into(),
            });
        }
        table
    }

    fn routes(&mut self, app: &App, agents: &BTreeMap<AgentId, Arc<AgentSpec>>) -> Vec<AgentRoute> {
        let mut routes = Vec::new();
        for route in app.routes() {
            let agent = app
                .agent(&route.agent)
                .map(Arc::new)
                .or_else(|| agents.get(&route.agent).cloned());
            match agent {
                Some(agent) => routes.push(AgentRoute {
                    selector: route.selector,
                    agent,
                    trigger: route.trigger,
                }),
                None => self.problem(
                    app,
                    format!(
                        "agent {} (for {}) is not defined, so its tasks stay pending; define it under \"agents\" \
                         or name one of: {}",
                        route.agent,
                        route.selector.table,
                        known(app, agents)
                    ),
                ),
            }
        }
        routes
    }

    fn problem(&mut self, app: &App, problem: String) {
        tracing::warn!(app.id = %app.name, "{problem}");
        self.problems.push(AppProblem {
            app: app.name.clone(),
            problem,
        });
    }
}

fn known(app: &App, agents: &BTreeMap<AgentId, Arc<AgentSpec>>) -> String {
    let own = app.agents.iter().map(|agent| &agent.id);
    let mut names: Vec<&str> = own.chain(agents.keys()).map(AgentId::as_str).collect();
    if app.command.is_some() {
        names.push(app.name.as_str());
    }
    if names.is_empty() {
        return "(none are known)".into();
    }
    names.join(", ")
}
