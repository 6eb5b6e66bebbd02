//! The command line: what it prints, where, and how it ends.

use std::process::Output;

use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};

use crate::support::{Daemon, Database, command, run, shell_app};

/// Runs a reading command beside a daemon and parses its output.
pub(crate) async fn json(daemon: &Daemon, url: &str, args: &[&str]) -> Value {
    let output = command(&daemon.path())
        .env("ROWCALL_DATABASE_URL", url)
        .args(args)
        .output()
        .await
        .expect("the program runs");
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("data on standard output is JSON")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn bad_manifests_are_refused_with_the_way_out() {
    let dir = scratch_dir();
    for (text, part) in [
        ("{", "not valid JSON"),
        (
            r#"{"name": "x", "config": {"supabase": {"max_concurrent_task": 2}}}"#,
            "did you mean \"max_concurrent_tasks\"?",
        ),
        (r#"{"config": {}}"#, "--name"),
    ] {
        let file = dir.path().join("app.json");
        std::fs::write(&file, text).unwrap();
        let output = run(dir.path(), &["app", "add", "app.json"]).await;
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            stderr(&output).contains(part),
            "{text}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
    let output = run(dir.path(), &["app", "add", "nowhere.json"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[tokio::test]
async fn apps_are_added_listed_and_removed() {
    let dir = scratch_dir();
    std::fs::write(
        dir.path().join("app.json"),
        shell_app("true", 3).to_string(),
    )
    .unwrap();
    assert!(
        run(dir.path(), &["app", "add", "app.json"])
            .await
            .status
            .success()
    );
    let again = run(dir.path(), &["app", "add", "app.json"]).await;
    assert!(stderr(&again).contains("--replace"), "{}", stderr(&again));
    assert!(
        run(dir.path(), &["app", "add", "app.json", "--replace"])
            .await
            .status
            .success()
    );
    let list: Value =
        serde_json::from_str(&stdout(&run(dir.path(), &["app", "list", "--json"]).await)).unwrap();
    assert_eq!(
        (&list[0]["name"], &list[0]["enabled"]),
        (&json!("test"), &json!(true))
    );
    assert!(stdout(&run(dir.path(), &["app", "list"]).await).contains("public.rtx_activities"));
    assert!(
        run(dir.path(), &["app", "disable", "test"])
            .await
            .status
            .success()
    );
    assert!(
        run(dir.path(), &["app", "remove", "test"])
            .await
            .status
            .success()
    );
    assert_eq!(
        run(dir.path(), &["app", "show", "test"])
            .await
            .status
            .code(),
        Some(3)
    );
}

#[tokio::test]
async fn an_unknown_agent_is_named_where_people_look() {
    let dir = scratch_dir();
    let mut app = shell_app("true", 1);
    app["agents"] = json!([]);
    std::fs::write(dir.path().join("app.json"), app.to_string()).unwrap();
    let added = run(dir.path(), &["app", "add", "app.json"]).await;
    assert!(added.status.success());
    assert!(
        stderr(&added).contains("agent script is not defined"),
        "{}",
        stderr(&added)
    );
    let shown = run(dir.path(), &["app", "show", "test"]).await;
    assert!(stderr(&shown).contains("agent script is not defined"));
}

#[tokio::test]
async fn people_retry_release_and_cancel() {
    let db = Database::create().await;
    let daemon = Daemon::start("one", db.url(), &shell_app("test -e ok", 1)).await;
    let act = async |args: &[&str]| {
        command(&daemon.path())
            .env("ROWCALL_DATABASE_URL", db.url())
            .args(args)
            .output()
            .await
            .unwrap()
    };
    let id = db.add_task(&json!({})).await;
    let name = id.to_string();
    db.becomes(id, "failed").await;
    std::fs::write(daemon.path().join("ok"), "").unwrap();
    assert!(act(&["task", "retry", &name]).await.status.success());
    db.becomes(id, "completed").await;
    let late = act(&["task", "cancel", &name]).await;
    assert_eq!(late.status.code(), Some(1));
    assert!(stderr(&late).contains("is completed"), "{}", stderr(&late));
    let missing = act(&["task", "show", "00000000-0000-4000-8000-000000000000"]).await;
    assert_eq!(missing.status.code(), Some(3), "{}", stderr(&missing));
    let shown = json(&daemon, db.url(), &["task", "show", &name, "--json"]).await;
    assert_eq!(shown["status"], "completed");
    assert_eq!(
        shown["attempts_here"].as_array().map(Vec::len),
        Some(2),
        "{shown}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn logs_show_what_an_agent_printed() {
    let db = Database::create().await;
    let script = "echo to stdout; echo to stderr >&2; printf 'bad \\377 byte\\n'; echo '{}'";
    let daemon = Daemon::start("one", db.url(), &shell_app(script, 1)).await;
    let id = db.add_task(&json!({})).await;
    db.becomes(id, "completed").await;
    let output = command(&daemon.path())
        .args(["task", "logs", "--follow", &id.to_string()])
        .output()
        .await
        .unwrap();
    let text = stdout(&output);
    for line in ["  to stdout", "! to stderr", "  bad \u{fffd} byte"] {
        assert!(text.contains(line), "{line:?} is missing in {text:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_is_refused() {
    let db = Database::create().await;
    let daemon = Daemon::start("one", db.url(), &shell_app("true", 1)).await;
    let output = command(&daemon.path())
        .args(["up", "--api-port", "0"])
        .env("ROWCALL_DATABASE_URL", db.url())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(
        stderr(&output).contains("is in use by another rowcall daemon"),
        "{}",
        stderr(&output)
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_without_its_password() {
    let dir = scratch_dir();
    let output = command(dir.path())
        .args(["task", "list"])
        .env(
            "ROWCALL_DATABASE_URL",
            "postgres://someone:secret@127.0.0.1:1/nowhere",
        )
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(!stderr(&output).contains("secret"), "{}", stderr(&output));
}

#[tokio::test]
async fn every_command_has_help_and_every_shell_a_script() {
    let dir = scratch_dir();
    let mut all = String::new();
    for command in [
        &["--help"][..],
        &["up", "--help"],
        &["setup", "--help"],
        &["worker", "--help"],
        &["queue", "--help"],
        &["app", "--help"],
        &["task", "--help"],
        &["db", "--help"],
    ] {
        let output = run(dir.path(), command).await;
        assert!(output.status.success());
        all.push_str(&stdout(&output));
        all.push('\n');
    }
    insta::assert_snapshot!("help", all);
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(dir.path(), &["completions", shell]).await).contains("rowcall"));
    }
    assert_eq!(run(dir.path(), &["upp"]).await.status.code(), Some(2));
}
