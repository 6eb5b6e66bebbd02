//! `GET /task/{uuid}`: a task and its runs, as the SDK's `api.getTask` reads them.

use axum::{
    Json,
    extract::{Path, State},
};
use jiff::Timestamp;
use rowcall_core::{TaskId, ports::TaskView};
use rowcall_engine::store::{AttemptRow, Outcome, TriggerRow};
use serde_json::{Value, json};

use crate::api::{
    error::ApiError,
    rules::{Allowed, Routes, TaskStatus},
    state::Api,
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/task/{uuid}", task)
        .get("/api/task/{uuid}", task)
}

async fn task(
    _: Allowed<TaskStatus>,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let not_found = || ApiError::not_found("Task");
    let id: TaskId = id.parse().map_err(|_| not_found())?;
    let reference = api.task_ref(&id).await?;
    let view = api
        .backend()
        .inspect(&reference)
        .await?
        .ok_or_else(not_found)?;
    let (trigger, attempts, entry) = api
        .store(move |store| {
            Ok((
                store.trigger(&id)?,
                store.attempts(&id, None)?,
                store.calendar_of(&reference)?,
            ))
        })
        .await?;
    let app = entry.map(|entry| entry.app);
    let source_app = match (&trigger, app) {
        (Some(trigger), _) => Some(trigger.source_app.clone()),
        (None, Some(app)) => match rowcall_core::AppId::new(&app) {
            Ok(id) => api.directory().uuid_of(&id)?.map(|uuid| uuid.to_string()),
            Err(_) => Some(app),
        },
        (None, None) => None,
    };
    Ok(Json(json!({
        "success": true,
        "task": describe(&view, trigger.as_ref(), source_app),
        "runs": attempts.iter().map(|attempt| run(attempt, trigger.as_ref())).collect::<Vec<_>>(),
    })))
}

fn describe(view: &TaskView, trigger: Option<&TriggerRow>, source_app: Option<String>) -> Value {
    let task = &view.task;
    let updated = [view.completed_at, view.locked_at]
        .into_iter()
        .flatten()
        .max()
        .map_or(task.created_at, |at| at.max(task.created_at));
    json!({
        "uuid": task.task.id,
        "title": trigger.map_or_else(
            || format!("{}: {} uuid:{}", task.source, task.event, task.task.id),
            |trigger| trigger.title.clone(),
        ),
        "status": view.status,
        "action_type": trigger.map_or(task.event.as_str(), |_| "SDK_TRIGGER"),
        "source_app": source_app,
        "error": view.error_message,
        "created_at": time(task.created_at),
        "updated_at": time(updated),
    })
}

fn run(attempt: &AttemptRow, trigger: Option<&TriggerRow>) -> Value {
    let status = match attempt.outcome {
        None => "running",
        Some(Outcome::Completed) => "completed",
        Some(Outcome::Released) => "pending",
        Some(Outcome::Failed | Outcome::Canceled | Outcome::Lost | Outcome::Interrupted) => {
            "failed"
        }
    };
    json!({
        "id": attempt.id,
        "attempt_id": format!("run-{}", attempt.attempt),
        "agent_name": attempt.agent,
        "workspace_slug": trigger.and_then(|trigger| trigger.workspace_slug.clone()),
        "thread_slug": trigger.and_then(|trigger| trigger.thread_slug.clone()),
        "status": status,
        "started_at": time(attempt.started_at),
        "completed_at": attempt.ended_at.map(time),
        "error": attempt.error,
    })
}

fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}
