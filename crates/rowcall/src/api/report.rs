//! `POST /api/external-tasks/{uuid}/webhook`: agents report their results here.
//!
//! The published scripts send no credential, `completed` or `failed` (older ones `complete` and `fail`), and the result or
//! the error under `data`. Every alias of the published vocabulary is accepted; `machine_id` is informational, the lease
//! is the daemon's.
//!
//! Who reports is known by the token that agents find in their environment, by a key or an app's id, or, for published
//! scripts that send nothing, because the request comes from a process that runs the task.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{FromRef, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use rowcall_core::{Payload, TaskId, TaskState};
use rowcall_engine::{Report, ReportReply, store::CalendarState};
use serde_json::{Value, json};

use super::{
    error::ApiError,
    identity::Caller,
    peer,
    rules::{InBody, Routes},
    serve::Ends,
    state::Api,
    token::TASK_TOKEN_HEADER,
};
use crate::config::TokenlessReports;

/// An `error_message` longer than this is cut: it is for people.
const MAX_ERROR_CHARS: usize = 4_000;

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The connection.
    pub ends: Option<Ends>,
    /// Who the headers say it is.
    pub caller: Option<&'a Caller>,
}

/// Who takes reports: the daemon, or a double in tests.
#[async_trait]
pub trait Reports: Send + Sync {
    /// Takes a report on a task.
    async fn report(
        &self,
        task: TaskId,
        report: Report,
        headers: &HeaderMap,
        ends: Option<Ends>,
    ) -> Result<ReportReply, ApiError>;
}

#[async_trait]
impl Reports for Api {
    async fn report(
        &self,
        task: TaskId,
        report: Report,
        headers: &HeaderMap,
        ends: Option<Ends>,
    ) -> Result<ReportReply, ApiError> {
        let caller = self.directory().caller(headers, None)?;
        let reporter = Reporter {
            headers,
            ends,
            caller: caller.as_ref(),
        };
        let attempt = self.authorise(&task, &reporter).await?;
        self.deliver(&task, attempt, report, caller.is_some()).await
    }
}

impl FromRef<Api> for Arc<dyn Reports> {
    fn from_ref(api: &Api) -> Self {
        Arc::new(api.clone())
    }
}

pub(super) fn routes() -> Routes {
    Routes::default()
        .post("/api/external-tasks/{uuid}/webhook", report)
        .post("/external-tasks/{uuid}/webhook", report)
}

/// The handler of the route.
pub(super) async fn report(
    _: InBody,
    State(reports): State<Arc<dyn Reports>>,
    Path(id): Path<String>,
    ends: Option<Extension<Ends>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let id: TaskId = id.parse().map_err(|_| ApiError::not_found("Task"))?;
    let report = parse(&body)?;
    let ends = ends.map(|Extension(ends)| ends);
    let reply = reports.report(id, report, &headers, ends).await?;
    Ok(answer(reply))
}

impl Api {
    /// Which attempt somebody may report on: the one of its token, or whichever runs.
    pub(super) async fn authorise(
        &self,
        task: &TaskId,
        reporter: &Reporter<'_>,
    ) -> Result<Option<u32>, ApiError> {
        if let Some(token) = reporter.headers.get(TASK_TOKEN_HEADER) {
            let token = token.to_str().unwrap_or_default();
            return match self.task_tokens().attempt(task, token) {
                Some(attempt) => Ok(Some(attempt)),
                None => Err(ApiError::new(
                    StatusCode::UNAUTHORIZED,
                    "INVALID_TASK_TOKEN",
                    "This token is not one for this task",
                )),
            };
        }
        if reporter.caller.is_some() {
            return Ok(None);
        }
        let refused = || {
            ApiError::new(
                StatusCode::UNAUTHORIZED,
                "TASK_TOKEN_REQUIRED",
                format!(
                    "Reports need a credential here: send ROWCALL_TASK_TOKEN of the agent's environment as {TASK_TOKEN_HEADER}"
                ),
            )
        };
        match self.config().tokenless_reports {
            TokenlessReports::Any => Ok(None),
            TokenlessReports::Off => Err(refused()),
            TokenlessReports::Agent => {
                // What is known not to exist is said to everybody: a random uuid tells nothing. In custom mode the app may know
                // more than can be seen here.
                let unseen = !self.may_be_unseen()
                    && self
                        .backend()
                        .inspect(&self.task_ref(task).await?)
                        .await?
                        .is_none();
                if unseen {
                    return Err(ApiError::not_found("Task"));
                }
                let (supervisor, ends) = (self.supervisor().clone(), reporter.ends);
                let task = task.to_string();
                let runs_it = tokio::task::spawn_blocking(move || {
                    ends.is_none_or(|ends| peer::runs(&supervisor, ends, &task))
                });
                if runs_it.await.map_err(ApiError::internal)? {
                    Ok(None)
                } else {
                    Err(refused())
                }
            }
        }
    }

