//! What an app may choose from: agents, workspaces and threads.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Path, State},
};
use rowcall_core::{AgentId, App, AppId, TableName};
use rowcall_engine::store::{Store, StoreError, ThreadRow, WorkspaceRow};
use serde_json::{Value, json};

use crate::api::{
    error::ApiError,
    rules::{Agents, Allowed, Routes, Threads, Workspaces},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/agents", agents)
        .get("/workspaces", workspaces)
        .get("/workspaces/{slug}/threads", threads)
        // The paths of the oldest SDK.
        .get("/api/agents", agents)
        .get("/api/workspaces", workspaces)
        .get("/api/workspaces/{slug}/threads", threads)
}

/// An agent that clients may start by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct ListedAgent {
    /// What requests call it: its id, or `app/id` where several apps have one of this id.
    pub(in crate::api) slug: String,
    /// The app it belongs to.
    pub(in crate::api) app: AppId,
    /// The app's name for people.
    pub(in crate::api) app_name: Option<String>,
    /// Its id.
    pub(in crate::api) agent: AgentId,
    /// For people.
    pub(in crate::api) description: Option<String>,
    /// What stands in `source_table` of its tasks.
    pub(in crate::api) table: TableName,
}

impl ListedAgent {
    pub(in crate::api) fn json(&self) -> Value {
        json!({
            "slug": self.slug,
            "name": self.slug,
            "display_name": self.agent.as_str(),
            "description": self.description.clone().or_else(|| {
                self.app_name.as_ref().map(|name| format!("Agent of {name}"))
            }),
            "hub_id": null,
        })
    }
}

/// The agents of all apps that are switched on.
pub(in crate::api) fn listed_agents(store: &Store) -> Result<Vec<ListedAgent>, StoreError> {
    let mut listed: Vec<ListedAgent> = Vec::new();
    for row in store.apps()? {
        if !row.enabled {
            continue;
        }
        // What is wrong with a manifest is said where apps are loaded.
        let Ok(app) = row.parse() else { continue };
        for agent in agents_of(&app) {
            let Some(table) = app.named_table(&agent) else {
                continue;
            };
            let description = app
                .handlers
                .iter()
                .filter(|handler| handler.agent == agent)
                .find_map(|handler| handler.description.clone());
            listed.push(ListedAgent {
                slug: agent.to_string(),
                app: app.name.clone(),
                app_name: app.display_name.clone(),
                description: description.or_else(|| app.description.clone()),
                agent,
                table,
            });
        }
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for agent in &listed {
        *seen.entry(agent.slug.clone()).or_default() += 1;
    }
    for agent in &mut listed {
        if seen.get(&agent.slug).is_some_and(|count| *count > 1) {
            agent.slug = format!("{}/{}", agent.app, agent.agent);
        }
    }
    Ok(listed)
}

/// An app's agents: those defined beside it, and its own program where a handler names the app.
fn agents_of(app: &App) -> Vec<AgentId> {
    let mut agents: Vec<AgentId> = app.agents.iter().map(|agent| agent.id.clone()).collect();
    for handler in &app.handlers {
        if !agents.contains(&handler.agent) && app.agent(&handler.agent).is_some() {
            agents.push(handler.agent.clone());
        }
    }
    agents
}

/// The agent that a request names, by slug, by `app/id`, or by an id that only one app has.
pub(in crate::api) fn find_agent(listed: Vec<ListedAgent>, name: &str) -> Option<ListedAgent> {
    let mut found: Vec<ListedAgent> = listed
        .into_iter()
        .filter(|agent| agent.slug == name || format!("{}/{}", agent.app, agent.agent) == name)
        .collect();
    if found.len() == 1 { found.pop() } else { None }
}

async fn agents(_: Allowed<Agents>, State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let listed = api.store(listed_agents).await?;
    let agents: Vec<Value> = listed.iter().map(ListedAgent::json).collect();
    Ok(Json(json!({ "success": true, "agents": agents })))
}

pub(in crate::api) fn workspace_json(row: &WorkspaceRow) -> Value {
    json!({
        "id": row.id, "slug": row.slug, "name": row.name, "type": row.kind,
        "created_at": format!("{:.3}", row.created_at),
    })
}

pub(in crate::api) fn thread_json(row: &ThreadRow) -> Value {
    json!({
        "id": row.id, "slug": row.slug, "name": row.name, "created_at": format!("{:.3}", row.created_at),
    })
}

async fn workspaces(
    _: Allowed<Workspaces>,
    State(api): State<Api>,
) -> Result<Json<Value>, ApiError> {
    let rows = api.store(Store::workspaces).await?;
    let workspaces: Vec<Value> = rows.iter().map(workspace_json).collect();
    Ok(Json(json!({ "success": true, "workspaces": workspaces })))
}

async fn threads(
    _: Allowed<Threads>,
    State(api): State<Api>,
    Path(slug): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let (workspace, threads) = api
        .store(move |store| Ok((store.workspace(&slug)?, store.threads(&slug)?)))
        .await?;
    let workspace = workspace.ok_or_else(|| ApiError::not_found("Workspace"))?;
    let threads: Vec<Value> = threads.iter().map(thread_json).collect();
    Ok(Json(json!({
        "success": true,
        "workspace": { "id": workspace.id, "slug": workspace.slug, "name": workspace.name },
        "threads": threads,
    })))
}
