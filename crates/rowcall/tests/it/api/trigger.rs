//! Starting agents by name.

use serde_json::{Value, json};

use super::world::{As, World, demo};
use crate::support::{BRIEF_LEASES, until};

fn event(payload: &Value) -> Value {
    json!({ "event": "task.trigger", "event_id": "e-1", "payload": payload })
}

#[tokio::test]
async fn a_repeated_event_is_one_task_and_belongs_to_its_caller() {
    let world = World::start().await;
    world.grant_all().await;
    let body = event(
        &json!({ "raw_data": { "n": 1 }, "auto_run": true, "agent_name": "echo", "workspace_slug": "default" }),
    );
    let mut tasks = Vec::new();
    for who in [As::Key(&world.key), As::Key(&world.key), As::App, As::App] {
        let (status, answer) = world.post("/webhooks/realtimex", who, &body).await;
        assert_eq!(
            (status, &answer["event_id"]),
            (200, &json!("e-1")),
            "{answer}"
        );
        tasks.push(answer["task_uuid"].as_str().unwrap().to_owned());
    }
    assert_eq!(tasks[0], tasks[1]);
    assert_eq!(tasks[2], tasks[3]);
    assert_ne!(
        tasks[0], tasks[2],
        "event ids of different callers have nothing to do with each other"
    );
    for task in [&tasks[0], &tasks[2]] {
        until("it is done", async || {
            match world.status(task).await.as_str() {
                "completed" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    }
    assert_eq!(world.db.all_tasks().await.len(), 2);
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_refused_trigger_leaves_nothing_behind() {
    let world = World::start().await;
    let payload = json!({ "raw_data": {}, "auto_run": true, "agent_name": "echo", "workspace_slug": "default" });
    let (status, answer) = world
        .post("/webhooks/realtimex", As::App, &event(&payload))
        .await;
    assert_eq!(
        (status, &answer["permission"]),
        (403, &json!("webhook.trigger")),
        "{answer}"
    );
    for (field, value, status, code) in [
        ("agent_name", json!(null), 400, "VALIDATION_ERROR"),
        ("workspace_slug", json!(""), 400, "VALIDATION_ERROR"),
        ("agent_name", json!("nobody"), 404, "NOT_FOUND"),
        ("workspace_slug", json!("nowhere"), 404, "NOT_FOUND"),
        ("thread_slug", json!("nothing"), 404, "NOT_FOUND"),
        ("auto_run", json!("yes"), 400, "VALIDATION_ERROR"),
        (
            "raw_data",
            json!({ "text": "\u{0}" }),
            400,
            "VALIDATION_ERROR",
        ),
    ] {
        let mut payload = payload.clone();
        payload[field] = value;
        let (found, answer) = world
            .post("/webhooks/realtimex", As::Key(&world.key), &event(&payload))
            .await;
        assert_eq!(
            (found, answer["code"].as_str()),
            (status, Some(code)),
            "{field}: {answer}"
        );
    }
    assert!(world.db.all_tasks().await.is_empty());
    // The event id is still free.
    let (status, _) = world
        .post("/webhooks/realtimex", As::Key(&world.key), &event(&payload))
        .await;
    assert_eq!(status, 200);
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_the_client_said_reaches_the_agent_and_places_are_kept() {
    let script = "import json, os; d = json.loads(os.environ['ACTIVITY_DATA']); print(json.dumps({'key': d['key'], 'table': d['table_name'], 'app': os.environ['RTX_APP_ID']}))";
    let mut app = demo();
    app["agents"][0]["args"] = json!(["-c", script]);
    app["config"]["supabase"]["max_concurrent_tasks"] = json!(1);
    // The body's app_id is enough, as Python's first releases sent it.
    let world = World::start_with(&app, &[]).await;
    world.grant_all().await;
    let mut tasks = Vec::new();
    for number in 0..3 {
        let body = json!({
            "app_id": world.app, "event": " Trigger-Agent ", "payload": {
                "raw_data": { "number": number }, "auto_run": true, "agent_name": "demo/echo", "workspace_slug": "default",
                "prompt": "two\nlines",
            }
        });
        let (status, answer) = world.post("/webhooks/realtimex", As::Nobody, &body).await;
        assert_eq!(status, 200, "{answer}");
        tasks.push(answer["task_uuid"].as_str().unwrap().to_owned());
    }
    for task in &tasks {
        let row = world.db.becomes(task.parse().unwrap(), "completed").await;
        let result = row.result.unwrap();
        assert_eq!(result["app"], world.app.as_str());
        assert_eq!(result["table"], "rtx_activities");
        assert_eq!(
            (
                &result["key"]["prompt"],
                &result["key"]["thread_slug"],
                &result["key"]["source_app"]
            ),
            (&json!("two\nlines"), &json!("general"), &json!(world.app))
        );
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_was_started_runs_after_a_restart() {
    let mut app = demo();
    app["agents"][0] = json!({ "id": "echo", "command": "sh", "args": ["-c", "while [ ! -e go ]; do sleep 0.02; done"] });
    let world = World::start_with(&app, &BRIEF_LEASES).await;
    let payload = json!({ "raw_data": {}, "auto_run": true, "agent_name": "echo", "workspace_slug": "default" });
    let task = world.trigger(&payload).await;
    until("it runs", async || {
        match world.status(&task).await.as_str() {
            "claimed" | "processing" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    let World { daemon, db, .. } = world;
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    std::fs::write(daemon.path().join("go"), "").unwrap();
    let daemon = daemon.start_again(db.url(), &app).await;
    // The lease of the killed daemon expires; the agent is known by its name again.
    let row = db.becomes(task.parse().unwrap(), "completed").await;
    assert_eq!(row.attempt, 2);
    daemon.stop().await;
}
