//! The published SDKs, unmodified, against a daemon. The scripts are in `tests/clients/sdk`.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::world::{World, demo};
use crate::support::{PATIENCE, clients, python_tool, until};

/// Starts a script with a credential in its environment.
fn start(world: &World, script: &str, credential: (&str, &str), more: &[(&str, &str)]) -> Child {
    let clients = clients();
    let program = match script.rsplit_once('.') {
        Some((_, "py")) => python_tool("python"),
        _ => "node".into(),
    };
    Command::new(program)
        .arg(clients.join("sdk").join(script))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("RTX_TEST_URL", world.daemon.api())
        .env(credential.0, credential.1)
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the script starts")
}

async fn passes(child: Child) {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("it ends")
        .expect("its output");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    assert!(text.contains("checks passed"), "{text}");
}

async fn all_works(script: &str, as_app: bool) {
    let world = World::start().await;
    world
        .cli_ok(&["workspace", "add", "my ops/1", "--name", "My ops"])
        .await;
    world.grant_all().await;
    let credential = if as_app {
        ("RTX_APP_ID", world.app.as_str())
    } else {
        ("RTX_API_KEY", world.key.as_str())
    };
    passes(start(&world, script, credential, &[])).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn javascript_as_an_app() {
    all_works("allowed.mjs", true).await;
}

#[tokio::test]
async fn javascript_as_a_developer() {
    all_works("allowed.mjs", false).await;
}

#[tokio::test]
async fn python_as_an_app() {
    all_works("allowed.py", true).await;
}

#[tokio::test]
async fn python_as_a_developer() {
    let mut app = demo();
    app["config"]["supabase"]["url"] = Value::Null;
    let world = World::start_with(&app, &[]).await;
    world.cli_ok(&["workspace", "add", "my ops/1"]).await;
    // A developer has no app, so the database's configuration is that of this machine: none with a foreign database.
    let child = start(&world, "allowed.py", ("RTX_API_KEY", &world.key), &[]);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let failed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("FAILED"))
        .collect();
    assert_eq!(failed, ["FAILED database"], "{text}");
    assert!(text.contains("Database configuration not found"), "{text}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn denied_permissions_are_typed_errors_in_both_languages() {
    let world = World::start().await;
    let mut args = vec!["permissions", "deny", "demo"];
    args.extend(rowcall::api::PERMISSIONS);
    world.cli_ok(&args).await;
    for script in ["refused.mjs", "refused.py"] {
        passes(start(&world, script, ("RTX_APP_ID", &world.app), &[])).await;
    }
    world.daemon.stop().await;
}

/// Answers questions as they come, like a person at the terminal.
async fn decide(world: &World, permission: &str, verb: &str) {
    until("the question is there", async || {
        let list: Value =
            serde_json::from_str(&world.cli_ok(&["permissions", "list", "--json"]).await).unwrap();
        let waiting = list["waiting"].as_array().unwrap();
        let count = waiting
            .iter()
            .filter(|one| one["permission"] == permission)
            .count();
        if count == 1 { Ok(()) } else { Err(list) }
    })
    .await;
    world
        .cli_ok(&["permissions", verb, "demo", permission])
        .await;
}

/// What both scripts go on with, in their order, when the first two questions are answered.
const LATER: [&str; 10] = [
    "api.threads",
    "api.task",
    "webhook.trigger",
    "activities.write",
    "activities.read",
    "llm.providers",
    "llm.chat",
    "llm.embed",
    "vectors.read",
    "vectors.write",
];

#[tokio::test]
async fn calls_wait_for_a_persons_decision() {
    for script in ["later.mjs", "later.py"] {
        let world = World::start().await;
        let child = start(&world, script, ("RTX_APP_ID", &world.app), &[]);
        decide(&world, "api.agents", "grant").await;
        if script == "later.py" {
            decide(&world, "made.up", "grant").await;
        }
        decide(&world, "api.workspaces", "deny").await;
        for permission in LATER {
            decide(&world, permission, "grant").await;
        }
        passes(child).await;
        world.daemon.stop().await;
    }
}

#[tokio::test]
async fn signed_events_are_checked() {
    const SECRET: &str = "s3cret of the app";
    let mut app = demo();
    app["config"]["command"] = "true".into();
    app["config"]["env"] = serde_json::json!({ "RTX_CONTRACT_CALLBACK_SECRET": SECRET, "RTX_CONTRACT_SIGN_CALLBACKS": "true" });
    let world = World::start_with(&app, &[]).await;
    world.grant_all().await;
    passes(start(
        &world,
        "signed.py",
        ("RTX_APP_ID", &world.app),
        &[("TEST_SECRET", SECRET)],
    ))
    .await;
    world.daemon.stop().await;
}
