//! Compatible mode: tasks in `rtx_activities`.

use reqwest::Method;
use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Daemon, Project, command, http_client, shell_app, until};

async fn insert(project: &Project, raw_data: &Value) -> Uuid {
    let sql = "insert into public.rtx_activities (raw_data) values ($1) returning id";
    let row = project.client.query_one(sql, &[raw_data]).await;
    row.expect("a task").get(0)
}

async fn becomes(project: &Project, id: Uuid, status: &str) -> (Option<String>, Option<Value>) {
    until(status, async || {
        let sql = "select status, locked_by, result, error_message from public.rtx_activities where id = $1";
        let row = project.client.query_one(sql, &[&id]).await.expect("the task");
        let (found, by): (String, Option<String>) = (row.get(0), row.get(1));
        let error: Option<String> = row.get(3);
        if found == status {
            Ok((by, row.get(2)))
        } else {
            Err((found, by, error))
        }
    })
    .await
}

async fn run_in(daemon: &Daemon, args: &[&str]) -> (String, String) {
    let output = command(&daemon.path())
        .env("ROWCALL__SECRETS", "file")
        .args(args)
        .output()
        .await;
    let output = output.expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        text(&output.stderr)
    );
    (text(&output.stdout), text(&output.stderr))
}

/// The whole promise: a URL, an anon key, an app, and a row is handled. Once from the environment, once from the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_and_an_anon_key_are_enough() {
    let project = Project::open().await;
    let app = shell_app(r#"echo "{\"said\": \"$SUPABASE_URL\"}""#, 2);
    let (url, key) = (project.url(), project.keys.anon_key().to_owned());
    let file =
        format!("[backend]\nurl = \"{url}\"\nkey = \"{key}\"\nuser_email = \"ada@example.com\"\n");
    let env = [
        ("ROWCALL__BACKEND__KIND", "supabase"),
        ("ROWCALL__BACKEND__URL", url.as_str()),
        ("ROWCALL__BACKEND__KEY", key.as_str()),
    ];
    for (name, config, env) in [
        ("by-file", file.as_str(), &[][..]),
        ("by-env", "", &env[..]),
    ] {
        let daemon = Daemon::on_project(name, &app, config, env).await;
        let id = insert(&project, &json!({"from": name})).await;
        let (by, result) = becomes(&project, id, "completed").await;
        assert_eq!(by.as_deref(), Some(name));
        assert_eq!(result, Some(json!({"said": url})));
        let log = daemon.log();
        assert!(!log.contains(&key), "the key is in the log: {log}");
        daemon.stop().await;
    }
}

/// Machines see each other, with what they run; a failure of one is tried by the other.
#[tokio::test(flavor = "multi_thread")]
async fn machines_see_each_other_and_take_over_failed_tasks() {
    let project = Project::open().await;
    let app = shell_app(r#"test "$MACHINE_ID" = two && echo '{"ok": true}'"#, 2);
    let config = format!(
        "[backend]\nurl = \"{}\"\nkey = \"{}\"\nuser_email = \"ada@example.com\"\n",
        project.url(),
        project.keys.anon_key()
    );
    let one = Daemon::on_project("one", &app, &config, &[]).await;
    let first = insert(&project, &json!({})).await;
    becomes(&project, first, "failed").await;
    let two = Daemon::on_project("two", &app, &config, &[]).await;
    let machines = until("both machines are seen", async || {
        let (text, _) = run_in(&one, &["machines", "--json"]).await;
        let machines: Value = serde_json::from_str(&text).expect("JSON");
        if machines.as_array().is_some_and(|all| all.len() == 2) {
            Ok(machines)
        } else {
            Err(text)
        }
    })
    .await;
    assert_eq!(
        (&machines[0]["id"], &machines[0]["own"]),
        (&json!("one"), &json!(true))
    );
    let other = &machines[1];
    assert_eq!(
        (&other["id"], &other["own"]),
        (&json!("two"), &json!(false))
    );
    assert_eq!(other["user_email"], "ada@example.com");
    assert_eq!(other["app_name"], "test");
    assert_eq!(other["status"], "idle");
    assert!(
        other["host"].is_string() && other["started_at"].is_string(),
        "{other}"
    );
    let (table, _) = run_in(&one, &["machines"]).await;
    assert!(
        table.contains("one (this one)") && table.contains("two"),
        "{table}"
    );
    // What one has failed, two does; also what fails from now on.
    let second = insert(&project, &json!({})).await;
    for id in [first, second] {
        let (by, _) = becomes(&project, id, "completed").await;
        assert_eq!(by.as_deref(), Some("two"));
    }
    // People look at tasks through the project too.
    let (text, _) = run_in(&one, &["task", "show", &first.to_string(), "--json"]).await;
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&shown["status"], &shown["retry_count"]),
        (&json!("completed"), &json!(1))
    );
    one.stop().await;
    two.stop().await;
}

