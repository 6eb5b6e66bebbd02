//! `/rowcall/v1` as the operator and the command line use it.

use reqwest::Method;
use serde_json::{Value, json};

use super::world::{As, World};
use crate::support::until;

#[tokio::test]
async fn tasks_are_made_listed_shown_and_called_off() {
    let world = World::start().await;
    let body =
        json!({ "raw_data": { "n": 5 }, "agent": "echo", "auto_run": true, "event_id": "once" });
    let (status, made) = world.post("/rowcall/v1/tasks", As::Operator, &body).await;
    assert_eq!(status, 201, "{made}");
    let id = made["task"]["task_id"].as_str().unwrap().to_owned();
    let (_, again) = world.post("/rowcall/v1/tasks", As::Operator, &body).await;
    assert_eq!(again["task"]["task_id"], id.as_str());
    world.db.becomes(id.parse().unwrap(), "completed").await;
    let (_, list) = world
        .get(
            "/rowcall/v1/tasks?state=completed,failed&limit=10",
            As::Operator,
        )
        .await;
    assert_eq!(list["tasks"][0]["id"], id.as_str(), "{list}");
    let detail = until("the attempt is written", async || {
        let (_, detail) = world
            .get(&format!("/rowcall/v1/tasks/{id}"), As::Operator)
            .await;
        if detail["attempts"][0]["outcome"] == "completed" {
            Ok(detail)
        } else {
            Err(detail)
        }
    })
    .await;
    assert_eq!(
        (&detail["task"]["result"], &detail["trigger"]["agent"]),
        (&json!({ "n": 5 }), &json!("echo"))
    );
    let (_, logs) = world
        .get(&format!("/rowcall/v1/tasks/{id}/logs"), As::Operator)
        .await;
    assert_eq!(logs["lines"][0]["line"], r#"{"n": 5}"#, "{logs}");
    let (status, _) = world
        .post(
            &format!("/rowcall/v1/tasks/{id}/cancel"),
            As::Operator,
            &json!({}),
        )
        .await;
    assert_eq!(status, 409, "what is completed stays so");
    let (_, waits) = world
        .post(
            "/rowcall/v1/tasks",
            As::Operator,
            &json!({ "raw_data": {} }),
        )
        .await;
    let waits = waits["task"]["task_id"].as_str().unwrap();
    let body = json!({ "reason": "no longer needed" });
    assert_eq!(
        world
            .post(
                &format!("/rowcall/v1/tasks/{waits}/cancel"),
                As::Operator,
                &body
            )
            .await
            .0,
        200
    );
    assert_eq!(
        world.db.task(waits.parse().unwrap()).await.error.as_deref(),
        Some("no longer needed")
    );
    assert_eq!(
        world
            .post(
                &format!("/rowcall/v1/tasks/{waits}/retry"),
                As::Operator,
                &json!({})
            )
            .await
            .0,
        200
    );
    assert_eq!(
        world.db.task(waits.parse().unwrap()).await.status,
        "pending"
    );
    for bad in [
        "state=odd",
        "limit=0",
        "limit=5000",
        "event=x",
        "table=a.b.c",
    ] {
        assert_eq!(
            world
                .get(&format!("/rowcall/v1/tasks?{bad}"), As::Operator)
                .await
                .0,
            400,
            "{bad}"
        );
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn apps_are_managed() {
    let world = World::start().await;
    let manifest = json!({ "name": "other", "agents": [{ "id": "echo", "command": "true" }] });
    let (status, added) = world
        .put("/rowcall/v1/apps/second", As::Operator, &manifest)
        .await;
    assert_eq!(
        (status, &added["name"]),
        (201, &json!("second")),
        "the path's name counts: {added}"
    );
    assert!(added["uuid"].is_string());
    // Two apps have an agent of this id now: each has its own slug.
    let (_, agents) = world.get("/agents", As::Key(&world.key)).await;
    let slugs: Vec<&str> = agents["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["slug"].as_str().unwrap())
        .collect();
    assert_eq!(slugs, ["demo/echo", "second/echo"]);
    let bad = json!({ "config": { "supabase": { "max_concurrent_task": 3 } } });
    let (status, answer) = world
        .put("/rowcall/v1/apps/second", As::Operator, &bad)
        .await;
    assert!(
        status == 400
            && answer["error"]
                .as_str()
                .unwrap()
                .contains("max_concurrent_tasks"),
        "{answer}"
    );
    assert_eq!(
        world
            .post("/rowcall/v1/apps/second/disable", As::Operator, &json!({}))
            .await
            .0,
        200
    );
    assert_eq!(
        world.get("/agents", As::Key(&world.key)).await.1["agents"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        world
            .delete("/rowcall/v1/apps/second", As::Operator)
            .await
            .0,
        200
    );
    assert_eq!(
        world.get("/rowcall/v1/apps/second", As::Operator).await.0,
        404
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn agents_are_managed_one_by_one() {
    let world = World::start().await;
    let path = "/rowcall/v1/apps/demo/agents/other";
    let prints = |text: &str| json!({ "command": "sh", "args": ["-c", format!("echo '{{\"said\":\"{text}\"}}'")] });
    assert_eq!(world.put(path, As::Operator, &json!({})).await.0, 400);
    assert_eq!(world.put(path, As::Operator, &prints("one")).await.0, 201);
    assert_eq!(world.put(path, As::Operator, &prints("two")).await.0, 200);
    let start = json!({ "raw_data": {}, "auto_run": true, "agent_name": "other", "workspace_slug": "default" });
    let task = world.trigger(&start).await;
    let row = world.db.becomes(task.parse().unwrap(), "completed").await;
    assert_eq!(row.result, Some(json!({ "said": "two" })));
    assert_eq!(world.delete(path, As::Operator).await.0, 200);
    assert_eq!(world.delete(path, As::Operator).await.0, 404);
    // From the command line as well; a running daemon takes it up by itself.
    world
        .cli_ok(&[
            "agent",
            "add",
            "demo",
            "third",
            "--timeout",
            "60",
            "--",
            "sh",
            "-c",
            "echo '{\"said\":3}'",
        ])
        .await;
    let list = world.cli_ok(&["agent", "list"]).await;
    assert!(
        list.lines()
            .any(|line| line.contains("third") && line.contains("60 s")),
        "{list}"
    );
    let mut start = start;
    start["agent_name"] = json!("third");
    let task = world.trigger(&start).await;
    let row = world.db.becomes(task.parse().unwrap(), "completed").await;
    assert_eq!(row.result, Some(json!({ "said": 3 })));
    world.cli_ok(&["agent", "remove", "demo", "third"]).await;
    let (_, agents) = world.get("/rowcall/v1/agents", As::Operator).await;
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "{agents}");
    assert!(
        !world
            .cli(&["agent", "remove", "demo", "third"])
            .await
            .status
            .success()
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn workspaces_and_threads_are_managed() {
    let world = World::start().await;
    let (status, _) = world
        .post(
            "/rowcall/v1/workspaces",
            As::Operator,
            &json!({ "name": "My Ops" }),
        )
        .await;
    assert_eq!(status, 201);
    let body = json!({ "name": "Odd / one", "slug": "odd/one" });
    assert_eq!(
        world
            .post("/rowcall/v1/workspaces/my-ops/threads", As::Operator, &body)
            .await
            .0,
        201
    );
    assert_eq!(
        world
            .post("/rowcall/v1/workspaces/my-ops/threads", As::Operator, &body)
            .await
            .0,
        409
    );
    let (_, threads) = world
        .get("/workspaces/my-ops/threads", As::Key(&world.key))
        .await;
    assert_eq!(threads["threads"][1]["slug"], "odd/one", "{threads}");
    assert_eq!(
        world
            .delete(
                "/rowcall/v1/workspaces/my-ops/threads/odd%2Fone",
                As::Operator
            )
            .await
            .0,
        200
    );
    assert_eq!(
        world
            .delete("/rowcall/v1/workspaces/my-ops", As::Operator)
            .await
            .0,
        200
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let world = World::start().await;
    let (status, made) = world
        .post("/rowcall/v1/keys", As::Operator, &json!({ "name": "ci" }))
        .await;
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(
        (status, world.get("/sdk/ping", As::Key(&key)).await.0),
        (201, 200)
    );
    let (_, keys) = world.get("/rowcall/v1/keys", As::Operator).await;
    assert!(
        !keys.to_string().contains(&key),
        "a key is never shown again"
    );
    assert_eq!(
        world.delete("/rowcall/v1/keys/ci", As::Operator).await.0,
        200
    );
    assert_eq!(world.get("/sdk/ping", As::Key(&key)).await.0, 401);
    until("its last use is written", async || {
        let (_, keys) = world.get("/rowcall/v1/keys", As::Operator).await;
        let ci = keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "ci")
            .unwrap()
            .clone();
        if ci["last_used_at"].is_string() {
            Ok(())
        } else {
            Err(keys)
        }
    })
    .await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn the_daemon_says_how_it_is() {
    let world = World::start().await;
    until("it is ready", async || {
        let (status, answer) = world.get("/rowcall/v1/ready", As::Nobody).await;
        if status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(
        world.get("/rowcall/v1/health", As::Nobody).await.1["status"],
        "ok"
    );
    let (_, machines) = world.get("/rowcall/v1/machines", As::Operator).await;
    assert_eq!(
        (
            &machines["machines"][0]["id"],
            &machines["machines"][0]["own"]
        ),
        (&json!("here"), &json!(true))
    );
    let (_, status) = world.get("/rowcall/v1/status", As::Operator).await;
    assert_eq!(status["sources"][0]["up"], true, "{status}");
    let task = world.trigger(&json!({ "raw_data": {}, "auto_run": true, "agent_name": "echo", "workspace_slug": "default" })).await;
    world.db.becomes(task.parse().unwrap(), "completed").await;
    let answer = world
        .request(Method::GET, "/rowcall/v1/metrics", As::Operator)
        .send()
        .await
        .unwrap();
    assert!(
        answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.text().await.unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(
            name.starts_with("rowcall_") && value.parse::<f64>().is_ok(),
            "{line}"
        );
    }
    assert!(
        text.contains("rowcall_tasks_total{outcome=\"completed\"} 1"),
        "{text}"
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn commands_without_a_daemon_say_so() {
    let dir = rowcall_stack::testing::scratch_dir();
    let output = crate::support::run(dir.path(), &["app", "start", "demo"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("rowcall up"),
        "{said}"
    );
    let list = crate::support::run(dir.path(), &["permissions", "list", "--json"]).await;
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list["waiting"], json!([]));
}