    /// Hands a report to the engine. A client with an identity may also report on a task that nobody holds: it is claimed
    /// for it first.
    pub(super) async fn deliver(
        &self,
        task: &TaskId,
        attempt: Option<u32>,
        report: Report,
        may_claim: bool,
    ) -> Result<ReportReply, ApiError> {
        let reference = self.task_ref(task).await?;
        let mut reply = self
            .engine()
            .report_on(&reference, attempt, report.clone())
            .await?;
        let waits = matches!(
            reply,
            ReportReply::LeaseLost {
                state: Some(TaskState::Pending | TaskState::Failed),
                ..
            }
        );
        if waits && may_claim && attempt.is_none() {
            if let Some(refused) = self.claim_outside(&reference).await? {
                return Ok(refused);
            }
            reply = self
                .engine()
                .report_on(&reference, None, report.clone())
                .await?;
        }
        if reply == ReportReply::NotFound && self.may_be_unseen() {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "TASK_NOT_HELD",
                "This daemon holds no such task, or not any more since it was started again: its lock is with the app, \
                 which returns it to pending when it is stale",
            ));
        }
        if let Some(key) = self.outside().heard(&reference) {
            if report.is_outcome() {
                self.outside().forget(&reference);
                let state = match report.state() {
                    TaskState::Completed => CalendarState::Completed,
                    TaskState::Canceled => CalendarState::Canceled,
                    _ => CalendarState::Failed,
                };
                let now = self.now();
                self.store(move |store| store.mark_calendar(&reference, state, None, now))
                    .await?;
            } else if report != Report::Claimed {
                self.backend().mark_processing(&[key]).await?;
            }
        }
        Ok(reply)
    }
}

/// Reads the body of a report.
pub(super) fn parse(body: &[u8]) -> Result<Report, ApiError> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("The body is not valid JSON: {error}")))?;
    let Value::Object(mut body) = body else {
        return Err(ApiError::invalid(
            "The body must be a JSON object with \"action\" and \"data\"",
        ));
    };
    // The older form says `status` and `output`.
    let action = match body.get("action").or_else(|| body.get("status")) {
        Some(Value::String(action)) => action.trim().to_ascii_lowercase(),
        _ => {
            return Err(ApiError::invalid(
                "\"action\" is missing: send \"completed\" or \"failed\"",
            ));
        }
    };
    let output = body.remove("output");
    let data = match body.remove("data") {
        None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
        Some(data) => data,
    };
    match action.as_str() {
        "completed" | "complete" | "task-complete" | "task.completed" => {
            result(data, output).map(Report::Completed)
        }
        "failed" | "fail" | "task-fail" | "task.failed" => Ok(Report::Failed(error_text(&data))),
        "canceled" | "cancelled" | "cancel" | "task-cancel" | "task-canceled"
        | "task-cancelled" | "task.canceled" => Ok(Report::Canceled(Some(error_text(&data)))),
        "claimed" | "claim" | "task.claimed" => Ok(Report::Claimed),
        "started" | "start" | "task-start" | "task.started" => Ok(Report::Started),
        "progress" | "processing" | "task-progress" | "task.progress" => {
            payload(&data).map(Report::Progress)
        }
        other => Err(ApiError::invalid(format!(
            "Unsupported action: {:?}. Send \"completed\" or \"failed\"",
            other.chars().take(64).collect::<String>()
        ))),
    }
}

/// `data.result` when there is one, otherwise everything in `data` but an error: scripts put their own keys there.
fn result(data: Value, output: Option<Value>) -> Result<Payload, ApiError> {
    match (data, output) {
        (Value::Object(mut data), output) => match data.remove("result").or(output) {
            Some(result) => payload(&result),
            None => {
                data.remove("error");
                payload(&Value::Object(data))
            }
        },
        (data, _) => payload(&data),
    }
}

pub(super) fn payload(value: &Value) -> Result<Payload, ApiError> {
    Payload::from_value(value)
        .map_err(|error| ApiError::invalid(format!("The result is not usable: {error}")))
}

