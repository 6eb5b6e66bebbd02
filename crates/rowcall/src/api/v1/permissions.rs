//! What apps may do, what they ask for, and who decided.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use rowcall_core::AppId;
use rowcall_engine::store::{Decision, GrantRow, PermissionLogRow, PermissionUseRow, PromptRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Done, Problem, app_id, schema};
use crate::api::{
    body::{Fields, check_text},
    error::ApiError,
    permissions::MAX_NAME,
    rules::{Operator, PERMISSIONS, Routes},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/permissions", list)
        .get("/rowcall/v1/permissions/log", log)
        .put("/rowcall/v1/permissions/{app}/{permission}", decide)
        .delete("/rowcall/v1/permissions/{app}", reset)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Permissions {
    /// Questions that wait for an answer, the oldest first.
    #[schema(value_type = Vec<schema::QuestionShape>)]
    waiting: Vec<PromptRow>,
    /// What was decided.
    #[schema(value_type = Vec<schema::DecisionShape>)]
    decided: Vec<GrantRow>,
    /// How often permissions were used.
    #[schema(value_type = Vec<schema::UseShape>)]
    used: Vec<PermissionUseRow>,
    /// The names that routes want. Apps may declare others.
    known: Vec<&'static str>,
}

/// Questions, decisions and uses.
#[utoipa::path(get, path = "/rowcall/v1/permissions", tag = "permissions", security(("token" = [])),
    responses((status = 200, body = Permissions), (status = 401, body = Problem)))]
pub(super) async fn list(
    _: Operator,
    State(api): State<Api>,
) -> Result<Json<Permissions>, ApiError> {
    let (waiting, decided, used) = api
        .store(|store| {
            Ok((
                store.prompts()?,
                store.grants(None)?,
                store.permission_uses(None)?,
            ))
        })
        .await?;
    Ok(Json(Permissions {
        waiting,
        decided,
        used,
        known: PERMISSIONS.to_vec(),
    }))
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read member by member")]
struct NewDecision {
    /// `granted`, `denied`, or `ask` to forget what was decided.
    decision: String,
}

/// Grants or denies one permission of an app, or forgets what was decided.
#[utoipa::path(put, path = "/rowcall/v1/permissions/{app}/{permission}", tag = "permissions",
    params(("app" = String, Path, description = "The app's name"), ("permission" = String, Path, description = "The permission")),
    request_body = NewDecision, security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 415, body = Problem)))]
pub(super) async fn decide(
    operator: Operator,
    State(api): State<Api>,
    Path((app, permission)): Path<(String, String)>,
    body: Fields,
) -> Result<Json<Done>, ApiError> {
    let app = app_id(&app)?;
    let permission = check_text("permission", &permission, MAX_NAME)?.to_owned();
    if permission.is_empty() {
        return Err(ApiError::invalid("permission is required"));
    }
    let decision = match body.required("decision", 16)? {
        "granted" => Decision::Granted,
        "denied" => Decision::Denied,
        "ask" => return forget(&api, &app, Some(permission), &operator.name).await,
        _ => return Err(ApiError::invalid("decision must be granted, denied or ask")),
    };
    if api
        .decide(&app, &permission, decision, &operator.name)
        .await?
    {
        Ok(Done::json(format!(
            "{app}: {permission} is {}",
            decision.as_str()
        )))
    } else {
        Err(ApiError::not_found("App"))
    }
}

/// Forgets all decisions of an app: it will be asked about again.
#[utoipa::path(delete, path = "/rowcall/v1/permissions/{app}", tag = "permissions", params(("app" = String, Path, description = "The app's name")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn reset(
    operator: Operator,
    State(api): State<Api>,
    Path(app): Path<String>,
) -> Result<Json<Done>, ApiError> {
    forget(&api, &app_id(&app)?, None, &operator.name).await
}

async fn forget(
    api: &Api,
    app: &AppId,
    permission: Option<String>,
    by: &str,
) -> Result<Json<Done>, ApiError> {
    let (id, by, now) = (app.clone(), by.to_owned(), api.now());
    let known = api
        .store(move |store| {
            if store.app(&id)?.is_none() {
                return Ok(false);
            }
            store.reset_grants(&id, permission.as_deref(), &by, now)?;
            Ok(true)
        })
        .await?;
    api.broker().tell();
    if known {
        Ok(Done::json(format!("{app} will be asked about again")))
    } else {
        Err(ApiError::not_found("App"))
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogFilter {
    /// Only this app.
    app: Option<String>,
    /// At most this many; 100 when absent.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PermissionLog {
    #[schema(value_type = Vec<schema::PermissionEntryShape>)]
    entries: Vec<PermissionLogRow>,
}

/// Who asked and who decided, the newest first.
#[utoipa::path(get, path = "/rowcall/v1/permissions/log", tag = "permissions", params(LogFilter), security(("token" = [])),
    responses((status = 200, body = PermissionLog), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 404, body = Problem)))]
pub(super) async fn log(
    _: Operator,
    State(api): State<Api>,
    Query(filter): Query<LogFilter>,
) -> Result<Json<PermissionLog>, ApiError> {
    let app = match filter.app.as_deref() {
        None | Some("") => None,
        Some(app) => Some(app_id(app)?),
    };
    let limit = filter.limit.unwrap_or(100).clamp(1, 10_000);
    let entries = api
        .store(move |store| store.permission_log(app.as_ref(), limit))
        .await?;
    Ok(Json(PermissionLog { entries }))
}
