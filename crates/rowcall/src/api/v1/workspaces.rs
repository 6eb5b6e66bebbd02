//! Workspaces and threads: names under which clients start agents.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use rowcall_engine::store::{Added, Store};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Done, Problem, schema};
use crate::api::{
    body::Fields,
    error::ApiError,
    rules::{Operator, Routes},
    sdk::catalog::{thread_json, workspace_json},
    state::Api,
};

/// The longest slug and name, in bytes.
const MAX_NAME: usize = 200;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/workspaces", list)
        .post("/rowcall/v1/workspaces", add)
        .delete("/rowcall/v1/workspaces/{slug}", remove)
        .get("/rowcall/v1/workspaces/{slug}/threads", threads)
        .post("/rowcall/v1/workspaces/{slug}/threads", add_thread)
        .delete(
            "/rowcall/v1/workspaces/{slug}/threads/{thread}",
            remove_thread,
        )
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Workspaces {
    #[schema(value_type = Vec<schema::WorkspaceShape>)]
    workspaces: Vec<Value>,
}

/// All workspaces.
#[utoipa::path(get, path = "/rowcall/v1/workspaces", tag = "workspaces", security(("token" = [])),
    responses((status = 200, body = Workspaces), (status = 401, body = Problem)))]
pub(super) async fn list(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<Workspaces>, ApiError> {
    let rows = api.store(Store::workspaces).await?;
    Ok(Json(Workspaces {
        workspaces: rows.iter().map(workspace_json).collect(),
    }))
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read member by member")]
struct NewName {
    /// What people call it.
    name: String,
    /// What requests call it; made from the name when absent.
    slug: Option<String>,
}

fn names(body: &Fields) -> Result<(String, String), ApiError> {
    let name = body.required("name", MAX_NAME)?.to_owned();
    let slug = match body.text("slug", MAX_NAME)? {
        Some(slug) => slug.to_owned(),
        None => slug_of(&name),
    };
    if slug.is_empty() {
        return Err(ApiError::invalid(
            "this name makes no slug: give one in \"slug\"",
        ));
    }
    Ok((slug, name))
}

/// `My Ops!` is `my-ops`.
pub(crate) fn slug_of(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

fn added(what: &str, slug: &str, added: Added) -> Result<(StatusCode, Json<Done>), ApiError> {
    match added {
        Added::Done => Ok((StatusCode::CREATED, Done::json(format!("added {slug}")))),
        Added::Taken => Err(ApiError::conflict(format!(
            "There is a {what} {slug} already"
        ))),
        Added::Full => Err(ApiError::conflict(format!(
            "There are as many {what}s as there may be"
        ))),
        Added::NoWorkspace => Err(ApiError::not_found("Workspace")),
    }
}

/// Adds a workspace, with a thread `general`.
#[utoipa::path(post, path = "/rowcall/v1/workspaces", tag = "workspaces", request_body = NewName, security(("token" = [])),
    responses((status = 201, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 409, body = Problem),
        (status = 415, body = Problem)))]
pub(super) async fn add(
    _: Operator,
    State(api): State<Api>,
    body: Fields,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let (slug, name) = names(&body)?;
    let now = api.now();
    let done = {
        let slug = slug.clone();
        api.store(move |store| store.add_workspace(&slug, &name, now))
            .await?
    };
    added("workspace", &slug, done)
}

/// Removes a workspace and its threads.
#[utoipa::path(delete, path = "/rowcall/v1/workspaces/{slug}", tag = "workspaces", params(("slug" = String, Path, description = "Its slug")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn remove(
    _: Operator,
    State(api): State<Api>,
    Path(slug): Path<String>,
) -> Result<Json<Done>, ApiError> {
    if api
        .store(move |store| store.remove_workspace(&slug))
        .await?
    {
        Ok(Done::json("removed"))
    } else {
        Err(ApiError::not_found("Workspace"))
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Threads {
    #[schema(value_type = Vec<schema::ThreadShape>)]
    threads: Vec<Value>,
}

/// The threads of a workspace.
#[utoipa::path(get, path = "/rowcall/v1/workspaces/{slug}/threads", tag = "workspaces", params(("slug" = String, Path, description = "Its slug")),
    security(("token" = [])),
    responses((status = 200, body = Threads), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn threads(
    _: Operator,
    State(api): State<Api>,
    Path(slug): Path<String>,
) -> Result<Json<Threads>, ApiError> {
    let (workspace, threads) = api
        .store(move |store| Ok((store.workspace(&slug)?, store.threads(&slug)?)))
        .await?;
    if workspace.is_none() {
        return Err(ApiError::not_found("Workspace"));
    }
    Ok(Json(Threads {
        threads: threads.iter().map(thread_json).collect(),
    }))
}

/// Adds a thread.
#[utoipa::path(post, path = "/rowcall/v1/workspaces/{slug}/threads", tag = "workspaces", params(("slug" = String, Path, description = "Its slug")),
    request_body = NewName, security(("token" = [])),
    responses((status = 201, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 415, body = Problem)))]
pub(super) async fn add_thread(
    _: Operator,
    State(api): State<Api>,
    Path(workspace): Path<String>,
    body: Fields,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let (slug, name) = names(&body)?;
    let now = api.now();
    let done = {
        let slug = slug.clone();
        api.store(move |store| store.add_thread(&workspace, &slug, &name, now))
            .await?
    };
    added("thread", &slug, done)
}

/// Removes a thread.
#[utoipa::path(delete, path = "/rowcall/v1/workspaces/{slug}/threads/{thread}", tag = "workspaces",
    params(("slug" = String, Path, description = "The workspace's slug"), ("thread" = String, Path, description = "The thread's slug")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn remove_thread(
    _: Operator,
    State(api): State<Api>,
    Path((workspace, thread)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    if api
        .store(move |store| store.remove_thread(&workspace, &thread))
        .await?
    {
        Ok(Done::json("removed"))
    } else {
        Err(ApiError::not_found("Thread"))
    }
}

#[cfg(test)]
mod tests {
    use super::slug_of;

    #[test]
    fn slugs_are_made_from_names() {
        for (name, slug) in [("My Ops!", "my-ops"), ("  Ä b ", "ä-b"), ("!!", "")] {
            assert_eq!(slug_of(name), slug);
        }
    }
}
