//! Task events: an app or an agent says how a task goes.

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use rowcall_core::{AppId, Payload, TaskId};
use rowcall_engine::{Report, ReportReply};
use serde_json::{Map, Value, json};

use super::{Envelope, Event, MAX_NAME, signature};
use crate::api::{
    error::ApiError,
    identity::{Caller, digest},
    report::{self, Reporter},
    serve::Ends,
    state::Api,
};

pub(super) async fn report(
    api: &Api,
    caller: Option<&Caller>,
    ends: Option<Ends>,
    headers: &HeaderMap,
    envelope: Envelope,
) -> Result<Response, ApiError> {
    let not_found = || ApiError::not_found("Task");
    let task = match envelope.payload.text("task_uuid", MAX_NAME)? {
        Some(task) => Some(task),
        None => envelope.payload.text("task_id", MAX_NAME)?,
    };
    let task = task.ok_or_else(|| ApiError::invalid("payload.task_uuid is required"))?;
    let task: TaskId = task.parse().map_err(|_| not_found())?;
    let app = app_of(api, caller, &task).await?;
    signature::check(api, app, headers, &envelope).await?;
    let reporter = Reporter {
        headers,
        ends,
        caller,
    };
    let attempt = api.authorise(&task, &reporter).await?;
    let key = envelope.event_id.as_deref().map(|id| {
        format!(
            "{task}:{}:event:{}",
            envelope.event.name(),
            hex::encode(digest(id))
        )
    });
    if let Some(key) = key.clone()
        && let Some(first) = api.store(move |store| store.receipt(&key)).await?
    {
        let mut body: Value = serde_json::from_str(&first).map_err(ApiError::internal)?;
        body["deduplicated"] = Value::Bool(true);
        return Ok(Json(body).into_response());
    }
    let reply = api
        .deliver(&task, attempt, read(&envelope)?, caller.is_some())
        .await?;
    let body = match &reply {
        ReportReply::Accepted { state } => body(&task, &envelope, state.as_str(), false),
        ReportReply::Repeated { state } | ReportReply::AlreadyFinal { state } => {
            body(&task, &envelope, state.as_str(), true)
        }
        _ => return Ok(report::answer(reply)),
    };
    if let Some(key) = key {
        let (text, now) = (body.to_string(), api.now());
        api.store(move |store| store.add_receipt(&key, &text, now))
            .await?;
    }
    Ok(Json(body).into_response())
}

/// Whose secret signs events of a task: the caller's, otherwise that of the app that handles it.
async fn app_of(
    api: &Api,
    caller: Option<&Caller>,
    task: &TaskId,
) -> Result<Option<AppId>, ApiError> {
    if let Some(caller) = caller {
        return Ok(caller.app().cloned());
    }
    let task = api.task_ref(task).await?;
    let entry = api.store(move |store| store.calendar_of(&task)).await?;
    Ok(entry.and_then(|entry| AppId::new(&entry.app).ok()))
}

fn body(task: &TaskId, envelope: &Envelope, status: &str, duplicate: bool) -> Value {
    let mut body = json!({
        "success": true,
        "task_uuid": task,
        "status": status,
        "event_id": envelope.event_id,
        "attempt_id": envelope.attempt_id,
        "event_type": envelope.event.name(),
    });
    if duplicate {
        body["duplicate"] = Value::Bool(true);
    }
    body
}

fn read(envelope: &Envelope) -> Result<Report, ApiError> {
    let payload = &envelope.payload;
    Ok(match envelope.event {
        Event::Claimed => Report::Claimed,
        Event::Started => Report::Started,
        Event::Progress => {
            let data: Map<String, Value> = payload
                .members()
                .iter()
                .filter(|(key, _)| {
                    !matches!(
                        key.as_str(),
                        "task_uuid" | "task_id" | "machine_id" | "timestamp" | "attempt_id"
                    )
                })
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            Report::Progress(report::payload(&Value::Object(data))?)
        }
        Event::Completed => Report::Completed(match payload.get("result") {
            Some(result) => report::payload(result)?,
            None => Payload::empty_object(),
        }),
        Event::Failed => Report::Failed(report::error_text(&Value::Object(
            payload.members().clone(),
        ))),
        Event::Canceled => Report::Canceled(
            payload
                .get("error")
                .map(|error| report::error_text(&json!({ "error": error }))),
        ),
        Event::Trigger | Event::Ping => {
            return Err(ApiError::internal("this event is no task event"));
        }
    })
}
