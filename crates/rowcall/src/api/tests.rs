use axum::{
    body::{Body, to_bytes},
    http::{Method, header},
};
use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use rowcall_core::{MachineId, TaskId, TaskState};
use rowcall_engine::{Report, ReportReply};
use serde_json::Value;
use tower::ServiceExt as _;

use super::{
    error::ApiError,
    frame,
    guard::Neighbours,
    report::{self, Reports},
    serve::Ends,
};

/// Answers by the last character of the task id, as the engine would.
struct Desk;

#[async_trait]
impl Reports for Desk {
    async fn report(
        &self,
        task: TaskId,
        report: Report,
        _: &HeaderMap,
        _: Option<Ends>,
    ) -> Result<ReportReply, ApiError> {
        let state = report.state();
        Ok(match task.to_string().chars().last() {
            Some('0') => ReportReply::Accepted { state },
            Some('1') => ReportReply::Repeated { state },
            Some('2') => ReportReply::AlreadyFinal {
                state: TaskState::Completed,
            },
            Some('3') => ReportReply::HeldElsewhere {
                by: Some(MachineId::new("other").unwrap()),
            },
            Some('4') => ReportReply::LeaseLost {
                state: Some(TaskState::Pending),
                holder: None,
            },
            Some('5') => ReportReply::Unconfirmed { state },
            Some('6') => panic!("a bug"),
            _ => ReportReply::NotFound,
        })
    }
}

fn router() -> Router {
    let desk: Arc<dyn Reports> = Arc::new(Desk);
    let routes = Router::new()
        .route("/api/external-tasks/{uuid}/webhook", post(report::report))
        .route("/api/ping", get(async || "{}"))
        .with_state(desk);
    frame::around(routes, Neighbours::default(), Arc::default())
}

async fn send(method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:3001")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .unwrap();
    let response = router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}")),
    )
}

async fn report_on(last: char) -> (StatusCode, Value) {
    let path = format!("/api/external-tasks/00000000-0000-4000-8000-00000000000{last}/webhook");
    send(
        Method::POST,
        &path,
        r#"{"action":"failed","data":{"error":"x"}}"#,
    )
    .await
}

#[tokio::test]
async fn every_outcome_has_its_answer() {
    for (last, status, field, value) in [
        ('0', 200, "status", "failed"),
        ('1', 200, "status", "failed"),
        ('2', 200, "status", "completed"),
        ('3', 409, "code", "HELD_ELSEWHERE"),
        ('4', 409, "code", "LEASE_LOST"),
        ('5', 202, "status", "failed"),
        ('6', 500, "code", "INTERNAL"),
        ('7', 404, "code", "NOT_FOUND"),
    ] {
        let (found, body) = report_on(last).await;
        assert_eq!(found.as_u16(), status, "{last}: {body}");
        assert_eq!(body[field], value, "{last}: {body}");
        assert_eq!(body["success"], Value::Bool(status < 300), "{last}: {body}");
    }
    let (_, body) = report_on('7').await;
    assert!(
        body["error"].as_str().unwrap().contains("not found"),
        "{body}"
    );
    let (_, body) = report_on('1').await;
    assert_eq!(body["duplicate"], Value::Bool(true));
}

#[tokio::test]
async fn framework_errors_are_json_too() {
    let (status, body) = send(Method::GET, "/nothing/here", "").await;
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (404, &Value::from("NOT_FOUND"))
    );
    let (status, body) = send(Method::DELETE, "/api/external-tasks/1/webhook", "").await;
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (405, &Value::from("METHOD_NOT_ALLOWED"))
    );
    let large = vec![b' '; 10 * 1024 * 1024];
    let (status, body) = send(Method::POST, "/api/external-tasks/1/webhook", large).await;
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (413, &Value::from("PAYLOAD_TOO_LARGE"))
    );
}

#[tokio::test]
async fn a_page_of_another_origin_reaches_no_route() {
    let request = Request::builder()
        .uri("/api/ping")
        .header(header::HOST, "localhost:3001")
        .header(header::ORIGIN, "https://example.com")
        .body(Body::empty())
        .unwrap();
    let response = router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(send(Method::GET, "/api/ping", "").await.0, StatusCode::OK);
}
