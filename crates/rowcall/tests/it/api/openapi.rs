//! The OpenAPI document: served as it is built, changed only on purpose, and true of what is answered.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    apps::with_program,
    world::{As, World},
};
use crate::support::until;

#[test]
fn the_document_changes_only_on_purpose() {
    insta::assert_snapshot!(rowcall::api::openapi().to_pretty_json().unwrap());
}

#[tokio::test]
async fn it_is_served_without_a_credential() {
    let world = World::start().await;
    let (status, served) = world.get("/rowcall/v1/openapi.json", As::Nobody).await;
    assert_eq!(status, 200);
    assert_eq!(
        served,
        serde_json::to_value(rowcall::api::openapi()).unwrap()
    );
    world.daemon.stop().await;
}

/// What `value` has that `schema` does not describe, and what it lacks. Types and formats are Schemathesis' matter.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let path = name.strip_prefix('#').expect("a part of this document");
        let schema = document.pointer(path).expect("it is there");
        return differences(document, schema, value, at, found);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        if !value.is_null() {
            for choice in choices.iter().filter(|choice| choice["type"] != "null") {
                differences(document, choice, value, at, found);
            }
        }
        return;
    }
    if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
        if values.is_empty() {
            found.push(format!("{at} has nothing in it to compare"));
        }
        for value in values {
            differences(document, items, value, &format!("{at}[]"), found);
        }
    }
    let (Some(described), Value::Object(members)) = (schema["properties"].as_object(), value)
    else {
        return;
    };
    for (name, value) in members {
        match described.get(name) {
            None => found.push(format!("{at}.{name} is not described")),
            Some(schema) => differences(document, schema, value, &format!("{at}.{name}"), found),
        }
    }
    for name in described.keys().filter(|name| !members.contains_key(*name)) {
        found.push(format!("{at}.{name} is described and not there"));
    }
}

/// Lists that are empty in the world of this test.
const EMPTY: [&str; 4] = [
    "/status.problems",
    "/status.running",
    ".attempted_by",
    ".problems",
];

#[tokio::test]
async fn every_member_of_an_answer_is_described() {
    let world = World::start_with(&with_program("echo up; exit 3", &json!({})), &[]).await;
    let operator = As::Operator;
    let post = async |path: &str, body: Value| world.post(path, operator, &body).await;
    let task = world
        .trigger(&json!({ "raw_data": { "n": 1 }, "agent_name": "echo", "workspace_slug": "default", "auto_run": true }))
        .await;
    post(
        "/rowcall/v1/workspaces/default/threads",
        json!({ "name": "One" }),
    )
    .await;
    post("/rowcall/v1/apps/demo/start", json!({})).await;
    // One permission is granted and used; another is asked for.
    world
        .cli_ok(&["permissions", "grant", "demo", "api.agents"])
        .await;
    assert_eq!(world.get("/agents", As::App).await.0, 200);
    // The answer waits for a person.
    let question = json!({ "app_id": world.app, "app_name": "Demo", "permission": "llm.chat" });
    let request = world
        .request(
            Method::POST,
            "/api/local-apps/request-permission",
            As::Nobody,
        )
        .body(question.to_string());
    let asking = tokio::spawn(request.send());
    until("the question and the use are noted", async || {
        let (_, seen) = world.get("/rowcall/v1/permissions", operator).await;
        let noted = |list: &str| seen[list].as_array().is_some_and(|list| !list.is_empty());
        if noted("waiting") && noted("used") {
            Ok(())
        } else {
            Err(seen)
        }
    })
    .await;
    until("the agent has answered", async || {
        let status = world.status(&task).await;
        if status == "completed" {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    until("the program has ended", async || {
        let (_, app) = world.get("/rowcall/v1/apps/demo", operator).await;
        if app["process"]["ended"].is_object() {
            Ok(())
        } else {
            Err(app)
        }
    })
    .await;
    let document = serde_json::to_value(rowcall::api::openapi()).unwrap();
    let mut found = Vec::new();
    for (path, template) in [
        ("/tasks", "/tasks"),
        (&*format!("/tasks/{task}"), "/tasks/{id}"),
        ("/calendar", "/calendar"),
        ("/apps", "/apps"),
        ("/apps/demo/logs", "/apps/{name}/logs"),
        ("/agents", "/agents"),
        ("/workspaces", "/workspaces"),
        ("/workspaces/default/threads", "/workspaces/{slug}/threads"),
        ("/keys", "/keys"),
        ("/permissions", "/permissions"),
        ("/permissions/log", "/permissions/log"),
        ("/machines", "/machines"),
        ("/status", "/status"),
    ] {
        let (status, answer) = world.get(&format!("/rowcall/v1{path}"), operator).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let schema = &document["paths"][format!("/rowcall/v1{template}")]["get"]["responses"]["200"]
            ["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{template}");
        differences(&document, schema, &answer, path, &mut found);
    }
    found.retain(|line| {
        !EMPTY
            .iter()
            .any(|empty| line.contains(&format!("{empty} has nothing")))
    });
    assert_eq!(found, Vec::<String>::new());
    asking.abort();
    world.daemon.stop().await;
}
