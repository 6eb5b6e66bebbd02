//! `rowcall queue`.

use serde_json::json;

use super::{Place, stderr};
use crate::support::{command, run};

#[tokio::test]
async fn a12_queues_are_made_filled_looked_into_and_dropped() {
    let place = Place::new().await;
    let early = place.run(&["queue", "list"]).await;
    assert_eq!(early.status.code(), Some(3), "{}", stderr(&early));
    assert!(
        stderr(&early).contains("queue create"),
        "{}",
        stderr(&early)
    );
    place
        .done(&["queue", "create", "In-Box", "-c", "my:jobs", "-e", "there"])
        .await;
    place
        .done(&["queue", "create", "fast", "--unlogged", "--no-realtime"])
        .await;
    assert_eq!(
        place
            .done(&["queue", "send", "In-Box", r#"{"n": 1}"#])
            .await,
        "1\n"
    );
    assert_eq!(
        place
            .done(&["queue", "send", "In-Box", "[2]", "-d", "60"])
            .await,
        "2\n"
    );
    let seen = place.json(&["queue", "read", "In-Box", "--json"]).await;
    assert_eq!(
        (seen.as_array().unwrap().len(), &seen[0]["read_ct"]),
        (2, &json!(0))
    );
    let read = place
        .json(&["queue", "read", "In-Box", "--timeout", "30", "--json"])
        .await;
    assert_eq!(
        (
            read.as_array().unwrap().len(),
            &read[0]["read_ct"],
            &read[0]["message"]
        ),
        (1, &json!(1), &json!({ "n": 1 }))
    );
    let metrics = place.json(&["queue", "metrics", "In-Box", "--json"]).await;
    assert_eq!(
        (
            &metrics[0]["queue_length"],
            &metrics[0]["queue_visible_length"]
        ),
        (&json!(2), &json!(0))
    );
    let listed = place.json(&["queue", "list", "--json"]).await;
    let of = |name: &str| {
        let all = listed.as_array().unwrap();
        all.iter()
            .find(|one| one["queue"]["name"] == json!(name))
            .unwrap()
            .clone()
    };
    assert_eq!(
        of("In-Box")["wake"]["broadcast"]["channel"],
        json!("my:jobs")
    );
    assert_eq!(
        (
            &of("fast")["queue"]["kind"],
            &of("fast")["wake"]["broadcast"]
        ),
        (&json!("unlogged"), &json!(null))
    );
    let table = place.done(&["queue", "list"]).await;
    assert!(
        table.contains("In-Box") && table.contains("my:jobs"),
        "{table}"
    );
    let full = place.run(&["queue", "drop", "In-Box"]).await;
    assert_eq!(full.status.code(), Some(1));
    assert!(stderr(&full).contains("--force"), "{}", stderr(&full));
    let purged = place.run(&["queue", "purge", "In-Box"]).await;
    assert!(stderr(&purged).contains("deleted 2"), "{}", stderr(&purged));
    place.done(&["queue", "drop", "In-Box"]).await;
    for args in [
        &["queue", "drop", "In-Box"][..],
        &["queue", "send", "nope", "{}"],
        &["queue", "read", "nope"],
        &["queue", "metrics", "nope"],
        &["queue", "purge", "nope"],
        &["queue", "realtime", "enable", "nope"],
    ] {
        let output = place.run(args).await;
        assert_eq!(
            output.status.code(),
            Some(3),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("42P01"),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    let wrong = place.run(&["queue", "send", "fast", "{n: 1}"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
}

#[tokio::test]
async fn a12_c8_realtime_is_switched_on_and_off() {
    let place = Place::new().await;
    for queue in ["one", "two"] {
        place
            .done(&["queue", "create", queue, "--no-realtime"])
            .await;
    }
    for _ in 0..2 {
        place
            .done(&[
                "queue",
                "realtime",
                "enable",
                "--all",
                "--private",
                "--gate",
                "250",
                "--event",
                "e",
            ])
            .await;
    }
    let status = place.json(&["queue", "realtime", "status", "--json"]).await;
    for one in status.as_array().unwrap() {
        assert_eq!(
            one["broadcast"],
            json!({ "channel": "aimq:jobs", "event": "e", "private": true, "mode": { "gated": 250 }, "per_row": false })
        );
    }
    place.done(&["queue", "realtime", "disable", "one"]).await;
    let table = place.done(&["queue", "realtime", "status"]).await;
    let of = |name: &str| {
        table
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(of("two").contains("gated 250 ms, private"), "{table}");
    assert!(!of("one").contains("aimq:jobs"), "{table}");
    // AIMQ's variables name the channel.
    let enabled = command(place.dir.path())
        .args(["queue", "realtime", "enable", "one"])
        .env("DATABASE_URL", place.db.url())
        .env("SUPABASE_REALTIME_CHANNEL", "worker-wakeup")
        .output()
        .await
        .unwrap();
    assert!(enabled.status.success());
    let table = place.done(&["queue", "realtime", "status"]).await;
    assert!(table.contains("worker-wakeup"), "{table}");
}

#[tokio::test]
async fn a12_c9_migration_files_make_the_same() {
    let place = Place::new().await;
    let written = run(
        place.dir.path(),
        &["queue", "create", "jobs", "--migration"],
    )
    .await;
    assert!(written.status.success(), "{}", stderr(&written));
    let second = run(
        place.dir.path(),
        &[
            "queue",
            "create",
            "other",
            "--no-realtime",
            "--migration=supabase/migrations",
        ],
    )
    .await;
    assert!(second.status.success(), "{}", stderr(&second));
    run(
        place.dir.path(),
        &["queue", "realtime", "disable", "jobs", "--migration"],
    )
    .await;
    let mut files: Vec<_> = std::fs::read_dir(place.path("supabase/migrations"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let names: Vec<String> = files
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy()[15..].to_owned())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names[0], "setup_rowcall_queues.sql");
    // What offers no extension gets pgmq first.
    place.done(&["queue", "create", "first"]).await;
    for file in &files {
        let sql = std::fs::read_to_string(file).unwrap();
        place.client.batch_execute(&sql).await.unwrap();
    }
    let listed = place.json(&["queue", "realtime", "status", "--json"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    let with_all = run(
        place.dir.path(),
        &["queue", "realtime", "enable", "--all", "--migration"],
    )
    .await;
    assert_eq!(with_all.status.code(), Some(2));
}

#[tokio::test]
async fn c8_the_seeds_helpers_are_there_after_create() {
    let place = Place::new().await;
    place
        .done(&["queue", "create", "jobs", "--no-realtime"])
        .await;
    for call in [
        "public.create_pgmq_realtime_trigger(queue_name => 'jobs', channel => 'worker-wakeup', event => 'job_enqueued')",
        "public.setup_realtime_triggers('jobs')",
    ] {
        let answer = place.value(&format!("select {call}")).await;
        assert_eq!(answer["success"], json!(true), "{call}: {answer}");
    }
    let refused = place
        .value("select public.setup_realtime_triggers('x; drop table t')")
        .await;
    assert_eq!(refused["success"], json!(false));
}
