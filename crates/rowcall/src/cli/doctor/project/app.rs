//! The app of custom mode.

use std::time::Duration;

use super::super::Finding;

/// How long it may take.
const APP_LIMIT: Duration = Duration::from_secs(5);

/// Whether the app of custom mode answers; it is asked for a lock of a task that does not exist.
pub(super) async fn look(custom: &rowcall_backend::CustomConfig) -> Finding {
    let url = custom
        .lock_url
        .clone()
        .unwrap_or_else(|| format!("{}/api/task-lock", custom.app_url.trim_end_matches('/')));
    let problem = |found: String| {
        Finding::problem(
            "app",
            found,
            "start the app, or mend backend.app_url; docs/custom-mode.md says what it must answer",
        )
    };
    let client = match reqwest::Client::builder()
        .timeout(APP_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
    {
        Ok(client) => client,
        Err(error) => return problem(error.to_string()),
    };
    let body = serde_json::json!({
        "task_id": uuid::Uuid::nil(), "table_name": "rowcall_doctor", "machine_id": "rowcall-doctor", "user_email": "",
    });
    match client.post(&url).json(&body).send().await {
        Err(error) => problem(format!("{url} does not answer: {}", error.without_url())),
        Ok(answer) => {
            let status = answer.status();
            let said: Option<serde_json::Value> = answer.json().await.ok();
            match said.as_ref().map(|said| &said["success"]) {
                Some(serde_json::Value::Bool(_)) => Finding::good("app", format!("{url} answers")),
                _ => problem(format!(
                    "{url} answers {status}, which is neither yes nor no"
                )),
            }
        }
    }
}
