//! Custom mode, with the reference app of `examples/custom-mode`.

use std::{path::PathBuf, process::Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::{Daemon, Project, until};

fn example(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/custom-mode")
        .join(file)
}

/// Python, which every machine that runs these tests has.
async fn start_app(project: &Project) -> (Child, u16) {
    let mut child = Command::new("python3")
        .arg(example("app.py"))
        .env("SUPABASE_URL", project.url())
        .env("SUPABASE_KEY", project.keys.service_role_key())
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python3 runs");
    let lines = child.stdout.take().expect("its output");
    let line = BufReader::new(lines)
        .lines()
        .next_line()
        .await
        .expect("a line")
        .expect("a line");
    let port = line
        .rsplit(':')
        .next()
        .and_then(|port| port.trim_end_matches('/').parse().ok());
    (child, port.unwrap_or_else(|| panic!("no port in {line:?}")))
}

/// A project with the table of the reference app.
async fn with_orders() -> Project {
    let project = Project::empty().await;
    let schema = std::fs::read_to_string(example("schema.sql")).expect("the schema");
    project
        .client
        .batch_execute(&schema)
        .await
        .expect("it applies");
    project
        .client
        .batch_execute("notify pgrst, 'reload schema'")
        .await
        .expect("told");
    project
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_app_gives_the_locks() {
    let project = with_orders().await;
    let (_app, port) = start_app(&project).await;
    let text = std::fs::read_to_string(example("app.json")).expect("the manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    manifest["agents"][0]["working_dir"] = json!(example(""));
    manifest["config"]["working_dir"] = json!(example(""));
    let app_url = format!("http://127.0.0.1:{port}");
    let url = project.url();
    let env = [
        ("ROWCALL__BACKEND__KIND", "custom"),
        ("ROWCALL__BACKEND__URL", url.as_str()),
        ("ROWCALL__BACKEND__KEY", project.keys.anon_key()),
        (
            "ROWCALL__BACKEND__SERVICE_KEY",
            project.keys.service_role_key(),
        ),
        ("ROWCALL__BACKEND__APP_URL", app_url.as_str()),
    ];
    let daemon = Daemon::on_project("mac-1", &manifest, "", &env).await;
    let insert =
        "insert into orders (customer, item, quantity) values ('ada', 'tea', 2) returning id::text";
    let id: String = project
        .client
        .query_one(insert, &[])
        .await
        .expect("an order")
        .get(0);
    let result = until("the order is completed", async || {
        let sql = "select status, locked_by, result, error_message from orders where id::text = $1";
        let row = project
            .client
            .query_one(sql, &[&id])
            .await
            .expect("the order");
        let status: String = row.get(0);
        if status == "completed" {
            Ok(row.get::<_, Option<Value>>(2))
        } else {
            Err((
                status,
                row.get::<_, Option<String>>(1),
                row.get::<_, Option<String>>(3),
                daemon.log(),
            ))
        }
    })
    .await;
    assert!(
        result.is_some_and(|result| result.is_object()),
        "the clerk's answer is kept"
    );
    daemon.stop().await;
}

/// A report that comes after a restart of the daemon counts: the app's table says whose lock it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_after_a_restart_reaches_the_app() {
    let project = with_orders().await;
    let (_app, port) = start_app(&project).await;
    let text = std::fs::read_to_string(example("app.json")).expect("the manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    // Whoever works on the order does so somewhere else, and reports by itself.
    manifest["agents"][0] = json!({
        "id": "order-clerk", "command": "sh", "args": ["-c", "sleep 600", "agent"], "timeout_seconds": 600,
    });
    let (url, app_url) = (project.url(), format!("http://127.0.0.1:{port}"));
    let mut env = vec![
        ("ROWCALL__BACKEND__KIND", "custom"),
        ("ROWCALL__BACKEND__URL", url.as_str()),
        ("ROWCALL__BACKEND__KEY", project.keys.anon_key()),
        ("ROWCALL__BACKEND__APP_URL", app_url.as_str()),
        ("ROWCALL__ENGINE__LEASE_TTL", "10m"),
    ];
    let service = (
        "ROWCALL__BACKEND__SERVICE_KEY",
        project.keys.service_role_key(),
    );
    let daemon = Daemon::on_project("mac-1", &manifest, "", &[&env[..], &[service]].concat()).await;
    let insert = "insert into orders (customer, item) values ('ada', 'tea'), ('bob', 'tea') returning id::text";
    let rows = project.client.query(insert, &[]).await.expect("orders");
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    until("both are locked", async || {
        let sql = "select count(*) from orders where locked_by = 'mac-1'";
        let row = project.client.query_one(sql, &[]).await.expect("a count");
        let locked: i64 = row.get(0);
        if locked == 2 {
            Ok(())
        } else {
            Err((locked, daemon.log()))
        }
    })
    .await;
    let progress = r#"{"action": "progress", "data": {"percent": 50}}"#;
    let running = until("both run", async || {
        let (status, answer) = daemon.report(&ids[0], progress).await;
        if status == 200 {
            Ok(answer)
        } else {
            Err((status, answer))
        }
    });
    assert_eq!(running.await["success"], true);
    daemon.signal(Signal::SIGKILL);
    let taken = "update orders set locked_by = 'mac-2' where id::text = $1";
    let daemon = daemon
        .start_again_on_project(&manifest, &[&env[..], &[service]].concat())
        .await;
    project
        .client
        .execute(taken, &[&ids[1]])
        .await
        .expect("another machine has it");
    let done = r#"{"action": "completed", "data": {"result": {"sent": true}}}"#;
    let (status, answer) = daemon.report(&ids[0], done).await;
    assert_eq!(
        (status, &answer["status"]),
        (200, &json!("completed")),
        "{answer}"
    );
    let sql = "select status, result from orders where id::text = $1";
    let row = project
        .client
        .query_one(sql, &[&ids[0]])
        .await
        .expect("a row");
    assert_eq!(row.get::<_, String>(0), "completed", "the app was told");
    assert_eq!(row.get::<_, Option<Value>>(1), Some(json!({"sent": true})));
    let (status, answer) = daemon.report(&ids[0], done).await;
    assert_eq!(
        (status, &answer["duplicate"]),
        (200, &json!(true)),
        "{answer}"
    );
    let (status, answer) = daemon.report(&ids[1], done).await;
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("HELD_ELSEWHERE")),
        "{answer}"
    );
    let nobody = uuid::Uuid::nil();
    let (status, answer) = daemon.report(nobody, done).await;
    assert_eq!(status, 404, "{answer}");
    daemon.stop().await;

    // A table that only the app can read: the daemon cannot say more than that it holds nothing.
    let hide = "revoke all on orders from anon, authenticated";
    project.client.batch_execute(hide).await.expect("hidden");
    env.push(("ROWCALL__ENGINE__POLL", "1s"));
    let daemon = Daemon::on_project("mac-3", &manifest, "", &env).await;
    until("it has learnt that", async || {
        let (status, answer) = daemon.report(nobody, done).await;
        if (status, &answer["code"]) == (409, &json!("TASK_NOT_HELD")) {
            Ok(())
        } else {
            Err((status, answer))
        }
    })
    .await;
    daemon.stop().await;
}
