//! An app in the test's own process: the two endpoints over `rtx_activities`, with the rules of the published protocol.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use rowcall_backend::{CustomConfig, SupabaseBackend};
use rowcall_core::{EventSet, Selector};
use serde_json::{Value, json, value::RawValue};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::supabase::project::{Conforming, Project, Setup};

/// An app that runs until it is dropped.
pub(super) struct App {
    pub(super) url: String,
    serving: JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn lock(
    State(sql): State<Arc<Client>>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let (id, machine) = (text("task_id"), text("machine_id"));
    assert_eq!(text("table_name"), "rtx_activities");
    let Ok(id) = id.parse::<Uuid>() else {
        let answer = json!({"success": false, "reason": "not_found"});
        return (StatusCode::NOT_FOUND, Json(answer));
    };
    let claim = "select public.rtx_fn_claim_task($1, $2)";
    let won: bool = sql
        .query_one(claim, &[&id, &machine])
        .await
        .expect("asked")
        .get(0);
    if won {
        return (
            StatusCode::OK,
            Json(
                json!({"success": true, "locked_by": machine, "locked_at": "2024-01-15T10:30:00Z"}),
            ),
        );
    }
    let holder = "select locked_by from rtx_activities where id = $1";
    let answer = match sql.query_opt(holder, &[&id]).await.expect("asked") {
        Some(row) => {
            let by: Option<String> = row.get(0);
            json!({"success": false, "reason": "already_locked", "locked_by": by})
        }
        None => json!({"success": false, "reason": "not_found"}),
    };
    (StatusCode::CONFLICT, Json(answer))
}

/// What the app reads of a report. The result stays text: not every JSON has a value.
#[derive(serde::Deserialize)]
struct Report {
    task_id: Uuid,
    machine_id: String,
    action: String,
    #[serde(rename = "timestamp")]
    _timestamp: String,
    data: Data,
}

#[derive(serde::Deserialize)]
struct Data {
    result: Option<Box<RawValue>>,
    error: Option<Value>,
}

async fn webhook(State(sql): State<Arc<Client>>, body: String) -> (StatusCode, Json<Value>) {
    let report: Report = serde_json::from_str(&body).expect("a report");
    let (id, machine) = (report.task_id, report.machine_id);
    let written = if report.action == "complete" {
        let complete = "update rtx_activities set status = 'completed', result = $3::text::jsonb, completed_at = now()
                        where id = $1 and locked_by = $2 and status in ('claimed', 'processing')";
        // What PostgreSQL cannot hold is the app's to replace.
        let result = report.data.result.expect("a result");
        let result = result
            .get()
            .replace("\\u0000", "\\ufffd")
            .replace("\\ud800 ", "\\ufffd ");
        sql.execute(complete, &[&id, &machine, &result]).await
    } else {
        let fail = "select 1 where public.rtx_fn_fail_task($1, $2, $3)";
        let error = report.data.error.expect("an error");
        let error = error["message"].as_str().expect("a message").to_owned();
        sql.execute(fail, &[&id, &machine, &error]).await
    };
    let Ok(written) = written else {
        let answer = json!({"success": false, "reason": "the database refuses it"});
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(answer));
    };
    if written == 1 {
        (StatusCode::OK, Json(json!({"success": true})))
    } else {
        (
            StatusCode::CONFLICT,
            Json(json!({"success": false, "reason": "not_locked"})),
        )
    }
}

/// Serves a router until the app is dropped.
pub(super) async fn serve(router: Router) -> App {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move {
        axum::serve(listener, router).await.expect("it serves");
    });
    App { url, serving }
}

/// The fixture of the conformance suite, with such an app.
pub(super) async fn custom() -> Conforming {
    let project = Project::start(Setup::Ours).await;
    let sql = Arc::new(project.connect().await);
    let router = Router::new()
        .route("/api/task-lock", post(lock))
        .route("/api/task-webhook", post(webhook))
        .with_state(sql);
    let app = serve(router).await;
    let mut config = project.config("test");
    config.selectors = vec![Selector {
        table: rowcall_core::TableName::activities(),
        events: EventSet::ALL,
        filter: None,
    }];
    let (backend, _) =
        SupabaseBackend::custom(config, &CustomConfig::new(&app.url)).expect("the URLs are valid");
    Conforming::with(project, backend, app)
}
