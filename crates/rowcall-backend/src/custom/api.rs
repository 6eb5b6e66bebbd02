//! The two endpoints of the published protocol.

use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use rowcall_core::{ErrorClass, MachineId, Payload, SourceError, TaskId, TaskRef, ports::Verdict};
use rowcall_realtime::client::install_tls_provider;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::CustomConfig;
use crate::text::storable_text;

/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Tries of one request, while the app cannot be reached.
const TRIES: u32 = 3;
/// The wait before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest text kept of an answer, in characters.
const MAX_ANSWER_CHARS: usize = 200;

/// How a task ended. The agent's result goes on as it wrote it: it may hold numbers and texts that have no value here.
#[derive(Serialize)]
struct Report<'a> {
    task_id: &'a TaskId,
    action: &'static str,
    machine_id: &'a MachineId,
    table_name: String,
    data: Data<'a>,
    timestamp: jiff::Timestamp,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Result { result: &'a Payload },
    Error { error: Told },
}

#[derive(Serialize)]
struct Told {
    message: String,
}

/// What the app says to a request for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LockAnswer {
    /// The lock is the machine's that is named; ours when none is.
    Granted { to: Option<MachineId> },
    /// It is not.
    Refused {
        reason: String,
        holder: Option<MachineId>,
    },
}

/// Why there is no answer to act on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct LockError {
    pub(crate) class: ErrorClass,
    pub(crate) message: String,
    /// Whether the app may have done what it was asked.
    pub(crate) maybe_done: bool,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The app has it.
    Delivered,
    /// The app says that the task is not ours any more.
    Refused,
    /// The app cannot take this result, and said so.
    Unusable(String),
}

/// An app's endpoints.
#[derive(Debug, Clone)]
pub(crate) struct LockApi {
    http: Client,
    lock: Url,
    webhook: Url,
    user_email: String,
}

/// Both endpoints answer with this, as far as anybody knows.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    success: Option<bool>,
    #[serde(default)]
    reason: Option<Value>,
    #[serde(default)]
    locked_by: Option<Value>,
}

