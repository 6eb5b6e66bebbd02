//! Reports by webhook, good and bad, against a real daemon.

use serde_json::json;
use uuid::Uuid;

use crate::support::{Daemon, Database, shell_app, until};

/// An agent that waits for a file before it ends, so that a test can report in its name.
const WAITING: &str = "touch started; while [ ! -e go ]; do sleep 0.02; done";

async fn running(db: &Database, name: &str) -> (Daemon, Uuid) {
    let daemon = Daemon::start(name, db.url(), &shell_app(WAITING, 1)).await;
    let folder = daemon.path();
    let id = db.add_task(&json!({})).await;
    until("the agent runs", async || {
        folder.join("started").exists().then_some(()).ok_or(())
    })
    .await;
    (daemon, id)
}

fn go(daemon: &Daemon) {
    std::fs::write(daemon.path().join("go"), "").expect("the file");
}

#[tokio::test]
async fn the_published_script_form_completes_a_task_once() {
    let db = Database::create().await;
    let (daemon, id) = running(&db, "one").await;
    let body = r#"{"action":"completed","table_name":"support_tickets","machine_id":"unknown","data":{"result":{"category":"billing"}}}"#;
    let (status, answer) = daemon.report(id, body).await;
    assert_eq!(
        (status, &answer["success"]),
        (200, &json!(true)),
        "{answer}"
    );
    // The answer comes after the result is written.
    let row = db.task(id).await;
    assert_eq!(
        (row.status.as_str(), row.result.clone()),
        ("completed", Some(json!({"category": "billing"})))
    );
    let (status, answer) = daemon.report(id, body).await;
    assert_eq!(
        (status, &answer["duplicate"]),
        (200, &json!(true)),
        "{answer}"
    );
    let (status, answer) = daemon
        .report(id, r#"{"action":"failed","data":{"error":"late"}}"#)
        .await;
    assert_eq!(
        (status, &answer["status"]),
        (200, &json!("completed")),
        "{answer}"
    );
    assert_eq!(db.task(id).await, row);
    go(&daemon);
    daemon.stop().await;
}

#[tokio::test]
async fn a_reported_failure_keeps_its_message() {
    let db = Database::create().await;
    let (daemon, id) = running(&db, "one").await;
    let (status, _) = daemon
        .report(
            id,
            r#"{"action":"fail","data":{"error":{"message":"no such customer"}}}"#,
        )
        .await;
    assert_eq!(status, 200);
    let row = db.task(id).await;
    assert_eq!(
        (row.status.as_str(), row.error.as_deref(), row.retry_count),
        ("failed", Some("no such customer"), 1)
    );
    go(&daemon);
    daemon.stop().await;
}

#[tokio::test]
async fn bad_reports_get_clear_answers_and_change_nothing() {
    let db = Database::create().await;
    let (daemon, id) = running(&db, "one").await;
    let before = db.task(id).await;
    for (task, body, status, code) in [
        (id.to_string(), "{", 400, "VALIDATION_ERROR"),
        (
            id.to_string(),
            r#"{"action":"explode"}"#,
            400,
            "VALIDATION_ERROR",
        ),
        (
            Uuid::from_u128(7).to_string(),
            r#"{"action":"completed"}"#,
            404,
            "NOT_FOUND",
        ),
        (
            "not-a-uuid".to_owned(),
            r#"{"action":"completed"}"#,
            404,
            "NOT_FOUND",
        ),
    ] {
        let (found, answer) = daemon.report(&task, body).await;
        assert_eq!(
            (found, answer["code"].as_str()),
            (status, Some(code)),
            "{body}: {answer}"
        );
    }
    let large = format!(
        r#"{{"action":"completed","data":{{"result":"{}"}}}}"#,
        "x".repeat(10 * 1024 * 1024)
    );
    let (status, answer) = daemon.report(id, large).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (413, Some("PAYLOAD_TOO_LARGE")),
        "{answer}"
    );
    let after = db.task(id).await;
    assert!(
        ["claimed", "processing"].contains(&after.status.as_str()),
        "{after:?}"
    );
    assert_eq!(
        (after.attempt, after.locked_by),
        (before.attempt, before.locked_by)
    );
    go(&daemon);
    daemon.stop().await;
}

#[tokio::test]
async fn a_report_to_the_wrong_machine_says_who_holds_the_task() {
    let db = Database::create().await;
    let (daemon, id) = running(&db, "holder").await;
    let other = Daemon::start("other", db.url(), &shell_app("true", 1)).await;
    let (status, answer) = other.report(id, r#"{"action":"completed"}"#).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (409, Some("HELD_ELSEWHERE")),
        "{answer}"
    );
    assert!(
        answer["error"].as_str().unwrap().contains("holder"),
        "{answer}"
    );
    go(&daemon);
    daemon.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_report_after_the_lease_was_lost_is_not_written() {
    let db = Database::create().await;
    let (daemon, id) = running(&db, "one").await;
    // A person takes the task away and gives it to nobody.
    let sql = "update public.rtx_activities set status = 'canceled', locked_by = null, attempt = attempt + 1 where id = $1";
    db.client.execute(sql, &[&id]).await.unwrap();
    let (status, answer) = daemon
        .report(
            id,
            r#"{"action":"completed","data":{"result":{"late":true}}}"#,
        )
        .await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (409, Some("LEASE_LOST")),
        "{answer}"
    );
    let row = db.task(id).await;
    assert_eq!((row.status.as_str(), row.result), ("canceled", None));
    go(&daemon);
    daemon.stop().await;
}
