//! Custom mode, with the reference app of `examples/custom-mode`.

use std::{path::PathBuf, process::Stdio};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_app_gives_the_locks() {
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
