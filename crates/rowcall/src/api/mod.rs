//! The local HTTP API on port 3001.

mod error;
mod guard;
mod listen;
mod report;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
pub use error::ApiError;
pub use listen::{ListenError, bind};
use rowcall_core::TaskId;
use rowcall_engine::{EngineHandle, Report, ReportReply};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

/// The largest body of a request, in bytes. Results are stored in a row: larger ones belong into a file or a bucket.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// No request takes longer; a report waits for its settlement less than this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long requests under way may go on after a stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Who takes reports: the engine, or a double in tests.
#[async_trait]
pub trait Reports: Send + Sync {
    /// Takes a report on a task.
    async fn report(&self, task: TaskId, report: Report) -> Result<ReportReply, ApiError>;
}

#[async_trait]
impl Reports for EngineHandle {
    async fn report(&self, task: TaskId, report: Report) -> Result<ReportReply, ApiError> {
        EngineHandle::report(self, &task, None, report).await.map_err(|error| {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string())
        })
    }
}

/// What the routes need.
#[derive(Clone)]
pub struct ApiState {
    reports: Arc<dyn Reports>,
}

impl ApiState {
    /// The state of a running daemon.
    pub fn new(reports: Arc<dyn Reports>) -> Self {
        Self { reports }
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").finish_non_exhaustive()
    }
}

/// All routes, with what guards them.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/api/external-tasks/{uuid}/webhook", post(report::report))
        .route("/external-tasks/{uuid}/webhook", post(report::report))
        .route("/api/ping", get(ping))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(state)
        .layer(middleware::from_fn(json_bodies))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_TIMEOUT))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(guard::local_only))
}

/// Serves the routes until `stop`, then lets requests under way end.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    for listener in listeners {
        let stopped = stop.clone().cancelled_owned();
        let serving = axum::serve(listener, router.clone()).with_graceful_shutdown(stopped);
        tracker.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the local API stopped serving");
            }
        });
    }
    tracker.close();
    stop.cancelled().await;
    if tokio::time::timeout(SHUTDOWN_GRACE, tracker.wait()).await.is_err() {
        tracing::warn!("requests to the local API were cut off by the stop");
    }
}

async fn ping(State(_): State<ApiState>) -> Response {
    Json(json!({ "success": true, "message": "pong" })).into_response()
}

async fn no_route(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "NOT_FOUND",
        format!("Route not found: {} {path}", request.method()),
    )
}

async fn no_method(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        format!("{} is not possible on {path}", request.method()),
    )
}

/// Clients parse every answer as JSON before they look at the status: what extractors and layers answer in plain text is
/// put into the envelope.
async fn json_bodies(request: Request, next: middleware::Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_json = response
        .headers()
        .get(axum::http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || status.is_success() {
        return response;
    }
    let (code, message) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => (
            "PAYLOAD_TOO_LARGE",
            format!("The body is larger than {MAX_BODY_BYTES} bytes: store large results elsewhere and send a reference"),
        ),
        StatusCode::GATEWAY_TIMEOUT => ("TIMEOUT", "The request took too long".to_owned()),
        _ => ("BAD_REQUEST", status.canonical_reason().unwrap_or("The request failed").to_owned()),
    };
    ApiError::new(status, code, message).into_response()
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "A bug of rowcall: the log has the details. Please report it",
    )
    .into_response()
}

#[cfg(test)]
mod tests;
