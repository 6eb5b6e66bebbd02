//! Who may do what: asking, deciding, forgetting, and decisions made in advance.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{As, World, demo};
use crate::support::{PATIENCE, http_client, until};

async fn ask(world: &World, permission: &str) -> (u16, Value) {
    let body = json!({ "app_id": world.app, "app_name": "Demo", "permission": permission });
    world
        .post("/api/local-apps/request-permission", As::Nobody, &body)
        .await
}

#[tokio::test]
async fn a_decision_is_stored_before_it_is_answered_and_survives_a_restart() {
    let app = demo();
    let world = World::start_with(&app, &[("ROWCALL__API__PERMISSION_TIMEOUT", "30s")]).await;
    let (answer, ()) = tokio::join!(ask(&world, "api.agents"), async {
        until("the question is there", async || {
            let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
            if all["waiting"][0]["permission"] == "api.agents" {
                Ok(())
            } else {
                Err(all)
            }
        })
        .await;
        let path = "/rowcall/v1/permissions/demo/api.agents";
        let (status, _) = world
            .put(path, As::Operator, &json!({ "decision": "granted" }))
            .await;
        assert_eq!(status, 200);
    });
    assert_eq!(answer, (200, json!({ "success": true, "granted": true })));
    assert_eq!(world.get("/agents", As::App).await.0, 200);
    // Asked again, it is answered at once.
    assert_eq!(ask(&world, "api.agents").await.1["granted"], true);
    let World {
        daemon,
        db,
        app: uuid,
        ..
    } = world;
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    let daemon = daemon.start_again(db.url(), &app).await;
    let answer = http_client()
        .get(format!("{}/agents", daemon.api()))
        .header("x-app-id", &uuid)
        .send()
        .await
        .expect("it answers");
    assert_eq!(
        answer.status().as_u16(),
        200,
        "the same uuid and the same grant"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn nobody_there_means_no_and_the_question_stays() {
    let world = World::start_with(&demo(), &[("ROWCALL__API__PERMISSION_TIMEOUT", "200ms")]).await;
    assert_eq!(
        ask(&world, "api.agents").await,
        (200, json!({ "success": true, "granted": false }))
    );
    let register = json!({ "app_id": world.app, "app_name": "Demo", "permissions": ["api.agents", "made.up", "api.agents"] });
    let (status, answer) = world.post("/sdk/register", As::Nobody, &register).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["dismissed"], &answer["permissions"]["granted"]),
        (&json!(true), &json!([]))
    );
    world.cli_ok(&["permissions", "grant", "demo", "*"]).await;
    let (_, answer) = world.post("/sdk/register", As::Nobody, &register).await;
    assert_eq!(answer["message"], "All permissions granted");
    assert_eq!(
        answer["permissions"],
        json!({ "granted": ["api.agents", "made.up"], "denied": [] })
    );
    assert_eq!(answer["dismissed"], false);
    assert_eq!(world.get("/agents", As::App).await.0, 200);
    // A denial is final until somebody resets it, and no question is asked meanwhile.
    world
        .cli_ok(&["permissions", "deny", "demo", "api.agents"])
        .await;
    assert_eq!(ask(&world, "api.agents").await.1["granted"], false);
    let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
    assert_eq!(all["waiting"], json!([]));
    assert_eq!(
        world.get("/agents", As::App).await.1["code"],
        "PERMISSION_REQUIRED"
    );
    assert_eq!(
        world
            .delete("/rowcall/v1/permissions/demo", As::Operator)
            .await
            .0,
        200
    );
    let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
    assert_eq!(all["decided"], json!([]));
    let log: Value =
        serde_json::from_str(&world.cli_ok(&["permissions", "log", "--json"]).await).unwrap();
    let words: Vec<&str> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["what"].as_str().unwrap())
        .filter(|word| *word != "used")
        .collect();
    assert_eq!(
        words,
        ["reset", "denied", "granted", "granted", "asked", "asked"],
        "{log}"
    );
    let uses = until("uses are written", async || {
        let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
        if all["used"][0]["uses"] == 1 {
            Ok(all)
        } else {
            Err(all)
        }
    })
    .await;
    assert_eq!(uses["used"][0]["permission"], "api.agents");
    let log = world.cli_ok(&["permissions", "log"]).await;
    let used = log.lines().find(|line| line.contains("used"));
    assert!(
        used.is_some_and(|line| line.contains("api.agents") && line.contains("1 times since")),
        "{log}"
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_a_manifest_declares_is_asked_before_the_app_calls() {
    let mut app = demo();
    app["permissions"] = json!(["api.agents", "llm.chat", "api.agents"]);
    let world = World::start_with(&app, &[]).await;
    let waiting = until("the questions are there", async || {
        let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
        if all["waiting"].as_array().unwrap().len() == 2 {
            Ok(all)
        } else {
            Err(all)
        }
    })
    .await;
    assert_eq!(waiting["waiting"][0]["asked_as"], "Demo", "{waiting}");
    world.cli_ok(&["permissions", "grant", "demo", "*"]).await;
    assert_eq!(world.get("/agents", As::App).await.0, 200);
    // An app that is added while the daemon runs is asked about as well.
    let manifest = json!({ "name": "second", "permissions": ["api.task"], "agents": [] });
    let file = world.path().join("second.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let said = world
        .cli(&["app", "add", file.to_str().unwrap()])
        .await
        .stderr;
    assert!(String::from_utf8_lossy(&said).contains("it asks for api.task"));
    until("its question is there", async || {
        let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
        if all["waiting"][0]["app"] == "second" {
            Ok(())
        } else {
            Err(all)
        }
    })
    .await;
    world.daemon.stop().await;
}

/// At a terminal, as a person meets it: `script` makes one, of Debian's essential packages.
#[tokio::test]
async fn a_person_at_the_terminal_decides() {
    let world = World::start_with(&demo(), &[("ROWCALL__API__PERMISSION_TIMEOUT", "50s")]).await;
    let line = format!(
        "{} --data-dir {} permissions",
        env!("CARGO_BIN_EXE_rowcall"),
        world.path().display()
    );
    let mut terminal = tokio::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script runs");
    let (mut keys, mut screen) = (
        terminal.stdin.take().unwrap(),
        terminal.stdout.take().unwrap(),
    );
    let person = async {
        let mut seen = String::new();
        for (question, key) in [("api.agents", "y"), ("api.workspaces", "n")] {
            while !(seen.contains(question) && seen.contains("[y]es")) {
                let mut bytes = [0; 1024];
                let count = screen.read(&mut bytes).await.unwrap();
                assert!(count > 0, "{seen}");
                seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            keys.write_all(format!("{key}\n").as_bytes()).await.unwrap();
            seen.clear();
        }
        (keys, screen)
    };
    let app = async {
        let yes = ask(&world, "api.agents").await.1["granted"].clone();
        (
            yes,
            ask(&world, "api.workspaces").await.1["granted"].clone(),
        )
    };
    let (answers, _open) = tokio::time::timeout(PATIENCE, async { tokio::join!(app, person) })
        .await
        .expect("both end");
    assert_eq!(answers, (json!(true), json!(false)));
    terminal.start_kill().unwrap();
    assert_eq!(world.get("/agents", As::App).await.0, 200);
    world.daemon.stop().await;
}

#[tokio::test]
async fn unknown_apps_are_refused_without_a_question() {
    let world = World::start().await;
    for id in ["nobody", "00000000-0000-4000-8000-000000000000"] {
        let body = json!({ "app_id": id, "app_name": "x", "permission": "api.agents" });
        let (status, answer) = world
            .post("/api/local-apps/request-permission", As::Nobody, &body)
            .await;
        assert_eq!(
            (status, &answer["error"], &answer["granted"]),
            (404, &json!("App not found"), &json!(false)),
            "{answer}"
        );
        let body = json!({ "app_id": id, "permissions": ["api.agents"] });
        let (status, answer) = world.post("/sdk/register", As::Nobody, &body).await;
        assert_eq!((status, &answer["error"]), (404, &json!("App not found")));
    }
    let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
    assert_eq!(all["waiting"], json!([]));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_policy_file_decides_where_nobody_sits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    std::fs::write(
        &file,
        "otherwise = \"deny\"\n[apps.demo]\nallow = [\"api.*\"]\ndeny = [\"api.task\"]\n",
    )
    .unwrap();
    let world =
        World::start_with(&demo(), &[("ROWCALL__API__POLICY", file.to_str().unwrap())]).await;
    assert_eq!(
        world.get("/agents", As::App).await.0,
        200,
        "no question is needed"
    );
    assert_eq!(ask(&world, "api.workspaces").await.1["granted"], true);
    assert_eq!(ask(&world, "api.task").await.1["granted"], false);
    assert_eq!(ask(&world, "llm.chat").await.1["granted"], false);
    let (_, all) = world.get("/rowcall/v1/permissions", As::Operator).await;
    assert_eq!(all["waiting"], json!([]));
    assert!(
        all["decided"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["decided_by"] == "policy"),
        "{all}"
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_app_cannot_fill_the_disk_with_questions() {
    let world = World::start_with(&demo(), &[("ROWCALL__API__PERMISSION_TIMEOUT", "100ms")]).await;
    let mut statuses = Vec::new();
    for round in 0..3 {
        let names: Vec<String> = (0..100)
            .map(|number| format!("made.up.{round}.{number}"))
            .collect();
        let body = json!({ "app_id": world.app, "permissions": names });
        statuses.push(world.post("/sdk/register", As::Nobody, &body).await.0);
    }
    assert_eq!(statuses, [200, 200, 400]);
    let long = "x".repeat(1_000);
    assert_eq!(ask(&world, &long).await.0, 400);
    world.daemon.stop().await;
}
