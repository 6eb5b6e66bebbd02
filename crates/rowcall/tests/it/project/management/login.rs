//! Accounts and users.

use rowcall_backend::migrate::MigrateOptions;
use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::{ADA, Api, CODE, good, text};

/// A person logs in in a browser and types the code, at first a wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_log_in_brings_a_token() {
    let api = Api::start().await;
    let dir = scratch_dir();
    let mut child = api
        .command(dir.path(), &["login", "--no-browser"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let page = loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("the page's address");
        if let Some((_, query)) = line.trim().split_once("/cli/login?") {
            break query.to_owned();
        }
    };
    let page = page.split('&').filter_map(|pair| pair.split_once('='));
    *api.inner.page.lock() = page
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("short\nWRONGONE\n{CODE}\n").as_bytes())
        .await
        .unwrap();
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest.push_str(&line);
        rest.push('\n');
    }
    assert!(child.wait().await.unwrap().success(), "{rest}");
    assert!(rest.contains("logged in as ada@example.com"), "{rest}");
    assert!(!rest.contains(ADA), "the token is shown: {rest}");
    let (list, _) = good(
        api.run(dir.path(), &["login", "--list", "--json"], "")
            .await,
    );
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list, json!([{ "name": "ada@example.com", "used": true }]));
}

/// A user of the project signs in; row level security shows its tasks and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_to_the_project() {
    let api = Api::start().await;
    let project = &api.inner.project;
    project
        .client
        .batch_execute(&rowcall_backend::setup::script(
            MigrateOptions::default(),
            &[],
        ))
        .await
        .unwrap();
    let client = crate::support::http_client();
    let signed_up = client
        .post(format!("{}/auth/v1/signup", project.url()))
        .header("apikey", project.keys.anon_key())
        .json(&json!({ "email": "ada@example.com", "password": "correct horse" }))
        .send()
        .await
        .unwrap();
    let user: Value = signed_up.json().await.unwrap();
    let user = user["user"]["id"].as_str().unwrap().to_owned();
    let insert = "insert into rtx_activities (raw_data, user_id) values ('{}', $1::text::uuid), ('{}', null) returning id::text";
    let rows = project.client.query(insert, &[&user]).await.unwrap();
    let dir = scratch_dir();
    let run = async |args: &[&str], input: &str| api.run(dir.path(), args, input).await;
    let service = run(
        &["login", "--key"],
        &format!("{}\n", project.keys.service_role_key()),
    )
    .await;
    assert!(
        text(&service.stderr).contains("service key"),
        "{}",
        text(&service.stderr)
    );
    good(
        run(
            &["login", "--key"],
            &format!("{}\n", project.keys.publishable_key()),
        )
        .await,
    );
    let wrong = run(&["login", "--user", "ada@example.com"], "wrong\n").await;
    assert!(
        text(&wrong.stderr).contains("Invalid login credentials"),
        "{}",
        text(&wrong.stderr)
    );
    good(run(&["login", "--user", "ada@example.com"], "correct horse\n").await);
    let (list, _) = good(run(&["task", "list", "--json"], "").await);
    let list: Value = serde_json::from_str(&list).unwrap();
    let ids: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|task| task["id"].as_str())
        .collect();
    assert_eq!(ids, [rows[0].get::<_, String>(0)], "{list}");
    let (said, _) = good(run(&["doctor"], "").await);
    assert!(said.contains("as a signed-in user"), "{said}");
}

/// On a server there is no keyring: the token goes to the private file, and that is said. It shows nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_keyring_the_token_goes_to_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let api = Api::start().await;
    let dir = scratch_dir();
    let mut command = api.command(dir.path(), &["login", "--token", "--name", "work"]);
    let mut child = command
        .env("ROWCALL__SECRETS", "auto")
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .env("RUST_LOG", "trace")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("{ADA}\n").as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let (out, err) = good(child.wait_with_output().await.unwrap());
    assert!(
        err.contains("kept in secrets.json") && err.contains("keyring cannot be used"),
        "{err}"
    );
    assert!(!out.contains(ADA) && !err.contains(ADA), "{out}{err}");
    let file = dir.path().join("secrets.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file).unwrap().contains(ADA));
}