impl LockApi {
    pub(crate) fn new(
        config: &CustomConfig,
        user_email: Option<&str>,
    ) -> Result<Self, SourceError> {
        let permanent = |message: String| SourceError::new(ErrorClass::Permanent, message);
        let endpoint = |given: Option<&String>, path: &str| {
            let text = given
                .cloned()
                .unwrap_or_else(|| format!("{}/{path}", config.app_url.trim_end_matches('/')));
            let url = Url::parse(&text).ok();
            url.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
                .ok_or_else(|| {
                    permanent(format!(
                        "{text:?} is no URL of an app; it looks like http://127.0.0.1:8080/{path}"
                    ))
                })
        };
        install_tls_provider();
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(config.timeout)
            .user_agent(concat!("rowcall/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| permanent(format!("cannot set up the HTTP client: {error}")))?;
        Ok(Self {
            lock: endpoint(config.lock_url.as_ref(), "api/task-lock")?,
            webhook: endpoint(config.webhook_url.as_ref(), "api/task-webhook")?,
            http,
            user_email: user_email.unwrap_or_default().to_owned(),
        })
    }

    /// Asks for the lock of a task.
    pub(crate) async fn lock(
        &self,
        task: &TaskRef,
        machine: &MachineId,
        key: &str,
    ) -> Result<LockAnswer, LockError> {
        let body = json!({
            "task_id": task.id,
            "table_name": published_name(task),
            "machine_id": machine,
            "user_email": self.user_email,
        });
        let (status, text) = self.post(&self.lock, &body, key).await?;
        let answer: Answer = serde_json::from_str(&text).unwrap_or_default();
        let named = answer.locked_by.as_ref().and_then(Value::as_str);
        let named = named.and_then(|id| MachineId::new(id).ok());
        match answer.success {
            Some(true) if status.is_success() => Ok(LockAnswer::Granted { to: named }),
            // The status of a refusal is not laid down: the answer itself decides.
            Some(false) => Ok(LockAnswer::Refused {
                reason: reason(&answer),
                holder: named,
            }),
            _ => Err(unexpected("/api/task-lock", status, &text)),
        }
    }

    /// Reports how a task ended.
    pub(crate) async fn report(
        &self,
        task: &TaskRef,
        machine: &MachineId,
        verdict: &Verdict,
        at: jiff::Timestamp,
        key: &str,
    ) -> Result<Reported, LockError> {
        let failed = |message: String| {
            (
                "fail",
                Data::Error {
                    error: Told { message },
                },
            )
        };
        let (action, data) = match verdict {
            Verdict::Completed(result) => ("complete", Data::Result { result }),
            Verdict::Failed { error, .. } => failed(storable_text(error).into_owned()),
            Verdict::Canceled { reason } => failed(format!("canceled: {}", storable_text(reason))),
        };
        let body = Report {
            task_id: &task.id,
            action,
            machine_id: machine,
            table_name: published_name(task),
            data,
            timestamp: at,
        };
        let (status, text) = self.post(&self.webhook, &body, key).await?;
        let answer: Answer = serde_json::from_str(&text).unwrap_or_default();
        let lost = [
            "not_locked",
            "lock_lost",
            "already_locked",
            "already_completed",
            "not_found",
        ];
        if answer.success == Some(false) && lost.contains(&reason(&answer).as_str())
            || status == StatusCode::CONFLICT
        {
            return Ok(Reported::Refused);
        }
        // The answer is not laid down: any success means that it was delivered, unless it says the opposite.
        if status.is_success() && answer.success != Some(false) {
            return Ok(Reported::Delivered);
        }
        let unusable = [
            StatusCode::BAD_REQUEST,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        if matches!(verdict, Verdict::Completed(_)) && unusable.contains(&status) {
            let said: String = text.chars().take(MAX_ANSWER_CHARS).collect();
            return Ok(Reported::Unusable(format!(
                "the app answered the result with {status} and {said:?}"
            )));
        }
        Err(unexpected("/api/task-webhook", status, &text))
    }

    /// Sends a request, and again while the app cannot be reached: both endpoints are told by a key that it is the same one.
    async fn post(
        &self,
        url: &Url,
        body: &(impl Serialize + Sync),
        key: &str,
    ) -> Result<(StatusCode, String), LockError> {
        let mut pause = FIRST_PAUSE;
        let mut maybe_done = false;
        let mut trouble = String::new();
        for _ in 0..TRIES {
            if !trouble.is_empty() {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let request = self.http.post(url.clone()).header("idempotency-key", key);
            match request.json(body).send().await {
                Ok(response) => match read(response).await {
                    Ok((status, _)) if status.is_server_error() => {
                        maybe_done = true;
                        trouble = format!("it answered {status}");
                    }
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        maybe_done = true;
                        trouble = error;
                    }
                },
                Err(error) => {
                    maybe_done |= !error.is_connect();
                    trouble = if error.is_timeout() {
                        "it did not answer in time".to_owned()
                    } else {
                        let cause = std::error::Error::source(&error);
                        cause.map_or_else(|| error.to_string(), ToString::to_string)
                    };
                }
            }
        }
        Err(LockError {
            class: ErrorClass::Retryable,
            message: format!(
                "the app at {} cannot be asked: {trouble}; check that it runs",
                url.origin().ascii_serialization()
            ),
            maybe_done,
        })
    }
}

fn reason(answer: &Answer) -> String {
    match &answer.reason {
        Some(Value::String(text)) => text.chars().take(MAX_ANSWER_CHARS).collect(),
        _ => String::new(),
    }
}

/// The name as the published examples write it: without the schema `public`.
fn published_name(task: &TaskRef) -> String {
    if task.table.schema() == "public" {
        task.table.name().to_owned()
    } else {
        task.table.to_string()
    }
}

async fn read(mut response: reqwest::Response) -> Result<(StatusCode, String), String> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| "the answer broke off")? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!(
                "it answered with more than {MAX_ANSWER_BYTES} bytes"
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn unexpected(endpoint: &str, status: StatusCode, text: &str) -> LockError {
    let class = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorClass::Unauthorized,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => ErrorClass::Retryable,
        status if status.is_success() || status.is_server_error() => ErrorClass::Retryable,
        _ => ErrorClass::Permanent,
    };
    let said: String = text.chars().take(MAX_ANSWER_CHARS).collect();
    let hint = if status.is_redirection() {
        "; redirects are not followed"
    } else if status == StatusCode::NOT_FOUND {
        "; in custom mode the app must have this endpoint"
    } else {
        ""
    };
    LockError {
        class,
        message: format!(
            "the app answered {endpoint} with {status} and {said:?}, which is neither yes nor no{hint}"
        ),
        maybe_done: status.is_success(),
    }
}
