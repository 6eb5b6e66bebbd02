//! Apps that answer late, oddly, twice or not at all; tables that cannot be read or written.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use rowcall_backend::{CustomConfig, SupabaseBackend};
use rowcall_core::{
    ErrorClass, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, TableName,
    TaskRef,
    ports::{
        ClaimOutcome, ClaimRules, Claimed, Coordinator, Fence, Maintenance, Settlement, Verdict,
    },
};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use super::app::{App, serve};
use crate::supabase::project::{Project, Setup, config};

fn orders() -> TableName {
    "public.orders".parse().unwrap()
}

fn task() -> TaskRef {
    TaskRef {
        table: orders(),
        id: "7".parse().unwrap(),
    }
}

fn rules() -> ClaimRules {
    ClaimRules {
        machine: MachineId::new("m1").unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn selectors() -> Vec<Selector> {
    vec![Selector {
        table: orders(),
        events: EventSet::ALL,
        filter: None,
    }]
}

fn backend_of(url: &str, app: &str) -> SupabaseBackend {
    let mut config = config(url, "m1", "sb_publishable_x");
    config.selectors = selectors();
    let mut custom = CustomConfig::new(app);
    custom.timeout = Duration::from_millis(500);
    SupabaseBackend::custom(config, &custom).unwrap().0
}

/// A project in which the table of the app is not shown.
async fn blind() -> MockServer {
    let server = MockServer::start().await;
    let missing = json!({"code": "PGRST205", "message": "Could not find the table", "details": null, "hint": null});
    let answer = ResponseTemplate::new(404).set_body_json(missing);
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

type Answers = Arc<dyn Fn(&HeaderMap, &Value) -> Response + Send + Sync>;

/// An app that answers both endpoints with what the function says.
async fn app(answer: impl Fn(&HeaderMap, &Value) -> Response + Send + Sync + 'static) -> App {
    let answers: Answers = Arc::new(answer);
    let handle = async |State(answers): State<Answers>, headers: HeaderMap, body: Bytes| {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        answers(&headers, &body)
    };
    let router = Router::new()
        .route("/api/task-lock", post(handle))
        .route("/api/task-webhook", post(handle))
        .with_state(answers);
    serve(router).await
}

fn ok(body: Value) -> Response {
    (StatusCode::OK, Json(body)).into_response()
}

fn won(outcome: ClaimOutcome) -> Claimed {
    match outcome {
        ClaimOutcome::Won(claimed) => *claimed,
        other => panic!("the claim should be won, but {other:?}"),
    }
}

fn settlement(claimed: Claimed, verdict: Verdict) -> Settlement {
    Settlement {
        lease: claimed.lease.into_key(),
        verdict,
    }
}

#[tokio::test]
async fn the_published_requests_are_sent() {
    let project = blind().await;
    let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let note = Arc::clone(&seen);
    let app = app(move |headers, body| {
        let key = headers["idempotency-key"]
            .to_str()
            .expect("text")
            .to_owned();
        note.lock().expect("no panic").push((key, body.clone()));
        ok(json!({"success": true, "locked_by": "m1", "locked_at": "2024-01-15T10:30:00Z"}))
    })
    .await;
    let backend = backend_of(&project.uri(), &app.url);
    let claimed = won(backend.claim(&rules(), &task()).await.unwrap());
    let result = Verdict::Completed(Payload::from_text("{\"n\": 1}".into()).unwrap());
    assert_eq!(
        backend
            .settle(&[settlement(claimed, result)])
            .await
            .unwrap(),
        [Fence::Held]
    );
    let claimed = won(backend.claim(&rules(), &task()).await.unwrap());
    let failed = Verdict::Failed {
        error: "it broke".to_owned(),
        retry_in: None,
    };
    assert_eq!(
        backend
            .settle(&[settlement(claimed, failed)])
            .await
            .unwrap(),
        [Fence::Held]
    );
    let seen = seen.lock().unwrap();
    let bodies: Vec<&Value> = seen.iter().map(|(_, body)| body).collect();
    let lock = json!({"task_id": "7", "table_name": "orders", "machine_id": "m1", "user_email": "ada@example.com"});
    assert_eq!(*bodies[0], lock);
    for (body, action, data) in [
        (bodies[1], "complete", json!({"result": {"n": 1}})),
        (bodies[3], "fail", json!({"error": {"message": "it broke"}})),
    ] {
        assert_eq!(body["action"], action);
        assert_eq!(body["data"], data);
        assert_eq!(
            (&body["task_id"], &body["machine_id"]),
            (&json!("7"), &json!("m1"))
        );
        assert_eq!(body["table_name"], "orders");
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    let keys: std::collections::BTreeSet<&String> = seen.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 4, "another attempt is another key: {keys:?}");
}

#[tokio::test]
async fn losing_is_an_outcome_whatever_the_status() {
    let project = blind().await;
    for status in [200, 403, 409, 423] {
        let app = app(move |_, _| {
            let answer = json!({"success": false, "reason": "already_locked", "locked_by": "m2"});
            (
                StatusCode::from_u16(status).expect("a status"),
                Json(answer),
            )
                .into_response()
        })
        .await;
        let outcome = backend_of(&project.uri(), &app.url)
            .claim(&rules(), &task())
            .await
            .unwrap();
        let ClaimOutcome::Held { by } = outcome else {
            panic!("held, but {outcome:?}");
        };
        assert_eq!(by.unwrap().as_str(), "m2");
    }
}

#[tokio::test]
async fn a_lock_that_somebody_else_was_given_is_not_ours() {
    let project = blind().await;
    let app = app(|_, _| ok(json!({"success": true, "locked_by": "m2"}))).await;
    let outcome = backend_of(&project.uri(), &app.url)
        .claim(&rules(), &task())
        .await
        .unwrap();
    assert!(matches!(outcome, ClaimOutcome::Held { .. }), "{outcome:?}");
}

#[tokio::test]
async fn answers_that_are_neither_yes_nor_no_are_errors() {
    let project = blind().await;
    for (status, body, class) in [
        (200, "<html>".to_owned(), ErrorClass::Retryable),
        (
            200,
            "{\"success\": \"yes\"}".to_owned(),
            ErrorClass::Retryable,
        ),
        (
            404,
            "Cannot POST /api/task-lock".to_owned(),
            ErrorClass::Permanent,
        ),
        (302, String::new(), ErrorClass::Permanent),
        (401, "{}".to_owned(), ErrorClass::Unauthorized),
        (500, "oops".to_owned(), ErrorClass::Retryable),
        (200, "x".repeat(1 << 20), ErrorClass::Retryable),
    ] {
        let answer = body.clone();
        let app = app(move |_, _| {
            (
                StatusCode::from_u16(status).expect("a status"),
                answer.clone(),
            )
                .into_response()
        })
        .await;
        let error = backend_of(&project.uri(), &app.url)
            .claim(&rules(), &task())
            .await
            .unwrap_err();
        assert_eq!(error.class, class, "{}", error.message);
        assert!(error.message.len() < 700, "{}", error.message);
    }
}

#[tokio::test]
async fn an_app_that_is_not_there_is_named() {
    let project = blind().await;
    let error = backend_of(&project.uri(), "http://127.0.0.1:9")
        .claim(&rules(), &task())
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Retryable);
    assert!(
        error.message.contains("127.0.0.1:9") && error.message.contains("check that it runs"),
        "{}",
        error.message
    );
}

/// The lock was given, the answer was lost: asking again must not leave the task to nobody.
#[tokio::test]
async fn a_lost_answer_to_a_lock_is_made_up_for() {
    let project = blind().await;
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let app = app(move |_, _| {
        if count.fetch_add(1, Ordering::Relaxed) < 3 {
            // It has locked the task and then broke.
            return StatusCode::BAD_GATEWAY.into_response();
        }
        ok(json!({"success": false, "reason": "already_locked", "locked_by": "m1"}))
    })
    .await;
    let backend = backend_of(&project.uri(), &app.url);
    backend.claim(&rules(), &task()).await.unwrap_err();
    assert_eq!(
        asked.load(Ordering::Relaxed),
        3,
        "it was tried again under one key"
    );
    won(backend.claim(&rules(), &task()).await.unwrap());
    let again = backend.claim(&rules(), &task()).await.unwrap();
    assert!(
        matches!(again, ClaimOutcome::Held { .. }),
        "only once: {again:?}"
    );
}

#[tokio::test]
async fn a_report_is_repeated_under_one_key_until_it_is_delivered() {
    let project = blind().await;
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&keys);
    let app = app(move |headers, body| {
        if body.get("action").is_none() {
            return ok(json!({"success": true}));
        }
        let mut keys = note.lock().expect("no panic");
        keys.push(
            headers["idempotency-key"]
                .to_str()
                .expect("text")
                .to_owned(),
        );
        if keys.len() < 5 {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        StatusCode::NO_CONTENT.into_response()
    })
    .await;
    let backend = backend_of(&project.uri(), &app.url);
    let claimed = won(backend.claim(&rules(), &task()).await.unwrap());
    let settlement = settlement(claimed, Verdict::Completed(Payload::empty_object()));
    let error = backend
        .settle(std::slice::from_ref(&settlement))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Retryable);
    assert_eq!(backend.settle(&[settlement]).await.unwrap(), [Fence::Held]);
    let keys = keys.lock().unwrap();
    assert_eq!(keys.len(), 5);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_table_that_only_the_app_knows_is_left_to_it() {
    let project = blind().await;
    let app = app(|_, _| ok(json!({"success": true}))).await;
    let backend = backend_of(&project.uri(), &app.url);
    let claimed = won(backend.claim(&rules(), &task()).await.unwrap());
    let key = claimed.lease.into_key();
    let leases = std::slice::from_ref(&key);
    assert_eq!(backend.renew(leases).await.unwrap(), [Fence::Held]);
    assert_eq!(
        backend.mark_processing(leases).await.unwrap(),
        [Fence::Held]
    );
    assert!(
        backend
            .sweep(&selectors(), None, 50)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        backend.maintain(&rules(), &selectors()).await.unwrap(),
        Maintenance::default()
    );
    let capabilities = backend.capabilities();
    assert!(!capabilities.sweep && !capabilities.recover);
    let old = rowcall_core::LeaseKey {
        attempt: key.attempt + 1,
        ..key
    };
    assert_eq!(backend.renew(&[old]).await.unwrap(), [Fence::Lost]);
}

/// JSON allows numbers and escapes that have no value in most programs: such a result goes to the app as the agent wrote it.
#[tokio::test]
async fn a_result_without_a_value_goes_on_as_it_was_written() {
    let odd = r#"{"half":"\ud800","large":1e999999999}"#;
    let project = blind().await;
    let reports = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&reports);
    let router = Router::new()
        .route(
            "/api/task-lock",
            post(async || ok(json!({"success": true}))),
        )
        .route(
            "/api/task-webhook",
            post(async move |body: String| {
                heard.lock().unwrap().push(body);
                ok(json!({"success": true}))
            }),
        );
    let app = serve(router).await;
    let backend = backend_of(&project.uri(), &app.url);
    let claimed = won(backend.claim(&rules(), &task()).await.unwrap());
    let result = Payload::from_text(odd.to_owned()).unwrap();
    let settlement = settlement(claimed, Verdict::Completed(result));
    assert_eq!(backend.settle(&[settlement]).await.unwrap(), [Fence::Held]);
    let reports = reports.lock().unwrap();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].contains(odd), "{}", reports[0]);
}