/// With Realtime out of reach the daemon polls, and with the project out of reach it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_away_at_the_start_is_waited_for() {
    let project = Project::open().await;
    let app = shell_app("echo '{}'", 1);
    // A port that nobody answers on until the proxy listens.
    let address = ("127.0.0.1", rowcall_stack::testing::reserved_port());
    let config = format!(
        "[backend]\nurl = \"http://{}:{}\"\nkey = \"{}\"\n",
        address.0,
        address.1,
        project.keys.anon_key()
    );
    let daemon = Daemon::on_project("patient", &app, &config, &[]).await;
    let id = insert(&project, &json!({})).await;
    let target = project.stack.addresses()[0];
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .expect("the port is free");
    let proxy = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut far) = tokio::net::TcpStream::connect(target).await {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    becomes(&project, id, "completed").await;
    daemon.stop().await;
    proxy.abort();
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let dir = scratch_dir();
    let run = async |env: &[(&str, &str)], args: &[&str]| {
        let mut command = command(dir.path());
        command
            .env("ROWCALL__SECRETS", "file")
            .envs(env.iter().copied())
            .args(args);
        let output = command.output().await.expect("the program runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = run(&[("ROWCALL__BACKEND__KIND", "supabase")], &["up"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("backend.url"), "{said}");
    let url = ("ROWCALL__BACKEND__URL", "http://127.0.0.1:9");
    let (code, said) = run(&[url], &["up", "--api-port", "0"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("rowcall login --key"), "{said}");
    let key = ("ROWCALL__BACKEND__KEY", "sb_publishable_x");
    let (code, said) = run(
        &[url, key, ("ROWCALL__BACKEND__KIND", "custom")],
        &["up", "--api-port", "0"],
    )
    .await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("backend.app_url"), "{said}");
    let (code, said) = run(&[url, key], &["db", "status"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--database-url"), "{said}");
}

/// Apps read and write activities through the local API as on a database: with the daemon's rights, or with their user's.
#[tokio::test(flavor = "multi_thread")]
async fn the_local_api_works_over_http_too() {
    let project = Project::start().await;
    let url = project.url();
    let env = [
        ("ROWCALL__BACKEND__URL", url.as_str()),
        ("ROWCALL__BACKEND__KEY", project.keys.anon_key()),
        (
            "ROWCALL__BACKEND__SERVICE_KEY",
            project.keys.service_role_key(),
        ),
    ];
    let app = json!({ "name": "quiet", "config": { "supabase": { "tables": [] } } });
    let daemon = Daemon::on_project("api", &app, "", &env).await;
    let (key, _) = run_in(&daemon, &["key", "add", "dev"]).await;
    let client = http_client();
    let ask = async |method: Method, path: &str, body: Value| {
        let request = client
            .request(method, format!("{}{path}", daemon.api()))
            .bearer_auth(key.trim())
            .json(&body);
        let answer = request.send().await.expect("the daemon answers");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON"))
    };
    let (status, made) = ask(
        Method::POST,
        "/activities",
        json!({ "raw_data": { "n": 1 } }),
    )
    .await;
    assert_eq!(status, 201, "{made}");
    let id = made["data"]["id"].as_str().expect("an id").to_owned();
    let path = format!("/activities/{id}");
    let (_, changed) = ask(Method::PATCH, &path, json!({ "error_message": "odd" })).await;
    assert_eq!(changed["data"]["error_message"], "odd", "{changed}");
    let (_, listed) = ask(Method::GET, "/activities?status=pending", Value::Null).await;
    assert_eq!(listed["data"][0]["id"], id, "{listed}");
    let (_, config) = ask(Method::GET, "/sdk/database/config", Value::Null).await;
    assert_eq!(
        config["config"]["anonKey"],
        project.keys.anon_key(),
        "{config}"
    );
    // A user's token counts instead of the daemon's rights.
    let signed_up = client
        .post(format!("{url}/auth/v1/signup"))
        .header("apikey", project.keys.anon_key())
        .json(&json!({ "email": "ada@example.com", "password": "correct horse" }))
        .send()
        .await
        .expect("the project answers");
    let user: Value = signed_up.json().await.expect("JSON");
    let token = json!({ "token": user["access_token"] });
    let (status, synced) = ask(Method::POST, "/sdk/auth/sync-supabase-token", token).await;
    assert_eq!(status, 200, "{synced}");
    let (status, hidden) = ask(Method::GET, &path, Value::Null).await;
    assert_eq!(status, 404, "{hidden}");
    let (status, mine) = ask(Method::POST, "/activities", json!({ "raw_data": {} })).await;
    assert_eq!(
        (status, &mine["data"]["user_id"]),
        (201, &user["user"]["id"]),
        "{mine}"
    );
    let (status, gone) = ask(Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, 404, "{gone}");
    daemon.stop().await;
}
