//! Who may report on a task: its own processes, who has its token, who is somebody.

use serde_json::{Value, json};

use super::world::{As, World, demo};
use crate::support::until;

/// An agent that reports by itself, without a credential, as published scripts do.
const REPORTS: &str = "
import json, os, urllib.request
url = os.environ['SERVER_URL'] + '/api/external-tasks/' + os.environ['TASK_UUID'] + '/webhook'
body = json.dumps({'action': 'completed', 'data': {'result': {'by': 'webhook'}}}).encode()
request = urllib.request.Request(url, body, {'Content-Type': 'application/json'})
print(urllib.request.urlopen(request, timeout=30).status)
";

/// An agent that waits until it may end, and shows its token.
const WAITS: &str = "echo \"$ROWCALL_TASK_TOKEN\" > token.new; mv token.new token; while [ ! -e go ]; do sleep 0.02; done";

fn with_agent(command: &str, flag: &str, script: &str) -> Value {
    let mut app = demo();
    app["agents"][0] =
        json!({ "id": "echo", "command": command, "args": [flag, script], "timeout_seconds": 60 });
    app
}

fn start() -> Value {
    json!({ "raw_data": {}, "auto_run": true, "agent_name": "echo", "workspace_slug": "default" })
}

#[tokio::test]
async fn the_process_that_runs_the_task_needs_no_token() {
    let world = World::start_with(&with_agent("python3", "-c", REPORTS), &[]).await;
    let task = world.trigger(&start()).await;
    let row = world.db.becomes(task.parse().unwrap(), "completed").await;
    assert_eq!(row.result, Some(json!({ "by": "webhook" })));
    world.daemon.stop().await;
}

#[tokio::test]
async fn with_tokens_only_even_that_process_is_refused() {
    let world = World::start_with(
        &with_agent("python3", "-c", REPORTS),
        &[("ROWCALL__API__TOKENLESS_REPORTS", "off")],
    )
    .await;
    let task = world.trigger(&start()).await;
    let row = world.db.becomes(task.parse().unwrap(), "failed").await;
    assert!(
        row.error.unwrap().contains("401"),
        "the script saw the refusal"
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn strangers_are_refused_and_tokens_count_for_their_attempt_alone() {
    let world = World::start_with(&with_agent("sh", "-c", WAITS), &[]).await;
    let task = world.trigger(&start()).await;
    let file = world.path().join("token");
    let token = until("the agent runs", async || {
        std::fs::read_to_string(&file).map_err(|error| error.to_string())
    })
    .await;
    let token = token.trim();
    let path = format!("/api/external-tasks/{task}/webhook");
    let done = json!({ "action": "completed", "data": { "result": { "n": 1 } } });
    let (status, answer) = world.post(&path, As::Nobody, &done).await;
    assert_eq!(
        (status, &answer["code"]),
        (401, &json!("TASK_TOKEN_REQUIRED")),
        "{answer}"
    );
    let event =
        json!({ "event": "task.completed", "payload": { "task_uuid": task, "result": {} } });
    assert_eq!(
        world
            .post("/webhooks/realtimex", As::Nobody, &event)
            .await
            .0,
        401
    );
    for bad in ["", "x", "rct_1_00", &token.replacen("rct_1", "rct_2", 1)] {
        let request = world
            .request(reqwest::Method::POST, &path, As::Nobody)
            .header("x-rowcall-task-token", bad);
        let (status, answer) = world.send(request.body(done.to_string())).await;
        assert_eq!(
            (status, &answer["code"]),
            (401, &json!("INVALID_TASK_TOKEN")),
            "{bad}: {answer}"
        );
    }
    assert!(["claimed", "processing"].contains(&world.status(&task).await.as_str()));
    let request = world
        .request(reqwest::Method::POST, &path, As::Nobody)
        .header("x-rowcall-task-token", token);
    let (status, answer) = world.send(request.body(done.to_string())).await;
    assert_eq!(
        (status, &answer["status"]),
        (200, &json!("completed")),
        "{answer}"
    );
    assert_eq!(
        world.db.task(task.parse().unwrap()).await.result,
        Some(json!({ "n": 1 }))
    );
    std::fs::write(world.path().join("go"), "").unwrap();
    world.daemon.stop().await;
}

#[tokio::test]
async fn unknown_tasks_are_not_found_for_everybody() {
    let world = World::start().await;
    for id in ["00000000-0000-4000-8000-000000000000", "nope", "%00"] {
        let (status, answer) = world
            .post(
                &format!("/api/external-tasks/{id}/webhook"),
                As::Nobody,
                &json!({ "action": "completed" }),
            )
            .await;
        assert_eq!(status, 404, "{answer}");
        assert!(
            answer["error"].as_str().unwrap().contains("not found"),
            "{answer}"
        );
        let event = json!({ "event": "task.completed", "payload": { "task_uuid": id } });
        let (status, answer) = world
            .post("/webhooks/realtimex", As::Key(&world.key), &event)
            .await;
        assert_eq!(status, 404, "{answer}");
    }
    world.daemon.stop().await;
}
