//! The routing table: apps resolved into what is claimed and who runs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rowcall_core::{AgentId, AgentSpec, App, AppId, EventSet, Selector, TableName, Task, Trigger};
use serde::Serialize;

use crate::admission::{AppSlots, Lane, Slots};

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

/// What one claim can be for: an app's agents with a limit of their own each by itself, and its other agents together. So a
/// claim never asks for more than the agent that will get it can take.
#[derive(Clone, Debug)]
pub(crate) struct AppEntry {
    pub(crate) id: AppId,
    /// The agent with a limit of its own.
    pub(crate) agent: Option<AgentId>,
    pub(crate) slots: Arc<Lane>,
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

    /// Whether this is the entry of that app and agent.
    pub(crate) fn is(&self, app: &AppId, agent: Option<&AgentId>) -> bool {
        self.id == *app && self.agent.as_ref() == agent
    }

    /// The tables whose changes are handled.
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
    /// Those of one app stand together; every app has at least one.
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
            for (agent, routes) in by_agent(routes) {
                let lane = match &agent {
                    Some((agent, limit)) => slots.agent_lane(agent, *limit),
                    None => slots.lane(),
                };
                let selectors = |trigger| {
                    routes
                        .iter()
                        .filter(|route| route.trigger == trigger)
                        .map(|route| route.selector.clone())
                        .collect()
                };
                table.entries.push(AppEntry {
                    id: app.name.clone(),
                    agent: agent.map(|(agent, _)| agent),
                    slots: lane,
                    auto: selectors(Trigger::Auto),
                    review: selectors(Trigger::Review),
                    routes: routes.into(),
                });
            }
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

/// The routes of each agent with a limit of its own, and of all others together, in the order of their first route. The
/// first route that selects a change handles it, so what an earlier agent gets is taken out of the later ones' selectors.
type ByAgent = Vec<(Option<(AgentId, u32)>, Vec<AgentRoute>)>;

fn by_agent(routes: Vec<AgentRoute>) -> ByAgent {
    let mut lanes: ByAgent = Vec::new();
    for mut route in routes {
        let limit = route.agent.kind.concurrency();
        let agent = limit.map(|limit| (route.agent.id.clone(), limit));
        let earlier = |lane: &&AgentRoute| {
            lane.trigger == route.trigger
                && lane.selector.table == route.selector.table
                && (lane.selector.filter.is_none() || lane.selector.filter == route.selector.filter)
        };
        let taken: Vec<EventSet> = lanes
            .iter()
            .filter(|(other, _)| *other != agent)
            .flat_map(|(_, routes)| routes.iter().filter(earlier))
            .map(|lane| lane.selector.events)
            .collect();
        let left: EventSet = route
            .selector
            .events
            .iter()
            .filter(|event| !taken.iter().any(|taken| taken.contains(*event)))
            .collect();
        if left.is_empty() {
            continue;
        }
        route.selector.events = left;
        match lanes.iter_mut().find(|(other, _)| *other == agent) {
            Some((_, routes)) => routes.push(route),
            None => lanes.push((agent, vec![route])),
        }
    }
    if lanes.is_empty() {
        lanes.push((None, Vec::new()));
    }
    lanes
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

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(handlers: &serde_json::Value) -> Vec<(Option<String>, Vec<String>)> {
        let worker = |id: &str| serde_json::json!({ "id": id, "kind": "worker", "app_type": "custom", "command": "./w", "concurrency": 1 });
        let process =
            |id: &str| serde_json::json!({ "id": id, "app_type": "custom", "command": "./p" });
        let manifest = serde_json::json!({
            "name": "shop",
            "agents": [worker("w1"), worker("w2"), process("p1"), process("p2")],
            "config": { "supabase": { "tables": ["t", "u"], "filter": "n=gt.1" }, "agentHandlers": handlers }
        });
        let app = App::parse(&manifest.to_string(), None).unwrap();
        let table = AppTable::resolve(
            &[app],
            &BTreeMap::new(),
            &Arc::new(Slots::new(9)),
            &mut BTreeMap::new(),
        );
        let named = |entry: &AppEntry| {
            let routes = entry.routes.iter().map(|route| {
                let events: Vec<&str> = route
                    .selector
                    .events
                    .iter()
                    .map(rowcall_core::EventKind::as_str)
                    .collect();
                format!(
                    "{} {} {}",
                    route.agent.id,
                    route.selector.table.name(),
                    events.join("+")
                )
            });
            (
                entry.agent.as_ref().map(ToString::to_string),
                routes.collect(),
            )
        };
        table.entries.iter().map(named).collect()
    }

    #[test]
    fn agents_with_limits_are_claimed_for_by_themselves() {
        let lanes = resolve(&serde_json::json!([
            { "tableName": "t", "agentId": "p1", "eventTypes": ["INSERT"] },
            { "tableName": "t", "agentId": "w1", "eventTypes": ["INSERT", "UPDATE"] },
            { "tableName": "u", "agentId": "p2", "eventTypes": ["INSERT"] },
            { "tableName": "u", "agentId": "w1", "eventTypes": ["DELETE"] },
            { "tableName": "u", "agentId": "w2", "eventTypes": ["INSERT"] }
        ]));
        // What an earlier handler gets is not asked for in another one's name, and w2 is left with nothing.
        let expected = [
            (None, vec!["p1 t INSERT", "p2 u INSERT"]),
            (Some("w1".to_owned()), vec!["w1 t UPDATE", "w1 u DELETE"]),
        ];
        let expected = expected.map(|(agent, routes)| {
            (
                agent,
                routes.into_iter().map(str::to_owned).collect::<Vec<_>>(),
            )
        });
        assert_eq!(lanes, expected);
    }

    #[test]
    fn an_app_without_handlers_is_still_an_app() {
        assert_eq!(resolve(&serde_json::json!([])), [(None, Vec::new())]);
    }
}
