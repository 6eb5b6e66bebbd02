//! From a row to its result, through a real daemon.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{BRIEF_LEASES, Daemon, Database, shell_app, until};

#[tokio::test]
async fn the_last_line_of_json_is_the_result() {
    let db = Database::create().await;
    let daemon = Daemon::start(
        "one",
        db.url(),
        &shell_app("echo working; echo '{\"answer\": 42}'", 1),
    )
    .await;
    let id = db.add_task(&json!({"n": 1})).await;
    let row = db.becomes(id, "completed").await;
    assert_eq!(row.result, Some(json!({"answer": 42})));
    assert_eq!(
        (row.locked_by.as_deref(), row.attempt, row.retry_count),
        (Some("one"), 1, 0)
    );
    daemon.stop().await;
}

/// What an agent is given and what the guide says it is given are the same.
#[tokio::test]
async fn every_variable_of_an_agent_is_in_the_guide() {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let db = Database::create().await;
    let script =
        r#"printf '{"names":"%s"}' "$(env | sed -n 's/^\([A-Z_]*\)=.*/\1/p' | tr '\n' ' ')""#;
    let daemon = Daemon::start("one", db.url(), &shell_app(script, 1)).await;
    let id = db.add_task(&json!({})).await;
    let result = db.becomes(id, "completed").await.result.unwrap();
    let names: Vec<&str> = result["names"]
        .as_str()
        .unwrap()
        .split_whitespace()
        .collect();
    assert!(
        names.contains(&"TABLE_SCHEMA") && names.contains(&"ROWCALL_RUN"),
        "{names:?}"
    );
    let inherited = rowcall_supervisor::inherit(std::env::vars_os());
    for name in names {
        let of_others = inherited.contains_key(std::ffi::OsStr::new(name))
            // The shell's own.
            || ["PWD", "OLDPWD", "SHLVL", "_"].contains(&name);
        assert!(
            of_others || guide.contains(&format!("`{name}`")),
            "{name} is not in docs/guide.md"
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn tasks_from_before_the_start_are_found() {
    let db = Database::create().await;
    let mut ids = Vec::new();
    for n in 0..120 {
        ids.push(db.add_task(&json!({"n": n})).await);
    }
    let daemon = Daemon::start("one", db.url(), &shell_app("echo '{}'", 16)).await;
    for id in ids {
        db.becomes(id, "completed").await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn an_agent_that_fails_is_tried_by_another_machine_and_not_by_its_own() {
    let db = Database::create().await;
    let script = "if [ \"$MACHINE_ID\" = one ]; then echo 'no network' >&2; exit 3; fi; echo '{\"by\": \"two\"}'";
    let one = Daemon::start("one", db.url(), &shell_app(script, 1)).await;
    let id = db.add_task(&json!({})).await;
    let failed = db.becomes(id, "failed").await;
    assert_eq!(failed.retry_count, 1);
    assert!(
        failed.error.as_ref().unwrap().contains("no network"),
        "{failed:?}"
    );
    let two = Daemon::start("two", db.url(), &shell_app(script, 1)).await;
    let row = db.becomes(id, "completed").await;
    assert_eq!(
        (row.result, row.locked_by.as_deref()),
        (Some(json!({"by": "two"})), Some("two"))
    );
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_task_that_always_fails_needs_attention_after_three_attempts() {
    let db = Database::create().await;
    let retry = [
        ("ROWCALL__ENGINE__SAME_MACHINE_RETRY", "on"),
        ("ROWCALL__ENGINE__RETRY_BASE", "100ms"),
    ];
    let daemon = Daemon::start_with("one", db.url(), &shell_app("exit 1", 1), &retry).await;
    let id = db.add_task(&json!({})).await;
    until("three failures", async || {
        let row = db.task(id).await;
        if row.retry_count == 3 && row.status == "failed" {
            Ok(())
        } else {
            Err(row)
        }
    })
    .await;
    let listed = crate::cli::json(
        &daemon,
        db.url(),
        &["task", "list", "--attention", "--json"],
    )
    .await;
    assert_eq!(listed[0]["id"], json!(id));
    assert_eq!(listed[0]["needs_attention"], json!(true));
    daemon.stop().await;
}

#[tokio::test]
async fn a_soft_stop_lets_agents_finish() {
    let db = Database::create().await;
    let script =
        "touch started; while [ ! -e go ]; do sleep 0.02; done; echo '{\"finished\": true}'";
    let mut daemon = Daemon::start("one", db.url(), &shell_app(script, 1)).await;
    let folder = daemon.path();
    let id = db.add_task(&json!({})).await;
    until("the agent runs", async || {
        folder.join("started").exists().then_some(()).ok_or(())
    })
    .await;
    daemon.signal(Signal::SIGTERM);
    std::fs::write(folder.join("go"), "").unwrap();
    assert!(
        daemon.child.wait().await.unwrap().success(),
        "{}",
        daemon.log()
    );
    let row = db.task(id).await;
    assert_eq!(
        (row.status.as_str(), row.result),
        ("completed", Some(json!({"finished": true})))
    );
}

#[tokio::test]
async fn a_stop_gives_back_what_does_not_finish() {
    let db = Database::create().await;
    let grace = [("ROWCALL__ENGINE__SHUTDOWN_GRACE", "200ms")];
    let daemon = Daemon::start_with(
        "one",
        db.url(),
        &shell_app("touch started; sleep 300", 1),
        &grace,
    )
    .await;
    let folder = daemon.path();
    let id = db.add_task(&json!({})).await;
    until("the agent runs", async || {
        folder.join("started").exists().then_some(()).ok_or(())
    })
    .await;
    daemon.stop().await;
    let row = db.task(id).await;
    assert_eq!(
        (row.status.as_str(), row.locked_by, row.retry_count),
        ("pending", None, 0)
    );
}

#[tokio::test]
async fn a_zombie_cannot_overwrite_the_result_of_the_new_holder() {
    let db = Database::create().await;
    let script = "if [ \"$MACHINE_ID\" = zombie ]; then touch started; while [ ! -e go ]; do sleep 0.02; done; fi; \
                  echo \"{\\\"by\\\": \\\"$MACHINE_ID\\\"}\"";
    let app = shell_app(script, 1);
    let zombie = Daemon::start_with("zombie", db.url(), &app, &BRIEF_LEASES).await;
    let folder = zombie.path();
    let id = db.add_task(&json!({})).await;
    until("the agent runs", async || {
        folder.join("started").exists().then_some(()).ok_or(())
    })
    .await;
    zombie.signal(Signal::SIGSTOP);
    // The agent goes on and finishes; its daemon sleeps beyond its lease.
    std::fs::write(folder.join("go"), "").unwrap();
    let heir = Daemon::start_with("heir", db.url(), &app, &BRIEF_LEASES).await;
    let row = db.becomes(id, "completed").await;
    assert_eq!(
        (row.result.clone(), row.attempt),
        (Some(json!({"by": "heir"})), 2)
    );
    zombie.signal(Signal::SIGCONT);
    // The zombie has noticed, dropped its result and works again: the next task goes through it.
    heir.stop().await;
    let next = db.add_task(&json!({})).await;
    let done = db.becomes(next, "completed").await;
    assert_eq!(done.locked_by.as_deref(), Some("zombie"));
    assert_eq!(db.task(id).await, row, "the finished task has not changed");
    zombie.stop().await;
}
