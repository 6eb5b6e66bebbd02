//! Log-in, set-up and doctor against a server that follows the documented Management API, over a real database.

mod doctor;
mod hostile;
mod login;
mod setup;

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
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command, task::JoinHandle};

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
    if done.is_err() {
        // Every request of the API has a session of its own; here they share one.
        let rollback = api.project.client.batch_execute("rollback").await;
        rollback.expect("the session goes on");
    }
    api.queries.lock().push(sql);
    match done {
        Ok(()) => Ok((StatusCode::CREATED, Json(json!([])))),
        Err(error) => Err(said(
            StatusCode::BAD_REQUEST,
            &format!(
                "Failed to run sql query: {}",
                error
                    .as_db_error()
                    .map_or_else(|| error.to_string(), |error| error.message().to_owned())
            ),
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
