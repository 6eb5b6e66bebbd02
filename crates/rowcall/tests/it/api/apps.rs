//! Apps of every type: started, used, crashed, restarted, stopped, and nothing left.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::world::{As, World, demo};
use crate::support::{PATIENCE, clients, python_tool, until};

/// The five types, each with the program that is its own: packages are started by the real npx and uvx, from folders, without
/// the network.
fn config(kind: &str, folder: &Path) -> Value {
    let apps = clients().join("apps");
    let python = apps.join("uvx/src/a_page/__init__.py");
    match kind {
        "python" => json!({ "command": "python", "args": [python, "more"] }),
        "node" => json!({ "args": [apps.join("npx/server.mjs"), "more"] }),
        "npx" => json!({
            "args": [apps.join("npx"), "more"],
            "env": { "npm_config_offline": "true", "npm_config_update_notifier": "false" }
        }),
        "uvx" => {
            let tools = python_tool("");
            let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
            json!({
                "args": ["--from", apps.join("uvx"), "a-page", "more"],
                "env": { "PATH": path, "UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never" }
            })
        }
        _ => {
            let program = folder.join("server");
            let script = format!("#!/bin/sh\nexec python3 {} \"$@\"\n", python.display());
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
            json!({ "command": program, "args": ["more"] })
        }
    }
}

