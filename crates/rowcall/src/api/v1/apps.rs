//! The apps: manifests, switches, and what is wrong with them.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use rowcall_core::App as Manifest;
use rowcall_engine::store::{AppRow, Store};
use rowcall_supervisor::AppProcess;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Done, Problem, app_id, schema};
use crate::api::{
    body::Fields,
    error::ApiError,
    rules::{Operator, Routes},
    sdk::catalog::listed_agents,
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/apps", list)
        .get("/rowcall/v1/apps/{name}", get)
        .put("/rowcall/v1/apps/{name}", put)
        .delete("/rowcall/v1/apps/{name}", remove)
        .post("/rowcall/v1/apps/{name}/enable", enable)
        .post("/rowcall/v1/apps/{name}/disable", disable)
        .get("/rowcall/v1/agents", agents)
}

/// One app.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppView {
    /// Its name.
    name: String,
    /// What its `x-app-id` says.
    uuid: Option<Uuid>,
    /// The name that people read.
    display_name: Option<String>,
    /// For people.
    description: Option<String>,
    /// Whether it is switched on.
    enabled: bool,
    /// When it was added.
    added_at: Timestamp,
    /// When it was changed last.
    updated_at: Timestamp,
    /// What keeps it from working as configured.
    problems: Vec<String>,
    /// Whether it has a program of its own.
    has_program: bool,
    /// How that program is now.
    #[schema(value_type = schema::ProgramShape)]
    process: AppProcess,
    /// Where its pages are, once they are served.
    url: Option<String>,
    /// The manifest as it was given. Secrets in it are shown: it is the operator's own file.
    #[schema(value_type = Object)]
    manifest: Value,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Apps {
    apps: Vec<AppView>,
}

impl Api {
    fn app_view(&self, row: &AppRow) -> Result<AppView, ApiError> {
        let id = app_id(&row.name)?;
        let parsed = row.parse();
        let process = self.apps().status(&id);
        let (problems, app) = match parsed {
            Ok(app) => (crate::cli::app::problems(&app), Some(app)),
            Err(error) => (vec![error.to_string()], None),
        };
        let url = app.as_ref().and_then(|app| {
            app.home_url.clone().or_else(|| {
                let port = process.port.filter(|_| process.ready)?;
                Some(format!("http://localhost:{port}"))
            })
        });
        Ok(AppView {
            uuid: self.directory().uuid_of(&id)?,
            name: row.name.clone(),
            display_name: app.as_ref().and_then(|app| app.display_name.clone()),
            description: app.as_ref().and_then(|app| app.description.clone()),
            enabled: row.enabled,
            added_at: row.added_at,
            updated_at: row.updated_at,
            problems,
            has_program: app.is_some_and(|app| app.command.is_some()),
            process,
            url,
            manifest: serde_json::from_str(&row.manifest).unwrap_or_default(),
        })
    }

    /// The stored app.
    pub(super) async fn app_row(&self, name: &str) -> Result<AppRow, ApiError> {
        let id = app_id(name)?;
        self.store(move |store| store.app(&id))
            .await?
            .ok_or_else(|| ApiError::not_found("App"))
    }

    /// Gives the engine the apps as they are stored now.
    pub(super) async fn reload_apps(&self) -> Result<(), ApiError> {
        let apps = self.store(crate::daemon::load_apps).await?;
        self.engine().set_apps(&apps);
        Ok(())
    }
}

/// All apps.
#[utoipa::path(get, path = "/rowcall/v1/apps", tag = "apps", security(("token" = [])),
    responses((status = 200, body = Apps), (status = 401, body = Problem)))]
pub(super) async fn list(_: Operator, State(api): State<Api>) -> Result<Json<Apps>, ApiError> {
    let rows = api.store(Store::apps).await?;
    let apps = rows
        .iter()
        .map(|row| api.app_view(row))
        .collect::<Result<_, _>>()?;
    Ok(Json(Apps { apps }))
}

/// One app.
#[utoipa::path(get, path = "/rowcall/v1/apps/{name}", tag = "apps", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = AppView), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn get(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<AppView>, ApiError> {
    let row = api.app_row(&name).await?;
    api.app_view(&row).map(Json)
}

/// Adds an app or replaces its manifest; the name in the path counts.
#[utoipa::path(put, path = "/rowcall/v1/apps/{name}", tag = "apps", params(("name" = String, Path, description = "Its name")),
    request_body(content = Object, description = "The manifest"), security(("token" = [])),
    responses((status = 200, body = AppView), (status = 201, description = "Added", body = AppView), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 404, body = Problem), (status = 415, body = Problem)))]
pub(super) async fn put(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Fields,
) -> Result<(StatusCode, Json<AppView>), ApiError> {
    let id = app_id(&name)?;
    let text = std::str::from_utf8(body.raw())
        .map_err(|_| ApiError::invalid("The manifest is not valid UTF-8"))?
        .to_owned();
    Manifest::parse(&text, Some(id.as_str()))
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let now = api.now();
    let (added, row) = {
        let id = id.clone();
        api.store(move |store| {
            let added = store.app(&id)?.is_none();
            store.put_app(&id, &text, now)?;
            Ok((added, store.app(&id)?))
        })
        .await?
    };
    api.reload_apps().await?;
    let row = row.ok_or_else(|| ApiError::not_found("App"))?;
    let status = if added {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(api.app_view(&row)?)))
}

/// Removes an app, its permissions and its uuid; its program is stopped, its tasks stay.
#[utoipa::path(delete, path = "/rowcall/v1/apps/{name}", tag = "apps", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn remove(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let id = app_id(&name)?;
    let removed = {
        let id = id.clone();
        api.store(move |store| store.remove_app(&id)).await?
    };
    if !removed {
        return Err(ApiError::not_found("App"));
    }
    api.apps().stop(&id).await;
    api.reload_apps().await?;
    Ok(Done::json(format!("removed {id}")))
}

async fn switch(api: &Api, name: &str, on: bool) -> Result<Json<Done>, ApiError> {
    let id = app_id(name)?;
    let now = api.now();
    let changed = {
        let id = id.clone();
        api.store(move |store| store.enable_app(&id, on, now))
            .await?
    };
    if !changed {
        return Err(ApiError::not_found("App"));
    }
    if !on {
        api.apps().stop(&id).await;
    }
    api.reload_apps().await?;
    Ok(Done::json(format!(
        "{id} is {}",
        if on { "on" } else { "off" }
    )))
}

/// Switches an app on.
#[utoipa::path(post, path = "/rowcall/v1/apps/{name}/enable", tag = "apps", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn enable(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    switch(&api, &name, true).await
}

/// Switches an app off and stops its program.
#[utoipa::path(post, path = "/rowcall/v1/apps/{name}/disable", tag = "apps", params(("name" = String, Path, description = "Its name")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn disable(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    switch(&api, &name, false).await
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentList {
    #[schema(value_type = Vec<schema::AgentShape>)]
    agents: Vec<Value>,
}

/// The agents of all apps, under the names by which clients start them.
#[utoipa::path(get, path = "/rowcall/v1/agents", tag = "apps", security(("token" = [])),
    responses((status = 200, body = AgentList), (status = 401, body = Problem)))]
pub(super) async fn agents(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<AgentList>, ApiError> {
    let listed = api.store(listed_agents).await?;
    let agents = listed
        .iter()
        .map(|agent| {
            let mut value = agent.json();
            value["app"] = Value::from(agent.app.as_str());
            value
        })
        .collect();
    Ok(Json(AgentList { agents }))
}
