//! Numbers for Prometheus, in its text format.

use axum::{extract::State, response::Response};
use rowcall_supervisor::AppState;

use super::Problem;
use crate::{
    api::{
        error::ApiError,
        frame::Answers,
        rules::{Operator, Routes},
        state::Api,
    },
    prometheus::{self, Page},
};

pub(super) fn routes() -> Routes {
    Routes::default().get("/rowcall/v1/metrics", metrics)
}

/// Numbers for Prometheus. It can send the session's token with `authorization.credentials_file`.
#[utoipa::path(get, path = "/rowcall/v1/metrics", tag = "metrics", security(("token" = [])),
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"),
        (status = 401, body = Problem)))]
pub(super) async fn metrics(_: Operator, State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.engine().status().await?;
    let mut page = Page::default();
    prometheus::engine(&mut page, &status);
    page.family(
        "rowcall_app_process_up",
        "gauge",
        "Whether an app's program runs.",
    );
    for (app, process) in api.apps().statuses() {
        let up = u64::from(process.state == AppState::Running);
        page.value("rowcall_app_process_up", &[("app", app.as_str())], up);
    }
    answers(&mut page, api.answers());
    page.family("rowcall_api_streams", "gauge", "Open event streams.");
    page.value("rowcall_api_streams", &[], api.streams().open());
    prometheus::queues(&mut page, api.queues()).await;
    Ok(page.answer())
}

fn answers(page: &mut Page, answers: &Answers) {
    page.family(
        "rowcall_api_requests_total",
        "counter",
        "Requests to the local API by class of status.",
    );
    for (class, name) in [(2, "2xx"), (3, "3xx"), (4, "4xx"), (5, "5xx")] {
        page.value(
            "rowcall_api_requests_total",
            &[("status", name)],
            answers.of_class(class),
        );
    }
}
