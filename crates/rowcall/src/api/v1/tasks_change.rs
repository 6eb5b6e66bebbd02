//! Starting tasks, and what people do with those that are there.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use rowcall_core::{TaskRef, TaskState, ports::AdminOutcome};
use rowcall_engine::{StopReply, store::TriggerRow};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Done, Problem, schema, task_id};
use crate::api::{
    body::Fields,
    error::ApiError,
    rules::{Operator, Routes},
    sdk::webhook::Start,
    state::Api,
};

/// The longest name in a body, in bytes.
const MAX_NAME: usize = 256;

/// The longest prompt or reason, in bytes.
const MAX_PROSE: usize = 64 * 1024;

pub(super) fn routes() -> Routes {
    Routes::default()
        .post("/rowcall/v1/tasks", create)
        .post("/rowcall/v1/tasks/{id}/run", run)
        .post("/rowcall/v1/tasks/{id}/retry", retry)
        .post("/rowcall/v1/tasks/{id}/release", release)
        .post("/rowcall/v1/tasks/{id}/cancel", cancel)
}

/// A task for an agent that is named.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read member by member")]
struct NewTask {
    /// What the agent works on.
    #[schema(value_type = Object)]
    raw_data: Option<Value>,
    /// The agent, by id or `app/id`.
    agent: Option<String>,
    /// Whether it starts at once; otherwise it waits in the calendar.
    auto_run: Option<bool>,
    /// The workspace; `default` when absent.
    workspace: Option<String>,
    /// The thread; `create_new` makes one.
    thread: Option<String>,
    /// What to say to the agent.
    prompt: Option<String>,
    /// Makes a repeat harmless.
    event_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Created {
    success: bool,
    #[schema(value_type = schema::TriggerShape)]
    task: TriggerRow,
}

/// Starts an agent, or leaves a task for a person.
#[utoipa::path(post, path = "/rowcall/v1/tasks", tag = "tasks", request_body = NewTask, security(("token" = [])),
    responses((status = 201, body = Created), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 404, description = "No such agent, workspace or thread", body = Problem), (status = 409, body = Problem),
        (status = 415, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn create(
    operator: Operator,
    State(api): State<Api>,
    mut body: Fields,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let text = |body: &Fields, name| {
        body.text(name, MAX_NAME)
            .map(|text| text.map(str::to_owned))
    };
    let start = Start {
        auto_run: body.flag("auto_run")?,
        agent: text(&body, "agent")?,
        workspace: Some(text(&body, "workspace")?.unwrap_or_else(|| "default".to_owned())),
        thread: text(&body, "thread")?,
        prompt: body.prose("prompt", MAX_PROSE)?.map(str::to_owned),
        app_name: Some(operator.name),
        event_id: text(&body, "event_id")?,
        attempt_id: None,
        raw_data: body.take("raw_data").unwrap_or_else(|| json!({})),
    };
    let task = api.start_task("operator", "operator", start).await?;
    Ok((
        StatusCode::CREATED,
        Json(Created {
            success: true,
            task,
        }),
    ))
}

/// Starts a task that waits for a person, or that would run by itself later.
#[utoipa::path(post, path = "/rowcall/v1/tasks/{id}/run", tag = "tasks", params(("id" = String, Path, description = "The task's id")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It cannot be started now", body = Problem), (status = 503, body = Problem)))]
pub(super) async fn run(
    _: Operator,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let task = api.task_ref(&task_id(&id)?).await?;
    Ok(Done::json(api.run_now(&task, None).await?))
}

/// Makes a failed or canceled task pending again, forgetting who tried it.
#[utoipa::path(post, path = "/rowcall/v1/tasks/{id}/retry", tag = "tasks", params(("id" = String, Path, description = "The task's id")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn retry(
    _: Operator,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let task = api.task_ref(&task_id(&id)?).await?;
    told("pending again", api.backend().retry(&task).await?)
}

/// Takes a task from its holder, whose result will then be refused.
#[utoipa::path(post, path = "/rowcall/v1/tasks/{id}/release", tag = "tasks", params(("id" = String, Path, description = "The task's id")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn release(
    _: Operator,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let task = api.task_ref(&task_id(&id)?).await?;
    if api.engine().release(&task).await? == StopReply::Done {
        return Ok(Done::json("given back: pending again"));
    }
    let outcome = rowcall_core::ports::TaskAdmin::release(api.backend(), &task).await?;
    told("given back: pending again", outcome)
}

/// Calls a task off: nobody claims it any more.
#[utoipa::path(post, path = "/rowcall/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = String, Path, description = "The task's id")),
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 415, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn cancel(
    operator: Operator,
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Fields,
) -> Result<Json<Done>, ApiError> {
    let task = api.task_ref(&task_id(&id)?).await?;
    let default = format!("canceled by {}", operator.name);
    let reason = body.prose("reason", MAX_PROSE)?.unwrap_or(&default);
    told("canceled", api.call_off(&task, reason).await?)
}

impl Api {
    /// Calls a task off, whoever holds it.
    pub(in crate::api) async fn call_off(
        &self,
        task: &TaskRef,
        reason: &str,
    ) -> Result<AdminOutcome, ApiError> {
        // PostgreSQL's text cannot hold NUL.
        let reason = reason.replace('\0', "");
        if self.engine().cancel(task, &reason).await? == StopReply::Done {
            return Ok(AdminOutcome::Done);
        }
        Ok(self.backend().cancel(task, &reason).await?)
    }
}

fn told(done: &str, outcome: AdminOutcome) -> Result<Json<Done>, ApiError> {
    match outcome {
        AdminOutcome::Done => Ok(Done::json(done)),
        AdminOutcome::NotApplicable(state) => Err(nothing_to_do(state)),
        AdminOutcome::NotFound => Err(ApiError::not_found("Task")),
    }
}

pub(super) fn nothing_to_do(state: TaskState) -> ApiError {
    ApiError::conflict(format!("The task is {state}: nothing to do"))
}
