//! Agents that are web services: the task is posted as JSON, the answer is the result.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rowcall_core::{
    AgentError, AgentErrorKind, AgentKind, AgentOutput, Payload,
    ports::{AgentRunner, RunContext},
};
use tokio_util::sync::CancellationToken;

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// How much of an answer that is no result an error quotes, in characters.
const MAX_QUOTED_CHARS: usize = 500;
/// How long a connection may take; the answer may take as long as the agent's time limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs agents of [`AgentKind::Http`], and says of agents that are functions that this daemon has none.
///
/// 2xx is success: JSON is the result, no content is `{}`, anything else is `{"text": …}`. Every other status fails the
/// attempt. Redirects are not followed: the task must not go where nobody configured it to go.
pub(super) struct HttpAgents {
    client: reqwest::Client,
    tokens: Mutex<HashMap<String, Option<String>>>,
}

impl HttpAgents {
    pub(super) fn new() -> reqwest::Result<Self> {
        // Only the first call of a process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("rowcall/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            tokens: Mutex::default(),
        })
    }

    /// The value of an environment variable, read once.
    fn token(&self, variable: &str) -> Result<String, AgentError> {
        let mut tokens = self.tokens.lock();
        tokens
            .entry(variable.to_owned())
            .or_insert_with(|| {
                std::env::var(variable)
                    .ok()
                    .filter(|token| !token.is_empty())
            })
            .clone()
            .ok_or_else(|| {
                let message = format!("the environment variable {variable} (token_env) is not set");
                AgentError::new(AgentErrorKind::NotStarted, message)
            })
    }

    async fn ask(&self, context: &RunContext) -> Result<AgentOutput, AgentError> {
        let AgentKind::Http { url, token_env } = &context.agent.kind else {
            let message = format!(
                "agent {} is a function, and this daemon has none: define a program",
                context.agent.id
            );
            return Err(AgentError::new(AgentErrorKind::NotStarted, message));
        };
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("idempotency-key", context.task.idempotency_key())
            .body(rowcall_supervisor::task_json(context));
        if let Some(variable) = token_env {
            request = request.bearer_auth(self.token(variable)?);
        }
        let mut answer = request.send().await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let message = format!("the answer is longer than {MAX_ANSWER_BYTES} bytes");
                return Err(AgentError::new(AgentErrorKind::Protocol, message));
            }
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&body);
        if !status.is_success() {
            let message = format!("the service answered {status}: {}", quoted(&text));
            return Err(AgentError::new(AgentErrorKind::Failed, message));
        }
        Ok(AgentOutput {
            result: result(&text),
        })
    }
}

/// What a success says.
fn result(text: &str) -> Payload {
    if text.trim().is_empty() {
        return Payload::empty_object();
    }
    Payload::from_text(text.to_owned()).unwrap_or_else(|_| {
        Payload::from_value(&serde_json::json!({ "text": text })).expect("a text serialises")
    })
}

/// An answer in an error: its `error` or `message` where it has one.
fn quoted(text: &str) -> String {
    let read: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let said = read.as_ref().and_then(|value| {
        ["error", "message", "detail"]
            .into_iter()
            .find_map(|key| value.get(key)?.as_str())
    });
    crate::output::shorten(said.unwrap_or(text), MAX_QUOTED_CHARS)
}

/// The URL of the request may carry a secret: it is not said.
fn failed(error: &reqwest::Error) -> AgentError {
    let what = if error.is_connect() {
        "the service cannot be reached"
    } else {
        "the service broke off"
    };
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    AgentError::new(AgentErrorKind::Failed, format!("{what}: {cause}"))
}

#[async_trait]
impl AgentRunner for HttpAgents {
    async fn run(
        &self,
        context: RunContext,
        stop: CancellationToken,
    ) -> Result<AgentOutput, AgentError> {
        // Dropping a request closes its connection, which is how the service learns of it.
        tokio::select! {
            answer = self.ask(&context) => answer,
            () = stop.cancelled() => Err(AgentError::new(AgentErrorKind::Canceled, "stopped")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_results() {
        assert_eq!(result(" \n").get(), "{}");
        assert_eq!(result("[1]").get(), "[1]");
        assert_eq!(result("done").get(), r#"{"text":"done"}"#);
    }

    #[test]
    fn errors_quote_what_the_service_said() {
        assert_eq!(
            quoted(r#"{"error":"no such mailbox","code":7}"#),
            "no such mailbox"
        );
        assert_eq!(quoted("<html>").as_str(), "<html>");
    }
}
