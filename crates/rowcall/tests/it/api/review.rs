//! Tasks that wait for a person: approved, put off, skipped.

use serde_json::{Value, json};

use super::world::{As, World, echo};
use crate::support::until;

/// An app whose handler of `rtx_activities` waits for a person.
fn reviewed() -> Value {
    json!({
        "name": "demo",
        "config": {
            "supabase": { "tables": ["public.rtx_activities"], "max_concurrent_tasks": 2 },
            "agentHandlers": [{ "tableName": "rtx_activities", "agentId": "echo", "eventTypes": ["INSERT"], "trigger": "review" }]
        },
        "agents": [echo()]
    })
}

async fn entry_of(world: &World, task: &str) -> Value {
    until("the entry is there", async || {
        let (_, all) = world
            .get("/rowcall/v1/calendar?limit=1000", As::Operator)
            .await;
        let entries = all["entries"].as_array().unwrap().clone();
        entries
            .into_iter()
            .find(|entry| entry["task_id"] == task)
            .ok_or(all)
    })
    .await
}

#[tokio::test]
async fn nothing_runs_until_a_person_approves() {
    let world = World::start_with(&reviewed(), &[]).await;
    let task = world.db.add_task(&json!({ "n": 1 })).await;
    let entry = entry_of(&world, &task.to_string()).await;
    assert_eq!(
        (&entry["state"], &entry["trigger"]),
        (&json!("waiting"), &json!("review"))
    );
    assert_eq!(world.db.task(task).await.attempt, 0);
    let (status, answer) = world
        .post(
            &format!("/rowcall/v1/calendar/{}/run", entry["id"]),
            As::Operator,
            &json!({}),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let row = world.db.becomes(task, "completed").await;
    assert_eq!((row.attempt, row.result), (1, Some(json!({ "n": 1 }))));
    // From the command line as well.
    let second = world.db.add_task(&json!({ "n": 2 })).await;
    entry_of(&world, &second.to_string()).await;
    world
        .cli_ok(&["calendar", "run", &second.to_string()])
        .await;
    world.db.becomes(second, "completed").await;
    let (status, answer) = world
        .post(
            &format!("/rowcall/v1/calendar/{}/run", entry["id"]),
            As::Operator,
            &json!({}),
        )
        .await;
    assert_eq!(status, 409, "what is done is done: {answer}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_skipped_task_is_called_off_and_a_rescheduled_one_runs_then() {
    let world = World::start_with(&reviewed(), &[]).await;
    let (skipped, later) = (
        world.db.add_task(&json!({})).await,
        world.db.add_task(&json!({ "later": true })).await,
    );
    for task in [skipped, later] {
        entry_of(&world, &task.to_string()).await;
    }
    world
        .cli_ok(&["calendar", "skip", &skipped.to_string()])
        .await;
    let row = world.db.task(skipped).await;
    assert_eq!((row.status.as_str(), row.attempt), ("canceled", 0));
    assert!(row.error.unwrap().contains("skipped by"));
    assert_eq!(
        entry_of(&world, &skipped.to_string()).await["state"],
        "skipped"
    );
    // Far away first: it stays; then now.
    world
        .cli_ok(&["calendar", "reschedule", &later.to_string(), "24h"])
        .await;
    let entry = entry_of(&world, &later.to_string()).await;
    assert!(
        entry["scheduled_for"].is_string() && entry["state"] == "waiting",
        "{entry}"
    );
    let body = json!({ "at": "2020-01-01T00:00:00Z" });
    let (status, answer) = world
        .post(
            &format!("/rowcall/v1/calendar/{}/reschedule", entry["id"]),
            As::Operator,
            &body,
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    world.db.becomes(later, "completed").await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_clients_task_waits_and_gets_its_agent_from_a_person() {
    let world = World::start().await;
    let nameless = world.trigger(&json!({ "raw_data": { "n": 1 } })).await;
    let named = world
        .trigger(
            &json!({ "raw_data": { "n": 2 }, "agent_name": "echo", "workspace_slug": "default" }),
        )
        .await;
    let entry = entry_of(&world, &nameless).await;
    let path = format!("/rowcall/v1/calendar/{}/run", entry["id"]);
    let (status, answer) = world.post(&path, As::Operator, &json!({})).await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("VALIDATION_ERROR")),
        "{answer}"
    );
    assert_eq!(
        world
            .post(&path, As::Operator, &json!({ "agent": "nobody" }))
            .await
            .0,
        404
    );
    world
        .cli_ok(&["calendar", "run", &nameless, "--agent", "echo"])
        .await;
    let row = world
        .db
        .becomes(nameless.parse().unwrap(), "completed")
        .await;
    assert_eq!(row.result, Some(json!({ "n": 1 })));
    assert_eq!(
        world.status(&named).await,
        "pending",
        "the other one still waits"
    );
    let ids: Vec<Value> = vec![entry_of(&world, &named).await["id"].clone(), json!(987_654)];
    let (status, answer) = world
        .post(
            "/rowcall/v1/calendar/bulk",
            As::Operator,
            &json!({ "action": "run", "ids": ids }),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["results"][0]["done"], &answer["results"][1]["done"]),
        (&json!(true), &json!(false)),
        "{answer}"
    );
    world.db.becomes(named.parse().unwrap(), "completed").await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn without_a_place_an_approved_task_waits_for_one() {
    let mut app = reviewed();
    app["config"]["supabase"]["max_concurrent_tasks"] = json!(1);
    app["agents"][0] = json!({ "id": "echo", "command": "sh", "args": ["-c", "while [ ! -e go ]; do sleep 0.02; done"] });
    let world = World::start_with(&app, &[]).await;
    let tasks = [
        world.db.add_task(&json!({})).await,
        world.db.add_task(&json!({})).await,
    ];
    for task in tasks {
        let entry = entry_of(&world, &task.to_string()).await;
        let (status, answer) = world
            .post(
                &format!("/rowcall/v1/calendar/{}/run", entry["id"]),
                As::Operator,
                &json!({}),
            )
            .await;
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(world.db.task(tasks[1]).await.status, "pending");
    std::fs::write(world.path().join("go"), "").unwrap();
    for task in tasks {
        world.db.becomes(task, "completed").await;
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn the_calendar_is_a_feed_for_calendar_programs() {
    let world = World::start().await;
    let task = world.trigger(&json!({ "raw_data": {} })).await;
    entry_of(&world, &task).await;
    let url = world.cli_ok(&["calendar", "feed"]).await;
    let url = url.trim().replace("localhost", "127.0.0.1");
    let get = async |url: &str| {
        let answer = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(url)
            .send()
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .to_owned(),
            answer.text().await.unwrap(),
        )
    };
    let (status, kind, text) = get(&url).await;
    assert_eq!(
        (status, kind.as_str()),
        (200, "text/calendar; charset=utf-8")
    );
    assert!(text.replace("\r\n ", "").contains(&task), "{text}");
    let (status, _, _) = get(&format!("{url}x")).await;
    assert_eq!(status, 401);
    // The feed's token opens nothing else.
    let token = url.split_once("token=").unwrap().1;
    assert_eq!(world.get("/rowcall/v1/tasks", As::Key(token)).await.0, 401);
    world.daemon.stop().await;
}
