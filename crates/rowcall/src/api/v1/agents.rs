//! Agents of apps, one by one: without sending the app's whole manifest again.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use rowcall_core::AgentId;
use serde_json::{Map, Value};

use super::{Done, Problem, app_id};
use crate::{
    agents::{with_agent, without_agent},
    api::{
        body::Fields,
        error::ApiError,
        rules::{Operator, Routes},
        state::Api,
    },
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .put("/rowcall/v1/apps/{name}/agents/{id}", put)
        .delete("/rowcall/v1/apps/{name}/agents/{id}", remove)
}

impl Api {
    async fn change_manifest(&self, name: &str, text: String) -> Result<(), ApiError> {
        let (id, now) = (app_id(name)?, self.now());
        self.store(move |store| store.put_app(&id, &text, now))
            .await?;
        self.reload_apps().await
    }
}

/// Adds an agent to an app, or replaces the one of this id.
#[utoipa::path(put, path = "/rowcall/v1/apps/{name}/agents/{id}", tag = "apps", operation_id = "put_agent",
    params(("name" = String, Path, description = "The app"), ("id" = String, Path, description = "The agent's id")),
    request_body(content = Object, description = "The agent as a manifest describes it, without its id"), security(("token" = [])),
    responses((status = 200, body = Done), (status = 201, body = Done), (status = 404, body = Problem)))]
pub(super) async fn put(
    _: Operator,
    State(api): State<Api>,
    Path((name, id)): Path<(String, String)>,
    body: Fields,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let row = api.app_row(&name).await?;
    let agent = AgentId::new(&id).map_err(|error| ApiError::invalid(error.to_string()))?;
    let described: Map<String, Value> = match body.raw().trim_ascii() {
        [] => Map::new(),
        raw => serde_json::from_slice(raw).map_err(|error| ApiError::invalid(error.to_string()))?,
    };
    let (text, replaced) = with_agent(&row.manifest, &app_id(&name)?, &agent, described)
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    api.change_manifest(&name, text).await?;
    Ok(if replaced {
        (StatusCode::OK, Done::json(format!("replaced {agent}")))
    } else {
        (StatusCode::CREATED, Done::json(format!("added {agent}")))
    })
}

/// Removes an agent from its app; its tasks stay.
#[utoipa::path(delete, path = "/rowcall/v1/apps/{name}/agents/{id}", tag = "apps", operation_id = "remove_agent",
    params(("name" = String, Path, description = "The app"), ("id" = String, Path, description = "The agent's id")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = Problem), (status = 409, description = "The app needs it", body = Problem)))]
pub(super) async fn remove(
    _: Operator,
    State(api): State<Api>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    let row = api.app_row(&name).await?;
    let agent = AgentId::new(&id).map_err(|_| ApiError::not_found("Agent"))?;
    let text = without_agent(&row.manifest, &app_id(&name)?, &agent)
        .map_err(|error| ApiError::conflict(error.to_string()))?
        .ok_or_else(|| ApiError::not_found("Agent"))?;
    api.change_manifest(&name, text).await?;
    Ok(Done::json(format!("removed {agent}")))
}
