//! A daemon with one app, a developer's key and the operator's token.

use std::{path::PathBuf, process::Output};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Daemon, Database, PATIENCE, run};

/// Who a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As<'a> {
    /// Nobody.
    Nobody,
    /// The app `demo`.
    App,
    /// Somebody with a key, sent as a bearer token.
    Key(&'a str),
    /// The operator, with the session's token.
    Operator,
}

/// A running daemon and what its clients have.
pub(crate) struct World {
    pub(crate) db: Database,
    pub(crate) daemon: Daemon,
    /// The uuid of the app `demo`.
    pub(crate) app: String,
    /// A developer's key.
    pub(crate) key: String,
    token: String,
    http: reqwest::Client,
}

/// An agent that gives back what it was given, and the app around it.
pub(crate) fn demo() -> Value {
    json!({
        "name": "demo",
        "display_name": "Demo",
        "config": {
            "supabase": {
                "url": "https://demo.supabase.co", "anonKey": "anon", "max_concurrent_tasks": 3, "enabled": false
            }
        },
        "agents": [echo()]
    })
}

/// The agent: its result is the task's data.
pub(crate) fn echo() -> Value {
    let script = "import json, os, sys; print(json.dumps(json.loads(os.environ['ACTIVITY_DATA'])['raw_data'] or {}))";
    json!({ "id": "echo", "command": "python3", "args": ["-c", script], "timeout_seconds": 60 })
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&demo(), &[]).await
    }

    pub(crate) async fn start_with(app: &Value, env: &[(&str, &str)]) -> Self {
        let db = Database::create().await;
        let mut all = vec![("ROWCALL__API__TOKENLESS_REPORTS", "agent")];
        all.extend(env);
        let daemon = Daemon::start_with("here", db.url(), app, &all).await;
        let key = run(&daemon.path(), &["key", "add", "dev"]).await;
        let key = String::from_utf8(key.stdout).unwrap().trim().to_owned();
        let token =
            std::fs::read_to_string(daemon.path().join("session-token")).expect("the token's file");
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            // A server may close a connection after refusing a body unread; no request shall meet one that is closing.
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let mut world = Self {
            db,
            daemon,
            app: String::new(),
            key,
            token: token.trim().to_owned(),
            http,
        };
        let (_, apps) = world.get("/rowcall/v1/apps/demo", As::Operator).await;
        apps["uuid"]
            .as_str()
            .expect("the app has a uuid")
            .clone_into(&mut world.app);
        world
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.daemon.path()
    }

    /// Runs a command of the program beside the daemon.
    pub(crate) async fn cli(&self, args: &[&str]) -> Output {
        run(&self.path(), args).await
    }

    /// The same, which must succeed.
    pub(crate) async fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args).await;
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Grants everything that routes want.
    pub(crate) async fn grant_all(&self) {
        let mut args = vec!["permissions", "grant", "demo"];
        args.extend(rowcall::api::PERMISSIONS);
        self.cli_ok(&args).await;
    }

    pub(crate) fn request(&self, method: Method, path: &str, who: As<'_>) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.daemon.api()))
            .header("content-type", "application/json");
        match who {
            As::Nobody => request,
            As::App => request.header("x-app-id", &self.app),
            As::Key(key) => request.bearer_auth(key),
            As::Operator => request.bearer_auth(&self.token),
        }
    }

    /// Sends a request whose answer must be JSON.
    pub(crate) async fn send(&self, request: RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.expect("the daemon answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("an answer");
        let value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{status} is not JSON: {text:?}"));
        (status, value)
    }

    pub(crate) async fn get(&self, path: &str, who: As<'_>) -> (u16, Value) {
        self.send(self.request(Method::GET, path, who)).await
    }

    pub(crate) async fn post(&self, path: &str, who: As<'_>, body: &Value) -> (u16, Value) {
        self.send(self.request(Method::POST, path, who).body(body.to_string()))
            .await
    }

    pub(crate) async fn put(&self, path: &str, who: As<'_>, body: &Value) -> (u16, Value) {
        self.send(self.request(Method::PUT, path, who).body(body.to_string()))
            .await
    }

    pub(crate) async fn delete(&self, path: &str, who: As<'_>) -> (u16, Value) {
        self.send(self.request(Method::DELETE, path, who)).await
    }

    /// Starts or leaves a task as the developer, and gives its uuid.
    pub(crate) async fn trigger(&self, payload: &Value) -> String {
        let body = json!({ "event": "task.trigger", "payload": payload });
        let (status, answer) = self
            .post("/webhooks/realtimex", As::Key(&self.key), &body)
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["task_uuid"].as_str().expect("a task").to_owned()
    }

    /// The status of a task.
    pub(crate) async fn status(&self, task: &str) -> String {
        let (status, answer) = self.get(&format!("/task/{task}"), As::Key(&self.key)).await;
        assert_eq!(status, 200, "{answer}");
        answer["task"]["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}