/// The processes that carry the app's uuid in their environment: whatever was started for it, launchers included.
fn processes_of(app: &str) -> Vec<String> {
    let mark = format!("RTX_APP_ID={app}");
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let environment = std::fs::read(folder.join("environ")).ok()?;
            let has = environment
                .split(|byte| *byte == 0)
                .any(|one| one == mark.as_bytes());
            let line = std::fs::read(folder.join("cmdline")).ok()?;
            has.then(|| String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

async fn app(world: &World) -> Value {
    world.get("/rowcall/v1/apps/demo", As::Operator).await.1
}

async fn runs(world: &World) -> Value {
    until("the app runs", async || {
        let app = app(world).await;
        if app["process"]["state"] == "running" && app["process"]["ready"] == true {
            Ok(app)
        } else {
            Err(app)
        }
    })
    .await
}

/// What the app's page says.
async fn page(app: &Value) -> Value {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .build()
        .unwrap();
    let url = app["url"]
        .as_str()
        .expect("it has a URL")
        .replace("localhost", "127.0.0.1");
    client
        .get(url)
        .send()
        .await
        .expect("the app answers")
        .json()
        .await
        .unwrap()
}

fn lives(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended.
    !stat.is_empty()
        && !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
}

async fn whole_life(kind: &str) {
    let folder = rowcall_stack::testing::scratch_dir();
    let mut manifest = demo();
    let mut config = config(kind, folder.path());
    config["port"] = json!(rowcall_stack::testing::reserved_port());
    config["healthPath"] = json!("/health");
    manifest["app_type"] = json!(kind);
    manifest["config"] = config;
    let world = World::start_with(&manifest, &[("SECRET_OF_THE_DAEMON", "x")]).await;
    world.cli_ok(&["app", "start", "demo"]).await;
    let first = runs(&world).await;
    let said = page(&first).await;
    let seen = processes_of(&world.app);
    assert!(
        seen.len() >= 2,
        "{kind}: the program and its child are seen: {seen:?}"
    );
    let env = &said["env"];
    assert_eq!(env["RTX_APP_ID"], world.app.as_str(), "{kind}");
    assert_eq!(env["RTX_APP_NAME"], "Demo");
    assert_eq!(
        env["RTX_PORT"],
        first["process"]["port"].to_string().as_str()
    );
    assert_eq!(env["SERVER_URL"], env["REALTIMEX_BASE_URL"]);
    assert!(
        env["SERVER_URL"]
            .as_str()
            .unwrap()
            .ends_with(env["SERVER_PORT"].as_str().unwrap())
    );
    for secret in [
        "DATABASE_URL",
        "SUPABASE_KEY",
        "SECRET_OF_THE_DAEMON",
        "ROWCALL_TASK_TOKEN",
        "RTX_API_KEY",
    ] {
        assert!(env[secret].is_null(), "{kind} sees {secret}");
    }
    assert_eq!(said["args"], json!(["more"]));
    assert!(
        world
            .cli_ok(&["app", "logs", "demo"])
            .await
            .contains("listening"),
        "{kind}"
    );
    assert_eq!(
        world
            .cli_ok(&["app", "open", "demo", "--print"])
            .await
            .trim(),
        first["url"].as_str().unwrap()
    );
    let (status, answer) = world
        .post("/rowcall/v1/apps/demo/start", As::Operator, &json!({}))
        .await;
    assert_eq!(status, 409, "{answer}");
    // It crashes, and comes back by itself; what it had started is gone.
    let url = format!(
        "{}/crash",
        first["url"]
            .as_str()
            .unwrap()
            .replace("localhost", "127.0.0.1")
    );
    let _ = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(url)
        .send()
        .await;
    let second = until("it is started again", async || {
        let app = app(&world).await;
        if app["process"]["restarts"] == 1 && app["process"]["ready"] == true {
            Ok(app)
        } else {
            Err(app)
        }
    })
    .await;
    assert_eq!(second["process"]["ended"]["code"], 3, "{second}");
    assert!(
        !lives(&said["child"]) && !lives(&said["pid"]),
        "{kind}: nothing of the first start is left"
    );
    // Restarted on request.
    let before = page(&second).await;
    world.cli_ok(&["app", "restart", "demo"]).await;
    let after = page(&runs(&world).await).await;
    assert_ne!(before["pid"], after["pid"]);
    assert!(!lives(&before["pid"]) && !lives(&before["child"]));
    world.cli_ok(&["app", "stop", "demo"]).await;
    assert!(
        !lives(&after["pid"]) && !lives(&after["child"]),
        "{kind}: the whole group has ended"
    );
    assert_eq!(processes_of(&world.app), Vec::<String>::new(), "{kind}");
    assert_eq!(app(&world).await["process"]["state"], "stopped");
    assert_eq!(
        world
            .post("/rowcall/v1/apps/demo/stop", As::Operator, &json!({}))
            .await
            .0,
        409
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn python() {
    whole_life("python").await;
}

#[tokio::test]
async fn node() {
    whole_life("node").await;
}

#[tokio::test]
async fn npx() {
    whole_life("npx").await;
}

#[tokio::test]
async fn uvx() {
    whole_life("uvx").await;
}

#[tokio::test]
async fn custom() {
    whole_life("custom").await;
}

pub(super) fn with_program(script: &str, more: &Value) -> Value {
    let mut manifest = demo();
    manifest["config"] = json!({ "command": "sh", "args": ["-c", script] });
    for (key, value) in more.as_object().unwrap() {
        manifest["config"][key] = value.clone();
    }
    manifest
}

#[tokio::test]
async fn an_app_that_cannot_live_is_given_up_and_says_why() {
    let world = World::start_with(&with_program("echo broken >&2; exit 7", &json!({})), &[]).await;
    world
        .post("/rowcall/v1/apps/demo/start", As::Operator, &json!({}))
        .await;
    let app = until("it is given up", async || {
        let app = app(&world).await;
        if app["process"]["state"] == "error" {
            Ok(app)
        } else {
            Err(app)
        }
    })
    .await;
    let problem = app["process"]["problem"].as_str().unwrap();
    assert!(
        problem.contains("5 times in a row") && problem.contains("exit code 7"),
        "{problem}"
    );
    let logs = world.cli_ok(&["app", "logs", "demo"]).await;
    assert_eq!(
        logs.lines().filter(|line| *line == "broken").count(),
        5,
        "{logs}"
    );
    // A clean end is no crash, and a wish to start it begins anew.
    let manifest = with_program("exit 0", &json!({}));
    assert_eq!(
        world
            .put("/rowcall/v1/apps/demo", As::Operator, &manifest)
            .await
            .0,
        200
    );
    world
        .post("/rowcall/v1/apps/demo/start", As::Operator, &json!({}))
        .await;
    until("it has ended", async || {
        let app = self::app(&world).await;
        if app["process"]["state"] == "stopped" && app["process"]["restarts"] == 0 {
            Ok(())
        } else {
            Err(app)
        }
    })
    .await;
    let missing = with_program("true", &json!({ "command": "/nowhere/program" }));
    assert_eq!(
        world
            .put("/rowcall/v1/apps/demo", As::Operator, &missing)
            .await
            .0,
        200
    );
    let output = world.cli(&["app", "start", "demo"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("/nowhere/program"),
        "{said}"
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_passed_over_unless_the_arguments_name_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let serve = "exec python3 -m http.server \"$0\" --bind 127.0.0.1";
    let mut manifest = with_program(serve, &json!({ "port": port }));
    manifest["config"]["args"] = json!(["-c", serve, "{port}"]);
    let world = World::start_with(&manifest, &[]).await;
    world.cli_ok(&["app", "start", "demo"]).await;
    let app = runs(&world).await;
    let real = app["process"]["port"].as_u64().unwrap();
    assert!(
        real > u64::from(port) && real <= u64::from(port) + 100,
        "{real}"
    );
    world.cli_ok(&["app", "stop", "demo"]).await;
    manifest["config"]["args"] = json!(["-c", "sleep 100", "x", "--port", port.to_string()]);
    assert_eq!(
        world
            .put("/rowcall/v1/apps/demo", As::Operator, &manifest)
            .await
            .0,
        200
    );
    let output = world.cli(&["app", "start", "demo"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("port {port} is taken")), "{said}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_app_that_listens_elsewhere_is_found() {
    let port = rowcall_stack::testing::reserved_port();
    let serve = "import http.server as h; h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler).serve_forever()";
    let mut manifest = with_program("", &json!({ "port": port }));
    manifest["config"]["command"] = json!("python3");
    manifest["config"]["args"] = json!(["-c", serve]);
    let world = World::start_with(&manifest, &[]).await;
    world.cli_ok(&["app", "start", "demo"]).await;
    let app = runs(&world).await;
    assert_ne!(app["process"]["port"], port);
    world.daemon.stop().await;
}

#[tokio::test]
async fn autostarted_apps_end_with_the_daemon_however_it_ends() {
    let script = "echo $$ > pid; exec sleep 1000";
    let manifest = with_program(script, &json!({ "autostart": true }));
    let world = World::start_with(&manifest, &[]).await;
    let file = world.path().join("pid");
    let pid = async || {
        until("it writes its pid", async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.trim().parse::<i32>().map_err(|_| text)
        })
        .await
    };
    let first = pid().await;
    let World { daemon, db, .. } = world;
    std::fs::remove_file(&file).unwrap();
    daemon.signal(Signal::SIGKILL);
    until("the guard has ended it", async || {
        if lives(&json!(first)) {
            Err(first)
        } else {
            Ok(())
        }
    })
    .await;
    let daemon = daemon.start_again(db.url(), &manifest).await;
    let second = pid().await;
    assert!(kill(Pid::from_raw(second), None).is_ok());
    daemon.stop().await;
    assert!(!lives(&json!(second)), "a clean stop ends it too");
}
