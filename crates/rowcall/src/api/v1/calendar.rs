//! The calendar: what waits for a person, and what this machine has seen.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use jiff::Timestamp;
use rowcall_engine::store::{CalendarQuery, CalendarRow, CalendarState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{Done, Problem, schema};
use crate::api::{
    body::Fields,
    error::ApiError,
    rules::{Operator, Routes},
    state::Api,
};

/// The most entries of one list.
const MAX_LISTED: u32 = 1_000;

/// The most entries of one bulk request.
const MAX_BULK: usize = 1_000;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/calendar", list)
        .post("/rowcall/v1/calendar/bulk", bulk)
        .get("/rowcall/v1/calendar/{id}", get)
        .post("/rowcall/v1/calendar/{id}/run", run)
        .post("/rowcall/v1/calendar/{id}/skip", skip)
        .post("/rowcall/v1/calendar/{id}/reschedule", reschedule)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CalendarFilter {
    /// Only this state: seen, waiting, running, completed, failed, canceled or skipped.
    state: Option<String>,
    /// Only this app.
    app: Option<String>,
    /// At most this many; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Skip this many.
    offset: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entries {
    #[schema(value_type = Vec<schema::EntryShape>)]
    entries: Vec<CalendarRow>,
}

/// Entries, the newest first.
#[utoipa::path(get, path = "/rowcall/v1/calendar", tag = "calendar", params(CalendarFilter), security(("token" = [])),
    responses((status = 200, body = Entries), (status = 400, body = Problem), (status = 401, body = Problem)))]
pub(super) async fn list(
    _: Operator,
    State(api): State<Api>,
    Query(filter): Query<CalendarFilter>,
) -> Result<Json<Entries>, ApiError> {
    let state = match filter.state.as_deref() {
        None | Some("") => None,
        Some(word) => Some(CalendarState::from_word(word).ok_or_else(|| {
            ApiError::invalid(
                "state must be seen, waiting, running, completed, failed, canceled or skipped",
            )
        })?),
    };
    let query = CalendarQuery {
        state,
        app: filter.app.filter(|app| !app.is_empty()),
        task: None,
        limit: filter.limit.unwrap_or(100).clamp(1, MAX_LISTED),
        offset: filter.offset.unwrap_or(0),
    };
    let entries = api.store(move |store| store.calendar(&query)).await?;
    Ok(Json(Entries { entries }))
}

/// One entry.
#[utoipa::path(get, path = "/rowcall/v1/calendar/{id}", tag = "calendar", params(("id" = i64, Path, description = "The entry's number")),
    security(("token" = [])),
    responses((status = 200, description = "The entry", body = schema::EntryShape), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn get(
    _: Operator,
    State(api): State<Api>,
    Path(id): Path<i64>,
) -> Result<Json<CalendarRow>, ApiError> {
    api.entry(id).await.map(Json)
}

/// Approves an entry: its task runs as soon as there is a place.
#[utoipa::path(post, path = "/rowcall/v1/calendar/{id}/run", tag = "calendar", params(("id" = i64, Path, description = "The entry's number")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 415, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn run(
    operator: Operator,
    State(api): State<Api>,
    Path(id): Path<i64>,
    body: Fields,
) -> Result<Json<Done>, ApiError> {
    let _ = operator;
    let agent = body.text("agent", 256)?;
    let entry = api.entry(id).await?;
    Ok(Done::json(api.approve(&entry, agent).await?))
}

/// Skips an entry: its task is called off, or with `here_only` left to other machines.
#[utoipa::path(post, path = "/rowcall/v1/calendar/{id}/skip", tag = "calendar", params(("id" = i64, Path, description = "The entry's number")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 415, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn skip(
    operator: Operator,
    State(api): State<Api>,
    Path(id): Path<i64>,
    body: Fields,
) -> Result<Json<Done>, ApiError> {
    let here_only = body.flag("here_only")?;
    let entry = api.entry(id).await?;
    api.skip(&entry, &operator.name, here_only).await?;
    Ok(Done::json("skipped"))
}

/// Approves an entry for later: its task runs at `at`.
#[utoipa::path(post, path = "/rowcall/v1/calendar/{id}/reschedule", tag = "calendar",
    params(("id" = i64, Path, description = "The entry's number")), request_body = When, security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 415, body = Problem)))]
pub(super) async fn reschedule(
    _: Operator,
    State(api): State<Api>,
    Path(id): Path<i64>,
    body: Fields,
) -> Result<Json<Done>, ApiError> {
    let at = time(&body)?;
    let entry = api.entry(id).await?;
    api.reschedule(&entry, at).await?;
    Ok(Done::json(format!("runs at {at}")))
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read member by member")]
struct When {
    /// When it shall run, RFC 3339.
    #[schema(format = "date-time")]
    at: String,
}

fn time(body: &Fields) -> Result<Timestamp, ApiError> {
    body.required("at", 64)?
        .parse()
        .map_err(|_| ApiError::invalid("at must be a time such as 2026-11-21T15:00:00Z"))
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read member by member")]
struct Bulk {
    /// `run`, `skip` or `reschedule`.
    action: String,
    /// The entries' numbers.
    ids: Vec<i64>,
    /// For `reschedule`.
    #[schema(format = "date-time")]
    at: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkResult {
    success: bool,
    /// What became of each entry, in the order asked.
    results: Vec<BulkItem>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BulkItem {
    id: i64,
    done: bool,
    /// What was done, or why not.
    message: String,
}

/// The same for many entries at once.
#[utoipa::path(post, path = "/rowcall/v1/calendar/bulk", tag = "calendar", request_body = Bulk, security(("token" = [])),
    responses((status = 200, body = BulkResult), (status = 400, body = Problem), (status = 401, body = Problem), (status = 415, body = Problem)))]
pub(super) async fn bulk(
    operator: Operator,
    State(api): State<Api>,
    body: Fields,
) -> Result<Json<BulkResult>, ApiError> {
    let ids: Vec<i64> = match body.get("ids") {
        Some(Value::Array(ids)) if ids.len() <= MAX_BULK => ids
            .iter()
            .map(|id| {
                id.as_i64()
                    .ok_or_else(|| ApiError::invalid("ids must be numbers"))
            })
            .collect::<Result<_, _>>()?,
        _ => {
            return Err(ApiError::invalid(format!(
                "ids must be a list of at most {MAX_BULK} numbers"
            )));
        }
    };
    let action = body.required("action", 32)?;
    let at = match action {
        "reschedule" => Some(time(&body)?),
        "run" | "skip" => None,
        _ => return Err(ApiError::invalid("action must be run, skip or reschedule")),
    };
    let mut results = Vec::with_capacity(ids.len());
    for id in ids {
        let done = async {
            let entry = api.entry(id).await?;
            match (action, at) {
                (_, Some(at)) => {
                    api.reschedule(&entry, at).await?;
                    Ok(format!("runs at {at}"))
                }
                ("run", None) => api.approve(&entry, None).await,
                _ => {
                    api.skip(&entry, &operator.name, false).await?;
                    Ok("skipped".to_owned())
                }
            }
        };
        let result: Result<String, ApiError> = done.await;
        results.push(BulkItem {
            id,
            done: result.is_ok(),
            message: result.unwrap_or_else(|error| error.message().to_owned()),
        });
    }
    Ok(Json(BulkResult {
        success: results.iter().all(|item| item.done),
        results,
    }))
}
