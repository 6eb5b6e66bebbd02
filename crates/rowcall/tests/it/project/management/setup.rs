//! Setting a project up.

use rowcall_backend::capture;
use rowcall_stack::testing::scratch_dir;
use serde_json::Value;

use super::{ADA, Api, GRACE, REF, good, text};

/// The account in use has no access, another one has; then everything is set up, and a daemon works.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_set_up_through_the_api() {
    let api = Api::start().await;
    let dir = scratch_dir();
    let run = async |args: &[&str], input: &str| api.run(dir.path(), args, input).await;
    let setup = ["setup", "--project-ref", REF];
    let nobody = run(&setup, "").await;
    assert!(
        text(&nobody.stderr).contains("rowcall login"),
        "{}",
        text(&nobody.stderr)
    );
    let wrong = run(&["login", "--token"], "nonsense\n").await;
    assert_eq!(wrong.status.code(), Some(2));
    let invalid = run(
        &["login", "--token"],
        &format!("{}\n", ADA.replace('1', "3")),
    )
    .await;
    assert!(
        text(&invalid.stderr).contains("does not take this token"),
        "{}",
        text(&invalid.stderr)
    );
    for token in [ADA, GRACE] {
        good(run(&["login", "--token"], &format!("{token}\n")).await);
    }
    let (_, used) = good(run(&["login", "--list"], "").await);
    assert!(used.is_empty());
    let denied = run(&setup, "").await;
    let why = text(&denied.stderr);
    assert_eq!(denied.status.code(), Some(1), "{why}");
    assert!(
        why.contains("access denied") && why.contains("--account 'ada@example.com'"),
        "{why}"
    );
    assert!(
        api.inner.queries.lock().is_empty(),
        "nothing is changed without the right account"
    );
    good(run(&["login", "--use", "ada@example.com"], "").await);
    let (_, done) = good(run(&setup, "").await);
    assert!(
        done.contains("the project is set up") && done.contains("it answers over REST"),
        "{done}"
    );
    // By hand it is the same.
    let (printed, _) = good(run(&["setup", "--print"], "").await);
    assert_eq!(api.inner.queries.lock()[0].trim_end(), printed.trim_end());
    good(run(&setup, "").await);
    // The key was fetched: nothing is left to configure. It does not show.
    let doctor = run(&["doctor", "--json"], "").await;
    let findings: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let problems: Vec<&Value> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["verdict"] == "problem")
        .collect();
    assert_eq!(problems.len(), 1, "{findings:#}");
    assert_eq!(problems[0]["check"], "row level security");
    let help = problems[0]["help"].as_str().unwrap();
    assert!(help.contains("rowcall login --user"), "{help}");
    for shown in [text(&doctor.stdout), text(&doctor.stderr), done] {
        assert!(
            !shown.contains(api.inner.project.keys.publishable_key()),
            "{shown}"
        );
    }
    // What the doctor prints mends it.
    let sql = help.split_once("has the key:\n").unwrap().1;
    api.inner.project.client.batch_execute(sql).await.unwrap();
    let (said, _) = good(run(&["doctor"], "").await);
    assert!(said.contains("realtime: every channel is joined"), "{said}");
    good(run(&["logout", "--key"], "").await);
    let gone = run(&["doctor"], "").await;
    assert_eq!(gone.status.code(), Some(5), "no key is a problem");
}

/// The triggers of a table are installed without a connection to the database, and are those of a connection.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_captured_through_the_api() {
    let api = Api::start().await;
    let project = &api.inner.project;
    let make =
        "create table orders (id int primary key, item text); create table loose (note text)";
    project.client.batch_execute(make).await.unwrap();
    let dir = scratch_dir();
    let run = async |args: &[&str], input: &str| api.run(dir.path(), args, input).await;
    good(run(&["login", "--token"], &format!("{ADA}\n")).await);
    let setup = ["setup", "--project-ref", REF];
    let orders = [
        "--table",
        "orders",
        "--events",
        "insert,update",
        "--filter",
        "item=not.is.null",
    ];
    // What cannot be captured is said, and nothing is changed.
    for (table, why) in [
        ("nowhere", "there is no table public.nowhere"),
        ("loose", "has no primary key"),
    ] {
        let refused = run(&[&setup[..], &["--table", table]].concat(), "").await;
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("error[project-sql]") && said.contains(why),
            "{said}"
        );
    }
    let reserved = run(&[&setup[..], &["--table", "rtx_activities"]].concat(), "").await;
    assert!(text(&reserved.stderr).contains("error[setup-reserved]"));
    let there = "select to_regclass('public.rtx_activities') is not null";
    let row = project.client.query_one(there, &[]).await.unwrap();
    assert!(!row.get::<_, bool>(0), "all or nothing");

    let (_, done) = good(run(&[&setup[..], &orders].concat(), "").await);
    assert!(
        done.contains("public.orders: insert, update become tasks"),
        "{done}"
    );
    let last = api.inner.queries.lock().last().cloned().unwrap();
    let (printed, _) = good(run(&[&["setup", "--print"][..], &orders].concat(), "").await);
    assert_eq!(
        last.trim_end(),
        printed.trim_end(),
        "by hand it is the same"
    );
    let listed = capture::list(&project.client).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].active);
    let write = "insert into orders values (1, 'tea'), (2, null); update orders set item = 'cocoa' where id = 1";
    project.client.batch_execute(write).await.unwrap();
    let sql = "select source_event || ' ' || source_key from rtx_activities order by 1";
    let rows = project.client.query(sql, &[]).await.unwrap();
    let made: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(made, [r#"INSERT {"id": 1}"#, r#"UPDATE {"id": 1}"#]);
}
