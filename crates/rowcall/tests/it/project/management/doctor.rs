//! What is wrong is found, and what is printed mends it.

use std::process::Output;

use rowcall_backend::migrate::MigrateOptions;
use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{Api, good, text};

/// What is wrong with tables is found, and the SQL that is printed mends it.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_prints_the_sql_that_mends_a_table() {
    let api = Api::start().await;
    let project = &api.inner.project;
    let make = "create table orders (id uuid primary key default gen_random_uuid(), item text); notify pgrst, 'reload schema'";
    project.client.batch_execute(make).await.unwrap();
    let dir = scratch_dir();
    let app = json!({
        "name": "orders",
        "config": {
            "supabase": { "mode": "custom", "tables": ["public.orders"] },
            "agentHandlers": [{ "tableName": "orders", "agentId": "a", "eventTypes": ["INSERT"] }],
        },
        "agents": [{ "id": "a", "command": "true" }],
    });
    std::fs::write(dir.path().join("app.json"), app.to_string()).unwrap();
    let run = async |args: &[&str]| {
        let mut command = api.command(dir.path(), args);
        command
            .env("ROWCALL__BACKEND__KEY", project.keys.anon_key())
            .env("ROWCALL__BACKEND__KIND", "custom")
            .env("ROWCALL__BACKEND__APP_URL", "http://127.0.0.1:9");
        command.output().await.expect("the program runs")
    };
    good(run(&["app", "add", "app.json"]).await);
    let help_of = |output: &Output, check: &str, part: &str| {
        let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let found = findings.as_array().expect("a list").iter().find(|one| {
            one["check"] == check
                && one["found"]
                    .as_str()
                    .is_some_and(|found| found.contains(part))
        });
        found.map(|one| one["help"].as_str().unwrap_or_default().to_owned())
    };
    let doctor = run(&["doctor", "--json"]).await;
    assert_eq!(doctor.status.code(), Some(5));
    assert!(
        help_of(&doctor, "app", "does not answer").is_some(),
        "{}",
        text(&doctor.stdout)
    );
    assert!(help_of(&doctor, "discovery", "get_publications_full").is_some());
    // The whole set-up of custom mode, as it is printed.
    let (printed, _) = good(run(&["setup", "--print"]).await);
    project.client.batch_execute(&printed).await.unwrap();
    project.client.batch_execute(&printed).await.unwrap();
    let spoil = "alter publication supabase_realtime drop table orders; revoke all on orders from anon, authenticated";
    project.client.batch_execute(spoil).await.unwrap();
    let examine = rowcall_backend::setup::script(MigrateOptions::default(), &[]);
    project.client.batch_execute(&examine).await.unwrap();
    let doctor = run(&["doctor", "--json"]).await;
    let table = "table public.orders";
    assert!(help_of(&doctor, "limits", "of 100 Realtime channels").is_some());
    // Not for this key, it looks like a table that is not there; then it is found that nobody hears of it.
    let identity = "alter table orders replica identity default";
    for (part, spoil) in [
        ("may not see it", ""),
        ("not in the publication", identity),
        ("replica identity is not full", ""),
    ] {
        let doctor = run(&["doctor", "--json"]).await;
        let sql = help_of(&doctor, table, part)
            .unwrap_or_else(|| panic!("{part}: {}", text(&doctor.stdout)));
        project.client.batch_execute(&sql).await.unwrap();
        project.client.batch_execute(spoil).await.unwrap();
    }
    let doctor = run(&["doctor", "--json"]).await;
    assert!(help_of(&doctor, table, "replica identity").is_none());
    assert!(
        help_of(&doctor, table, "its rows are the tasks").is_some(),
        "{}",
        text(&doctor.stdout)
    );
    assert!(help_of(&doctor, table, "not in the publication").is_none());
    // The chooser shows what is published, and writes into the app's manifest.
    let (tables, _) = good(run(&["tables", "--json", "--app", "orders"]).await);
    let tables: Value = serde_json::from_str(&tables).unwrap();
    let orders = json!({ "table": "public.orders", "published": true, "chosen": true });
    assert!(tables.as_array().unwrap().contains(&orders), "{tables}");
    let chosen = {
        let mut child = api
            .command(dir.path(), &["tables", "--app", "orders", "--choose"])
            .env("ROWCALL__BACKEND__KEY", project.keys.anon_key())
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"2\n").await.unwrap();
        child.wait_with_output().await.unwrap()
    };
    let (_, said) = good(chosen);
    assert!(
        said.contains("*   1  public.orders") && said.contains("2  public.rtx_activities"),
        "{said}"
    );
    let (tables, _) = good(run(&["tables", "--json", "--app", "orders"]).await);
    let tables: Value = serde_json::from_str(&tables).unwrap();
    let orders = json!({ "table": "public.orders", "published": true, "chosen": false });
    assert!(tables.as_array().unwrap().contains(&orders), "{tables}");
}
