//! Looking at tasks.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use rowcall_core::{
    EventKind, TableName, TaskState,
    ports::{TaskQuery, TaskView},
};
use rowcall_engine::store::{AttemptRow, CalendarRow, LogPage, TriggerRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Problem, schema, task_id};
use crate::api::{
    error::ApiError,
    rules::{Operator, Routes},
    state::Api,
};

/// The most tasks of one list.
const MAX_LISTED: u32 = 1_000;

/// The most lines of one page of output.
const MAX_LINES: u32 = 5_000;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/rowcall/v1/tasks", list)
        .get("/rowcall/v1/tasks/{id}", get)
        .get("/rowcall/v1/tasks/{id}/logs", logs)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TaskFilter {
    /// Only these states, separated by commas.
    #[param(example = "pending,failed")]
    state: Option<String>,
    /// Only tasks made by changes of this table.
    table: Option<String>,
    /// Only tasks made by this event: INSERT, UPDATE or DELETE.
    event: Option<String>,
    /// Only tasks that failed too often and need a person.
    attention: Option<bool>,
    /// At most this many; 50 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Skip this many.
    offset: Option<u32>,
}

impl TaskFilter {
    fn query(&self) -> Result<TaskQuery, ApiError> {
        let wrong = |error: String| ApiError::invalid(error);
        let limit = self.limit.unwrap_or(50);
        if limit == 0 || limit > MAX_LISTED {
            return Err(ApiError::invalid(format!(
                "limit must be 1 to {MAX_LISTED}"
            )));
        }
        Ok(TaskQuery {
            states: self
                .state
                .as_deref()
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| {
                    word.parse::<TaskState>()
                        .map_err(|error| wrong(error.to_string()))
                })
                .collect::<Result<_, _>>()?,
            source: self
                .table
                .as_deref()
                .filter(|text| !text.is_empty())
                .map(|text| {
                    text.parse::<TableName>()
                        .map_err(|error| wrong(error.to_string()))
                })
                .transpose()?,
            event: self
                .event
                .as_deref()
                .filter(|text| !text.is_empty())
                .map(|text| {
                    text.parse::<EventKind>()
                        .map_err(|error| wrong(error.to_string()))
                })
                .transpose()?,
            needs_attention: self.attention.unwrap_or(false),
            limit,
            offset: self.offset.unwrap_or(0),
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tasks {
    #[schema(value_type = Vec<schema::TaskShape>)]
    tasks: Vec<TaskView>,
}

/// Tasks, the newest first.
#[utoipa::path(get, path = "/rowcall/v1/tasks", tag = "tasks", params(TaskFilter), security(("token" = [])),
    responses((status = 200, body = Tasks), (status = 400, body = Problem), (status = 401, body = Problem)))]
pub(super) async fn list(
    _: Operator,
    State(api): State<Api>,
    Query(filter): Query<TaskFilter>,
) -> Result<Json<Tasks>, ApiError> {
    let query = filter.query()?;
    check_names(query.source.as_ref())?;
    let tasks = api.backend().list(&query, &api.rules().retry).await?;
    Ok(Json(Tasks { tasks }))
}

/// A text that no column can hold finds nothing; the database would refuse it.
fn check_names(table: Option<&TableName>) -> Result<(), ApiError> {
    match table {
        Some(table) if table.to_string().contains('\0') => {
            Err(ApiError::invalid("table holds NUL"))
        }
        _ => Ok(()),
    }
}

/// A task with everything this machine knows about it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskDetail {
    #[schema(value_type = schema::TaskShape)]
    task: TaskView,
    /// The attempts on this machine.
    #[schema(value_type = Vec<schema::AttemptShape>)]
    attempts: Vec<AttemptRow>,
    /// Who started it by name, where a client did.
    #[schema(value_type = Option<schema::TriggerShape>)]
    trigger: Option<TriggerRow>,
    /// Its calendar entry.
    #[schema(value_type = Option<schema::EntryShape>)]
    calendar: Option<CalendarRow>,
}

/// One task.
#[utoipa::path(get, path = "/rowcall/v1/tasks/{id}", tag = "tasks", params(("id" = String, Path, description = "The task's id")),
    security(("token" = [])),
    responses((status = 200, body = TaskDetail), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn get(
    _: Operator,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<TaskDetail>, ApiError> {
    let id = task_id(&id)?;
    let reference = api.task_ref(&id).await?;
    let task = api
        .backend()
        .inspect(&reference)
        .await?
        .ok_or_else(|| ApiError::not_found("Task"))?;
    let (attempts, trigger, calendar) = api
        .store(move |store| {
            Ok((
                store.attempts(&id, None)?,
                store.trigger(&id)?,
                store.calendar_of(&reference)?,
            ))
        })
        .await?;
    Ok(Json(TaskDetail {
        task,
        attempts,
        trigger,
        calendar,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsAfter {
    /// Which attempt; the last one when absent.
    attempt: Option<u32>,
    /// Lines after this one; from the beginning when absent.
    after: Option<i64>,
    /// At most this many; 1000 when absent.
    #[param(minimum = 1, maximum = 5000)]
    limit: Option<u32>,
}

/// What the agent of a task printed on this machine.
#[utoipa::path(get, path = "/rowcall/v1/tasks/{id}/logs", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), LogsAfter), security(("token" = [])),
    responses((status = 200, description = "A page of lines", body = schema::LogShape), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn logs(
    _: Operator,
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(page): Query<LogsAfter>,
) -> Result<Json<LogPage>, ApiError> {
    let id = task_id(&id)?;
    let limit = page.limit.unwrap_or(1_000).clamp(1, MAX_LINES);
    let after = page.after.unwrap_or(0).max(0);
    let found = api
        .store(move |store| store.logs(&id, None, page.attempt, after, limit))
        .await?;
    found
        .map(Json)
        .ok_or_else(|| ApiError::not_found("Output of this task"))
}
