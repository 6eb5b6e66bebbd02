//! Projects that do what no project should: the daemon says what is wrong, keeps its memory, and asks no more than it must.

use std::time::Duration;

use rowcall_backend::supabase::SupabaseBackend;
use rowcall_core::{
    AppId, ErrorClass, EventSet, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, TableName,
    TaskRef,
    ports::{
        ClaimBatch, ClaimOrder, ClaimOutcome, ClaimRules, Coordinator, Fence, Settlement, Verdict,
    },
};
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{any, method, path, query_param},
};

use super::project::config;

fn rules(name: &str) -> ClaimRules {
    ClaimRules {
        machine: MachineId::new(name).unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn task() -> TaskRef {
    TaskRef {
        table: TableName::activities(),
        id: Uuid::from_u128(7).into(),
    }
}

fn backend(server: &MockServer) -> SupabaseBackend {
    let mut config = config(&server.uri(), "m1", "sb_publishable_x");
    config.request_timeout = Duration::from_secs(5);
    SupabaseBackend::new(config).unwrap().0
}

/// Every request gets this answer.
async fn answering(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn count(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// A project with the published set-up, in which one row is pending and every claim is granted.
async fn generous(row: Value) -> MockServer {
    let server = MockServer::start().await;
    let missing =
        json!({"code": "42703", "message": "column does not exist", "details": null, "hint": null});
    Mock::given(method("GET"))
        .and(path("/rest/v1/rtx_activities"))
        .and(query_param(
            "select",
            "attempt,source_table,source_event,source_key,retry_at",
        ))
        .respond_with(ResponseTemplate::new(400).set_body_json(missing))
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/rest/v1/rpc/rtx_fn_claim_task"))
        .respond_with(ResponseTemplate::new(200).set_body_json(true))
        .mount(&server)
        .await;
    Mock::given(method("PATCH"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!([])))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!([row])))
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn errors_of_the_project_are_told_apart() {
    for (answer, class, words) in [
        (ResponseTemplate::new(500), ErrorClass::Retryable, "500"),
        (
            ResponseTemplate::new(502).set_body_string("<html>"),
            ErrorClass::Retryable,
            "502",
        ),
        (
            ResponseTemplate::new(302).insert_header("location", "http://elsewhere.test/"),
            ErrorClass::Permanent,
            "redirects are not followed",
        ),
        (
            ResponseTemplate::new(200).set_body_string("<html>"),
            ErrorClass::Retryable,
            "not what Supabase answers",
        ),
        (
            ResponseTemplate::new(401).set_body_json(json!({"message": "Invalid API key"})),
            ErrorClass::Unauthorized,
            "Invalid API key",
        ),
    ] {
        let server = answering(answer).await;
        let error = backend(&server).inspect(&task()).await.unwrap_err();
        assert_eq!(error.class, class, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
        assert!(count(&server).await <= 4, "it asked again and again");
    }
}

#[tokio::test]
async fn a_server_that_redirects_to_itself_is_asked_once() {
    let server = MockServer::start().await;
    let to_itself = format!("{}/rest/v1/rtx_activities", server.uri());
    let answer = ResponseTemplate::new(307).insert_header("location", to_itself.as_str());
    Mock::given(any()).respond_with(answer).mount(&server).await;
    backend(&server).inspect(&task()).await.unwrap_err();
    assert_eq!(count(&server).await, 1);
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    let server = answering(ResponseTemplate::new(200).set_body_bytes(vec![b' '; 20 << 20])).await;
    let error = backend(&server).inspect(&task()).await.unwrap_err();
    assert!(
        error.message.contains("more than 16777216 bytes"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn who_is_asked_to_wait_waits() {
    let answer = ResponseTemplate::new(429).insert_header("retry-after", "60");
    let server = answering(answer).await;
    let backend = backend(&server);
    let first = backend.inspect(&task()).await.unwrap_err();
    assert_eq!(first.class, ErrorClass::Retryable);
    for _ in 0..10 {
        let error = backend.inspect(&task()).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Retryable);
        assert!(error.message.contains("asks to wait"), "{}", error.message);
    }
    assert_eq!(count(&server).await, 1, "nothing was sent while waiting");
}

#[tokio::test]
async fn a_short_wait_is_sat_out() {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(503).insert_header("retry-after", "1"))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    let missing = json!({"code": "PGRST202", "message": "Could not find the function"});
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(404).set_body_json(missing))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!([])))
        .mount(&server)
        .await;
    let backend = backend(&server);
    let asked = std::time::Instant::now();
    backend.inspect(&task()).await.unwrap_err();
    assert_eq!(backend.inspect(&task()).await.unwrap(), None);
    assert!(
        asked.elapsed() >= Duration::from_millis(900),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn a_project_that_never_answers_is_given_up() {
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_mins(1));
    let server = answering(slow).await;
    let mut config = config(&server.uri(), "m1", "k");
    config.request_timeout = Duration::from_millis(200);
    let (backend, _driver) = SupabaseBackend::new(config).unwrap();
    let error = backend.inspect(&task()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Retryable);
    assert!(
        error.message.contains("no answer in time"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_claim_that_was_granted_twice_is_settled_by_nobody_who_does_not_hold_it() {
    let row = json!({"id": Uuid::from_u128(7), "status": "pending", "attempted_by": [], "retry_count": 0, "raw_data": {"n": 1}});
    let server = generous(row).await;
    let backend = backend(&server);
    for name in ["m1", "m2"] {
        let ClaimOutcome::Won(claimed) = backend.claim(&rules(name), &task()).await.unwrap() else {
            panic!("the project grants everything");
        };
        let settlement = Settlement {
            lease: claimed.lease.into_key(),
            verdict: Verdict::Completed(Payload::empty_object()),
        };
        assert_eq!(backend.settle(&[settlement]).await.unwrap(), [Fence::Lost]);
    }
    let guarded = |request: &Request| {
        let query = request.url.query().unwrap_or_default();
        query.contains("locked_by=eq.m") && query.contains("status.in")
    };
    let requests = server.received_requests().await.unwrap();
    let writes = requests.iter().filter(|request| request.method == "PATCH");
    assert!(
        writes.clone().count() >= 2 && writes.clone().all(guarded),
        "{writes:?}"
    );
}

/// A project with our functions that grants the same rows again and again, and others than were asked for.
#[tokio::test]
async fn claims_that_are_answered_twice_are_one_claim() {
    let server = MockServer::start().await;
    let row = |id: u128| json!({"id": Uuid::from_u128(id), "status": "claimed", "locked_by": "m1", "attempt": 1, "raw_data": {}});
    for (function, answer) in [
        ("rowcall_protocol", json!({"version": 1})),
        ("rowcall_claim_next", json!([row(7), row(8), row(7)])),
        ("rowcall_claim", json!([row(9), row(9), row(66)])),
    ] {
        Mock::given(method("POST"))
            .and(path(format!("/rest/v1/rpc/{function}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(answer))
            .mount(&server)
            .await;
    }
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!([])))
        .mount(&server)
        .await;
    let backend = backend(&server);
    let batch = |hints: &[u128]| ClaimBatch {
        app: AppId::new("test").unwrap(),
        selectors: vec![Selector {
            table: TableName::activities(),
            events: EventSet::ALL,
            filter: None,
        }]
        .into(),
        limit: 10,
        retryable: false,
        order: ClaimOrder::OldestFirst,
        hints: hints
            .iter()
            .map(|id| TaskRef {
                table: TableName::activities(),
                id: Uuid::from_u128(*id).into(),
            })
            .collect(),
    };
    let claim = async |batch: ClaimBatch| {
        let won = backend.claim_next(&rules("m1"), &batch).await.unwrap();
        let mut won: Vec<String> = won.iter().map(|one| one.task.task.id.to_string()).collect();
        won.sort();
        won
    };
    let ids = |ids: &[u128]| -> Vec<String> {
        ids.iter()
            .map(|id| Uuid::from_u128(*id).to_string())
            .collect()
    };
    assert_eq!(claim(batch(&[])).await, ids(&[7, 8]));
    assert_eq!(claim(batch(&[])).await, ids(&[]), "the same answer again");
    let nine = TaskRef {
        table: TableName::activities(),
        id: Uuid::from_u128(9).into(),
    };
    let won = backend.claim(&rules("m1"), &nine).await.unwrap();
    assert!(matches!(won, ClaimOutcome::Won(one) if one.task.task == nine));
    let again = backend.claim(&rules("m1"), &nine).await.unwrap();
    assert!(matches!(again, ClaimOutcome::Gone), "{again:?}");
}

#[tokio::test]
async fn rows_of_odd_types_are_read_as_far_as_they_make_sense() {
    let odd = json!({
        "id": Uuid::from_u128(7), "status": "pending", "locked_by": 7, "locked_at": "yesterday", "attempted_by": {"a": 1},
        "retry_count": "many", "created_at": null, "result": [], "raw_data": "text", "error_message": false,
    });
    let server = generous(odd).await;
    let view = backend(&server).inspect(&task()).await.unwrap().unwrap();
    assert_eq!(
        (view.status.as_str(), view.locked_by, view.locked_at),
        ("pending", None, None)
    );
    assert_eq!(
        (view.task.retry_count, view.task.attempted_by.len()),
        (0, 0)
    );
    assert_eq!(view.task.raw_data.get(), "\"text\"");
}

#[tokio::test]
async fn a_row_without_an_id_is_no_answer() {
    for row in [json!({"id": {}}), json!({"status": "pending"}), json!(7)] {
        let server = generous(row).await;
        let error = backend(&server).inspect(&task()).await.unwrap_err();
        assert!(error.message.contains("without an id"), "{}", error.message);
    }
}

#[tokio::test]
async fn another_task_than_the_one_asked_for_is_none() {
    let other = json!({"id": Uuid::from_u128(8), "status": "pending"});
    let server = generous(other).await;
    let backend = backend(&server);
    assert!(matches!(
        backend.claim(&rules("m1"), &task()).await.unwrap(),
        ClaimOutcome::Gone
    ));
    assert_eq!(backend.inspect(&task()).await.unwrap(), None);
}