/// A key that may read and not write: the lock is the app's to keep, and the agent is not stopped for it.
#[tokio::test]
async fn a_table_that_may_only_be_read_does_not_look_like_a_lost_lease() {
    let project = Project::start(Setup::Published).await;
    let make = "create table orders (id int primary key, item text, status text, locked_by text, locked_at timestamptz);
        alter table orders enable row level security; create policy read on orders for select to anon using (true);
        grant all on orders to anon; insert into orders values (7, 'tea', 'pending'); notify pgrst, 'reload schema'";
    project.client.batch_execute(make).await.unwrap();
    let take =
        "update orders set status = 'claimed', locked_by = 'm1', locked_at = now() where id = 7";
    let app = app(|_, _| ok(json!({"success": true, "locked_by": "m1"}))).await;
    let mut config = project.config_with("m1", project.keys.anon_key());
    config.selectors = selectors();
    let (backend, _driver) = SupabaseBackend::custom(config, &CustomConfig::new(&app.url)).unwrap();
    let found = loop {
        // The server reads its schema anew in its own time.
        let found = backend
            .probe()
            .await
            .and(backend.sweep(&selectors(), None, 5).await)
            .unwrap();
        if !found.is_empty() {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(found[0].task.task, task());
    let claimed = won(backend.claim(&rules(), &task()).await.unwrap());
    assert!(claimed.task.raw_data.get().contains("tea"));
    project.execute(take, &[]).await;
    let key = claimed.lease.into_key();
    assert_eq!(
        backend.renew(std::slice::from_ref(&key)).await.unwrap(),
        [Fence::Held]
    );
    project
        .execute("update orders set locked_by = 'm2'", &[])
        .await;
    assert_eq!(backend.renew(&[key]).await.unwrap(), [Fence::Lost]);
}
