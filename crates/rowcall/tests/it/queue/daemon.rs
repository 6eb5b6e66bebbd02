//! `[worker]` in the configuration of a daemon: queues beside tables, with the same runners.

use serde_json::json;

use super::{Place, example};
use crate::support::{Daemon, until};

#[tokio::test]
async fn a_daemon_reads_queues_and_tables() {
    let place = Place::new().await;
    let script = example("queue-worker/worker.py");
    let config = place.path("rowcall.toml");
    std::fs::write(
        &config,
        format!(
            r#"
[worker]
idle_wait = "10m"

[worker.queues.incoming-messages]
run = ["python3", {script:?}]
timeout = "2s"
concurrency = 2
priority = 5
dead_letters = "incoming-dead"
max_retries = 1

[worker.queues.plain]
run = ["sh", "-c", "exit 0", "handler"]
kind = "process"
finish = "delete"
"#
        ),
    )
    .unwrap();
    let app = crate::support::shell_app("echo '{\"ok\": true}'", 2);
    let config = config.display().to_string();
    let env = [("ROWCALL_CONFIG", config.as_str())];
    let daemon = Daemon::start_with("both", &place.db.url(), &app, &env).await;
    let handled = async |table: &str, wanted: i64| {
        until(table, async || {
            let count = place.count(table).await;
            if count == wanted {
                Ok(())
            } else {
                Err((count, daemon.log()))
            }
        })
        .await;
    };
    place
        .done(&["queue", "send", "incoming-messages", r#"{"body": "hi"}"#])
        .await;
    handled("pgmq.\"a_incoming-messages\"", 1).await;
    // The example refuses what has no text.
    place
        .done(&["queue", "send", "incoming-messages", r#"{"no": "body"}"#])
        .await;
    handled("pgmq.\"q_incoming-dead\"", 1).await;
    let error = place
        .value("select message ->> 'error_message' from pgmq.\"q_incoming-dead\"")
        .await;
    assert!(error.as_str().unwrap().contains("`body`"), "{error}");
    place.done(&["queue", "send", "plain", "{}"]).await;
    handled("pgmq.q_plain", 0).await;
    let id = place
        .client
        .query_one(
            "insert into public.rtx_activities (raw_data) values ('{}') returning id::text",
            &[],
        )
        .await
        .unwrap()
        .get::<_, String>(0);
    until("the row is handled", async || {
        let sql = format!("select status from public.rtx_activities where id = '{id}'");
        let status = place.value(&sql).await;
        if status == json!("completed") {
            Ok(())
        } else {
            Err((status, daemon.log()))
        }
    })
    .await;
    // Changing the apps keeps the queues.
    place.done(&["app", "list"]).await;
    let disabled = crate::support::command(&daemon.path())
        .args(["app", "disable", "test"])
        .output()
        .await
        .unwrap();
    assert!(disabled.status.success());
    until("the apps are read again", async || {
        let log = daemon.log();
        if log.contains("apps changed") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    place
        .done(&["queue", "send", "incoming-messages", r#"{"body": "still"}"#])
        .await;
    handled("pgmq.\"a_incoming-messages\"", 3).await;
    daemon.stop().await;
}
