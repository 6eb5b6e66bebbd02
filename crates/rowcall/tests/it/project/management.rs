//! Log-in, set-up and doctor against a server that follows the documented Management API, over a real database.

use std::{collections::BTreeMap, process::Output, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use parking_lot::Mutex;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};
use rowcall_backend::migrate::MigrateOptions;
use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
    task::JoinHandle,
};

use crate::support::{PATIENCE, Project, command};

const REF: &str = "abcdefghijklmnopqrst";
const CODE: &str = "1a2b3c4d";
/// Has the right to the project.
const ADA: &str = "sbp_1111111111111111111111111111111111111111";
/// Has not.
const GRACE: &str = "sbp_2222222222222222222222222222222222222222";

struct Inner {
    project: Project,
    /// The public key that the log-in page was opened with.
    page: Mutex<BTreeMap<String, String>>,
    queries: Mutex<Vec<String>>,
}

/// The API until it is dropped.
struct Api {
    inner: Arc<Inner>,
    url: String,
    serving: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Answer = (StatusCode, Json<Value>);

fn said(status: StatusCode, message: &str) -> Answer {
    (status, Json(json!({ "message": message })))
}

fn account(headers: &HeaderMap) -> Result<&'static str, Answer> {
    let token = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    match token.and_then(|token| token.strip_prefix("Bearer ")) {
        Some(ADA) => Ok("ada@example.com"),
        Some(GRACE) => Ok("grace@example.com"),
        _ => Err(said(StatusCode::UNAUTHORIZED, "Unauthorized")),
    }
}

fn may(headers: &HeaderMap, project: &str) -> Result<(), Answer> {
    match account(headers)? {
        "ada@example.com" if project == REF => Ok(()),
        "ada@example.com" => Err(said(StatusCode::NOT_FOUND, "Project not found")),
        _ => Err(said(
            StatusCode::FORBIDDEN,
            "Your account does not have the necessary privileges to access this endpoint",
        )),
    }
}

async fn login(
    State(api): State<Arc<Inner>>,
    Path(session): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    let page = api.page.lock().clone();
    if query.get("device_code").map(String::as_str) != Some(CODE)
        || page.get("session_id") != Some(&session)
    {
        return said(StatusCode::NOT_FOUND, "not found");
    }
    let random = SystemRandom::new();
    let private = EphemeralPrivateKey::generate(&ECDH_P256, &random)
        .expect("the log-in's cryptography works");
    let public = private
        .compute_public_key()
        .expect("the log-in's cryptography works");
    let peer = UnparsedPublicKey::new(
        &ECDH_P256,
        hex::decode(&page["public_key"]).expect("the log-in's cryptography works"),
    );
    let key = agree_ephemeral(private, &peer, |secret| {
        UnboundKey::new(&AES_256_GCM, secret).expect("the log-in's cryptography works")
    })
    .expect("the log-in's cryptography works");
    let nonce = [7; 12];
    let mut token = ADA.as_bytes().to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut token,
        )
        .expect("the log-in's cryptography works");
    let sealed = json!({
        "id": session, "created_at": "2026-01-01T00:00:00Z", "access_token": hex::encode(token),
        "public_key": hex::encode(public.as_ref()), "nonce": hex::encode(nonce),
    });
    (StatusCode::OK, Json(sealed))
}

async fn profile(headers: HeaderMap) -> Result<Answer, Answer> {
    let email = account(&headers)?;
    let profile = json!({ "gotrue_id": "0", "primary_email": email, "username": "someone" });
    Ok((StatusCode::OK, Json(profile)))
}

async fn project(headers: HeaderMap, Path(name): Path<String>) -> Result<Answer, Answer> {
    may(&headers, &name)?;
    let project = json!({
        "id": name, "ref": name, "organization_id": "o", "organization_slug": "o", "name": "Shop", "region": "eu-central-1",
        "created_at": "2026-01-01T00:00:00Z", "status": "ACTIVE_HEALTHY",
        "database": { "host": "db", "version": "17", "postgres_engine": "17", "release_channel": "ga" },
    });
    Ok((StatusCode::OK, Json(project)))
}

async fn keys(
    State(api): State<Arc<Inner>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Answer, Answer> {
    may(&headers, &name)?;
    let keys = &api.project.keys;
    let all = json!([
        { "name": "service_role", "api_key": keys.service_role_key(), "id": "1", "type": "legacy" },
        { "name": "anon", "api_key": keys.anon_key(), "id": "2", "type": "legacy" },
        { "name": "default", "api_key": keys.publishable_key(), "id": "3", "type": "publishable", "prefix": "x" },
    ]);
    Ok((StatusCode::OK, Json(all)))
}

async fn query(
    State(api): State<Arc<Inner>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Json(body): Json<Value>,
) -> Result<Answer, Answer> {
    may(&headers, &name)?;
    let sql = body["query"].as_str().unwrap_or_default().to_owned();
    let done = api.project.client.batch_execute(&sql).await;
    api.queries.lock().push(sql);
    match done {
        Ok(()) => Ok((StatusCode::CREATED, Json(json!([])))),
        Err(error) => Err(said(
            StatusCode::BAD_REQUEST,
            &format!("Failed to run sql query: {error}"),
        )),
    }
}

impl Api {
    async fn start() -> Self {
        let inner = Arc::new(Inner {
            project: Project::empty().await,
            page: Mutex::default(),
            queries: Mutex::default(),
        });
        let routes = Router::new()
            .route("/platform/cli/login/{session}", get(login))
            .route("/v1/profile", get(profile))
            .route("/v1/projects/{ref}", get(project))
            .route("/v1/projects/{ref}/api-keys", get(keys))
            .route("/v1/projects/{ref}/database/query", post(query))
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("it serves");
        });
        Self {
            inner,
            url,
            serving,
        }
    }

    fn command(&self, dir: &std::path::Path, args: &[&str]) -> Command {
        let mut command = command(dir);
        command
            .env("ROWCALL__SECRETS", "file")
            .env("ROWCALL__BACKEND__MANAGEMENT_URL", &self.url)
            .env("ROWCALL__BACKEND__URL", self.inner.project.url())
            .args(args);
        command
    }

    /// Runs a command with `input` on its standard input.
    async fn run(&self, dir: &std::path::Path, args: &[&str], input: &str) -> Output {
        let mut command = self.command(dir, args);
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the program runs");
        // A program that reads nothing may have ended already.
        let _ = child
            .stdin
            .take()
            .expect("its input")
            .write_all(input.as_bytes())
            .await;
        tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .expect("it ends")
            .expect("its output")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn good(output: Output) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

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
    for part in ["not in the publication", "may not read and write"] {
        let sql = help_of(&doctor, table, part)
            .unwrap_or_else(|| panic!("{part}: {}", text(&doctor.stdout)));
        project.client.batch_execute(&sql).await.unwrap();
    }
    let doctor = run(&["doctor", "--json"]).await;
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
