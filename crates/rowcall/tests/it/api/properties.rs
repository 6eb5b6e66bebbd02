//! Schemathesis against `/rowcall/v1`: what it makes of the served OpenAPI document breaks nothing, and every answer is one
//! that the document describes. Bounded and with a fixed seed: 8 cases per operation when it fuzzes, some ten seconds.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use super::world::{As, World, demo};
use crate::support::{PATIENCE, python_tool};

/// What every answer is held against. Refusing negative data is not among them: unknown members are ignored on purpose.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,ignored_auth,unsupported_method";

/// Streams go on, and have no body to look at.
const STREAMS: &str = r"(/events|apps/\{name\}/logs)$";

async fn run(world: &World, config: &str, more: &[&str]) {
    let folder = rowcall_stack::testing::scratch_dir();
    // The token stands in a file: arguments can be read by everybody on the machine.
    let text = format!(
        "[headers]\nAuthorization = \"Bearer {}\"\n{config}",
        world.token()
    );
    let file = folder.path().join("schemathesis.toml");
    fs::write(&file, text).unwrap();
    let child = tokio::process::Command::new(python_tool("schemathesis"))
        .arg("--config-file")
        .arg(&file)
        .arg("run")
        .arg(format!("{}/rowcall/v1/openapi.json", world.daemon.api()))
        .args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS])
        .args([
            "--exclude-path-regex",
            STREAMS,
            "--max-examples",
            "8",
            "--seed",
            "1",
        ])
        .args([
            "--generation-database",
            "none",
            "--continue-on-failure",
            "--no-color",
        ])
        .args(["--request-timeout", "30", "--warnings", "off"])
        .args(more)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Schemathesis starts");
    let output = tokio::time::timeout(PATIENCE * 3, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", world.daemon.log());
    let line = said.lines().find(|line| line.contains(" generated, "));
    let generated: u32 = line
        .and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert!(generated > 500, "it did ask: {said}");
    let (status, _) = world.get("/rowcall/v1/status", As::Operator).await;
    assert_eq!(status, 200, "it still works");
}

/// An app with a program, so that starting and stopping it does something.
fn with_program() -> Value {
    let mut app = demo();
    app["config"]["command"] = json!("sleep");
    app["config"]["args"] = json!(["1000"]);
    app
}

#[tokio::test]
async fn whatever_the_document_allows_is_answered_as_it_says() {
    let world = World::start_with(&with_program(), &[]).await;
    run(&world, "", &[]).await;
    world.daemon.stop().await;
}

/// The same with names of things that exist, so that the requests get further. Nothing is removed, or it would not exist.
#[tokio::test]
async fn things_that_exist_stand_it_too() {
    let world = World::start_with(&with_program(), &[]).await;
    let task = world.trigger(&json!({ "raw_data": {} })).await;
    let (_, calendar) = world.get("/rowcall/v1/calendar", As::Operator).await;
    let entry = &calendar["entries"][0]["id"];
    let config = format!(
        r#"
[parameters]
"path.name" = "demo"
"path.app" = "demo"
"path.permission" = "api.agents"
"path.slug" = "default"
"path.thread" = "general"

[[operations]]
include-path-regex = "/tasks/"
[operations.parameters]
"path.id" = "{task}"

[[operations]]
include-path-regex = "/calendar/"
[operations.parameters]
"path.id" = {entry}
"#
    );
    run(&world, &config, &["--exclude-method", "DELETE"]).await;
    world.daemon.stop().await;
}
