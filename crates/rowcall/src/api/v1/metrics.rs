//! Numbers for Prometheus, in its text format.

use std::fmt::Write as _;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use rowcall_engine::EngineStatus;
use rowcall_supervisor::AppState;

use super::Problem;
use crate::api::{
    error::ApiError,
    frame::Answers,
    rules::{Operator, Routes},
    state::Api,
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
    engine(&mut page, &status);
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
    page.value("rowcall_api_streams", &[], api.streams().open() as u64);
    let mut response = page.0.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    Ok(response)
}

fn engine(page: &mut Page, status: &EngineStatus) {
    let counters = status.counters;
    page.family(
        "rowcall_tasks_total",
        "counter",
        "Attempts by how they ended.",
    );
    for (outcome, count) in [
        ("completed", counters.completed),
        ("failed", counters.failed),
        ("canceled", counters.canceled),
        ("released", counters.released),
        ("fenced", counters.fenced),
    ] {
        page.value("rowcall_tasks_total", &[("outcome", outcome)], count);
    }
    for (name, help, count) in [
        ("rowcall_claims_total", "Tasks claimed.", counters.claimed),
        ("rowcall_signals_total", "Signals heard.", counters.signals),
        (
            "rowcall_needs_attention_total",
            "Tasks whose failures reached the limit.",
            counters.needs_attention,
        ),
        (
            "rowcall_recovered_total",
            "Stale leases returned to pending.",
            counters.recovered,
        ),
        (
            "rowcall_reports_total",
            "Reports from outside.",
            counters.reports,
        ),
        (
            "rowcall_source_calls_total",
            "Calls to sources.",
            counters.calls,
        ),
        (
            "rowcall_source_calls_failed_total",
            "Calls to sources that failed.",
            counters.failed_calls,
        ),
        (
            "rowcall_runner_panics_total",
            "Runners that panicked.",
            counters.panics,
        ),
        (
            "rowcall_log_lines_dropped_total",
            "Log lines the store had no room for.",
            counters.log_lines_dropped,
        ),
    ] {
        page.family(name, "counter", help);
        page.value(name, &[], count);
    }
    page.family("rowcall_slots", "gauge", "How many tasks may run at once.");
    page.value("rowcall_slots", &[], u64::from(status.slots));
    page.family("rowcall_slots_used", "gauge", "How many tasks run.");
    page.value("rowcall_slots_used", &[], u64::from(status.slots_used));
    page.family(
        "rowcall_app_slots_used",
        "gauge",
        "How many tasks of an app run.",
    );
    for app in &status.apps {
        page.value(
            "rowcall_app_slots_used",
            &[("app", app.id.as_str())],
            u64::from(app.slots_used),
        );
    }
    page.family(
        "rowcall_source_up",
        "gauge",
        "Whether signals of a source flow.",
    );
    for source in &status.sources {
        page.value(
            "rowcall_source_up",
            &[("source", &source.name)],
            u64::from(source.up),
        );
    }
    page.family(
        "rowcall_source_settling",
        "gauge",
        "Settlements that wait to be written.",
    );
    for source in &status.sources {
        page.value(
            "rowcall_source_settling",
            &[("source", &source.name)],
            source.settling as u64,
        );
    }
    page.family(
        "rowcall_start_time_seconds",
        "gauge",
        "When the engine was started, in seconds since 1970.",
    );
    let started = u64::try_from(status.started_at.as_second()).unwrap_or(0);
    page.value("rowcall_start_time_seconds", &[], started);
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

/// The text under construction. Writing to a text does not fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let start = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{start}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("a", "gauge", "b.");
        page.value("a", &[("x", "q\"\\\n"), ("y", "z")], 3);
        assert_eq!(
            page.0,
            "# HELP a b.\n# TYPE a gauge\na{x=\"q\\\"\\\\\\n\",y=\"z\"} 3\n"
        );
    }
}