/// `data.error.message`, or `data.error` when it is a text, or what else there is.
pub(super) fn error_text(data: &Value) -> String {
    let error = data.get("error").unwrap_or(data);
    let text = match error.get("message").unwrap_or(error) {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Object(map) if map.is_empty() => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    if text.is_empty() {
        return "the agent reported a failure without saying why".to_owned();
    }
    // PostgreSQL's text cannot hold NUL.
    text.chars()
        .filter(|c| *c != '\0')
        .take(MAX_ERROR_CHARS)
        .collect()
}

/// The answer to a report.
pub(super) fn answer(reply: ReportReply) -> Response {
    let ok = |state: TaskState, duplicate: bool| {
        let mut body = json!({ "success": true, "status": state });
        if duplicate {
            body["duplicate"] = Value::Bool(true);
        }
        Json(body).into_response()
    };
    match reply {
        ReportReply::Accepted { state } => ok(state, false),
        ReportReply::Repeated { state } | ReportReply::AlreadyFinal { state } => ok(state, true),
        ReportReply::Unconfirmed { state } => {
            let body = json!({
                "success": true,
                "status": state,
                "message": "Taken, but the database cannot be reached: it will be written when it is back",
            });
            (StatusCode::ACCEPTED, Json(body)).into_response()
        }
        ReportReply::NotFound => ApiError::not_found("Task").into_response(),
        ReportReply::HeldElsewhere { by } => ApiError::new(
            StatusCode::CONFLICT,
            "HELD_ELSEWHERE",
            match by {
                Some(by) => {
                    format!("Machine {by} holds this task: the report must go to the daemon there")
                }
                None => "Another machine holds this task: the report must go to the daemon there"
                    .to_owned(),
            },
        )
        .into_response(),
        ReportReply::LeaseLost { state, holder } => {
            let state = state.map_or("in an unknown state".to_owned(), |state| {
                format!("now {state}")
            });
            let holder = holder.map_or(String::new(), |holder| format!(" by {holder}"));
            ApiError::new(
                StatusCode::CONFLICT,
                "LEASE_LOST",
                format!("The lease of this attempt is over, so its result was not written; the task is {state}{holder}"),
            )
            .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Report, String> {
        parse(text.as_bytes()).map_err(|error| format!("{error:?}"))
    }

    fn completed(text: &str) -> Result<Report, String> {
        Ok(Report::Completed(Payload::from_text(text.into()).unwrap()))
    }

    #[test]
    fn the_published_forms_are_read() {
        assert_eq!(
            read(
                r#"{"action":"completed","machine_id":"m","data":{"result":{"category":"billing"},"ticket_id":"7"}}"#
            ),
            completed(r#"{"category":"billing"}"#)
        );
        assert_eq!(
            read(r#"{"action":"complete","data":{"agent_name":"a"}}"#),
            completed(r#"{"agent_name":"a"}"#)
        );
        assert_eq!(
            read(r#"{"status":"completed","output":{"a":1}}"#),
            completed(r#"{"a":1}"#)
        );
        assert_eq!(read(r#"{"action":" Completed "}"#), completed("{}"));
        assert_eq!(
            read(r#"{"action":"failed","data":{"error":{"message":"bad","stack":"s"}}}"#),
            Ok(Report::Failed("bad".into()))
        );
        assert_eq!(
            read(r#"{"action":"fail","data":{"error":"bad"}}"#),
            Ok(Report::Failed("bad".into()))
        );
        assert_eq!(read(r#"{"action":"task.started"}"#), Ok(Report::Started));
    }

    #[test]
    fn a_failure_always_says_something() {
        for text in [
            r#"{"action":"failed"}"#,
            r#"{"action":"failed","data":{"error":null}}"#,
            r#"{"action":"failed","data":{"error":{}}}"#,
        ] {
            assert_eq!(
                read(text),
                Ok(Report::Failed(
                    "the agent reported a failure without saying why".into()
                ))
            );
        }
        let long = format!(
            r#"{{"action":"failed","data":{{"error":"{}"}}}}"#,
            "x".repeat(10_000)
        );
        assert!(matches!(read(&long), Ok(Report::Failed(text)) if text.len() == MAX_ERROR_CHARS));
    }

    #[test]
    fn bad_input_is_a_clear_error() {
        for (text, part) in [
            ("", "not valid JSON"),
            ("[1]", "must be a JSON object"),
            ("{}", "\\\"action\\\" is missing"),
            (r#"{"action":7}"#, "\\\"action\\\" is missing"),
            (r#"{"action":"explode"}"#, "Unsupported action"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
