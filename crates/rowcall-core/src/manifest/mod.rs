//! App manifests: the JSON configuration of a local app, as RealTimeX writes it.
//!
//! The published documents mix camelCase and snake_case, so every key is accepted in both spellings. A key that nobody
//! knows is an error that names the nearest known one: a misspelt `max_concurrent_task` must not silently mean 1.

mod fields;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use fields::ManifestError;

use crate::{
    agent::{AgentKind, AgentSpec, Command, DEFAULT_AGENT_TIMEOUT, Runtime},
    event::EventSet,
    filter::Filter,
    id::{AgentId, AppId},
    route::{Route, Selector, Trigger},
    table::TableName,
};

/// The `app_type` of an app: the runtime of its program.
pub type AppType = Runtime;

/// The largest manifest accepted, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// The largest `max_concurrent_tasks` accepted.
pub const MAX_CONCURRENT_TASKS: u32 = 100_000;

/// How an app's tables are claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Through `rtx_activities` and its functions.
    #[default]
    Compatible,
    /// Through the app's own `/api/task-lock` and `/api/task-webhook`.
    Custom,
}

/// Which changes an app listens to.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Switched off, nothing is claimed for the app.
    pub enabled: bool,
    /// How tasks are claimed.
    pub mode: Mode,
    /// The Supabase project; absent, the daemon's own database is meant.
    pub url: Option<String>,
    /// The project's anon or publishable key. Not secret by design, but never printed whole either.
    pub anon_key: Option<String>,
    /// The tables listened to.
    pub tables: Vec<TableName>,
    /// Which events count for which table; all events for tables that are not named.
    pub table_actions: BTreeMap<TableName, EventSet>,
    /// Only rows that match.
    pub filter: Option<Filter>,
    /// How many tasks of the app run at once on this machine.
    pub max_concurrent_tasks: u32,
}

/// One line of `agentHandlers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Handler {
    /// The table whose changes it handles.
    pub table: TableName,
    /// Who handles them.
    pub agent: AgentId,
    /// Which events; all when the manifest names none.
    pub events: EventSet,
    /// For people.
    pub description: Option<String>,
    /// By itself or after review.
    pub trigger: Trigger,
}

/// When an app's program is started again after it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// After a crash: a signal, or an exit code other than 0.
    #[default]
    OnFailure,
    /// However it ended.
    Always,
    /// Never.
    Never,
}

/// The schema of the tables that no table is: tasks that a client started by naming an agent.
pub const NAMED_SCHEMA: &str = "rowcall_named";

/// A local app.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Its name, unique on this machine.
    pub name: AppId,
    /// The name that people read.
    pub display_name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The app's own program; `custom` without a command is a subscription only.
    pub command: Option<Command>,
    /// The runtime of the app.
    pub app_type: AppType,
    /// The port proposed to the app's program.
    pub port: Option<u16>,
    /// Where the app's pages are.
    pub home_url: Option<String>,
    /// The path that answers when the app is healthy, below its port.
    pub health_path: Option<String>,
    /// Whether the program is started with the daemon.
    pub autostart: bool,
    /// When it is started again.
    pub restart: Restart,
    /// What it listens to.
    pub subscription: Option<Subscription>,
    /// Who handles what.
    pub handlers: Vec<Handler>,
    /// Agents defined beside the app.
    pub agents: Vec<AgentSpec>,
    /// Permissions the app declares.
    pub permissions: Vec<String>,
    /// Things that are odd but harmless, for people.
    pub notices: Vec<String>,
    /// Agents that clients started by name, whose tasks are claimed as well. Not from the manifest: whoever loads it knows.
    pub named_agents: Vec<AgentId>,
}

impl App {
    /// Reads a manifest. `name` overrides the one inside, or supplies it for the fragments that the published documents
    /// show (`{"config": {…}}`, or what stands inside `config`).
    ///
    /// ```
    /// let app = rowcall_core::App::parse(
    ///     r#"{"config": {"supabase": {"tables": ["public.orders"]},
    ///         "agentHandlers": [{"tableName": "orders", "agentId": "clerk", "eventTypes": ["INSERT"]}]}}"#,
    ///     Some("shop"),
    /// )?;
    /// assert_eq!(app.routes()[0].selector.table.to_string(), "public.orders");
    /// # Ok::<(), rowcall_core::ManifestError>(())
    /// ```
    pub fn parse(text: &str, name: Option<&str>) -> Result<Self, ManifestError> {
        read::app(text, name)
    }

    /// How many tasks of this app run at once.
    pub fn max_concurrent_tasks(&self) -> u32 {
        self.subscription
            .as_ref()
            .map_or(1, |subscription| subscription.max_concurrent_tasks)
    }

    /// The routing lines of the app, in the order of its handlers: `eventTypes` narrowed by `tableActions`, with the
    /// subscription's filter; none while the subscription is switched off. After them those of agents started by name.
    pub fn routes(&self) -> Vec<Route> {
        let mut routes = self.subscribed_routes();
        routes.extend(self.named_agents.iter().filter_map(|agent| {
            Some(Route {
                app: self.name.clone(),
                agent: agent.clone(),
                selector: Selector {
                    table: self.named_table(agent)?,
                    events: EventSet::ALL,
                    filter: None,
                },
                trigger: Trigger::Auto,
            })
        }));
        routes
    }

    /// What stands in `source_table` of a task that a client started by naming an agent of this app. `None` when the two
    /// names together are too long for a table's.
    pub fn named_table(&self, agent: &AgentId) -> Option<TableName> {
        TableName::new(NAMED_SCHEMA, &format!("{}/{agent}", self.name)).ok()
    }

    /// What the app's handlers handle, without the agents that clients name.
    pub fn subscribed_routes(&self) -> Vec<Route> {
        let Some(subscription) = self
            .subscription
            .as_ref()
            .filter(|subscription| subscription.enabled)
        else {
            return Vec::new();
        };
        self.handlers
            .iter()
            .filter_map(|handler| {
                let actions = subscription
                    .table_actions
                    .get(&handler.table)
                    .copied()
                    .unwrap_or(EventSet::ALL);
                let events = handler.events.intersection(actions);
                (!events.is_empty()).then(|| Route {
                    app: self.name.clone(),
                    agent: handler.agent.clone(),
                    selector: Selector {
                        table: handler.table.clone(),
                        events,
                        filter: subscription.filter.clone(),
                    },
                    trigger: handler.trigger,
                })
            })
            .collect()
    }

    /// The agent a handler names: one defined beside the app, or the app's own program when the handler names the app.
    pub fn agent(&self, id: &AgentId) -> Option<AgentSpec> {
        if let Some(agent) = self.agents.iter().find(|agent| agent.id == *id) {
            return Some(agent.clone());
        }
        let command = self
            .command
            .clone()
            .filter(|_| id.as_str() == self.name.as_str())?;
        Some(AgentSpec {
            id: id.clone(),
            kind: AgentKind::Process(command),
            timeout: DEFAULT_AGENT_TIMEOUT,
        })
    }
}
