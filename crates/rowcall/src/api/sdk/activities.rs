//! `/activities`: rows of `rtx_activities`.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use uuid::Uuid;

use crate::api::{
    body::{Fields, check_text},
    error::ApiError,
    identity::Caller,
    rules::{ActivitiesRead, ActivitiesWrite, Allowed, Routes},
    state::Api,
    tokens::UserClaims,
};

/// How many activities one list shows when nobody says.
const DEFAULT_LIMIT: i64 = 50;

/// How many it shows at most.
const MAX_LIMIT: i64 = 1_000;

/// How far a list may be paged.
const MAX_OFFSET: i64 = 10_000_000;

/// The columns that clients may write.
const COLUMNS: [&str; 10] = [
    "raw_data",
    "old_data",
    "status",
    "locked_by",
    "locked_at",
    "completed_at",
    "error_message",
    "attempted_by",
    "retry_count",
    "result",
];

pub(super) fn routes() -> Routes {
    Routes::default()
        .post("/activities", insert)
        .get("/activities", list)
        .get("/activities/{id}", get)
        .patch("/activities/{id}", update)
        .delete("/activities/{id}", delete)
}

#[derive(Serialize)]
struct Data<T> {
    data: T,
}

fn user(api: &Api, caller: &Caller) -> Result<Option<UserClaims>, ApiError> {
    api.user_tokens().user(&caller.tag(), api.now())
}

/// An id that is no uuid is one that nothing has.
fn id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text).map_err(|_| ApiError::not_found("Activity"))
}

async fn insert(
    allowed: Allowed<ActivitiesWrite>,
    State(api): State<Api>,
    mut body: Fields,
) -> Result<Response, ApiError> {
    let user = user(&api, &allowed.0)?;
    let raw_data = body.take("raw_data").unwrap_or_else(|| json!({}));
    let text = to_raw_value(&raw_data).map_err(ApiError::internal)?;
    let data = api.activities().insert(user.as_ref(), text.get()).await?;
    Ok((StatusCode::CREATED, Json(Data { data })).into_response())
}

#[derive(Deserialize)]
struct Page {
    status: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
}

async fn list(
    allowed: Allowed<ActivitiesRead>,
    State(api): State<Api>,
    Query(page): Query<Page>,
) -> Result<Json<Data<Vec<Box<RawValue>>>>, ApiError> {
    let user = user(&api, &allowed.0)?;
    let number = |name: &str, text: &Option<String>, default: i64, max: i64| match text.as_deref() {
        None | Some("") => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|number| (0..=max).contains(number))
            .ok_or_else(|| {
                ApiError::invalid(format!("{name} must be a whole number from 0 to {max}"))
            }),
    };
    let limit = number("limit", &page.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let offset = number("offset", &page.offset, 0, MAX_OFFSET)?;
    let status = page.status.as_deref().filter(|status| !status.is_empty());
    if let Some(status) = status {
        check_text("status", status, 200)?;
    }
    let data = api
        .activities()
        .list(user.as_ref(), status, limit, offset)
        .await?;
    Ok(Json(Data { data }))
}

async fn get(
    allowed: Allowed<ActivitiesRead>,
    State(api): State<Api>,
    Path(text): Path<String>,
) -> Result<Json<Data<Box<RawValue>>>, ApiError> {
    let user = user(&api, &allowed.0)?;
    let found = api.activities().get(user.as_ref(), id(&text)?).await?;
    let data = found.ok_or_else(|| ApiError::not_found("Activity"))?;
    Ok(Json(Data { data }))
}

async fn update(
    allowed: Allowed<ActivitiesWrite>,
    State(api): State<Api>,
    Path(text): Path<String>,
    body: Fields,
) -> Result<Json<Data<Box<RawValue>>>, ApiError> {
    let user = user(&api, &allowed.0)?;
    let id = id(&text)?;
    let changes: Map<String, Value> = body
        .members()
        .iter()
        .filter(|(name, _)| COLUMNS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if changes.is_empty() {
        let found = api.activities().get(user.as_ref(), id).await?;
        let data = found.ok_or_else(|| ApiError::not_found("Activity"))?;
        return Ok(Json(Data { data }));
    }
    let changes = Value::Object(changes).to_string();
    let data = api.activities().update(user.as_ref(), id, &changes).await?;
    Ok(Json(Data { data }))
}

async fn delete(
    allowed: Allowed<ActivitiesWrite>,
    State(api): State<Api>,
    Path(text): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let user = user(&api, &allowed.0)?;
    api.activities().delete(user.as_ref(), id(&text)?).await?;
    Ok(Json(json!({ "success": true })))
}
